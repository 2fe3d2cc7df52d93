package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"

	"vitrine/frames"
	"vitrine/internal/hop"
)

// readFrames is the reader's loop. It never blocks but in reading.
func (s *session) readFrames() error {
	if s.server {
		var preface [len(http2.ClientPreface)]byte
		if _, err := io.ReadFull(s.conn, preface[:]); err != nil {
			return err
		}
		if !bytes.Equal(preface[:], []byte(http2.ClientPreface)) {
			return protocol("no HTTP/2 preface")
		}
	}
	for {
		fh, err := s.fr.ReadFrameHeader()
		if err != nil {
			return s.frameError(fh, err)
		}
		if err := s.readFrame(fh); err != nil {
			return err
		}
		if n := s.inFrames.Load(); n%2 == 1 {
			s.inFrames.Store(n + 1)
		}
	}
}

// endFrame is called when the last byte of a frame has been read, before what may take time.
func (s *session) endFrame() { s.inFrames.Add(1) }

// readFrame reads and applies one frame. Its length was checked, and that it may come after the last one.
func (s *session) readFrame(fh http2.FrameHeader) error {
	s.inFrames.Add(1)
	if !s.binding.seen && (fh.Type != http2.FrameSettings || fh.Flags.Has(http2.FlagSettingsAck)) {
		return protocol("%v before SETTINGS", fh.Type)
	}
	switch fh.Type {
	case http2.FrameData:
		return s.onData(fh)
	case frames.TypeEvidence:
		return s.onEvidence(fh)
	case frames.TypeVerdict:
		return s.onVerdict(fh)
	case http2.FrameHeaders, http2.FrameContinuation, http2.FramePriority, http2.FrameRSTStream, http2.FrameSettings,
		http2.FramePushPromise, http2.FramePing, http2.FrameGoAway, http2.FrameWindowUpdate:
		return s.readKnown(fh)
	}
	if err := s.discard(int(fh.Length)); err != nil {
		return err
	}
	return s.ignore(fmt.Sprintf("frame of unknown type %#02x", uint8(fh.Type)))
}

// readKnown reads a frame of RFC 9113 through the Framer.
func (s *session) readKnown(fh http2.FrameHeader) error {
	if fh.Type == http2.FrameHeaders {
		s.blocks.begin(fh.Length)
		defer s.blocks.end()
	}
	f, err := s.fr.ReadFrameForHeader(fh)
	s.endFrame()
	if err != nil {
		return s.frameError(fh, err)
	}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		return s.onHeaders(f)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return protocol("stream %d depends on itself", f.StreamID)
		}
		return s.spend(s.budgets.empty, "PRIORITY")
	case *http2.RSTStreamFrame:
		return s.onReset(f)
	case *http2.SettingsFrame:
		return s.onSettings(f)
	case *http2.PingFrame:
		return s.onPing(f)
	case *http2.GoAwayFrame:
		return s.onGoAway(f)
	case *http2.WindowUpdateFrame:
		return s.onWindowUpdate(f)
	}
	return protocol("unexpected %v", fh.Type)
}

// frameError says what an error of the Framer means.
func (s *session) frameError(fh http2.FrameHeader, err error) error {
	if s.blocks.err != nil {
		return s.blocks.err
	}
	detail := ""
	if d := s.fr.ErrorDetail(); d != nil {
		detail = d.Error()
	}
	var ce http2.ConnectionError
	var se http2.StreamError
	switch {
	case errors.Is(err, http2.ErrFrameTooLarge):
		return &connError{http2.ErrCodeFrameSize, fmt.Sprintf("frame over %d bytes", maxFrame)}
	case errors.As(err, &ce):
		return &connError{http2.ErrCode(ce), detail}
	case errors.As(err, &se):
		return s.frameFault(fh, se)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &connError{http2.ErrCodeFrameSize, "frame cut short"}
	}
	return err
}

// frameFault is a malformed frame of one stream.
func (s *session) frameFault(fh http2.FrameHeader, se http2.StreamError) error {
	switch {
	case fh.Type == http2.FrameHeaders && se.Cause == nil:
		// The header block was not decoded, so the two sides' compression states differ.
		return protocol("malformed HEADERS on stream %d", se.StreamID)
	case s.idle(se.StreamID) && (fh.Type != http2.FrameHeaders || !s.server || s.ours(se.StreamID)):
		return protocol("malformed %v on idle stream %d", fh.Type, se.StreamID)
	case s.idle(se.StreamID):
		s.passOver(se.StreamID)
	case s.find(se.StreamID) == nil:
		return s.ignore(fmt.Sprintf("malformed %v on stream %d, which is over", fh.Type, se.StreamID))
	}
	reason := "malformed " + fh.Type.String()
	if se.Cause != nil {
		reason = se.Cause.Error()
	}
	return s.fault(se.StreamID, se.Code, reason)
}

// fault answers an error of the peer's on one stream with a reset. A peer can make us do so for streams
// that it has opened properly, and pays for it as if it had reset them (MadeYouReset, CVE-2025-8671).
func (s *session) fault(id uint32, code http2.ErrCode, reason string) error {
	s.anomaly(fmt.Sprintf("stream %d: %s", id, reason))
	if err := s.spend(s.budgets.resets, "errors on streams"); err != nil {
		return err
	}
	st := s.find(id)
	if st == nil {
		return s.answer(control{kind: sendReset, id: id, code: code})
	}
	err := &faultError{reason: reason, reset: &hop.ResetError{Code: hop.ErrorCode(code)}}
	if !st.abort(err, resetHow{send: true, code: code, past: pastResetByUs}) {
		return errUnread()
	}
	st.pump()
	return nil
}

// onHeaders sorts HEADERS by what they mean for their stream.
func (s *session) onHeaders(mh *http2.MetaHeadersFrame) error {
	id := mh.StreamID
	if mh.HasPriority() && mh.Priority.StreamDep == id {
		if !s.ours(id) && s.idle(id) {
			s.passOver(id)
		}
		return s.fault(id, http2.ErrCodeProtocol, "the stream depends on itself")
	}
	st := s.find(id)
	switch {
	case st == nil && s.idle(id):
		if !s.server || s.ours(id) {
			return protocol("HEADERS on idle stream %d", id)
		}
		return s.onRequest(mh)
	case st == nil:
		return s.onStrayHeaders(mh)
	case st.local:
		if err := s.checkList(mh); err != nil {
			return s.fault(id, http2.ErrCodeEnhanceYourCalm, err.Error())
		}
		if st.recvOver() {
			return s.fault(id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM")
		}
		return s.onResponse(st, mh)
	}
	if st.recvOver() {
		return s.fault(id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM")
	}
	if st.rx.tunnel || !mh.StreamEnded() || len(mh.PseudoFields()) > 0 {
		return s.fault(id, http2.ErrCodeProtocol, "HEADERS inside a request")
	}
	if err := s.checkList(mh); err != nil {
		return s.fault(id, http2.ErrCodeEnhanceYourCalm, err.Error())
	}
	return s.onTrailer(st, mh)
}

// onStrayHeaders are HEADERS on a stream that is over.
func (s *session) onStrayHeaders(mh *http2.MetaHeadersFrame) error {
	id := mh.StreamID
	switch s.pastOf(id) {
	case pastResetByUs, pastResetAndEnded:
		if mh.StreamEnded() && s.late(id, pastResetByUs, pastResetAndEnded) {
			return nil
		}
		return s.ignore(fmt.Sprintf("HEADERS on stream %d, which we have reset", id))
	case pastEnded, pastResetByPeer:
		return &connError{http2.ErrCodeStreamClosed, fmt.Sprintf("HEADERS on stream %d, which is closed", id)}
	}
	return protocol("HEADERS on stream %d, below the last one", id)
}

func (s *session) pastOf(id uint32) pastKind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.past.kinds[id]
}

// late is true for the first frame that says what an end does and crossed it, and notes that it has come: one
// for each stream is free.
func (s *session) late(id uint32, before, after pastKind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.past.kinds[id] != before {
		return false
	}
	s.past.kinds[id] = after
	return true
}

func (s *session) onReset(f *http2.RSTStreamFrame) error {
	if s.idle(f.StreamID) {
		return protocol("RST_STREAM on idle stream %d", f.StreamID)
	}
	st := s.find(f.StreamID)
	if st == nil {
		if f.ErrCode == http2.ErrCodeNo && s.ours(f.StreamID) && s.late(f.StreamID, pastEnded, pastResetByPeer) {
			return nil // the response was complete, and our last frame crossed this one
		}
		return s.ignore(fmt.Sprintf("RST_STREAM on stream %d, which is over", f.StreamID))
	}
	if s.server {
		if err := s.spend(s.budgets.resets, "RST_STREAM"); err != nil {
			return err
		}
	}
	reset := &hop.ResetError{Code: hop.ErrorCode(f.ErrCode), Remote: true}
	if x := st.exchange; x != nil && x.final != nil && !st.rx.tunnel && (!st.rx.evidence.begun || st.rx.evidence.done) {
		s.settleAnswer(st) // a refusal is worth reporting even where its body was cut
	}
	var err error = reset
	if st.local && f.ErrCode == http2.ErrCodeRefusedStream && st.exchange.final == nil && st.exchange.interims == 0 {
		err = &hop.RetryError{Err: reset}
	}
	st.abort(err, resetPeer)
	st.pump()
	return nil
}

func (s *session) onPing(f *http2.PingFrame) error {
	if !f.IsAck() {
		if err := s.spend(s.budgets.pings, "PING"); err != nil {
			return err
		}
		return s.answer(control{kind: ackPing, data: f.Data})
	}
	s.mu.Lock()
	drain := s.drainAck
	if drain != nil && f.Data == drainPing {
		s.drainAck = nil
		s.mu.Unlock()
		close(drain)
		return nil
	}
	expected := s.pingSent && f.Data == keepalivePing
	if expected {
		s.pingSent = false
	}
	s.mu.Unlock()
	if expected {
		return nil
	}
	return s.ignore("PING acknowledgement that nobody asked for")
}

func (s *session) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	if err := s.spendUpdate(); err != nil {
		return err
	}
	if f.StreamID == 0 {
		return s.w.growConn(f.Increment)
	}
	if s.idle(f.StreamID) {
		return protocol("WINDOW_UPDATE on idle stream %d", f.StreamID)
	}
	st := s.find(f.StreamID)
	if st == nil {
		return nil // it crossed the end of the stream
	}
	if !s.w.grow(st, f.Increment) {
		return s.fault(f.StreamID, http2.ErrCodeFlowControl, "WINDOW_UPDATE overflows the stream's window")
	}
	return nil
}

// discard reads n bytes that nobody wants.
func (s *session) discard(n int) error {
	if n == 0 {
		return nil
	}
	b := hop.NewBufferSize(min(n, maxFrame))
	defer b.Release()
	_, err := io.ReadFull(s.blocks, b.Fill(n))
	return err
}

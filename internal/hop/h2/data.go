package h2

import (
	"fmt"
	"io"

	"golang.org/x/net/http2"

	"vitrine/internal/hop"
)

// A stream's Buffers may take memoryFactor windows (see hop.Limits.StreamWindow), and memoryFloor where
// these are small.
const (
	memoryFactor = 4
	memoryFloor  = 128 << 10
)

// onData reads a DATA frame straight into a Buffer.
func (s *session) onData(fh http2.FrameHeader) error {
	n := int(fh.Length)
	if fh.StreamID == 0 {
		return protocol("DATA on stream 0")
	}
	if err := s.receiveConn(n); err != nil {
		return err
	}
	st := s.find(fh.StreamID)
	if st == nil {
		return s.onStrayData(fh)
	}
	if over, fits := st.receive(n); over || !fits {
		if err := s.discard(n); err != nil {
			return err
		}
		switch {
		case !fits:
			return s.fault(st.id, http2.ErrCodeFlowControl, "DATA over the stream's window")
		case st.over():
			return s.onLateData(st.id, n)
		}
		return s.fault(st.id, http2.ErrCodeStreamClosed, "DATA after END_STREAM")
	}
	pad := 0
	if fh.Flags.Has(http2.FlagDataPadded) {
		var err error
		if pad, err = s.readPad(n); err != nil {
			return err
		}
		n -= 1 + pad
		st.Credit(1 + pad)
	}
	in := &st.rx.evidence
	meant := st.local && st.rx.content && in.place == evidenceLate && !in.closed // says that no evidence comes
	if err := s.onContent(st, n, pad); err != nil || !fh.Flags.Has(http2.FlagDataEndStream) {
		if err == nil && n == 0 && !meant {
			err = s.spend(s.budgets.empty, "empty DATA")
		}
		return err
	}
	if st.over() {
		return nil
	}
	return s.onRecvEnd(st)
}

// readPad reads the length of a frame's padding.
func (s *session) readPad(length int) (int, error) {
	if length == 0 {
		return 0, &connError{http2.ErrCodeFrameSize, "padded DATA without a length of the padding"}
	}
	var p [1]byte
	if _, err := io.ReadFull(s.blocks, p[:]); err != nil {
		return 0, err
	}
	if int(p[0]) >= length {
		return 0, protocol("more padding than DATA")
	}
	return int(p[0]), nil
}

// onContent takes the n payload bytes of a DATA frame, behind which pad bytes of padding come.
func (s *session) onContent(st *stream, n, pad int) error {
	b := hop.NewBufferSize(n)
	if _, err := io.ReadFull(s.blocks, b.Fill(n)); err != nil {
		b.Release()
		return err
	}
	if err := s.discard(pad); err != nil {
		b.Release()
		return err
	}
	s.endFrame()
	st.rx.got += int64(n)
	switch in := &st.rx.evidence; {
	case st.local && st.exchange.final == nil:
		b.Release()
		return s.fault(st.id, http2.ErrCodeProtocol, "DATA before HEADERS")
	case !st.rx.tunnel:
		return s.onBody(st, b)
	case n == 0:
		b.Release()
		return nil
	case st.local && in.place == evidenceLate && !in.done:
		return s.onLate(st, b)
	}
	b.Owe(n, st)
	return s.pass(st, b)
}

// pass delivers a tunnel's bytes.
func (s *session) pass(st *stream, b *hop.Buffer) error {
	b.Charge(&st.memory)
	st.deliver(b)
	if st.memory.Load() > int64(max(memoryFactor*s.lim.StreamWindow, memoryFloor)) {
		return s.fault(st.id, http2.ErrCodeEnhanceYourCalm, "many small frames that nobody has taken")
	}
	return nil
}

// onBody takes content that is no tunnel's: an ordinary exchange's, or a refusal's.
func (s *session) onBody(st *stream, b *hop.Buffer) error {
	if reason := st.rx.check(); reason != "" {
		b.Release()
		return s.fault(st.id, http2.ErrCodeProtocol, reason)
	}
	if st.rx.content && st.local {
		st.rx.evidence.closed = true
		s.settleAnswer(st) // in the alternative place this frame says that no evidence comes
	}
	switch n := b.Len(); {
	case n == 0:
		b.Release()
	case st.rx.content:
		b.Owe(n, st)
		return s.pass(st, b)
	default:
		st.Credit(n)
		s.onRefusal(st, b.Bytes())
		b.Release()
	}
	return nil
}

// check says what is wrong with a message's content as far as it has come.
func (rx *receiving) check() string {
	switch {
	case rx.declared >= 0 && rx.got > rx.declared:
		return "more content than content-length"
	case rx.empty && rx.got > 0:
		return "content in a message that has none"
	case rx.evidence.begun && !rx.evidence.done:
		return "DATA inside evidence"
	}
	return ""
}

// onLate takes the first bytes of a tunnel, which are evidence.
func (s *session) onLate(st *stream, b *hop.Buffer) error {
	in := &st.rx.evidence
	rest, evidence, done, err := in.late.feed(b.Bytes())
	if err != nil {
		b.Release()
		return s.fault(st.id, http2.ErrCodeProtocol, err.Error())
	}
	st.Credit(b.Len() - len(rest))
	if !done {
		b.Release()
		return nil
	}
	in.done, in.evidence = true, evidence
	s.settleAnswer(st)
	if len(rest) == 0 {
		b.Release()
		return nil
	}
	b.Advance(b.Len() - len(rest))
	b.Owe(len(rest), st)
	return s.pass(st, b)
}

// onRecvEnd takes END_STREAM.
func (s *session) onRecvEnd(st *stream) error {
	in := &st.rx.evidence
	switch {
	case st.rx.declared >= 0 && st.rx.got != st.rx.declared:
		return s.fault(st.id, http2.ErrCodeProtocol, "less content than content-length")
	case st.local && st.exchange.final == nil:
		return s.fault(st.id, http2.ErrCodeProtocol, "END_STREAM before HEADERS")
	case st.local && in.place == evidenceLate && st.rx.tunnel && !in.done, in.begun && !in.done:
		return s.fault(st.id, http2.ErrCodeProtocol, "END_STREAM inside evidence")
	}
	refusal := st.local && !st.rx.tunnel && !st.rx.content
	if st.local && !st.rx.tunnel {
		s.settleAnswer(st)
	}
	if in := st.incoming; in != nil {
		s.mu.Lock()
		in.complete = true
		s.mu.Unlock()
	}
	st.receivedEnd()
	if refusal && (st.Queued() > 0 || st.CloseSend() != nil) {
		st.Reset(hop.Cancel) // of early data nobody wants the rest
	}
	return nil
}

// onStrayData is DATA on a stream that is not open. Its connection credit was given back already.
func (s *session) onStrayData(fh http2.FrameHeader) error {
	if s.idle(fh.StreamID) {
		return protocol("DATA on idle stream %d", fh.StreamID)
	}
	if err := s.discard(int(fh.Length)); err != nil {
		return err
	}
	switch s.pastOf(fh.StreamID) {
	case pastResetByUs:
		end := fh.Flags.Has(http2.FlagDataEndStream) && s.late(fh.StreamID, pastResetByUs, pastResetAndEnded)
		if end && fh.Length == 0 {
			return nil
		}
		return s.onLateData(fh.StreamID, int(fh.Length))
	case pastResetAndEnded:
		return s.onLateData(fh.StreamID, int(fh.Length))
	}
	return s.fault(fh.StreamID, http2.ErrCodeStreamClosed, "DATA on a closed stream")
}

// onLateData is DATA on a stream that we have reset. What may have been on its way is free, however small
// its frames: a kill must not cost the siblings their connection.
func (s *session) onLateData(id uint32, n int) error {
	if n > 0 && s.stray.Add(-int64(n)) >= 0 {
		return nil
	}
	return s.ignore(fmt.Sprintf("DATA on stream %d, which we have reset", id))
}

// receiveConn takes n bytes out of the connection's window and gives them back at once: the streams'
// windows are what bounds memory, and one stalled stream must not stop the others.
func (s *session) receiveConn(n int) error {
	if n > s.connRecv {
		return &connError{http2.ErrCodeFlowControl, "DATA over the connection's window"}
	}
	s.connRecv -= n
	s.connOwed += n
	if s.connOwed >= s.lim.ConnWindow/4 {
		s.connRecv += s.connOwed
		s.w.grantConn(s.connOwed)
		s.connOwed = 0
	}
	return nil
}

// receive takes n bytes out of the stream's window.
func (st *stream) receive(n int) (over, fits bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.err != nil {
		return true, true
	}
	if int64(n) > st.recvWindow {
		return false, false
	}
	st.recvWindow -= int64(n)
	st.arrived += int64(n)
	return false, true
}

// recvOver reports whether END_STREAM has come.
func (st *stream) recvOver() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.closed
}

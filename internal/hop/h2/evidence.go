package h2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/net/http2"

	"vitrine/frames"
	"vitrine/internal/hop"
)

// The ways of evidence on one stream, decided when its request leaves.
type evidencePlace uint8

const (
	evidenceNone  evidencePlace = iota // the request did not ask, or one side does not take it
	evidenceFirst                      // EVIDENCE before the response's HEADERS
	evidenceLate                       // the first bytes of DATA of a tunnel, or EVIDENCE behind the HEADERS of a refusal
)

// evidenceIn collects the evidence of one stream of ours. The reader's alone.
type evidenceIn struct {
	place    evidencePlace
	frames   frames.EvidenceAssembler
	late     lateEvidence
	begun    bool // a frame of it has come
	done     bool
	closed   bool // its alternative place in an ordinary response has passed
	evidence []byte
}

// asks reports whether a request carries evidence-request: only then may EVIDENCE come, and once.
func asks(h http.Header) bool { return h.Get(fieldEvidenceRequest) != "" }

// onEvidence takes an EVIDENCE frame. One that has no place in the stream's state is an error of that
// stream, for it could stand in the way of the one that the request has asked for.
func (s *session) onEvidence(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return protocol("EVIDENCE on stream 0")
	}
	payload, err := s.readPayload(fh)
	if err != nil {
		return err
	}
	defer payload.Release()
	if s.server || !s.binding.possible {
		return s.ignore("EVIDENCE that nobody asked for")
	}
	if !s.binding.seen || !s.peer.Settings.Evidence {
		return protocol("EVIDENCE before SETTINGS_ITLS")
	}
	if s.idle(fh.StreamID) {
		return protocol("EVIDENCE on idle stream %d", fh.StreamID)
	}
	st := s.find(fh.StreamID)
	if st == nil {
		return s.ignore("EVIDENCE on a stream that is over")
	}
	in := &st.rx.evidence
	switch {
	case in.place == evidenceNone:
		return s.fault(st.id, http2.ErrCodeProtocol, "EVIDENCE for a request that did not ask")
	case in.place == evidenceFirst && st.exchange.final != nil,
		in.place == evidenceLate && (st.exchange.final == nil || st.rx.tunnel || st.rx.got > 0 || in.closed):
		return s.fault(st.id, http2.ErrCodeProtocol, "EVIDENCE in the wrong place")
	}
	e, err := frames.ParseEvidence(payload.Bytes())
	if err != nil {
		return s.fault(st.id, http2.ErrCodeProtocol, err.Error())
	}
	in.begun = true
	evidence, done, err := in.frames.Add(e)
	if err != nil {
		return s.fault(st.id, http2.ErrCodeProtocol, err.Error())
	}
	if done {
		in.done, in.evidence = true, evidence
		if st.rx.content {
			s.settleAnswer(st)
		}
	}
	return nil
}

// onVerdict keeps a VERDICT for the reset that follows it. It is for whoever gets that reset to verify.
func (s *session) onVerdict(fh http2.FrameHeader) error {
	if fh.StreamID != 0 {
		return protocol("VERDICT on stream %d", fh.StreamID)
	}
	payload, err := s.readPayload(fh)
	if err != nil {
		return err
	}
	defer payload.Release()
	if !s.binding.possible {
		return s.ignore("VERDICT that nobody asked for")
	}
	if !s.binding.seen || !s.peer.Settings.Evidence {
		return protocol("VERDICT before SETTINGS_ITLS")
	}
	id, signed, err := frames.SplitVerdict(payload.Bytes())
	if err != nil {
		return s.ignore(err.Error())
	}
	var st *stream
	if id <= maxStreamID {
		st = s.find(uint32(id))
	}
	if st == nil {
		return s.ignore(fmt.Sprintf("VERDICT for stream %d, which is not open", id))
	}
	st.mu.Lock()
	second := st.verdict != nil
	if !second {
		st.verdict = bytes.Clone(signed)
	}
	st.mu.Unlock()
	if second {
		return s.ignore("second VERDICT for a stream")
	}
	return nil
}

// ignore pays for a frame that changes nothing.
func (s *session) ignore(what string) error {
	s.anomaly(what)
	return s.spend(s.budgets.empty, "frames without effect")
}

// readPayload reads a frame whose length was checked before.
func (s *session) readPayload(fh http2.FrameHeader) (*hop.Buffer, error) {
	b := hop.NewBufferSize(int(fh.Length))
	if _, err := io.ReadFull(s.blocks, b.Fill(int(fh.Length))); err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

// SendVerdict implements [hop.Session].
func (s *session) SendVerdict(id uint64, verdict []byte) error {
	select {
	case <-s.ready:
	default:
		return errors.New("h2: the peer's SETTINGS have not arrived")
	}
	switch {
	case !s.peer.Settings.Evidence:
		return errors.New("h2: the peer takes no VERDICT")
	case len(verdict) == 0 || 8+len(verdict) > frames.MaxFramePayload:
		return fmt.Errorf("h2: a VERDICT of %d bytes", len(verdict))
	case id == 0 || id > maxStreamID || s.idle(uint32(id)):
		return fmt.Errorf("h2: stream %d is not of this session", id)
	}
	if err := s.Err(); err != nil {
		return err
	}
	if !s.w.push(control{kind: sendVerdict, id: uint32(id), payload: verdict}) {
		return errUnread()
	}
	return nil
}

// lateEvidence reads evidence from the first bytes of a tunnel's DATA: uint32 length ‖ evidence. A length
// of zero says that there is none, for a tunnel whose request has asked always begins so.
type lateEvidence struct {
	length [4]byte
	got    int
	reader frames.LateEvidenceReader
}

// feed takes the next bytes; rest is what follows the evidence.
func (l *lateEvidence) feed(p []byte) (rest, evidence []byte, done bool, err error) {
	if l.got < len(l.length) {
		n := copy(l.length[l.got:], p)
		l.got += n
		p = p[n:]
		if l.got < len(l.length) {
			return nil, nil, false, nil
		}
		if l.length == [4]byte{} {
			return p, nil, true, nil
		}
		if _, _, _, err := l.reader.Feed(l.length[:]); err != nil {
			return nil, nil, false, err
		}
	}
	return l.reader.Feed(p)
}

// appendLate is what lateEvidence reads.
func appendLate(b, evidence []byte) ([]byte, error) {
	if len(evidence) == 0 {
		return binary.BigEndian.AppendUint32(b, 0), nil
	}
	return frames.AppendLateEvidence(b, evidence)
}

// writeEvidence writes the EVIDENCE frames of one answer.
func writeEvidence(fr *http2.Framer, id uint32, evidence []byte) error {
	if len(evidence) == 0 {
		return nil
	}
	parts, err := frames.FragmentEvidence(evidence)
	if err != nil {
		return err
	}
	var payload []byte
	for _, p := range parts {
		payload = p.Append(payload[:0])
		if err := fr.WriteRawFrame(frames.TypeEvidence, 0, id, payload); err != nil {
			return err
		}
	}
	return nil
}

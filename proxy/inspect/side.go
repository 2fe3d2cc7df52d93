package inspect

import (
	"sync"

	"vitrine/frames"
	"vitrine/internal/tlsmsg"
)

// side is one direction of a tunnel: what was read of it and how much of that may leave. Offsets are of
// two kinds: wire offsets count the bytes that were fed, application offsets those of HTTP inside.
type side struct {
	dir frames.Direction

	// The record that is arriving: its header, then its fragment. A record that is whole in what is
	// fed needs neither.
	header  [tlsmsg.RecordHeaderLen]byte
	nheader int
	want    tlsmsg.RecordHeader
	part    *fragment

	handshake []byte // the beginning of a handshake message
	finished  bool   // its Finished was read
	ccs       bool   // its change_cipher_spec was read
	over      ending
	idle      int // records in a row without progress
	progress  bool

	reader message

	fed      int64 // wire offset of the end of the last whole record
	app      int64 // application offset of the end of what the HTTP reader took
	boundary int64 // application offset of the end of the last whole unit; at most app

	released    int64 // wire offset
	releasedApp int64 // application offset that goes with it
	reported    int64 // what the caller was told of released
	marks       []mark
	ended       bool
}

// An ending is how a direction was closed inside.
type ending uint8

const (
	open ending = iota
	closed
	failed
)

// A mark is the end of a record that could not leave at once.
type mark struct{ app, wire int64 }

// fragment holds the fragment of a record that arrives in pieces.
type fragment struct {
	n     int
	bytes [tlsmsg.MaxCiphertext]byte
}

// fragments is shared by all tunnels, so that only records under way cost memory.
var fragments = sync.Pool{New: func() any { return new(fragment) }}

func (s *side) drop() {
	if s.part != nil {
		fragments.Put(s.part)
		s.part = nil
	}
	s.handshake = nil
	s.marks = nil
	s.reader.section = section{}
	s.reader.decoder = nil
}

// records cuts p into records and reads those that are whole.
func (t *Tunnel) records(s *side, p []byte) *KillError {
	for len(p) > 0 {
		if s.part == nil && s.nheader < len(s.header) {
			if s.nheader == 0 && len(p) >= len(s.header) {
				h, err := t.recordHeader(s, p)
				if err != nil {
					return err
				}
				if end := len(s.header) + h.Length; len(p) >= end {
					if err := t.record(s, h, p[len(s.header):end]); err != nil {
						return err
					}
					p = p[end:]
					continue
				}
			}
			n := copy(s.header[s.nheader:], p)
			p = p[n:]
			if s.nheader += n; s.nheader < len(s.header) {
				return nil
			}
			var err *KillError
			if s.want, err = t.recordHeader(s, s.header[:]); err != nil {
				return err
			}
		}
		if s.want.Length > 0 {
			if len(p) == 0 {
				return nil
			}
			if s.part == nil {
				s.part = fragments.Get().(*fragment)
				s.part.n = 0
			}
			n := copy(s.part.bytes[s.part.n:s.want.Length], p)
			p = p[n:]
			if s.part.n += n; s.part.n < s.want.Length {
				return nil
			}
		}
		part := s.part
		s.part, s.nheader = nil, 0
		var fragment []byte
		if part != nil {
			fragment = part.bytes[:part.n]
		}
		err := t.record(s, s.want, fragment)
		if part != nil {
			fragments.Put(part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Tunnel) recordHeader(s *side, p []byte) (tlsmsg.RecordHeader, *KillError) {
	h, err := tlsmsg.ParseRecordHeader(p)
	if err != nil {
		return h, s.kill(RuleRecord, "%v", err)
	}
	protected := t.tls.tag > 0
	switch {
	case h.Version == tlsmsg.VersionTLS12:
	case h.Version == 0x0301 && h.Type == tlsmsg.TypeHandshake && t.tls.state == waitClientHello:
		// RFC 8446, section 5.1: a first ClientHello may say TLS 1.0 for old servers' sake.
	default:
		return h, s.kill(RuleRecord, "record of version %#04x", h.Version)
	}
	if h.Length > tlsmsg.MaxPlaintext && !(protected && h.Type == tlsmsg.TypeApplicationData) {
		return h, s.kill(RuleRecord, "unprotected record of %d bytes", h.Length)
	}
	return h, nil
}

// record reads one whole record and settles what may leave behind it.
func (t *Tunnel) record(s *side, h tlsmsg.RecordHeader, fragment []byte) *KillError {
	s.progress = false
	if err := t.content(s, h, fragment); err != nil {
		return err
	}
	if s.progress {
		s.idle = 0
	} else if s.idle++; s.idle > t.limits.IdleRecords {
		return s.kill(RuleIdleRecords, "more than %d records in a row without application bytes", t.limits.IdleRecords)
	}
	s.fed += int64(len(s.header) + len(fragment))
	if len(s.handshake) == 0 {
		t.mark(s)
	}
	t.advance(s)
	if s.fed-s.released > int64(t.limits.HeldBytes) {
		if err := t.overflow(s); err != nil {
			return err
		}
	}
	t.finish(nil)
	return t.broken
}

// mark notes that what was fed may leave when everything the HTTP reader took may.
func (t *Tunnel) mark(s *side) {
	m := mark{app: s.app, wire: s.fed}
	if n := len(s.marks); n > 0 && !t.between(s, s.marks[n-1].app, m.app) {
		s.marks[n-1] = m
		return
	}
	s.marks = append(s.marks, m)
}

// between says whether a release could end in [a, b): only where a hold begins or a unit ended. All
// marks within such a stretch leave together, so one of them is enough, and their number is bounded by
// that of the inspections.
func (t *Tunnel) between(s *side, a, b int64) bool {
	if a <= s.boundary && s.boundary < b {
		return true
	}
	if t.x != nil {
		for _, w := range t.x.watches {
			if h := w.hold[s.dir]; h >= a && h < b {
				return true
			}
		}
	}
	return false
}

// advance releases what may leave.
func (t *Tunnel) advance(s *side) {
	limit := s.boundary
	if t.x != nil {
		for _, w := range t.x.watches {
			if h := w.hold[s.dir]; h >= 0 {
				limit = min(limit, h)
			}
		}
	}
	if t.cfg.Plain {
		s.released = max(s.released, limit)
		s.releasedApp = s.released
		return
	}
	n := 0
	for n < len(s.marks) && s.marks[n].app <= limit {
		n++
	}
	if n == 0 {
		return
	}
	s.released, s.releasedApp = s.marks[n-1].wire, s.marks[n-1].app
	s.marks = append(s.marks[:0], s.marks[n:]...)
}

// overflow is what happens at HeldBytes.
func (t *Tunnel) overflow(s *side) *KillError {
	if t.limits.HoldPass && t.x != nil {
		for _, w := range t.x.watches {
			if w.hold[s.dir] >= 0 {
				t.dismiss(w)
			}
		}
		t.advance(s)
		if s.fed-s.released <= int64(t.limits.HeldBytes) {
			return nil
		}
	}
	return s.kill(RuleHeldBytes, "more than %d bytes held", t.limits.HeldBytes)
}

package frames

import "fmt"

// PeerSettings collects what a peer's SETTINGS say about our frames. Call Set for every parameter in
// order, then Check. The zero value is a peer that said nothing.
type PeerSettings struct {
	// Evidence: the peer takes EVIDENCE and VERDICT.
	Evidence bool
	// Late: the peer wants EVIDENCE in the alternative place. Without Evidence it means nothing.
	Late bool

	itls    bool
	bound   bool
	binding uint64 // as it came: an HTTP/3 setting may be wider than any binding
}

// Set takes one parameter; those that are not ours are ignored, and so are bits of SETTINGS_ITLS that are
// not known. Of a parameter that comes twice the later value holds (RFC 9113 section 6.5.3).
func (s *PeerSettings) Set(id uint64, value uint64) {
	switch id {
	case SettingITLS:
		s.itls = true
		s.Evidence = value&TakesEvidence != 0
		s.Late = value&LateEvidence != 0
	case SettingHopBinding:
		s.bound = true
		s.binding = value
	}
}

// Check compares the peer's binding with want, the [HopBinding] of the peer's role on this hop. It is an
// error when SETTINGS_ITLS came without a binding, and when a binding came that is not equal, since then
// someone who knows nothing of it ends the TLS connection between the two. Both wrap [ErrHopBinding].
func (s *PeerSettings) Check(want uint32) error {
	switch {
	case s.itls && !s.bound:
		return &Error{Where: "SETTINGS", Kind: ErrHopBinding, Why: "SETTINGS_ITLS without a binding"}
	case s.bound && s.binding != uint64(want):
		return &Error{Where: "SETTINGS", Kind: ErrHopBinding, Why: fmt.Sprintf("%#08x is not of this hop", s.binding)}
	}
	return nil
}

// Bound reports whether the binding was seen and equals want.
func (s *PeerSettings) Bound(want uint32) bool { return s.bound && s.binding == uint64(want) }

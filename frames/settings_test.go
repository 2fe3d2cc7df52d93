package frames_test

import (
	"errors"
	"testing"

	"vitrine/frames"
)

// spec: FRM-2 FRM-4 FRM-5
func TestPeerSettings(t *testing.T) {
	const binding = 0x80000001
	type setting struct{ id, value uint64 }
	for _, c := range []struct {
		name                  string
		settings              []setting
		evidence, late, bound bool
		wrong                 bool
	}{
		{name: "nothing"},
		{name: "settings of others", settings: []setting{{0x8, 1}, {0x3, 100}, {0x1a2a, 7}}},
		{name: "evidence", settings: []setting{{frames.SettingITLS, 1}, {frames.SettingHopBinding, binding}}, evidence: true, bound: true},
		{name: "late", settings: []setting{{frames.SettingHopBinding, binding}, {frames.SettingITLS, 3}}, evidence: true, late: true, bound: true},
		{name: "unknown bits", settings: []setting{{frames.SettingITLS, 0xfffffffd}, {frames.SettingHopBinding, binding}}, evidence: true, bound: true},
		{name: "no bits", settings: []setting{{frames.SettingITLS, 0}, {frames.SettingHopBinding, binding}}, bound: true},
		{name: "the later value holds", settings: []setting{{frames.SettingITLS, 3}, {frames.SettingITLS, 1}, {frames.SettingHopBinding, 5}, {frames.SettingHopBinding, binding}}, evidence: true, bound: true},
		{name: "binding alone", settings: []setting{{frames.SettingHopBinding, binding}}, bound: true},
		{name: "no binding", settings: []setting{{frames.SettingITLS, 1}}, evidence: true, wrong: true},
		{name: "another hop's binding", settings: []setting{{frames.SettingITLS, 1}, {frames.SettingHopBinding, binding + 1}}, evidence: true, wrong: true},
		{name: "another hop's binding alone", settings: []setting{{frames.SettingHopBinding, binding + 1}}, wrong: true},
		{name: "binding without the top bit", settings: []setting{{frames.SettingITLS, 1}, {frames.SettingHopBinding, binding &^ (1 << 31)}}, evidence: true, wrong: true},
		{name: "binding wider than 32 bits", settings: []setting{{frames.SettingHopBinding, 1<<32 | binding}}, wrong: true},
		{name: "binding of zero", settings: []setting{{frames.SettingITLS, 1}, {frames.SettingHopBinding, 0}}, evidence: true, wrong: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s frames.PeerSettings
			for _, x := range c.settings {
				s.Set(x.id, x.value)
			}
			err := s.Check(binding)
			if errors.Is(err, frames.ErrHopBinding) != c.wrong || (err != nil) != c.wrong {
				t.Errorf("Check: %v, want an error: %v", err, c.wrong)
			}
			if s.Evidence != c.evidence || s.Late != c.late || s.Bound(binding) != c.bound {
				t.Errorf("evidence %v, late %v, bound %v", s.Evidence, s.Late, s.Bound(binding))
			}
		})
	}
}

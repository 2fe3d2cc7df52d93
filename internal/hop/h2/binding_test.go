package h2

import (
	"testing"

	"golang.org/x/net/http2"

	"vitrine/frames"
)

// spec: HOP-4 HOP-5 HOP-7 HOP-8
func TestHopBinding(t *testing.T) {
	itls := func(v uint32) http2.Setting { return http2.Setting{ID: frames.SettingITLS, Val: v} }
	binding := func(v uint32) http2.Setting { return http2.Setting{ID: frames.SettingHopBinding, Val: v} }
	for name, c := range map[string]struct {
		first, later func(right uint32) []http2.Setting
		ok           bool
	}{
		"right":                          {first: func(r uint32) []http2.Setting { return []http2.Setting{itls(1), binding(r)} }, ok: true},
		"right, reversed":                {first: func(r uint32) []http2.Setting { return []http2.Setting{binding(r), itls(1)} }, ok: true},
		"none of ours":                   {first: func(uint32) []http2.Setting { return nil }, ok: true},
		"unknown bits":                   {first: func(r uint32) []http2.Setting { return []http2.Setting{itls(0xfff1), binding(r)} }, ok: true},
		"absent":                         {first: func(uint32) []http2.Setting { return []http2.Setting{itls(1)} }},
		"wrong":                          {first: func(r uint32) []http2.Setting { return []http2.Setting{itls(1), binding(r ^ 1)} }},
		"wrong in the top bit":           {first: func(r uint32) []http2.Setting { return []http2.Setting{itls(1), binding(r &^ (1 << 31))} }},
		"wrong, alone":                   {first: func(r uint32) []http2.Setting { return []http2.Setting{binding(r ^ 1)} }},
		"zero":                           {first: func(uint32) []http2.Setting { return []http2.Setting{itls(1), binding(0)} }},
		"absent though it takes nothing": {first: func(uint32) []http2.Setting { return []http2.Setting{itls(0)} }},
		"again the same": {
			first: func(r uint32) []http2.Setting { return []http2.Setting{itls(1), binding(r)} },
			later: func(r uint32) []http2.Setting { return []http2.Setting{itls(1), binding(r)} }, ok: true,
		},
		"later withdrawn": {
			first: func(r uint32) []http2.Setting { return []http2.Setting{itls(1), binding(r)} },
			later: func(r uint32) []http2.Setting { return []http2.Setting{itls(0), binding(r)} },
		},
		"later announced": {
			first: func(r uint32) []http2.Setting { return nil },
			later: func(r uint32) []http2.Setting { return []http2.Setting{itls(1), binding(r)} },
		},
		"later without a binding": {
			first: func(r uint32) []http2.Setting { return []http2.Setting{itls(1), binding(r)} },
			later: func(r uint32) []http2.Setting { return []http2.Setting{itls(1)} },
		},
	} {
		for role, raw := range map[string]func(*testing.T, *Config) *rawPeer{"client": rawClient, "server": rawServer} {
			t.Run(name+" of a "+role, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					p := raw(t, nil)
					right := p.settings()[1].Val
					p.preface()
					p.must(p.fr.WriteSettings(c.first(right)...))
					if c.later != nil {
						p.must(p.fr.WriteSettings(c.later(right)...))
					}
					if !c.ok {
						p.wantGoAway(http2.ErrCodeProtocol)
						return
					}
					p.alive()
					set := p.s.Peer().Settings
					if set.Bound != (len(c.first(right)) > 0) || set.Evidence != set.Bound || set.Late {
						t.Errorf("%+v", set)
					}
				})
			})
		}
	}
}

// spec: HOP-3 HOP-4
func TestSettingsOfOurs(t *testing.T) {
	for role, raw := range map[string]func(*testing.T, *Config) *rawPeer{"client": rawClient, "server": rawServer} {
		for _, late := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				p := raw(t, &Config{Late: late}).greet()
				label, mask := frames.ExporterHopClient, uint32(1)
				if p.s.server {
					label = frames.ExporterHopServer
				}
				if late {
					mask = 3
				}
				cs := p.conn.ConnectionState()
				v, err := cs.ExportKeyingMaterial(label, nil, 4)
				p.must(err)
				if p.values[frames.SettingITLS] != mask || p.values[frames.SettingHopBinding] != frames.HopBinding([4]byte(v)) {
					t.Errorf("peer of a %s: %v", role, p.values)
				}
				if _, ok := p.values[http2.SettingEnablePush]; ok == p.s.server {
					t.Errorf("SETTINGS_ENABLE_PUSH: %v", ok)
				}
				if p.values[http2.SettingEnableConnectProtocol] == 1 != p.s.server {
					t.Error("SETTINGS_ENABLE_CONNECT_PROTOCOL")
				}
			})
		}
	}
}

// A proxy in the middle that ends TLS on both sides cannot copy a binding.
func TestBindingOfAnotherHop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		other := rawClient(t, nil)
		p := rawClient(t, nil)
		p.preface()
		p.must(p.fr.WriteSettings(other.settings()...))
		p.wantGoAway(http2.ErrCodeProtocol)
	})
}

package h2

import (
	"crypto/tls"
	"time"

	"golang.org/x/net/http2"

	"vitrine/frames"
	"vitrine/internal/hop"
)

// maxSettings is how many parameters one SETTINGS frame may hold. Duplicates are legal (RFC 9113 section
// 6.5.3), so a frame could make us apply 2,730 of them (settings flood, CVE-2019-9515).
const maxSettings = 100

// A binding ties SETTINGS to the TLS connection they came through.
type binding struct {
	possible    bool   // the connection has an exporter
	ours, peers uint32 // values of SETTINGS_HOP_BINDING
	seen        bool   // the peer's first SETTINGS have been applied
}

// bind computes both sides' SETTINGS_HOP_BINDING. A TLS 1.2 connection may have no exporter: then it is
// an ordinary hop, without frames of ours.
func (s *session) bind(cs *tls.ConnectionState) {
	export := func(label string) (uint32, bool) {
		var b [frames.HopBindingLen]byte
		v, err := cs.ExportKeyingMaterial(label, nil, len(b))
		if err != nil {
			return 0, false
		}
		copy(b[:], v)
		return frames.HopBinding(b), true
	}
	client, ok1 := export(frames.ExporterHopClient)
	server, ok2 := export(frames.ExporterHopServer)
	s.binding.possible = ok1 && ok2
	s.binding.ours, s.binding.peers = client, server
	if s.server {
		s.binding.ours, s.binding.peers = server, client
	}
}

// sendSettings queues what opens our side: SETTINGS, and the connection's window above the initial one.
func (s *session) sendSettings() {
	set := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: uint32(s.lim.StreamWindow)},
		{ID: http2.SettingMaxHeaderListSize, Val: uint32(s.lim.HeaderBytes)},
	}
	if s.server {
		set = append(set,
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(s.lim.Streams)},
			http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	} else {
		set = append(set, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	}
	if s.binding.possible {
		mask := uint32(frames.TakesEvidence)
		if s.cfg.Late {
			mask |= frames.LateEvidence
		}
		set = append(set,
			http2.Setting{ID: frames.SettingITLS, Val: mask},
			http2.Setting{ID: frames.SettingHopBinding, Val: s.binding.ours})
	}
	s.mu.Lock()
	s.acksDue++
	s.ackSince = time.Now()
	s.mu.Unlock()
	s.w.push(control{kind: sendSettings, settings: set})
	if more := s.lim.ConnWindow - initial; more > 0 {
		s.connRecv += more
		s.w.grantConn(more)
	}
}

// onSettings applies the peer's SETTINGS as one.
func (s *session) onSettings(f *http2.SettingsFrame) error {
	if err := s.spend(s.budgets.settings, "SETTINGS"); err != nil {
		return err
	}
	if f.IsAck() {
		s.mu.Lock()
		unasked := s.acksDue == 0
		if !unasked {
			s.acksDue--
		}
		s.mu.Unlock()
		if unasked {
			return protocol("SETTINGS acknowledgement that nobody asked for")
		}
		return nil
	}
	if f.NumSettings() > maxSettings {
		return calm("%d parameters in one SETTINGS frame", f.NumSettings())
	}
	next := s.peer.Settings
	maxActive := -1
	var ours frames.PeerSettings
	err := f.ForeachSetting(func(p http2.Setting) error {
		if err := p.Valid(); err != nil {
			code := http2.ErrCodeProtocol
			if ce, ok := err.(http2.ConnectionError); ok {
				code = http2.ErrCode(ce)
			}
			return &connError{code, "SETTINGS: bad value of " + p.ID.String()}
		}
		switch p.ID {
		case http2.SettingHeaderTableSize:
			s.w.setTableSize(p.Val)
		case http2.SettingEnablePush:
			if !s.server && p.Val != 0 {
				return protocol("a server enabled push")
			}
		case http2.SettingMaxConcurrentStreams:
			maxActive = int(min(p.Val, maxStreamID))
		case http2.SettingInitialWindowSize:
			return s.w.setInitialWindow(p.Val)
		case http2.SettingMaxHeaderListSize:
			s.w.maxHeaderList.Store(p.Val)
		case http2.SettingEnableConnectProtocol:
			if next.Connect && p.Val == 0 {
				return protocol("SETTINGS_ENABLE_CONNECT_PROTOCOL went from 1 to 0")
			}
			next.Connect = p.Val == 1
		case frames.SettingITLS, frames.SettingHopBinding:
			if s.binding.possible {
				ours.Set(uint64(p.ID), uint64(p.Val))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.checkBinding(&ours, &next); err != nil {
		return err
	}
	s.applied(next, maxActive)
	return s.answer(control{kind: ackSettings})
}

// checkBinding decides what the peer's SETTINGS_ITLS is worth. Who ends our TLS connection without
// knowing of it cannot have the right binding.
func (s *session) checkBinding(ours *frames.PeerSettings, next *hop.Settings) error {
	if !s.binding.possible || (*ours == frames.PeerSettings{}) {
		return nil
	}
	if err := ours.Check(s.binding.peers); err != nil {
		return &causedError{&connError{http2.ErrCodeProtocol, "SETTINGS do not hold"}, err}
	}
	next.Bound = ours.Bound(s.binding.peers)
	evidence, late := ours.Evidence, ours.Evidence && ours.Late
	if s.binding.seen && (evidence != next.Evidence || late != next.Late) {
		return protocol("SETTINGS_ITLS changed")
	}
	next.Evidence, next.Late = evidence, late
	return nil
}

// applied publishes the peer's settings. What [hop.Peer] shows is what its first SETTINGS said, for it
// may be read without a lock after that.
func (s *session) applied(next hop.Settings, maxActive int) {
	first := !s.binding.seen
	if first {
		s.binding.seen = true
		s.peer.Settings = next
	}
	s.mu.Lock()
	if maxActive >= 0 {
		s.maxActive = min(maxActive, s.lim.Streams)
		s.opening.Broadcast()
	}
	s.mu.Unlock()
	if first {
		close(s.ready)
	}
}

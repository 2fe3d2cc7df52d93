package inspect

import modes "vitrine/internal/fields"

// A Mode is how an exchange is carried: intact in a tunnel that the proxy cannot change, and split where it
// ends TLS on both sides ([Config.Plain]).
type Mode = modes.Mode

// plain reads p as HTTP/1.1, where there are no records around it.
func (t *Tunnel) plain(s *side, p []byte) *KillError {
	err := t.http(s, p)
	s.fed = s.app // after an error, nothing more is fed
	if err != nil {
		return err
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

// mode is what inspectors are told.
func (t *Tunnel) mode() Mode {
	if t.cfg.Plain {
		return modes.Split
	}
	return modes.Intact
}

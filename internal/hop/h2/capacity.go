package h2

// MaxStreams is how many streams this side may have open at once: what the peer's SETTINGS and our own limit
// allow now. Whoever opens more waits for a place; a pool takes another session instead.
func (s *session) MaxStreams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.maxActive
}

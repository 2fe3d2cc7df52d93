package itls

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxLifetime is the longest that a ticket may be kept, whatever its server says (RFC 8446,
	// section 4.6.1).
	maxLifetime = 7 * 24 * time.Hour

	// maxTicket is the size of a ticket's message, in bytes: what a proxy lets through. It stops a
	// server that would have clients store, and carry in each ClientHello, as much as it likes.
	maxTicket = 2 << 10

	// maxTickets is how many tickets a client takes from one session. It stops a server that would
	// fill the cache.
	maxTickets = 4

	// maxAlike is how many sessions of one binding are kept: enough for a burst of tunnels, too few
	// for one server to crowd out the others.
	maxAlike = 32
)

// A SessionCache keeps a client's sessions, in memory. The zero value is ready. It is safe for
// concurrent use and must not be copied. Each session is used once (RFC 8446, appendix C.4), the newest
// first, and only where everything that it is bound to is as it was; see [Config.Sessions].
type SessionCache struct {
	// Max is how many sessions are kept; past it the oldest goes. Default: 256.
	Max int

	mu      sync.Mutex
	list    []*Session // the newest last
	cleared uint64     // how often something was forgotten
}

// Add keeps a session, which may come from another process.
func (c *SessionCache) Add(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(s)
}

// Take removes the newest session and returns it, or nil when there is none.
func (c *SessionCache) Take() *Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == 0 {
		return nil
	}
	s := c.list[len(c.list)-1]
	c.list = slices.Delete(c.list, len(c.list)-1, len(c.list))
	return s
}

// Len is how many sessions there are, those that are over included.
func (c *SessionCache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.list)
}

// Forget drops the sessions that match, which must not call c. Tickets that arrive later on connections
// of before the call are dropped too, whatever they are for: they come from the sessions of then.
func (c *SessionCache) Forget(match func(*Session) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleared++
	c.list = slices.DeleteFunc(c.list, match)
}

// Clear is Forget for all.
func (c *SessionCache) Clear() { c.Forget(func(*Session) bool { return true }) }

// epoch counts the calls of Forget.
func (c *SessionCache) epoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cleared
}

// put adds a session of a connection that began at epoch.
func (c *SessionCache) put(s *Session, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch == c.cleared {
		c.add(s)
	}
}

func (c *SessionCache) add(s *Session) {
	limit := c.Max
	if limit <= 0 {
		limit = 256
	}
	alike, oldest := 0, 0
	for i := len(c.list) - 1; i >= 0; i-- {
		if c.list[i].binding == s.binding {
			alike, oldest = alike+1, i
		}
	}
	if alike == maxAlike {
		c.list = slices.Delete(c.list, oldest, oldest+1)
	}
	if len(c.list) >= limit {
		c.list = slices.Delete(c.list, 0, len(c.list)-limit+1)
	}
	c.list = append(c.list, s)
}

// take removes the newest session with this binding that usable accepts, and what is over.
func (c *SessionCache) take(binding [32]byte, now time.Time, usable func(*Session) bool) *Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = slices.DeleteFunc(c.list, func(s *Session) bool { return !s.fresh(now) })
	for i := len(c.list) - 1; i >= 0; i-- {
		if s := c.list[i]; s.binding == binding && usable(s) {
			c.list = slices.Delete(c.list, i, i+1)
			return s
		}
	}
	return nil
}

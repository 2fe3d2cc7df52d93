package h2

import (
	"time"

	"golang.org/x/net/http2"

	"vitrine/internal/hop"
)

// stallBytes is the least that must leave within Limits.StallTimeout: a peer that grants one byte of
// window a minute has not made progress.
const stallBytes = 4 << 10

// tickInterval is how often the clocks are looked at: a quarter of the shortest of them.
func (s *session) tickInterval() time.Duration {
	l := &s.lim
	tick := min(l.SettingsTimeout, l.FrameTimeout, l.WriteTimeout, l.StallTimeout, l.IdleTimeout, l.PingTimeout)
	if l.PingInterval > 0 {
		tick = min(tick, l.PingInterval)
	}
	return max(tick/4, 10*time.Millisecond)
}

// A watch belongs to the writer's goroutine, which runs it at its ticks.
type watch struct {
	s         *session
	started   time.Time
	frames    uint64 // of inFrames, when it last changed
	since     time.Time
	pinged    time.Time
	connMark  uint64
	connSince time.Time
}

func newWatch(s *session) *watch {
	now := time.Now()
	return &watch{s: s, started: now, since: now}
}

// check looks at every clock of the session.
func (c *watch) check(now time.Time) {
	c.settings(now)
	c.reader(now)
	c.idle(now)
	c.stalled(now)
	c.requests(now)
}

func (c *watch) end(code http2.ErrCode, reason string) {
	c.s.fail(&hop.SessionError{Code: hop.ErrorCode(code), Reason: reason})
}

func (c *watch) settings(now time.Time) {
	s := c.s
	select {
	case <-s.ready:
	default:
		if now.Sub(c.started) >= s.lim.SettingsTimeout {
			c.end(http2.ErrCodeSettingsTimeout, "no SETTINGS from the peer")
		}
		return
	}
	s.mu.Lock()
	late := s.acksDue > 0 && now.Sub(s.ackSince) >= s.lim.SettingsTimeout
	s.mu.Unlock()
	if late {
		c.end(http2.ErrCodeSettingsTimeout, "SETTINGS were not acknowledged")
	}
}

// reader watches the reader by what it counts, so that a frame costs it no look at the clock.
func (c *watch) reader(now time.Time) {
	s := c.s
	if n := s.inFrames.Load(); n != c.frames {
		c.frames, c.since = n, now
		c.pinged = time.Time{}
		return
	}
	silent := now.Sub(c.since)
	switch {
	case c.frames%2 == 1:
		if silent >= s.lim.FrameTimeout {
			c.end(http2.ErrCodeEnhanceYourCalm, "a frame or header block was begun and not finished")
		}
	case !c.pinged.IsZero():
		if now.Sub(c.pinged) >= s.lim.PingTimeout {
			c.end(http2.ErrCodeNo, "the peer is silent")
		}
	case s.lim.PingInterval > 0 && silent >= s.lim.PingInterval:
		s.mu.Lock()
		s.pingSent = true
		s.mu.Unlock()
		s.w.push(control{kind: sendPing, data: keepalivePing})
		c.pinged = now
	}
}

func (c *watch) idle(now time.Time) {
	s := c.s
	s.mu.Lock()
	idle := len(s.streams)+s.work == 0 && now.Sub(s.lastUsed) >= s.lim.IdleTimeout
	s.mu.Unlock()
	if idle {
		c.end(http2.ErrCodeNo, "idle")
	}
}

// stalled looks for queues that wait for a window of the peer's.
func (c *watch) stalled(now time.Time) {
	s, w := c.s, &c.s.w
	var reset []*stream
	waiting := false
	s.mu.Lock()
	w.mu.Lock()
	for _, st := range s.streams {
		o := &st.out
		if len(o.queue) == 0 {
			o.since = time.Time{}
			continue
		}
		waiting = true
		if o.since.IsZero() || o.sent-o.mark >= stallBytes {
			o.since, o.mark = now, o.sent
		} else if now.Sub(o.since) >= s.lim.StallTimeout && o.window <= 0 {
			reset = append(reset, st)
		}
	}
	if !waiting || w.window > 0 || c.connSince.IsZero() || w.connSent-c.connMark >= stallBytes {
		c.connSince, c.connMark = now, w.connSent
	}
	stuck := now.Sub(c.connSince) >= s.lim.StallTimeout
	w.mu.Unlock()
	s.mu.Unlock()
	if stuck {
		c.end(http2.ErrCodeEnhanceYourCalm, "the peer opens no window")
		return
	}
	for _, st := range reset {
		s.anomaly("a stream's queue waited too long for a window")
		st.Reset(hop.Cancel)
	}
}

// requests looks for requests and refusals that do not end, and for clients that keep their side of a
// refused request open (RFC 9113 section 8.1 has NO_ERROR for these).
func (c *watch) requests(now time.Time) {
	s := c.s
	var uploads []*incoming
	reset := make(map[*stream]hop.ErrorCode)
	late := func(t time.Time) bool { return now.Sub(t) >= s.lim.FrameTimeout }
	s.mu.Lock()
	for _, st := range s.streams {
		switch in, x := st.incoming, st.exchange; {
		case in != nil && in.rejected && late(in.since):
			reset[st] = hop.NoError
		case in != nil && in.streamed:
			if !in.complete && !in.answered {
				uploads = append(uploads, in)
			}
		case in != nil && !in.complete && late(in.since),
			x != nil && !x.refused.IsZero() && late(x.refused):
			reset[st] = hop.Cancel
		}
	}
	s.mu.Unlock()
	for _, in := range uploads {
		if in.stalled(now) {
			reset[in.st] = hop.Cancel
		}
	}
	for st, code := range reset {
		s.anomaly("a request or a refusal did not end")
		st.Reset(code)
	}
}

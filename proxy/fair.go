package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// A quota bounds what each client has of what all clients share, so that one that takes all it can get
// leaves something to the others. It keeps an entry only for those who have something.
type quota struct {
	max  int64
	mu   sync.Mutex
	used map[string]int64
}

func newQuota(limit int) *quota { return &quota{max: int64(limit), used: make(map[string]int64)} }

// take reports whether who may have n more, and takes them if so.
func (q *quota) take(who string, n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used[who]+n > q.max {
		return false
	}
	q.used[who] += n
	return true
}

// resize changes what each client may have. What one has beyond it stays.
func (q *quota) resize(limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.max = int64(limit)
}

func (q *quota) give(who string, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used[who] -= n; q.used[who] == 0 {
		delete(q.used, who)
	}
}

// turns is a quota of one thing at a time, which waits.
type turns struct {
	max int
	mu  sync.Mutex
	of  map[string]*turn // of those who have, or wait for, something
}

type turn struct {
	slots chan struct{}
	users int
}

func newTurns(limit int) *turns { return &turns{max: limit, of: make(map[string]*turn)} }

// take waits until who may have one more; ctx ends the wait.
func (t *turns) take(ctx context.Context, who string) (give func(), err error) {
	t.mu.Lock()
	own := t.of[who]
	if own == nil {
		own = &turn{slots: make(chan struct{}, t.max)}
		t.of[who] = own
	}
	own.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(t.of, who)
		}
	}
	select {
	case own.slots <- struct{}{}:
		return func() { <-own.slots; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// stranger names who makes a connection before it has shown a certificate: an IPv4 address, or the /64
// that one IPv6 host has to itself. It is "" for this machine.
func stranger(addr net.Addr) string {
	t, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	a := t.AddrPort().Addr().Unmap()
	if a.IsLoopback() {
		return ""
	}
	if a.Is6() {
		return netip.PrefixFrom(a.WithZone(""), 64).Masked().String()
	}
	return a.String()
}

// A throttle keeps peers from filling the log with lines that cost them little.
type throttle struct {
	rate *rate.Limiter
	mu   sync.Mutex
	lost int
}

func newThrottle(perSecond float64, burst int) *throttle {
	return &throttle{rate: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// log writes a line, unless there were too many. The next that is written says how many were not.
func (t *throttle) log(ctx context.Context, l *slog.Logger, level slog.Level, msg string, attrs ...slog.Attr) {
	t.mu.Lock()
	if !t.rate.Allow() {
		t.lost++
		t.mu.Unlock()
		return
	}
	lost := t.lost
	t.lost = 0
	t.mu.Unlock()
	if lost > 0 {
		attrs = append(attrs, slog.Int("lines_left_out", lost))
	}
	l.LogAttrs(ctx, level, msg, attrs...)
}

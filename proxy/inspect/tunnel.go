package inspect

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"vitrine/frames"
)

// A Tunnel reads one tunnel. Its methods are safe for concurrent use, except that the calls for one
// direction must follow one another.
type Tunnel struct {
	cfg    Config
	limits Limits
	now    func() time.Time
	host   string // of the authority, without brackets
	port   int
	ip     netip.Addr // valid where host is an IP literal

	mu     sync.Mutex
	sides  [2]side // by frames.Direction
	tls    inner
	x      *exchange // the one that is open, or nil
	serial uint64    // of the last exchange
	last   bool      // no other exchange may follow the one that is open
	killed *KillError
	closed bool
	timer  *time.Timer // runs while something is held
	timed  uint64      // serial of timer

	// calls counts calls of Release and Kill, running and to come. It grows only under mu, while the
	// tunnel is not closed.
	calls sync.WaitGroup

	// answer is taken with and without mu, and nothing is taken under it.
	answer  sync.Mutex
	answers bool // some watch was answered
	calling int  // code that is not ours runs under mu
}

// NewTunnel returns a Tunnel that has read nothing. cfg is copied.
func NewTunnel(cfg *Config) *Tunnel {
	t := &Tunnel{cfg: *cfg, limits: cfg.Limits.withDefaults(), now: cfg.Time}
	t.cfg.Proxies = slices.Clone(cfg.Proxies)
	t.cfg.Inspectors = slices.Clone(cfg.Inspectors)
	if t.now == nil {
		t.now = time.Now
	}
	// An authority that does not parse agrees with no Host: such a tunnel passes no request.
	t.port = -1
	if host, port, err := net.SplitHostPort(cfg.Authority); err == nil {
		t.host = host
		t.ip, _ = netip.ParseAddr(host)
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			t.port = int(n)
		}
	}
	t.sides[frames.ToOrigin].dir = frames.ToOrigin
	t.sides[frames.ToClient].dir = frames.ToClient
	return t
}

// Feed reads the next bytes of direction d and keeps none of them. release is how many of all the bytes
// of d so far may leave; it only grows, and it is always a whole number of records. err is a *[KillError]
// when nothing more may leave than release says, in either direction, and stays so.
func (t *Tunnel) Feed(d frames.Direction, p []byte) (release int64, err error) {
	s := &t.sides[d]
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.err(); err != nil {
		return s.reported, err
	}
	if s.ended {
		return s.reported, ErrClosed
	}
	kill := t.records(s, p)
	if kill == nil {
		kill = t.applyAll()
	}
	n := t.settle(kill)
	n.fresh[d] = false // the result says it
	t.later(n)
	return s.released, t.err()
}

// End says that the sender of direction d ended it. Nil: a legal end, after close_notify or a fatal
// alert, or between exchanges; what is still held may be released later. io.ErrUnexpectedEOF: a record or
// a message is cut, and what was released stays as it is. A *[KillError]: the tunnel is killed.
func (t *Tunnel) End(d frames.Direction) error {
	s := &t.sides[d]
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.err(); err != nil {
		return err
	}
	if s.ended {
		return ErrClosed
	}
	s.ended = true
	if !t.cutOff(s) {
		return nil
	}
	kill := t.applyAll()
	if kill == nil {
		kill = t.cutShort(s)
	}
	t.later(t.settle(kill))
	if err := t.err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// cutOff says whether an end of s at this place cuts something.
func (t *Tunnel) cutOff(s *side) bool {
	switch {
	case s.nheader > 0 || s.part != nil || len(s.handshake) > 0:
		return true
	case s.over != open:
		return false
	case t.tls.state != established || s.reader.reading != between:
		return true
	}
	return s.dir == frames.ToClient && t.x != nil && !t.x.response.done
}

// Close ends the tunnel and closes the Inspections that are open, with err or the kill as their Outcome.
// It is called always and once; the second call does nothing. A call of Release or Kill may still be
// running when it returns: see [Tunnel.Wait].
func (t *Tunnel) Close(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.finish(early(err))
	t.holding()
	t.drop()
	t.closed = true
}

// Wait returns when no call of Config.Release or Config.Kill is running or to come. Call it after Close,
// without a lock that those take.
func (t *Tunnel) Wait() { t.calls.Wait() }

// err is why nothing may be fed any more.
func (t *Tunnel) err() error {
	switch {
	case t.closed:
		return ErrClosed
	case t.killed != nil:
		return t.killed
	}
	return nil
}

func (t *Tunnel) drop() {
	for i := range t.sides {
		t.sides[i].drop()
	}
}

// news is what the caller has to be told: how far each direction was released, where that is new, and
// the kill.
type news struct {
	release [2]int64
	fresh   [2]bool
	kill    *KillError
}

// settle ends what was begun under t.mu: it releases what may leave, or ends the tunnel for kill.
func (t *Tunnel) settle(kill *KillError) news {
	if kill == nil {
		for i := range t.sides {
			t.advance(&t.sides[i])
		}
		t.finish(nil)
	} else {
		t.killed = kill
		t.finish(kill)
		t.drop()
	}
	t.holding()
	n := news{kill: kill}
	for i := range t.sides {
		if s := &t.sides[i]; s.released > s.reported {
			s.reported = s.released
			n.release[i], n.fresh[i] = s.released, true
		}
	}
	return n
}

// later tells what the result of Feed or End does not: that more may leave. The caller may hold locks that
// Release takes, so another goroutine calls it.
func (t *Tunnel) later(n news) {
	n.kill = nil
	if t.cfg.Release != nil && (n.fresh[0] || n.fresh[1]) {
		t.calls.Go(func() { t.deliver(n) })
	}
}

// tell unlocks t.mu and tells n.
func (t *Tunnel) tell(n news) {
	t.calls.Add(1)
	t.mu.Unlock()
	defer t.calls.Done()
	t.deliver(n)
}

func (t *Tunnel) deliver(n news) {
	for i, fresh := range n.fresh {
		if fresh && t.cfg.Release != nil {
			t.cfg.Release(frames.Direction(i), n.release[i])
		}
	}
	if n.kill != nil && t.cfg.Kill != nil {
		t.cfg.Kill(n.kill)
	}
}

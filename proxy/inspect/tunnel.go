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
	broken *KillError // for a panic in an Inspection's Close; the tunnel shall be killed for it
	closed bool
	timer  *time.Timer // runs while something is held
	timed  uint64      // serial of timer

	// calls counts calls of Release and Kill, running and to come, and what may make one. It grows from
	// zero only under mu, while the tunnel is not closed.
	calls sync.WaitGroup

	// answer is taken with and without mu, and nothing is taken under it.
	answer  sync.Mutex
	answers bool // some watch was answered
}

// NewTunnel returns a Tunnel that has read nothing. cfg is copied.
func NewTunnel(cfg *Config) *Tunnel {
	t := &Tunnel{cfg: *cfg, limits: cfg.Limits.withDefaults(), now: cfg.Time}
	t.cfg.Proxies = slices.Clone(cfg.Proxies)
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
// of d so far may leave; it only grows, and it is always a whole number of records, or of units with Config.Plain.
// err is a *[KillError] when nothing more may leave than release says, in either direction, and stays so.
func (t *Tunnel) Feed(d frames.Direction, p []byte) (release int64, err error) {
	s := &t.sides[d]
	t.mu.Lock()
	if err := t.err(); err != nil {
		release = s.reported
		t.mu.Unlock()
		return release, err
	}
	t.calls.Add(1)
	defer t.calls.Done()
	ended := s.ended
	var kill *KillError
	switch {
	case ended:
	case t.cfg.Plain:
		kill = t.plain(s, p)
	default:
		kill = t.records(s, p)
	}
	if kill == nil {
		kill = t.applyAll()
	}
	release = s.reported
	n := t.unlock(kill)
	if n.fresh[d] {
		release, n.fresh[d] = n.release[d], false
	}
	if err = t.later(n); err == nil && ended {
		err = ErrClosed
	}
	return release, err
}

// End says that the sender of direction d ended it. Nil: a legal end, after close_notify or a fatal
// alert, between exchanges, or, with Config.Plain, of a body without a length; what is still held may be released
// later. io.ErrUnexpectedEOF: a record, a message, or a unit in front of close_notify is cut, and what was released
// stays as it is. A *[KillError]: the tunnel is killed.
func (t *Tunnel) End(d frames.Direction) error {
	s := &t.sides[d]
	t.mu.Lock()
	if err := t.err(); err != nil {
		t.mu.Unlock()
		return err
	}
	t.calls.Add(1)
	defer t.calls.Done()
	ended, cut := s.ended, t.cutOff(s)
	s.ended = true
	kill := t.applyAll()
	switch {
	case kill != nil:
	case t.cfg.Plain && s.reader.reading == inRest:
		cut, kill = false, t.closeNotify(s)
	case cut:
		kill = t.cutShort(s)
	}
	err := t.later(t.unlock(kill))
	switch {
	case err != nil:
		return err
	case ended:
		return ErrClosed
	case cut:
		return io.ErrUnexpectedEOF
	}
	return nil
}

// cutOff says whether an end of s at this place cuts something.
func (t *Tunnel) cutOff(s *side) bool {
	switch {
	case s.nheader > 0 || s.part != nil || len(s.handshake) > 0:
		return true
	case s.over != open:
		// Half a unit does not leave, and so nothing behind it does.
		return s.app > s.boundary
	case t.tls.state != established && !t.cfg.Plain || s.reader.reading != between:
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

// settle ends what was begun under t.mu: it releases what may leave, or ends the tunnel for kill. It adds
// to n what is new.
func (t *Tunnel) settle(kill *KillError, n *news) {
	if kill == nil {
		for i := range t.sides {
			t.advance(&t.sides[i])
		}
		t.finish(nil)
		kill = t.broken
	}
	if kill != nil {
		t.killed, n.kill = kill, kill
		t.finish(kill)
		t.drop()
	}
	t.holding()
	for i := range t.sides {
		if s := &t.sides[i]; s.released > s.reported {
			s.reported = s.released
			n.release[i], n.fresh[i] = s.released, true
		}
	}
}

// unlock settles and unlocks t.mu, and stays until no answer waits that came while t.mu was held.
func (t *Tunnel) unlock(kill *KillError) news {
	var n news
	t.settle(kill, &n)
	for {
		t.mu.Unlock()
		if !t.answered() || !t.mu.TryLock() {
			return n
		}
		kill := t.applyAll()
		if t.err() == nil {
			t.settle(kill, &n)
		}
	}
}

// later tells what the result of Feed or End does not: that more may leave. The caller may hold locks that
// Release takes, so another goroutine calls it. It returns the kill for the result.
func (t *Tunnel) later(n news) error {
	kill := n.kill
	n.kill = nil
	if t.cfg.Release != nil && (n.fresh[0] || n.fresh[1]) {
		t.calls.Go(func() { t.deliver(n) })
	}
	if kill == nil {
		return nil
	}
	return kill
}

// deliver calls Release and Kill. t.mu is not held.
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

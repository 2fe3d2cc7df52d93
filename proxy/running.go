package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/proxy/inspect"
)

// running is what a Proxy owns once it was used.
type running struct {
	leaf     *x509.Certificate
	leafHash [32]byte
	name     string
	via      string // name as a via pseudonym
	modes    []fields.Mode
	policy   Policy
	limits   Limits
	targets  *dialer
	log      *slog.Logger
	now      func() time.Time
	pool     *pool
	held     *budget
	holders  *quota    // each client's part of held
	crowd    *quota    // each client's part of connections, and each address's that shakes hands
	noise    *throttle // of connections that became no session

	connections chan struct{} // one for each hop-1 connection
	// life ends when nothing waits for a peer any more.
	life context.Context
	die  context.CancelFunc

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	conns     map[net.Conn]struct{} // hop 1, before its session
	closing   chan struct{}         // closed when the proxy takes nothing more
	serial    uint64
	// wg counts Serve, its connections and the sessions. It grows only under mu, and not once closing
	// is closed.
	wg sync.WaitGroup
}

// start checks the configuration, once.
func (p *Proxy) start() (*running, error) {
	p.once.Do(func() { p.run, p.setup = p.newRunning() })
	return p.run, p.setup
}

func (p *Proxy) newRunning() (*running, error) {
	if len(p.Certificate.Certificate) == 0 {
		return nil, errors.New("proxy: no certificate")
	}
	leaf := p.Certificate.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(p.Certificate.Certificate[0]); err != nil {
			return nil, fmt.Errorf("proxy: certificate: %w", err)
		}
	}
	for _, m := range p.Policy.Modes {
		if m != fields.Intact && m != fields.Blind {
			return nil, fmt.Errorf("proxy: mode %q is not available", m)
		}
	}
	r := &running{
		leaf:      leaf,
		leafHash:  sha256.Sum256(leaf.Raw),
		name:      p.Name,
		modes:     p.Policy.modes(),
		policy:    p.Policy,
		limits:    p.Limits.withDefaults(),
		log:       p.Log,
		now:       p.Time,
		listeners: make(map[net.Listener]struct{}),
		sessions:  make(map[*session]struct{}),
		conns:     make(map[net.Conn]struct{}),
		closing:   make(chan struct{}),
	}
	r.life, r.die = context.WithCancel(context.Background())
	r.connections = make(chan struct{}, r.limits.Connections)
	if r.policy.HeldBytes <= 0 {
		r.policy.HeldBytes = 1 << 20
	}
	if r.policy.HoldTime <= 0 {
		r.policy.HoldTime = 30 * time.Second
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.name == "" {
		r.name = ownName(leaf)
	}
	if r.name == "" {
		return nil, errors.New("proxy: the certificate holds no name, and Name is empty")
	}
	r.via = pseudonym(r.name)
	r.held = &budget{max: int64(r.limits.HeldBytes)}
	// Whatever the part, one tunnel can hold what Policy lets it: it would else stall short of its end.
	r.holders = newQuota(max(r.limits.part(r.limits.HeldBytes), min(2*r.policy.HeldBytes, r.limits.HeldBytes)))
	r.crowd = newQuota(r.limits.part(r.limits.Connections))
	r.noise = newThrottle(10, 100)
	r.targets = newDialer(&p.Targets, p.ConnectTo, &r.limits, r.ownListeners)
	r.pool = newPool(r.life, &r.limits)
	return r, nil
}

func ownName(leaf *x509.Certificate) string {
	if len(leaf.DNSNames) > 0 {
		return strings.ToLower(leaf.DNSNames[0])
	}
	if len(leaf.IPAddresses) > 0 {
		return leaf.IPAddresses[0].String()
	}
	return ""
}

// pseudonym is name as via can carry it: a token (RFC 9110, section 7.6.3).
func pseudonym(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', strings.ContainsRune("-._", r):
			return r
		}
		return '_'
	}, name)
}

// ownListeners returns the addresses that Serve listens on.
func (r *running) ownListeners() []net.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := make([]net.Addr, 0, len(r.listeners))
	for ln := range r.listeners {
		addrs = append(addrs, ln.Addr())
	}
	return addrs
}

func (r *running) nextSerial() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serial++
	return r.serial
}

func (r *running) isClosing() bool {
	select {
	case <-r.closing:
		return true
	default:
		return false
	}
}

// enter counts one more thing to wait for, unless the proxy is closing. f runs under the lock.
func (r *running) enter(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isClosing() {
		return false
	}
	r.wg.Add(1)
	f()
	return true
}

func (r *running) addListener(ln net.Listener) bool {
	return r.enter(func() { r.listeners[ln] = struct{}{} })
}

func (r *running) removeListener(ln net.Listener) {
	r.mu.Lock()
	delete(r.listeners, ln)
	r.mu.Unlock()
	r.wg.Done()
}

func (r *running) addConn(conn net.Conn) bool {
	return r.enter(func() { r.conns[conn] = struct{}{} })
}

// removeConn leaves the connection counted: it has become a session's.
func (r *running) removeConn(conn net.Conn) {
	r.mu.Lock()
	delete(r.conns, conn)
	r.mu.Unlock()
}

func (r *running) addSession(s *session) bool {
	return r.enter(func() { r.sessions[s] = struct{}{} })
}

func (r *running) removeSession(s *session) {
	r.mu.Lock()
	delete(r.sessions, s)
	r.mu.Unlock()
	r.wg.Done()
}

// close lets nothing more in, and returns the sessions that are.
func (r *running) close() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.isClosing() {
		close(r.closing)
	}
	for ln := range r.listeners {
		ln.Close()
	}
	for conn := range r.conns {
		conn.Close()
	}
	return r.snapshot()
}

func (r *running) snapshot() []*session {
	all := make([]*session, 0, len(r.sessions))
	for s := range r.sessions {
		all = append(all, s)
	}
	return all
}

// gone is closed when nothing runs any more. The caller has called close, and waits for it.
func (r *running) gone() <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		r.wg.Wait()
		r.pool.close()
		r.pool.wg.Wait()
	}()
	return ch
}

func (r *running) killAll(why string) {
	r.mu.Lock()
	all := r.snapshot()
	r.mu.Unlock()
	for _, s := range all {
		s.killAll(&inspect.KillError{Reason: frames.ReasonShutdown, Direction: frames.ToOrigin, Rule: "shutdown", Detail: why})
	}
}

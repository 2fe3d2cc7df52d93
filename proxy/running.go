package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/frames"
	"vitrine/proxy/inspect"
)

// running is what a Proxy owns once it was used.
type running struct {
	name    string // Proxy.Name
	limits  Limits
	log     *slog.Logger
	now     func() time.Time
	keyLog  io.Writer
	pool    *pool
	dials   *dialer // what the dialers of all settings share
	origins *origins
	held    *budget
	holders *quota    // each client's part of held
	crowd   *quota    // each client's part of connections, and each address's that shakes hands
	noise   *throttle // of connections that became no session

	current atomic.Pointer[settings] // stored under mu

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
	r := &running{
		name:      p.Name,
		limits:    p.Limits.withDefaults(),
		log:       p.Log,
		now:       p.Time,
		keyLog:    p.KeyLog,
		listeners: make(map[net.Listener]struct{}),
		sessions:  make(map[*session]struct{}),
		conns:     make(map[net.Conn]struct{}),
		closing:   make(chan struct{}),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.dials = newDialer(nil, nil, &r.limits, r.ownListeners)
	st, err := r.settings(p)
	if err != nil {
		return nil, err
	}
	r.current.Store(st)
	r.life, r.die = context.WithCancel(context.Background())
	r.connections = make(chan struct{}, r.limits.Connections)
	r.held = &budget{max: int64(r.limits.HeldBytes)}
	r.holders = newQuota(r.limits.holders(&st.policy))
	r.crowd = newQuota(r.limits.part(r.limits.Connections))
	r.noise = newThrottle(10, 100)
	r.pool = newPool(r.life, &r.limits)
	r.origins = newOrigins(&r.limits)
	return r, nil
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

// enter counts one more thing to wait for, unless the proxy is closing or f says no. f runs under the
// lock.
func (r *running) enter(f func() bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isClosing() || !f() {
		return false
	}
	r.wg.Add(1)
	return true
}

// addListener refuses a listener that the settings do not allow, or any when the proxy is closing.
func (r *running) addListener(ln net.Listener) error {
	err := ErrServerClosed
	r.enter(func() bool {
		if !r.current.Load().mayListen(ln.Addr()) {
			err = ErrOpenProxy
			return false
		}
		r.listeners[ln], err = struct{}{}, nil
		return true
	})
	return err
}

func (r *running) removeListener(ln net.Listener) {
	r.mu.Lock()
	delete(r.listeners, ln)
	r.mu.Unlock()
	r.wg.Done()
}

func (r *running) addConn(conn net.Conn) bool {
	return r.enter(func() bool { r.conns[conn] = struct{}{}; return true })
}

// removeConn leaves the connection counted: it has become a session's.
func (r *running) removeConn(conn net.Conn) {
	r.mu.Lock()
	delete(r.conns, conn)
	r.mu.Unlock()
}

func (r *running) addSession(s *session) bool {
	return r.enter(func() bool { r.sessions[s] = struct{}{}; return true })
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

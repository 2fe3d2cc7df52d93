package hostile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/pki"
	"vitrine/proxy"
)

const (
	// NamePrefix begins the name of a proxy that lies: via and proxy-status say it to both ends.
	NamePrefix = "HOSTILE-"
	// maxConnections is how many connections of clients a Liar serves at once: a flood of them must not
	// take the descriptors of the machine that a researcher runs it on.
	maxConnections = 128
	// patience bounds each step in which a Liar waits for a peer, so that one that falls silent holds
	// nothing for long.
	patience = 10 * time.Second
)

// ErrBeyondLoopback is what Serve returns for a listener that other machines reach: nobody shall come upon
// a proxy that lies by chance.
var ErrBeyondLoopback = errors.New("hostile: a proxy that lies serves loopback only")

// A Strike says where a lie was told.
type Strike struct {
	Mode      Mode
	Authority string           // of the tunnel
	Hop       int              // 1 with the client, 2 with the origin
	Stream    uint64           // of the tunnel, on that hop; 0 where there is none yet
	Direction frames.Direction // whom it was told to
	Record    int              // of the stream in this direction, from 0; -1 where the lie is in no record
	Offset    int              // of the first wrong byte, from the record's first header byte; -1 without Record
	What      string           // one line
}

// A Liar serves clients as a proxy does, and lies to each of them in the way that Mode says, once in every
// tunnel. Its proxy is an ordinary one: what lies are the sessions it is given, and its way to the origin. The
// fields must not change once a method was called; a Liar must not be copied.
type Liar struct {
	// Proxy does what a proxy does. Required. It must not have been used: the Liar puts [NamePrefix] in
	// front of its Name, adds hostile=MODE to the lines of its Log, and closes it.
	Proxy *proxy.Proxy
	// Mode is how it lies. Required.
	Mode Mode
	// Struck is told of each lie, before the lie has left. It must not block: a hop may wait for it.
	// Default: nobody is; the log gets a line in any case.
	Struck func(Strike)

	once   sync.Once
	setup  error
	log    *slog.Logger
	forger *forger
	life   context.Context // of everything that the Liar does by itself
	die    context.CancelFunc

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	closed    bool
	wg        sync.WaitGroup // grows only under mu, and not once closed
}

func (l *Liar) start() error {
	l.once.Do(func() { l.setup = l.prepare() })
	return l.setup
}

func (l *Liar) prepare() (err error) {
	if _, err := ParseMode(string(l.Mode)); err != nil {
		return fmt.Errorf("hostile: mode %w", err)
	}
	if err := pki.CheckProxyCertificate(l.Proxy.Certificate, l.now()); err != nil {
		return fmt.Errorf("hostile: %w", err)
	}
	if l.forger, err = newForger(l.Proxy, l.now()); err != nil {
		return err
	}
	l.log = slog.New(slog.DiscardHandler)
	if l.Proxy.Log != nil {
		l.log = l.Proxy.Log.With("hostile", string(l.Mode))
		l.Proxy.Log = l.log
	}
	l.Proxy.Name = NamePrefix + l.forger.name
	l.listeners = make(map[net.Listener]struct{})
	l.life, l.die = context.WithCancel(context.Background())
	return nil
}

func (l *Liar) now() time.Time {
	if l.Proxy.Time != nil {
		return l.Proxy.Time()
	}
	return time.Now()
}

// struck reports a lie.
func (l *Liar) struck(s Strike) {
	s.Mode = l.Mode
	attrs := []any{"authority", s.Authority, "hop", s.Hop, "stream", s.Stream, "direction", s.Direction.String()}
	if s.Record >= 0 {
		attrs = append(attrs, "record", s.Record, "offset", s.Offset)
	}
	l.log.Warn("struck", append(attrs, "what", s.What)...)
	if l.Struck != nil {
		l.Struck(s)
	}
}

// missed says why a lie was not told: the origin, for one, may not be reached a second time.
func (l *Liar) missed(authority string, err error) {
	l.log.Warn("did not strike", "authority", authority, "why", err.Error())
}

// Serve serves the connections of ln, on loopback or in memory, until ln fails, or Shutdown or Close is
// called: then it returns [proxy.ErrServerClosed]. It speaks HTTP/2 only. It closes ln.
func (l *Liar) Serve(ln net.Listener) error {
	defer ln.Close()
	if err := l.start(); err != nil {
		return err
	}
	if !local(ln.Addr()) {
		return ErrBeyondLoopback
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return proxy.ErrServerClosed
	}
	l.listeners[ln] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.listeners, ln)
		l.mu.Unlock()
	}()
	room := make(chan struct{}, maxConnections)
	for {
		select {
		case room <- struct{}{}:
		case <-l.life.Done():
			return proxy.ErrServerClosed
		}
		conn, err := ln.Accept()
		if err != nil {
			if l.isClosed() {
				return proxy.ErrServerClosed
			}
			return err
		}
		if !l.spawn(func() {
			defer func() { <-room }()
			l.serve(conn)
		}) {
			conn.Close()
			return proxy.ErrServerClosed
		}
	}
}

// spawn runs f on a goroutine that Close waits for, and reports whether it still may.
func (l *Liar) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(f)
	return true
}

func (l *Liar) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// serve serves one connection.
func (l *Liar) serve(conn net.Conn) {
	session, err := l.shake(conn)
	if err != nil {
		conn.Close()
		l.log.Warn("no hop 1", "client", conn.RemoteAddr().String(), "why", err.Error())
		return
	}
	err = l.ServeSession(l.life, session)
	l.log.Debug("hop 1 ended", "client", conn.RemoteAddr().String(), "why", fmt.Sprint(err))
}

func (l *Liar) shake(conn net.Conn) (hop.Session, error) {
	ctx, cancel := context.WithTimeout(l.life, patience)
	defer cancel()
	cfg := &tls.Config{
		Certificates:           []tls.Certificate{l.Proxy.Certificate},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2"},
		Time:                   l.Proxy.Time,
		KeyLogWriter:           l.Proxy.KeyLog,
		SessionTicketsDisabled: true,
	}
	if l.Proxy.ClientCAs != nil {
		cfg.ClientCAs, cfg.ClientAuth = l.Proxy.ClientCAs, tls.RequireAndVerifyClientCert
	}
	tc := tls.Server(conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return h2.Server(tc, &h2.Config{Limits: l.Proxy.Limits.Hop, Ordinary: true})
}

// ServeSession serves one hop-1 session whose handshake the caller made, until it ends, and returns why it
// did. When ctx ends it closes the session. It returns when nothing of the session's tunnels is left.
func (l *Liar) ServeSession(ctx context.Context, client hop.Session) error {
	if err := l.start(); err != nil {
		client.Close(hop.InternalError, "")
		<-client.Done()
		return err
	}
	return l.Proxy.ServeSession(ctx, &lyingSession{session: &session{Session: client}, l: l, ctx: ctx}, l.dial)
}

// Shutdown stops listening, tells clients to open nothing more, and waits for the open tunnels. When ctx
// ends first it ends those that are left, and returns ctx's error. When it returns, nothing of the Liar runs any more.
func (l *Liar) Shutdown(ctx context.Context) error {
	if err := l.start(); err != nil {
		return err
	}
	l.stop()
	err := l.Proxy.Shutdown(ctx)
	l.die()
	l.wg.Wait()
	return errors.Join(err, l.forger.close())
}

// Close ends everything at once.
func (l *Liar) Close() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Shutdown(now); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (l *Liar) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for ln := range l.listeners {
		ln.Close()
	}
}

// local says that addr is reached from this machine alone; an address in memory is.
func local(addr net.Addr) bool {
	if t, ok := addr.(*net.TCPAddr); ok {
		return t.IP.IsLoopback()
	}
	return !strings.HasPrefix(addr.Network(), "tcp") && !strings.HasPrefix(addr.Network(), "udp") && !strings.HasPrefix(addr.Network(), "ip")
}

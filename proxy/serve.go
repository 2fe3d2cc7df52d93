package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"vitrine/internal/hop"
	"vitrine/internal/hop/h1"
	"vitrine/internal/hop/h2"
	"vitrine/internal/pki"
)

const (
	// shortestPause and longestPause lie between attempts to accept when the system is out of
	// descriptors.
	shortestPause = 5 * time.Millisecond
	longestPause  = time.Second
	// lastWords is how long verdicts, resets and GOAWAY may take to leave when time is up.
	lastWords = time.Second
)

// Serve serves the connections of ln until ln fails, or Shutdown or Close is called: then it returns
// [ErrServerClosed]. It returns at once when the certificate is not one of a proxy, and [ErrOpenProxy]
// when ln is reachable from other machines and ClientCAs is nil. It closes ln.
func (p *Proxy) Serve(ln net.Listener) error {
	defer ln.Close()
	r, err := p.start()
	if err != nil {
		return err
	}
	if err := pki.CheckProxyCertificate(r.current.Load().front.certificate, r.now()); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if err := r.addListener(ln); err != nil {
		return err
	}
	defer r.removeListener(ln)
	pause := time.Duration(0)
	for {
		select {
		case r.connections <- struct{}{}:
		case <-r.closing:
			return ErrServerClosed
		}
		conn, err := ln.Accept()
		if err != nil {
			<-r.connections
			if r.isClosing() {
				return ErrServerClosed
			}
			if !temporary(err) {
				return err
			}
			pause = min(max(2*pause, shortestPause), longestPause)
			r.log.Warn("accept", "why", err.Error(), "pause", pause)
			select {
			case <-time.After(pause):
			case <-r.closing:
			}
			continue
		}
		pause = 0
		if !r.addConn(conn) {
			<-r.connections
			conn.Close()
			continue
		}
		go func() {
			defer func() { <-r.connections }()
			defer r.wg.Done()
			p.serveConn(r, conn)
		}()
	}
}

// serveConn serves one connection; conn is among r's until it is a session.
func (p *Proxy) serveConn(r *running, conn net.Conn) {
	f := r.current.Load().front
	client, err := r.shake(conn, f)
	r.removeConn(conn)
	who := ""
	if err == nil {
		if leaf := client.Peer().PeerCertificate(); leaf != nil {
			who = byCertificate(leaf)
		}
		if who != "" && !r.crowd.take(who, 1) {
			client.Close(hop.EnhanceYourCalm, "too many connections")
			<-client.Done()
			err = errCrowd
		}
	}
	if err != nil {
		conn.Close()
		r.noise.log(context.Background(), r.log, slog.LevelWarn, "no hop 1",
			slog.String("client", conn.RemoteAddr().String()), slog.String("why", oneLine(err.Error())))
		return
	}
	if who != "" {
		defer r.crowd.give(who, 1)
	}
	err = p.serveSession(context.Background(), r, f, client, p.Dial)
	why := ""
	if err != nil {
		why = oneLine(err.Error())
	}
	r.log.Debug("hop 1 ended", "client", conn.RemoteAddr().String(), "why", why)
}

var errCrowd = errors.New("too many connections of one client")

func (r *running) shake(conn net.Conn, f *front) (hop.Session, error) {
	if who := stranger(conn.RemoteAddr()); who != "" {
		if !r.crowd.take(who, 1) {
			return nil, errCrowd
		}
		defer r.crowd.give(who, 1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.limits.Handshake)
	defer cancel()
	tc := tls.Server(hop.NewBatchConn(conn), f.config)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if tc.ConnectionState().NegotiatedProtocol == "h2" {
		return h2.Server(tc, &h2.Config{Limits: r.limits.Hop, Ordinary: true})
	}
	return h1.Server(tc, &h1.Config{Limits: r.limits.Hop, Refuse: f.refuse})
}

// hop1Config has no session tickets: a client certificate is verified for each connection, and a new
// certificate of the proxy's counts from the next one on. Clients keep their connection.
func (r *running) hop1Config(f *front) *tls.Config {
	cfg := &tls.Config{
		Certificates:                []tls.Certificate{f.certificate},
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  []string{"h2", "http/1.1"},
		Time:                        r.now,
		KeyLogWriter:                r.keyLog,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
	if f.clientCAs != nil {
		cfg.ClientCAs = f.clientCAs
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg
}

// mayListen says that a proxy with these settings may be reached at addr.
func (st *settings) mayListen(addr net.Addr) bool { return st.front.clientCAs != nil || local(addr) }

// local says that addr can be reached from this machine alone. What is not an IP network (a Unix
// socket, a connection in memory) can; an address that it does not understand cannot.
func local(addr net.Addr) bool {
	if t, ok := addr.(*net.TCPAddr); ok {
		return t.IP.IsLoopback()
	}
	if !strings.HasPrefix(addr.Network(), "tcp") && !strings.HasPrefix(addr.Network(), "udp") && !strings.HasPrefix(addr.Network(), "ip") {
		return true
	}
	a, err := netip.ParseAddrPort(addr.String())
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// temporary says that a later Accept may succeed: the connection was gone before it was taken, or the
// system is out of something.
func temporary(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, errno) {
			return true
		}
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Shutdown stops listening, tells clients to open nothing more, and waits for the open tunnels. When
// ctx ends first, it kills those that are left, with a verdict that says so, and returns ctx's error.
// When it returns, nothing of the proxy runs any more.
func (p *Proxy) Shutdown(ctx context.Context) error {
	r, err := p.start()
	if err != nil {
		return err
	}
	sessions := r.close()
	patience, impatient := context.WithCancel(context.Background())
	var drains sync.WaitGroup
	defer drains.Wait()
	defer impatient()
	for _, s := range sessions {
		drains.Go(func() { s.hop.Drain(patience) })
	}
	gone := r.gone()
	select {
	case <-gone:
		r.die()
		return nil
	case <-ctx.Done():
	}
	r.killAll("the proxy is closing")
	// What was killed gets a moment to say so.
	moment := time.NewTimer(lastWords)
	defer moment.Stop()
	select {
	case <-gone:
	case <-moment.C:
	}
	impatient()
	r.die()
	<-gone
	return ctx.Err()
}

// Close ends everything at once: tunnels are killed, with a verdict where it can still be sent.
func (p *Proxy) Close() error {
	if _, err := p.start(); err != nil {
		return err
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	p.Shutdown(now)
	return nil
}

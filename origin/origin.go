// Package origin lets an ordinary [http.Server] be read by proxies that say so: it enables the hop
// protocol "itls-h2/1" beside HTTP/2 and HTTP/1.1.
//
// Call [ConfigureServer] before the server starts; handlers run unchanged. A handler that wants to
// know who reads the exchange calls [InspectionOf] with its request's context. [NewGateway] is a
// handler for origins that stand in front of a server of another kind. [SignResponses] is for what does not come
// through tunnels: it signs what a handler answers, so that a client finds out when a proxy changed it.
//
// # How it fits together
//
// A proxy that speaks "itls-h2/1" opens a TLS 1.3 connection, hop 2, to the server's port. On it come
// tunnels, and in each tunnel an inner TLS session from a client. What comes out of the inner session
// is served by the same http.Server: its handler, timeouts, ConnState, ConnContext, Shutdown and
// Close apply as they do to any HTTP/1.1 connection. Request.TLS describes the inner session.
// Checks of the server's TLSConfig that are about clients (ClientAuth, ClientCAs, VerifyConnection,
// VerifyPeerCertificate) are made in the inner session; on hop 2 the peer is the proxy, which is
// asked for its certificate.
//
// GetCertificate and GetConfigForClient are called for inner sessions, too. The ClientHelloInfo that they
// get then was not made by crypto/tls: its Context is nil.
package origin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/itls"
)

// Config says how a server treats proxies. The zero value works.
type Config struct {
	// GetCertificate is asked for the certificate when srv.TLSConfig has neither Certificates nor
	// GetCertificate nor GetConfigForClient; it then serves ordinary clients, too. Default: srv.TLSConfig.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// ProxyRoots are the roots of the proxies that may carry tunnels here. A proxy that shows no
	// certificate, or one that is not a proxy's under these roots, is refused every tunnel. Default:
	// nil, any proxy, since it changes nothing anyhow.
	ProxyRoots *x509.CertPool

	// Lifetime is how long the statement "I know that this proxy reads, and allow it" holds; default
	// 10 minutes, at most [MaxLifetime].
	Lifetime time.Duration

	// Limits are those of a hop. Where IdleTimeout, SettingsTimeout or FrameTimeout is zero the
	// server's own IdleTimeout and ReadHeaderTimeout take their place, if it has them.
	Limits Limits

	// HandshakeTimeout bounds an inner handshake; default the server's ReadHeaderTimeout, or 10 s. It
	// stops clients that open tunnels and go silent.
	HandshakeTimeout time.Duration

	// Handshakes is how many inner handshakes may be under way at once in the whole server, and a
	// quarter of it on one hop; default 256. It stops floods of tunnels from costing a signature each
	// at the same time. Tunnels above it wait, no longer than a handshake may take.
	Handshakes int

	// ResumeFor is how long after a full inner handshake its session may be resumed, without certificates
	// and signatures but with a fresh key exchange, the same proxies, and all that says who reads;
	// default 12 hours, at most 7 days, none when negative or where srv.TLSConfig, or the config that its
	// GetConfigForClient returns, has SessionTicketsDisabled. The keys of the tickets are the server's own, in
	// memory, and rotate.
	ResumeFor time.Duration

	// Time gives the time; default srv.TLSConfig.Time, or time.Now.
	Time func() time.Time
}

// Limits bound what a proxy can make one hop hold. Every zero field means its default.
type Limits = hop.Limits

// MaxLifetime is the longest Config.Lifetime: what a proxy may cache at most.
const MaxLifetime = 24 * time.Hour

// maxResumeFor is RFC 8446's, section 4.6.1.
const maxResumeFor = 7 * 24 * time.Hour

// ErrNoCertificate is what [ConfigureServer] returns for a server without a certificate. Files that
// are given to ListenAndServeTLS or ServeTLS do not count: net/http keeps them to itself, and the
// inner sessions need them too.
var ErrNoCertificate = errors.New("origin: the server has no certificate: load it into srv.TLSConfig " +
	"(Certificates, GetCertificate or GetConfigForClient) or set Config.GetCertificate, and call ListenAndServeTLS with empty file names")

// ConfigureServer enables "itls-h2/1" on srv, which must not have started. It changes srv.TLSConfig
// (to a copy), TLSNextProto, Protocols when that is nil, and ConnContext; set your own before. A nil
// cfg is the zero Config. A certificate chain that no client would take, of more than 16 certificates, is an error.
func ConfigureServer(srv *http.Server, cfg *Config) error {
	if cfg == nil {
		cfg = new(Config)
	}
	if _, ok := srv.TLSNextProto[frames.ALPNH2]; ok {
		return errors.New("origin: the server is configured already")
	}
	if cfg.Lifetime < 0 || cfg.Lifetime > MaxLifetime {
		return fmt.Errorf("origin: a lifetime of %v is not between 0 and %v", cfg.Lifetime, MaxLifetime)
	}
	if cfg.ResumeFor > maxResumeFor {
		return fmt.Errorf("origin: sessions cannot be resumed for %v, at most %v", cfg.ResumeFor, maxResumeFor)
	}
	user := &tls.Config{}
	if srv.TLSConfig != nil {
		user = srv.TLSConfig.Clone()
	}
	if len(user.Certificates) == 0 && user.GetCertificate == nil && user.GetConfigForClient == nil {
		if cfg.GetCertificate == nil {
			return ErrNoCertificate
		}
		user.GetCertificate = cfg.GetCertificate
	}
	for i := range user.Certificates {
		if err := itls.CheckChain(&user.Certificates[i]); err != nil {
			return fmt.Errorf("origin: %w", err)
		}
	}
	if srv.Protocols == nil {
		// Once TLSNextProto is not nil, its lack of "h2" would switch HTTP/2 off for stock clients.
		_, own := srv.TLSNextProto["h2"]
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetHTTP2(srv.TLSNextProto == nil || own)
	}
	if !srv.Protocols.HTTP1() {
		return errors.New("origin: the server's Protocols must include HTTP/1: it is what inner sessions carry")
	}
	o := newServer(srv, cfg, user)
	srv.TLSConfig = o.hopConfig()
	if srv.TLSNextProto == nil {
		srv.TLSNextProto = make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	}
	srv.TLSNextProto[frames.ALPNH2] = o.serveHop
	srv.ConnContext = connContext(srv.ConnContext)
	srv.RegisterOnShutdown(o.shutdown)
	return nil
}

// A server is what ConfigureServer adds to one http.Server.
type server struct {
	srv  *http.Server
	cfg  Config
	user *tls.Config // as the user made it; never changed
	lim  hop.Limits

	handshakes chan struct{} // a token for each inner handshake under way
	inner      *listener
	start      sync.Once
	tickets    *itls.TicketKeys // nil: no inner session is resumed

	mu       sync.Mutex
	draining chan struct{} // closed by Shutdown

	lines  *rate.Limiter // of the log
	unsaid atomic.Int64  // lines since the last that was written
}

func newServer(srv *http.Server, cfg *Config, user *tls.Config) *server {
	o := &server{srv: srv, cfg: *cfg, user: user, lim: cfg.Limits, inner: newListener(), draining: make(chan struct{})}
	o.lines = rate.NewLimiter(linesPerSecond, lineBurst)
	if o.cfg.Lifetime == 0 {
		o.cfg.Lifetime = 10 * time.Minute
	}
	if o.cfg.Handshakes <= 0 {
		o.cfg.Handshakes = 256
	}
	if o.cfg.Time == nil {
		o.cfg.Time = user.Time
	}
	if o.cfg.Time == nil {
		o.cfg.Time = time.Now
	}
	if o.cfg.ResumeFor >= 0 && !user.SessionTicketsDisabled {
		o.tickets = &itls.TicketKeys{Lifetime: o.cfg.ResumeFor, Time: o.cfg.Time}
	}
	o.handshakes = make(chan struct{}, o.cfg.Handshakes)
	return o
}

// limits are those of a hop that starts now. The server's timeouts are read as late as net/http
// reads them.
func (o *server) limits() hop.Limits {
	l := o.lim
	if idle := orElse(o.srv.IdleTimeout, o.srv.ReadTimeout); l.IdleTimeout == 0 && idle > 0 {
		l.IdleTimeout = idle
	}
	if header := o.headerTimeout(); header > 0 {
		if l.SettingsTimeout == 0 {
			l.SettingsTimeout = header
		}
		if l.FrameTimeout == 0 {
			l.FrameTimeout = header
		}
	}
	return l
}

func (o *server) headerTimeout() time.Duration {
	return orElse(o.srv.ReadHeaderTimeout, o.srv.ReadTimeout)
}

func (o *server) handshakeTimeout() time.Duration {
	if o.cfg.HandshakeTimeout > 0 {
		return o.cfg.HandshakeTimeout
	}
	if d := o.headerTimeout(); d > 0 {
		return d
	}
	return 10 * time.Second
}

func orElse(d, other time.Duration) time.Duration {
	if d != 0 {
		return d
	}
	return other
}

// shutdown is called by http.Server.Shutdown and must not wait.
func (o *server) shutdown() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !isClosed(o.draining) {
		close(o.draining)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// logf writes a line about what a peer did, which may hold words of the peer's. Peers cannot make it more
// than a line, nor fill the log: the next line says how many were left out.
func (o *server) logf(format string, args ...any) {
	if !o.lines.Allow() {
		o.unsaid.Add(1)
		return
	}
	line := frames.CleanText(fmt.Sprintf(format, args...), maxLine)
	if n := o.unsaid.Swap(0); n > 0 {
		line += fmt.Sprintf(" (%d lines before it were left out)", n)
	}
	o.logger().Print(line)
}

func (o *server) logger() *log.Logger {
	if o.srv.ErrorLog != nil {
		return o.srv.ErrorLog
	}
	return log.Default()
}

// Of what peers provoke the log gets lineBurst lines at once, and then linesPerSecond.
const (
	maxLine        = 1024
	lineBurst      = 200
	linesPerSecond = 20
)

// without returns list without s.
func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == s })
}

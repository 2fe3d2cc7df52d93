package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"vitrine/client"
	"vitrine/internal/fields"
	"vitrine/internal/hosts"
)

const (
	// LevelField is the field in which each response says at what level it was had: "intact", for example. One that
	// an origin sends is dropped.
	LevelField = "Vitrine-Level"
	// NoLevel is the value of LevelField where the gateway itself answers.
	NoLevel = "none"
	// ErrorField says in a word why the gateway itself answers, where that is an error: killed, level, integrity,
	// proxy-trust, consent, credentials, origin-trust, unreachable, other, or refused, which means that nothing was tried.
	ErrorField = "Vitrine-Error"
)

var (
	// ErrNotLoopback is what Serve and ServeMap return, wrapped, for a listener that others than this machine reach.
	ErrNotLoopback = errors.New("the gateway listens on loopback alone: whoever reaches it uses the user's consent")
	// ErrClosed is what Serve and ServeMap return after Shutdown or Close.
	ErrClosed = errors.New("gateway: closed")
)

// A Pattern names hosts: "shop.example", "*.example" for all below it, "*" for all; each may end in a port.
// [ParsePattern] reads one. The zero Pattern names none.
type Pattern = hosts.Pattern

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	p, err := hosts.Parse(s)
	if err != nil {
		return Pattern{}, fmt.Errorf("gateway: %w", err)
	}
	return p, nil
}

// A Gateway fetches for other programs. The fields must not change after the first use; a Gateway must not be
// copied, and is safe for concurrent use.
type Gateway struct {
	// Transport fetches, and carries what is sealed. Required. It stays the caller's, who closes it behind
	// the Gateway.
	Transport *client.Transport
	// Hosts are those whose http URLs the proxy of Serve fetches as https; a pattern's port is that of the https URL.
	// Default: none.
	Hosts []Pattern
	// Explain is what a program is told about an error of the Transport, in a line. authority is whom it asked for.
	// Default: the error's own words.
	Explain func(authority string, err error) string
	// Log receives a line for each request: no query, no fields. Default: none.
	Log *slog.Logger
	// MaxConns bounds the connections of each listener; more wait. It stops a program, or a page full of images, from
	// taking all file descriptors. Default: 256.
	MaxConns int
	// MaxCarried bounds the CONNECTs that are open at once; more are refused. It stops a browser from taking all
	// streams of the proxy. Default: 64.
	MaxCarried int
	// StallTimeout is how long a program may take to read or to send the next bytes of a body. It stops one that
	// has hung from holding a tunnel. Default: 5 minutes.
	StallTimeout time.Duration

	once sync.Once
	srv  *http.Server
	rp   *httputil.ReverseProxy
	up   upstream
	ctx  context.Context // of all requests, until Close
	end  context.CancelFunc

	mu      sync.Mutex
	closed  bool
	maps    map[string]*endpoint // by authority of the origin
	carried map[*carriage]struct{}
	wg      sync.WaitGroup // requests
}

// upstream is the Transport, or what a test puts in its place.
type upstream struct {
	fetch   http.RoundTripper
	carry   func(ctx context.Context, authority string) (tunnel, error)
	levelOf func(*http.Response) client.Level
}

// A tunnel is a *client.Tunnel.
type tunnel interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// headerTime bounds the wait for a request's head, and idleTime that for the next request. They stop programs that
// forget their connections from holding all of MaxConns.
const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
)

// maxHead is far more than browsers send, and stops an endless head.
const maxHead = 64 << 10

func (g *Gateway) start() {
	g.once.Do(func() {
		if g.up.fetch == nil {
			g.up = upstream{fetch: g.Transport, levelOf: levelOf, carry: func(ctx context.Context, authority string) (tunnel, error) {
				return g.Transport.Carry(ctx, authority)
			}}
		}
		if g.MaxConns <= 0 {
			g.MaxConns = 256
		}
		if g.MaxCarried <= 0 {
			g.MaxCarried = 64
		}
		if g.StallTimeout <= 0 {
			g.StallTimeout = 5 * time.Minute
		}
		if g.Log == nil {
			g.Log = slog.New(slog.DiscardHandler)
		}
		g.ctx, g.end = context.WithCancel(context.Background())
		g.maps, g.carried = make(map[string]*endpoint), make(map[*carriage]struct{})
		silent := log.New(io.Discard, "", 0) // each request has a line in Log
		g.rp = &httputil.ReverseProxy{
			Transport: g.up.fetch, FlushInterval: -1, ErrorLog: silent,
			Rewrite: rewriteRequest, ModifyResponse: g.rewriteResponse, ErrorHandler: g.failed,
		}
		g.srv = &http.Server{
			Handler:           http.HandlerFunc(g.serveHTTP),
			ReadHeaderTimeout: headerTime,
			IdleTimeout:       idleTime,
			MaxHeaderBytes:    maxHead,
			ErrorLog:          silent,
			// OPTIONS * is for who is asked.
			DisableGeneralOptionsHandler: true,
			ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
			BaseContext: func(ln net.Listener) context.Context {
				return context.WithValue(g.ctx, endpointKey{}, ln.(*listener).endpoint)
			},
		}
	})
}

// levelOf is what the client package vouches for.
func levelOf(resp *http.Response) client.Level {
	if r := client.ReportOf(resp); r != nil {
		return r.Level
	}
	return ""
}

// Serve is an HTTP proxy on ln, with a PAC file at /proxy.pac, until Shutdown or Close. ln must be TCP on
// a loopback address; Serve closes it.
func (g *Gateway) Serve(ln net.Listener) error { return g.serve(ln, &endpoint{}) }

// ServeMap gives an origin, "https://host[:port]", an address of its own on this machine, until Shutdown or Close.
// ln is as for Serve.
func (g *Gateway) ServeMap(ln net.Listener, origin string) error {
	authority, err := ParseOrigin(origin)
	if err != nil {
		ln.Close()
		return err
	}
	return g.serve(ln, &endpoint{origin: authority})
}

// ParseOrigin reads what ServeMap takes, https://host[:port] and nothing else, and returns the canonical authority.
func ParseOrigin(s string) (authority string, err error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		// What was given is not repeated: it may hold a password.
		return "", errors.New("gateway: an origin is https://HOST or https://HOST:PORT, and nothing else")
	}
	authority, err = authorityOf(u.Hostname(), u.Port())
	if err != nil {
		return "", fmt.Errorf("gateway: origin: %w", err)
	}
	return authority, nil
}

func (g *Gateway) serve(ln net.Listener, e *endpoint) error {
	g.start()
	held, err := newListener(ln, e, g.MaxConns)
	if err != nil {
		ln.Close()
		return err
	}
	g.mu.Lock()
	switch {
	case g.closed:
		err = ErrClosed
	case e.origin != "" && g.maps[e.origin] != nil:
		err = fmt.Errorf("gateway: %s has a map already", e.origin)
	case e.origin != "":
		g.maps[e.origin] = e
	}
	g.mu.Unlock()
	if err != nil {
		ln.Close()
		return err
	}
	if err := g.srv.Serve(held); !errors.Is(err, http.ErrServerClosed) {
		g.mu.Lock()
		if g.maps[e.origin] == e {
			delete(g.maps, e.origin) // or redirects would lead there, and nobody could take its place
		}
		g.mu.Unlock()
		return fmt.Errorf("gateway: %w", err)
	}
	return ErrClosed
}

// mapOf is the map of an origin, nil if it has none.
func (g *Gateway) mapOf(authority string) *endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.maps[authority]
}

// Shutdown closes the listeners and waits until what is under way is over, CONNECTs included, or ctx is done, whose
// error it then returns. Close cuts off what is left.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.close()
	if err := g.srv.Shutdown(ctx); err != nil {
		return err
	}
	over := make(chan struct{})
	go func() { // which ends at the latest with Close
		g.wg.Wait()
		close(over)
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes the listeners and everything that is open, and waits for the Gateway's goroutines.
func (g *Gateway) Close() error {
	g.close()
	g.end()
	err := g.srv.Close()
	g.mu.Lock()
	for c := range g.carried {
		if c.program != nil { // else it finds out when it would have one
			c.close()
		}
	}
	g.mu.Unlock()
	g.wg.Wait()
	return err
}

func (g *Gateway) close() {
	g.start()
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
}

// enter counts a request, unless the Gateway is closed.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Add(1)
	return true
}

// authorityOf is the canonical authority of a host and a port, which without one is that of https.
func authorityOf(host, port string) (string, error) {
	n, err := parsePort(orDefault(port, "443"))
	if err != nil {
		return "", err
	}
	return fields.CanonicalAuthority(host, n)
}

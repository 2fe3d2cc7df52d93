package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"vitrine/internal/fields"
)

// A Transport is an http.RoundTripper for https URLs, over tunnels of one exchange at a time, so that a
// killed exchange touches no other. A request is sent once: it is sent again, on a new tunnel, only
// when none of its bytes had left. (net/http's own pool would quietly repeat a request that a proxy
// killed.) Redirects are the business of http.Client; each new authority needs consent of its own.
//
// At the levels [Signed], [Attested] and [Claimed] an exchange has no tunnel: the response's TLS is nil, its
// protocol that of hop 1, and a request whose connection at the proxy has gone may be sent up to three times, none
// but the last of which the proxy passes on. Where Signed is accepted, content that can be had once is kept in memory for
// its digest, up to 1 MiB, and more is an error.
//
// Authorization, Cookie, fields like them and a user name in the URL leave at a level that can be read
// only under an [Agreement] with Credentials.
//
// The fields must not change after the first use. A Transport must not be copied, and is safe for
// concurrent use. The fields up to Time are those of [Dialer].
type Transport struct {
	Proxy             string
	ProxyRoots        *x509.CertPool
	Roots             *x509.CertPool
	ClientCertificate *tls.Certificate
	Certificates      []tls.Certificate
	Levels            []Level
	Consent           Consent
	Choose            func(ctx context.Context, o *Offer) (Level, error)
	Memory            Memory
	ConnectTo         ConnectTo
	NetDial           func(ctx context.Context, network, address string) (net.Conn, error)
	KeyLog            io.Writer
	Timeouts          Timeouts
	LateEvidence      bool
	Limits            Limits
	NoResumption      bool
	Time              func() time.Time

	// MaxTunnels bounds the tunnels that are open at once, idle ones and exchanges without a tunnel included; more
	// requests wait. It stops a page of a thousand images from taking all streams of the proxy; where the proxy
	// allows fewer, idle ones make room. Default: 64.
	MaxTunnels int
	// IdleTimeout is how long a tunnel without an exchange is kept. Default: 90 s; below 0: not at all.
	IdleTimeout time.Duration
	// MaxResponseHeader bounds a response's header section, in bytes. It stops an endless one.
	// Default: 256 KiB.
	MaxResponseHeader int64
	// ResponseTimeout bounds the wait for a response's header after the request was sent. Default:
	// none; the request's context bounds it.
	ResponseTimeout time.Duration
	// SkipDigest leaves Report.BodySHA256 empty, which saves a SHA-256 over every body.
	SkipDigest bool

	once sync.Once
	pool *pool
}

// wholeRecord is the most that one inner record carries with either suite, in one record of hop 1.
const wholeRecord = 16321

func (t *Transport) start() *pool {
	t.once.Do(func() {
		t.pool = &pool{
			dialer: &Dialer{
				Proxy: t.Proxy, ProxyRoots: t.ProxyRoots, Roots: t.Roots, ClientCertificate: t.ClientCertificate,
				Certificates: t.Certificates, Levels: t.Levels, Consent: t.Consent, Choose: t.Choose, Memory: t.Memory, ConnectTo: t.ConnectTo,
				NetDial: t.NetDial, KeyLog: t.KeyLog, Timeouts: t.Timeouts, LateEvidence: t.LateEvidence, Limits: t.Limits,
				NoResumption: t.NoResumption, Time: t.Time,
			},
			max:         t.MaxTunnels,
			idleTimeout: orDefault(t.IdleTimeout, 90*time.Second),
			keep:        t.IdleTimeout >= 0,
			idle:        make(map[string][]*conn),
			all:         make(map[*conn]struct{}),
			splits:      make(map[*splitExchange]struct{}),
			changed:     make(chan struct{}),
		}
		if t.pool.max <= 0 {
			t.pool.max = 64
		}
		t.pool.base = &http.Transport{
			// Only NewClientConn is used, which has no pool and repeats nothing.
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return ctx.Value(turnsKey{}).(*turns), nil
			},
			DisableCompression:     true, // what is inspected is what arrives
			ExpectContinueTimeout:  time.Second,
			ResponseHeaderTimeout:  t.ResponseTimeout,
			MaxResponseHeaderBytes: t.MaxResponseHeader,
			WriteBufferSize:        wholeRecord,
		}
		if t.MaxResponseHeader <= 0 {
			t.pool.base.MaxResponseHeaderBytes = 256 << 10
		}
	})
	return t.pool
}

// RoundTrip sends one request and returns its response, whose [Report] is [ReportOf]'s. The errors of
// RoundTrip and of the body's Read are those of this package where a proxy, an origin or the wire is
// the cause, and each carries its report.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	rep := new(Report)
	x := &exchange{t: t, pool: t.start(), req: req, rep: rep}
	resp, err := x.run()
	if err != nil {
		x.closeBody()
		return nil, reported(err, rep)
	}
	return resp, nil
}

// CloseIdleConnections closes the tunnels without an exchange, and hop 1 when it carries none.
func (t *Transport) CloseIdleConnections() { t.start().closeIdle() }

// Forget drops the memory of what authority, "host:port", was reached at. See [Dialer.Forget].
func (t *Transport) Forget(authority string) { t.start().dialer.Forget(authority) }

// Close ends all tunnels, those with an exchange included, and waits for the Transport's goroutines.
func (t *Transport) Close() error { return t.start().close() }

// authorityOf is the canonical authority of a request's URL.
func authorityOf(req *http.Request) (string, error) {
	if req.URL == nil || req.URL.Host == "" {
		return "", fmt.Errorf("client: the request has no host in its URL")
	}
	if req.URL.Scheme != "https" {
		return "", fmt.Errorf("client: scheme %q: only https goes through a tunnel", req.URL.Scheme)
	}
	authority, err := canonical(req.URL.Hostname(), req.URL.Port())
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	return authority, nil
}

// canonical takes an empty port for 443.
func canonical(host, port string) (string, error) {
	n := uint64(443)
	if port != "" {
		var err error
		if n, err = strconv.ParseUint(port, 10, 16); err != nil {
			return "", fmt.Errorf("bad port %q", port)
		}
	}
	return fields.CanonicalAuthority(host, int(n))
}

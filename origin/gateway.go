package origin

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"vitrine/internal/answered"
)

// A Gateway serves what another server serves: an origin in front of software that knows nothing of
// tunnels.
type Gateway struct {
	proxy     httputil.ReverseProxy
	transport *http.Transport
}

// NewGateway returns a handler that forwards every request to upstream, an http or https URL whose path
// is put in front of the request's. Responses flow as they arrive. The upstream learns the client's
// address and host in X-Forwarded-For, -Host and -Proto; those that the client sent are dropped. When
// the upstream does not answer, the client gets 502 and one line.
//
// The environment's proxy settings do not apply.
func NewGateway(upstream *url.URL) *Gateway {
	g := &Gateway{transport: http.DefaultTransport.(*http.Transport).Clone()}
	g.transport.Proxy = nil
	g.transport.DisableCompression = true
	dial := g.transport.DialContext
	g.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return answered.NewConn(conn), nil
	}
	g.proxy = httputil.ReverseProxy{
		Transport:     g.transport,
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.SetXForwarded()
			if r.Out.Body != nil && r.Out.Body != http.NoBody {
				r.Out.Body = &endedBody{ReadCloser: r.Out.Body}
			}
		},
		// What it would say itself names neither the upstream nor the request.
		ErrorLog: log.New(io.Discard, "", 0),
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode != http.StatusSwitchingProtocols { // whose body is the connection
				resp.Body = &watchedBody{ReadCloser: resp.Body, failed: func(err error) {
					if r := resp.Request; r.Context().Err() == nil { // else it is the client that has gone
						g.logf(r, "origin: upstream %s broke off its response to %s %s: %v", upstream.Redacted(), r.Method, r.URL.EscapedPath(), err)
					}
				}}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
				return // the client has gone
			}
			g.logf(r, "origin: upstream %s: %v", upstream.Redacted(), err)
			http.Error(w, "the upstream server does not answer", http.StatusBadGateway)
		},
	}
	return g
}

// An endedBody has ended once it said so. net/http's transport looks behind the declared length, and its server may have
// closed the body by then, since it does so when the response begins: that would break off the exchange.
type endedBody struct {
	io.ReadCloser
	ended bool
}

func (b *endedBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	b.ended = err == io.EOF
	return n, err
}

// A watchedBody tells of an error that its reader may keep to itself.
type watchedBody struct {
	io.ReadCloser
	failed func(error)
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.failed(err)
	}
	return n, err
}

// ServeHTTP implements [http.Handler].
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.proxy.ServeHTTP(w, r) }

// CloseIdleConnections closes the connections to the upstream that no request uses.
func (g *Gateway) CloseIdleConnections() { g.transport.CloseIdleConnections() }

// logf writes to the log of the server that r came to.
func (g *Gateway) logf(r *http.Request, format string, args ...any) {
	if srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.ErrorLog != nil {
		srv.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"vitrine/internal/fields"
	"vitrine/internal/hosts"
)

// pseudonym is the gateway's name in Via. It is the same everywhere: one of its own would let origins recognise the user.
const pseudonym = "vitrine-gateway"

// An exchange is one request of a program.
type exchange struct {
	g         *Gateway
	endpoint  *endpoint
	authority string // whom it is for; "" while that is not known
	asked     string // the scheme and host that the program asked for, as in a URL
	origin    string // the request's Origin as the program sent it, where it was rewritten
	level     string
	err       error // why it failed
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	held := r.Context().Value(connKey{}).(*conn)
	if held.spoilt.Load() || !g.enter() { // net/http may have read it before that was known
		panic(http.ErrAbortHandler)
	}
	defer g.wg.Done()
	x := &exchange{g: g, endpoint: r.Context().Value(endpointKey{}).(*endpoint), level: NoLevel}
	began := time.Now()
	sw := newStallWriter(w, g.StallTimeout)
	defer func() {
		_ = sw.rc.SetWriteDeadline(time.Now().Add(2 * g.StallTimeout)) // for what net/http has yet to read, and then to send
		attrs := []any{
			"method", r.Method, "host", orDefault(x.authority, r.Host), "path", r.URL.Path, "status", sw.status, "level", x.level,
			"bytes", sw.bytes, "took", time.Since(began).Round(time.Millisecond),
		}
		if x.err != nil {
			attrs = append(attrs, "error", x.err.Error())
		}
		g.Log.Info("request", attrs...)
	}()
	// A copy, since net/http looks at its own request's Body for whether what follows on the connection is content still.
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	if r.Body != nil && r.Body != http.NoBody {
		body := &stallReader{ReadCloser: r.Body, rc: sw.rc, most: g.StallTimeout, conn: held}
		body.extend() // for what net/http reads of it, where it is refused
		r.Body = body
	}
	switch {
	case !r.ProtoAtLeast(1, 1) && r.Method != http.MethodConnect:
		x.refuse(sw, r, http.StatusHTTPVersionNotSupported, "HTTP/1.1 is needed: HTTP/1.0 cannot tell a whole response from one that was cut")
	case fields.HasVia(r.Header, pseudonym):
		x.refuse(sw, r, http.StatusLoopDetected, "this request has come from a gateway like this one")
	case r.Method == http.MethodConnect:
		x.connect(sw, r)
	case x.endpoint.origin != "":
		x.mapped(sw, r)
	default:
		x.proxied(sw, r)
	}
}

// mapped fetches for a map.
func (x *exchange) mapped(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Scheme != "" && r.URL.Scheme != "http" || !x.endpoint.isOwn(r.Host):
		x.refuse(w, r, http.StatusMisdirectedRequest, "here is "+x.endpoint.host()+" alone, which stands for https://"+trim443(x.endpoint.origin))
	case r.URL.Scheme != "" && r.URL.Host == "" || r.URL.User != nil || r.URL.Path == "*" && r.Method != http.MethodOptions:
		x.refuse(w, r, http.StatusBadRequest, "a request names a path, and no user")
	case x.endpoint.fromElsewhere(r):
		x.refuse(w, r, http.StatusForbidden, "a page of another site may not use "+x.endpoint.host()+"; who wants to go there types the address")
	default:
		x.authority, x.asked = x.endpoint.origin, "http://"+strings.ToLower(r.Host)
		x.forward(w, r)
	}
}

// proxied fetches for a program whose proxy this is, or answers from the gateway itself.
func (x *exchange) proxied(w http.ResponseWriter, r *http.Request) {
	u := r.URL
	if u.Scheme == "" || u.Scheme == "http" && x.endpoint.isOwn(u.Host) {
		x.local(w, r)
		return
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		x.refuse(w, r, http.StatusNotImplemented, fmt.Sprintf("%s URLs are not fetched here", printable(u.Scheme)))
		return
	case u.User != nil:
		x.refuse(w, r, http.StatusBadRequest, "a user name has no place in a request's URL; it goes into Authorization")
		return
	}
	port := u.Port()
	if u.Scheme == "http" && port == "80" {
		port = ""
	}
	authority, err := authorityOf(u.Hostname(), port)
	if err != nil {
		x.refuse(w, r, http.StatusBadRequest, "the URL names no host: "+err.Error())
		return
	}
	x.authority, x.asked = authority, u.Scheme+"://"+strings.ToLower(u.Host)
	if !hosts.MatchAny(x.g.Hosts, authority) {
		x.refuse(w, r, http.StatusForbidden, authority+" is not among the hosts that this gateway fetches from, and it fetches nothing in clear; --host names them")
		return
	}
	x.forward(w, r)
}

// local answers what is asked of the gateway itself.
func (x *exchange) local(w http.ResponseWriter, r *http.Request) {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !x.endpoint.isOwn(r.Host):
		x.refuse(w, r, http.StatusMisdirectedRequest, "here is "+x.endpoint.host()+" alone")
	case x.endpoint.fromElsewhere(r):
		x.refuse(w, r, http.StatusForbidden, "a page of another site has no business here")
	case r.URL.Path == pacPath && read:
		x.pac(w)
	case r.URL.Path == pacPath:
		w.Header().Set("Allow", "GET, HEAD")
		x.refuse(w, r, http.StatusMethodNotAllowed, pacPath+" can be read, and that is all")
	default:
		x.refuse(w, r, http.StatusNotFound, "this is a proxy: set http_proxy=http://"+x.endpoint.host()+", or give a browser http://"+x.endpoint.host()+pacPath)
	}
}

// forward passes r on.
func (x *exchange) forward(w http.ResponseWriter, r *http.Request) {
	if httpguts.HeaderValuesContainsToken(r.Header.Values("Connection"), "Upgrade") {
		if httpguts.HeaderValuesContainsToken(r.Header.Values("Upgrade"), "websocket") {
			x.refuse(w, r, http.StatusNotImplemented, "WebSocket is not carried: it has no requests and responses that a level could be told of")
			return
		}
		// A server may ignore any other (RFC 9110, section 7.8), as h2c.
		r.Header.Del("Upgrade")
	}
	switch left, given, err := fields.MaxForwards(r.Method, r.Header); {
	case err != nil:
		x.refuse(w, r, http.StatusBadRequest, "Max-Forwards is not a number")
		return
	case given && left == 0:
		x.lastForward(w, r)
		return
	case given:
		r.Header.Set(fields.MaxForwardsName, strconv.Itoa(left-1))
	}
	// A program may read the answer while it sends, and the origin may answer early. Where the connection cannot do
	// both at once, it is as it was.
	_ = http.NewResponseController(w).EnableFullDuplex()
	x.g.rp.ServeHTTP(w, r)
	if body, ok := r.Body.(*stallReader); ok {
		body.rest()
	}
}

// lastForward answers a TRACE or OPTIONS that may not go on from here (RFC 9110, section 7.6.2).
func (x *exchange) lastForward(w http.ResponseWriter, r *http.Request) {
	own(w.Header())
	if r.Method != http.MethodTrace {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Set("Content-Type", "message/http")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(fields.Trace(r.Method, r.RequestURI, r.Host, r.Header))
}

// rewriteRequest makes the program's request the gateway's.
func rewriteRequest(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	out := pr.Out
	out.URL.Scheme, out.URL.Host, out.Host = "https", x.authority, ""
	out.URL.RawQuery = pr.In.URL.RawQuery // whatever it means to the origin
	out.URL.RawPath = escaped(out.URL.RawPath)
	// Who is in front of the program is the program's to say.
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := pr.In.Header[name]; values != nil && !httpguts.HeaderValuesContainsToken(pr.In.Header["Connection"], name) {
			out.Header[name] = values
		}
	}
	if body, ok := pr.In.Body.(*stallReader); ok {
		body.came, body.announced = pr.In.Trailer, out.Trailer
	}
	fields.AppendVia(out.Header, version(pr.In.Proto), pseudonym)
	if origin := out.Header.Get("Origin"); origin != "" {
		if there := x.outward(origin); there != origin {
			x.origin = origin
			out.Header.Set("Origin", there)
		}
	}
	if referer := out.Header.Get("Referer"); referer != "" {
		out.Header.Set("Referer", x.outward(referer))
	}
}

// escaped is a path as it came, but for what no URL has. For the sake of that net/url would write it all anew, and %2F
// would become a slash.
func escaped(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~/!$&'()*+,;=:@[]%", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// version is a protocol's in Via, where HTTP goes without saying, and HTTP/2 has no minor version.
func version(proto string) string {
	if v := strings.TrimPrefix(proto, "HTTP/"); v != "2.0" {
		return v
	}
	return "2"
}

// outward is a URL of the program's, or an Origin, as the origin knows it.
func (x *exchange) outward(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return s
	}
	if x.endpoint.origin != "" {
		if !x.endpoint.isOwn(u.Host) {
			return s
		}
		u.Scheme, u.Host = "https", trim443(x.endpoint.origin)
		return u.String()
	}
	port := u.Port()
	if port == "80" {
		port = ""
	}
	authority, err := authorityOf(u.Hostname(), port)
	if err != nil || !hosts.MatchAny(x.g.Hosts, authority) {
		return s
	}
	u.Scheme, u.Host = "https", trim443(authority)
	return u.String()
}

func trim443(authority string) string { return strings.TrimSuffix(authority, ":443") }

// failed answers for a response that cannot be had.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	x.err = err
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody waits
	}
	status, class := classify(err)
	x.answer(w, r, status, class, g.explain(x.authority, err))
}

func (g *Gateway) explain(authority string, err error) string {
	if g.Explain != nil {
		return g.Explain(authority, err)
	}
	return err.Error()
}

// A stallReader reads a request's body from a program that may hang.
type stallReader struct {
	io.ReadCloser
	rc    *http.ResponseController
	most  time.Duration
	conn  *conn
	ended atomic.Bool
	// came is the trailer section as net/http has it at the end; announced, which is another map, leaves.
	came, announced http.Header
}

// extend gives the program time for what is read next.
func (b *stallReader) extend() { _ = b.rc.SetReadDeadline(time.Now().Add(b.most)) }

func (b *stallReader) Read(p []byte) (int, error) {
	b.extend()
	n, err := b.ReadCloser.Read(p) // at whose end net/http lifts the deadline
	if err == io.EOF {
		for name := range b.announced {
			b.announced[name] = b.came[name]
		}
		b.ended.Store(true)
	}
	return n, err
}

// restTime is how long what nobody wanted is awaited. A program that sends no end of it has to take another connection.
const restTime = 500 * time.Millisecond

// rest reads what is left behind the answer. What does not come in time must never be taken for another request, by
// whose fields a page could say that it is no page: the connection has no other then.
func (b *stallReader) rest() {
	if b.ended.Load() {
		return
	}
	_ = b.rc.Flush()
	_ = b.rc.SetReadDeadline(time.Now().Add(restTime))
	if _, err := io.Copy(io.Discard, b.ReadCloser); err != nil {
		b.conn.spoilt.Store(true)
	}
}

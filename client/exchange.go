package client

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// An exchange is one RoundTrip.
type exchange struct {
	t    *Transport
	pool *pool
	req  *http.Request
	rep  *Report

	body io.ReadCloser // of the next send
	once *onceBody     // what body is, unless there is nothing to close
	kept *replay       // of once, where it can be had once; nil until a request goes out without a tunnel

	digested  bool     // the request has the digest of its content
	announced []string // the names in the request's trailer at its beginning
}

func (x *exchange) run() (*http.Response, error) {
	x.prepareBody()
	ctx := x.req.Context()
	authority, err := authorityOf(x.req)
	if err != nil {
		return nil, err
	}
	if err := checkRequest(x.req); err != nil {
		return nil, err
	}
	a, err := x.pool.dialer.newAttempt(authority, x.rep)
	if err != nil {
		return nil, err
	}
	a.fields, a.split = credentialsOf(x.req), true
	for sends := 1; ; {
		// Each exchange has a report of its own, because the tunnel outlives it.
		a.rep = new(Report)
		c, fresh, err := x.pool.take(ctx, a)
		if err != nil {
			*x.rep = *a.rep
			return nil, err
		}
		if c == nil {
			resp, again, err := x.split(a)
			if err == nil || !again || sends == maxSplitSends || !x.rewind() {
				return resp, err
			}
			sends++
			continue
		}
		*x.rep = *c.tunnel.Report()
		if err := x.pool.permit(ctx, c, a, fresh); err != nil {
			return nil, err
		}
		resp, wrote, err := x.send(c)
		if err == nil {
			return resp, nil
		}
		if fresh || wrote || ctx.Err() != nil || !x.rewind() {
			return nil, err
		}
	}
}

// send does the exchange on c, which is reserved for it. wrote says that bytes of the request left.
func (x *exchange) send(c *conn) (resp *http.Response, wrote bool, err error) {
	ctx := x.req.Context()
	before := c.tunnel.written.Load()
	c.tunnel.busy.Store(true)
	r := x.req.WithContext(ctx)
	r.Body = x.body
	if len(x.announced) > 0 && x.once != nil {
		// A map of its own: a Read of an earlier send, without a tunnel, may be filling the request's.
		r.Trailer = make(http.Header, len(x.announced))
		for _, name := range x.announced {
			r.Trailer[name] = nil
		}
		r.Body = &trailingBody{ReadCloser: x.body, atEnd: func() { maps.Copy(r.Trailer, x.req.Trailer) }}
	}
	r.Host = hostOf(x.req, c.key)
	x.pool.sent(c, false)
	if x.once != nil {
		c.turns.send(x.once.breakOff)
	}
	resp, err = c.cc.RoundTrip(r)
	if err != nil {
		err = x.failure(c, err)
		c.cc.Close()
		x.pool.remove(c)
		return nil, c.tunnel.written.Load() != before, err
	}
	if x.once != nil {
		x.once.settle(false)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		c.cc.Close()
		x.pool.remove(c)
		return nil, true, errors.New("client: the origin switched protocols, which this transport does not carry")
	}
	if resp.Close {
		c.tunnel.busy.Store(false) // the end of the response is the end of the tunnel, and nothing to cut
	}
	if !resp.ProtoAtLeast(1, 1) {
		// net/http would keep the connection where an HTTP/1.0 origin asks for it. The proxy, which knows
		// no such extension, would kill the next request.
		x.pool.noMore(c)
	}
	x.rep.Status = resp.StatusCode
	state := c.tunnel.ConnectionState()
	resp.TLS = &state
	resp.Request = x.req.WithContext(withReport(ctx, x.rep))
	b := newResponseBody(x, resp.Body, func(err error) error { return x.failure(c, err) })
	if resp.Body == http.NoBody {
		b.finish()
	} else {
		resp.Body = b
	}
	x.pool.sent(c, true)
	return resp, true, nil
}

// failure types an error that net/http returned for an exchange on c.
func (x *exchange) failure(c *conn, err error) error {
	if x.req.Context().Err() != nil {
		return step(x.req.Context(), nil)
	}
	if fault := c.tunnel.fault(); fault != nil {
		return fault
	}
	if x.pool.isClosed() {
		return ErrClosed
	}
	if c.tunnel.ended.Load() && !errors.Is(err, io.ErrUnexpectedEOF) { // net/http has several words for it
		return errNoAnswer()
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && x.t.ResponseTimeout > 0 {
		return &UnreachableError{Party: PartyOrigin, Err: err}
	}
	return fmt.Errorf("client: %w", err)
}

func errNoAnswer() error {
	return &UnreachableError{Party: PartyOrigin, Err: errors.New("it closed the session without an answer")}
}

// hostOf is the Host that is sent: the authority's own form where the request names it in any form, since
// the proxy kills an exchange whose Host is not its tunnel's.
func hostOf(req *http.Request, authority string) string {
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	u := url.URL{Host: host}
	if c, err := canonical(u.Hostname(), u.Port()); err == nil && c == authority {
		return strings.TrimSuffix(authority, ":443")
	}
	return host
}

// checkRequest refuses what net/http would refuse too, but only with a tunnel that then is lost.
func checkRequest(req *http.Request) error {
	switch {
	case req.Header == nil:
		return errors.New("client: the request has no Header")
	case req.Method == http.MethodConnect:
		return errors.New("client: CONNECT is not a request to an origin; Dialer.DialTunnel opens tunnels")
	case req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method): // both are tokens
		return fmt.Errorf("client: invalid method %q", req.Method)
	}
	for _, h := range []http.Header{req.Header, req.Trailer} {
		for name, values := range h {
			if !httpguts.ValidHeaderFieldName(name) {
				return fmt.Errorf("client: invalid field name %q", name)
			}
			if !slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
				continue
			}
			return fmt.Errorf("client: invalid value of field %s", name) // which may be a secret
		}
	}
	return nil
}

// nopCloser is what http.NewRequest makes of most bodies. net/http knows it, and sends head and body in one write.
func nopCloser(body io.ReadCloser) bool {
	switch reflect.TypeOf(body) {
	case reflect.TypeOf(io.NopCloser(nil)), reflect.TypeOf(io.NopCloser(struct {
		io.Reader
		io.WriterTo
	}{})):
		return true
	}
	return false
}

func (x *exchange) prepareBody() {
	x.announced = slices.Collect(maps.Keys(x.req.Trailer))
	x.setBody(x.req.Body)
}

// checkTrailer refuses a field that came into the trailer while the body was read, which net/http would send:
// nobody was asked whether it may leave.
func (x *exchange) checkTrailer() error {
	for name := range x.req.Trailer {
		if !slices.Contains(x.announced, name) {
			return fmt.Errorf("client: the trailer field %q was not in the request's Trailer when it began", name)
		}
	}
	return nil
}

func (x *exchange) setBody(body io.ReadCloser) {
	x.body, x.once = body, nil
	if body == nil || body == http.NoBody || x.req.GetBody != nil && x.req.Trailer == nil && nopCloser(body) {
		return
	}
	x.once = &onceBody{rc: body, atEnd: x.checkTrailer}
	x.body = x.once
}

// A trailingBody does something at its end.
type trailingBody struct {
	io.ReadCloser
	atEnd func()
}

func (b *trailingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.atEnd()
	}
	return n, err
}

// rewind makes the request's body what it was before a send of which nothing left.
func (x *exchange) rewind() bool {
	switch {
	case x.body == nil || x.body == http.NoBody:
		return true
	case x.req.GetBody == nil && x.kept != nil:
		if !x.kept.whole() {
			return false
		}
		x.body = x.kept.open()
		return true
	case x.req.GetBody == nil:
		return x.once.untouched()
	}
	x.closeBody()
	body, err := x.req.GetBody()
	if err != nil {
		return false
	}
	x.setBody(body)
	return true
}

// keepBody has what is read of a body that can be had once be kept, since what a request without a tunnel rests on may
// have gone, which is found out while the body leaves.
func (x *exchange) keepBody() {
	if x.kept == nil && x.once != nil && x.req.GetBody == nil {
		x.kept = newReplay(x.once)
		x.body = x.kept.open()
	}
}

// closeBody closes the request's body after a failure, as a RoundTripper must and net/http's ClientConn does not always.
func (x *exchange) closeBody() {
	if x.once != nil {
		x.once.settle(true)
	}
}

// A onceBody is a request body that cannot be had twice. It puts off Close until it is known that no
// other send follows, and knows whether it was read.
type onceBody struct {
	rc      io.ReadCloser
	atEnd   func() error // judges the end of rc
	mu      sync.Mutex
	read    bool
	closed  bool
	settled bool
}

func (b *onceBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.read = true
	b.mu.Unlock()
	n, err := b.rc.Read(p)
	if err == io.EOF {
		if bad := b.atEnd(); bad != nil {
			err = bad
		}
	}
	return n, err
}

func (b *onceBody) Close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	now := b.settled && first
	b.mu.Unlock()
	if now {
		return b.rc.Close()
	}
	return nil
}

func (b *onceBody) untouched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read {
		return false
	}
	b.closed = false
	return true
}

// breakOff closes a body that is being read: net/http hands over an error only when its Read has returned,
// which the caller may never let it.
func (b *onceBody) breakOff() {
	b.mu.Lock()
	read := b.read
	b.mu.Unlock()
	if read {
		b.settle(true)
	}
}

// settle says that no other send follows; shut closes the body if nobody has.
func (b *onceBody) settle(shut bool) {
	b.mu.Lock()
	before := b.settled && b.closed
	b.settled = true
	b.closed = b.closed || shut
	closeNow := b.closed && !before
	b.mu.Unlock()
	if closeNow {
		b.rc.Close()
	}
}

// A responseBody completes the report as it is read.
type responseBody struct {
	x    *exchange
	rc   io.ReadCloser
	fail func(error) error // types what Read returns

	mu   sync.Mutex // Close may come from another goroutine than Read
	sum  hash.Hash
	done bool
	err  error // what Read returned last
}

func newResponseBody(x *exchange, rc io.ReadCloser, fail func(error) error) *responseBody {
	b := &responseBody{x: x, rc: rc, fail: fail}
	if !x.t.SkipDigest {
		b.sum = sha256.New()
	}
	return b
}

func (b *responseBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	err := b.err
	b.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := b.rc.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > 0 && !b.done {
		b.x.rep.Bytes += int64(n)
		if b.sum != nil {
			b.sum.Write(p[:n])
		}
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF, b.done:
		b.finish()
	default:
		err = b.fail(err)
		b.finish()
		err = reported(err, b.x.rep)
	}
	b.err = err
	return n, err
}

func (b *responseBody) Close() error {
	err := b.rc.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish()
	return err
}

// finish completes the report, once. The caller holds mu or is alone.
func (b *responseBody) finish() {
	if b.done {
		return
	}
	b.done = true
	if b.sum != nil {
		b.x.rep.BodySHA256 = hex.EncodeToString(b.sum.Sum(nil))
	}
}

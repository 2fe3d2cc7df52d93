package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/verdict"
	"vitrine/proxy/inspect"
)

// An exchange is an ordinary request on its way to an origin, and the response to it. Every message is
// written down for the reader that tunnels have, and leaves as that releases it.
//
// Its goroutines are run, which asks the origin and reads its response, upload, which reads the client's
// content, deliver, which answers the client, and net/http's, which takes the request's content.
type exchange struct {
	session *session
	target  *Target
	kept    *kept
	in      hop.Incoming
	req     *hop.Request
	content bool // the request has some
	client  hop.Answering
	conn    *hop.Conn // client's content
	reader  *inspect.Tunnel
	sluices [2]sluice // by direction
	started time.Time
	ctx     context.Context // ends with the exchange
	cancel  context.CancelCauseFunc
	moved   atomic.Bool // since the last sweep
	wg      sync.WaitGroup
	// delivered is closed when deliver has returned.
	delivered chan struct{}
	watch     *headWatch // of the exchange on kept; nil until it begins there
	final     bool       // the head of the final response was fed; its sluice's feeding guards it

	mu       sync.Mutex
	begun    bool // the client was given a response's head
	complete bool // and its end
	over     bool
	err      error // why it is over, if not because it is complete
}

func newExchange(s *session, in hop.IncomingRequest, client hop.Answering, t *Target, c *kept) *exchange {
	x := &exchange{
		session: s, target: t, kept: c, in: in, req: in.Request(), client: client, started: time.Now(),
		delivered: make(chan struct{}),
	}
	x.content = !in.End() && declared(x.req.Header) != 0
	x.ctx, x.cancel = context.WithCancelCause(in.Context())
	st := s.run.current.Load()
	for d := range x.sluices {
		x.sluices[d].init(s.mayHold(&st.policy))
	}
	x.reader = inspect.NewTunnel(&inspect.Config{
		Plain:      true,
		Authority:  t.Authority,
		Client:     s.party,
		Proxy:      s.front.party,
		Origin:     c.origin,
		Inspectors: func() []Inspector { return st.inspectors },
		Limits:     s.run.limits.inspect(&st.policy),
		Log:        func(p inspect.Passed) { s.logPassed(t, p) },
		Release:    func(d frames.Direction, upTo int64) { x.sluices[d].allow(upTo) },
		Kill:       func(e *inspect.KillError) { x.stop(e) },
		Time:       s.run.now,
	})
	x.conn = hop.NewConn(client)
	return x
}

func (x *exchange) quiet() bool { return !x.moved.Swap(false) }
func (x *exchange) stale() bool { return false }

// stop ends the exchange in the middle; only the first call counts. It is called without locks, and does not
// block. Where the client has no response yet and is not to be told of a kill, run answers it.
func (x *exchange) stop(err error) {
	var kill *inspect.KillError
	killed := errors.As(err, &kill)
	x.mu.Lock()
	if x.over || x.complete && !killed {
		x.mu.Unlock()
		return
	}
	x.over, x.err = true, err
	if killed || x.begun {
		// On a goroutine of its own, because signing may take a while, and a hop's goroutine serves every
		// stream of the hop.
		x.wg.Go(func() { x.cut(err, kill) })
	}
	x.mu.Unlock()
	x.shut(err)
}

// shut lets nothing more through.
func (x *exchange) shut(err error) {
	for d := range x.sluices {
		x.sluices[d].close()
	}
	x.cancel(err)
}

// cut ends the client's stream.
func (x *exchange) cut(err error, kill *inspect.KillError) {
	var gone *endError
	switch {
	case kill != nil:
		sent := [2]int64{}
		for d := range x.sluices {
			sent[d] = x.sluices[d].count()
		}
		signed, err := verdict.Sign(&x.session.front.certificate, x.session.verdict(x.target, kill, sent))
		if err != nil {
			x.session.log.Error("verdict not signed", "authority", x.target.Authority, "why", oneLine(err.Error()))
			x.client.Reset(hop.Killed)
			return
		}
		x.client.Kill(signed)
	case errors.As(err, &gone) && gone.from == frames.ToOrigin:
		x.client.Reset(hop.Cancel)
	default:
		x.client.Reset(hop.InternalError)
	}
}

// run carries the exchange to its end.
func (x *exchange) run() {
	defer context.AfterFunc(x.in.Context(), func() {
		x.stop(&endError{from: frames.ToOrigin, err: context.Cause(x.in.Context())})
	})()
	err := x.carry()
	x.mu.Lock()
	if !x.over {
		x.over, x.err = true, err
		if err != nil && x.begun {
			failed := err // err is x.err below
			x.wg.Go(func() { x.cut(failed, nil) })
		}
	}
	err = x.err
	unanswered := !x.begun && !errors.As(err, new(*inspect.KillError))
	x.mu.Unlock()
	x.shut(err)
	if unanswered {
		x.answer(err)
	}
	if err == nil || unanswered {
		x.conn.Close()
	}
	x.wg.Wait()
	x.conn.Close() // before the stream was reset it would have said that all is well
	x.reader.Close(err)
	x.reader.Wait()
	x.kept.conn.end(x.watch)
	x.kept.put()
	x.logEnd(err)
	x.session.remove(x)
}

// carry returns when the response has been delivered, or why it will not be.
func (x *exchange) carry() error {
	h := x.session.requestHeader(x.req)
	if trailer := x.req.Header["Trailer"]; len(trailer) > 0 && x.content {
		h["Trailer"] = trailer
	}
	x.wg.Go(x.deliver)
	if err := x.feed(frames.ToOrigin, writeRequest(x.target.Authority, x.req, h, x.content), item{kind: itemHead}); err != nil {
		x.kept.cc.Release()
		return err
	}
	if x.content {
		x.wg.Go(x.upload)
	}
	if _, err := x.sluices[frames.ToOrigin].take(); err != nil {
		x.kept.cc.Release()
		return err
	}
	x.moved.Store(true)
	resp, err := x.ask(h)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := x.respond(resp); err != nil {
		return err
	}
	<-x.delivered
	return nil
}

// ask sends the request to the origin.
func (x *exchange) ask(h http.Header) (*http.Response, error) {
	req := &http.Request{
		Method: x.req.Method, URL: targetURL(x.req), Host: x.req.Authority,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h.Clone(),
	}
	delete(req.Header, "Trailer")
	if expect, ok := h["Expect"]; ok && x.kept.conn.http1 {
		// What the client sends goes on when it comes. A name that net/http sees would have it leave the content out when a
		// final response is faster.
		delete(req.Header, "Expect")
		req.Header["expect"] = expect
	}
	if _, ok := h["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // else net/http names itself
	}
	if x.content {
		body := &requestBody{x: x, trailer: make(http.Header), left: -1}
		if x.kept.conn.http1 {
			body.left = x.length()
		}
		for _, line := range h["Trailer"] {
			for name := range strings.SplitSeq(line, ",") {
				if name = strings.TrimSpace(name); name != "" {
					body.trailer[http.CanonicalHeaderKey(name)] = nil
				}
			}
		}
		req.Body, req.Trailer, req.ContentLength = body, body.trailer, x.length()
		if req.ContentLength < 0 && x.kept.conn.http1 {
			// Without a word net/http waits whether a GET has content, and leaves out the trailers of one without.
			req.TransferEncoding = []string{"chunked"}
		}
	}
	sent := new(atomic.Bool)
	conn := x.kept.conn
	before := conn.wrote.Load()
	x.watch = conn.begin(x.sluices[frames.ToOrigin].close)
	resp, err := x.kept.cc.RoundTrip(req.WithContext(x.traced(sent)))
	if broken := conn.failure(x.watch); broken != nil && errors.Is(err, errSluiceClosed) {
		err = fmt.Errorf("%w: %w", errBroken, broken) // which closed the sluice
	}
	switch {
	case err == nil:
		return resp, nil
	case x.ctx.Err() != nil:
		return nil, context.Cause(x.ctx)
	case conn.http1 && conn.wrote.Load() == before, !conn.http1 && !sent.Load():
		// The origin had closed it, and knows nothing of the request.
		x.kept.forget()
		modes, err := x.session.modes(x.target.Authority)
		if err != nil {
			return nil, err
		}
		return nil, x.session.anew(x.ctx, x.target, modes, connectionGone)
	}
	return nil, &originError{err}
}

// length is what the request's content is declared to have, where that can be said.
func (x *exchange) length() int64 {
	if x.kept.conn.http1 && len(x.req.Header["Trailer"]) > 0 {
		return -1 // trailers need chunks
	}
	return declared(x.req.Header)
}

// respond feeds the final response.
func (x *exchange) respond(resp *http.Response) error {
	protocol := fmt.Sprintf("%d.%d", resp.ProtoMajor, resp.ProtoMinor)
	if resp.ProtoMajor > 1 {
		protocol = fmt.Sprint(resp.ProtoMajor)
	}
	for _, name := range x.kept.conn.connectionOptions(x.watch) {
		resp.Header.Del(name)
	}
	h := x.forwarded(protocol, resp.Header)
	if slices.Equal(h["Cache-Control"], []string{"no-cache"}) && x.kept.conn.noCacheControl(x.watch) {
		delete(h, "Cache-Control")
	}
	none := x.req.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified ||
		resp.Body == http.NoBody || resp.ContentLength == 0 && len(h["Content-Length"]) == 0
	if len(resp.Trailer) > 0 && !none {
		h.Set("Trailer", announced(resp.Trailer))
	}
	if err := checkFields(h); err != nil {
		return &originError{err}
	}
	d := frames.ToClient
	head := writeResponse(resp.StatusCode, h, !none)
	if len(head) > maxOriginHead { // for which the reader would kill
		return &originError{errLargeHead}
	}
	if err := x.feed(d, head, item{kind: itemHead, status: resp.StatusCode, header: h, last: none}); err != nil || none {
		return err
	}
	c := newChunk()
	for {
		if err := x.sluices[d].room(); err != nil {
			return err
		}
		n, err := resp.Body.Read(c.space())
		if n > 0 {
			written, content := c.written(n)
			if err := x.feed(d, written, item{kind: itemContent, content: bytes.Clone(content)}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			trailer := trailerSection(resp.Trailer)
			return x.feed(d, writeEnd(trailer), item{kind: itemEnd, header: trailer})
		case err != nil:
			return x.broken(d, &originError{err})
		}
	}
}

// broken is why a direction whose sender has ended it in the middle does so.
func (x *exchange) broken(d frames.Direction, err error) error {
	var kill *inspect.KillError
	if errors.As(x.reader.End(d), &kill) {
		x.stop(kill)
		return kill
	}
	return err
}

// interim is called by net/http for each interim response.
func (x *exchange) interim(status int, header http.Header) {
	h := endToEnd(header)
	if checkFields(h) != nil {
		return
	}
	x.feed(frames.ToClient, writeResponse(status, h, false), item{kind: itemHead, status: status, header: h})
}

// feed gives the reader what was written down, and the sluice what of it is sent on.
func (x *exchange) feed(d frames.Direction, written []byte, it item) error {
	x.moved.Store(true)
	g := &x.sluices[d]
	g.feeding.Lock()
	defer g.feeding.Unlock()
	if it.kind == itemHead && d == frames.ToClient {
		if x.final {
			return nil // an interim response that was late
		}
		x.final = it.status >= http.StatusOK
	}
	allowed, err := x.reader.Feed(d, written)
	if err != nil {
		x.stop(err)
		return err
	}
	g.put(len(written), it, allowed)
	return nil
}

// upload feeds the request's content.
func (x *exchange) upload() {
	if err := x.receive(); err != nil && !errors.Is(err, errSluiceClosed) {
		x.stop(err)
	}
}

func (x *exchange) receive() error {
	d := frames.ToOrigin
	c := newChunk()
	for {
		if err := x.sluices[d].room(); err != nil {
			return err
		}
		n, err := x.conn.Read(c.space())
		if n > 0 {
			written, content := c.written(n)
			if err := x.feed(d, written, item{kind: itemContent, content: bytes.Clone(content)}); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			trailer := trailerSection(x.client.Trailer())
			if len(trailer) > 0 && x.kept.conn.http1 && x.length() >= 0 {
				return &inspect.KillError{
					Reason: frames.ReasonMalformed, Direction: d, Rule: inspect.RuleTrailer,
					Detail: "a trailer section behind a declared length that no Trailer field announced",
				}
			}
			return x.feed(d, writeEnd(trailer), item{kind: itemEnd, header: trailer})
		case err != nil:
			return x.broken(d, &endError{from: d, err: err})
		}
	}
}

// deliver answers the client as the reader lets it.
func (x *exchange) deliver() {
	defer close(x.delivered)
	for {
		it, err := x.sluices[frames.ToClient].take()
		if err != nil {
			return
		}
		x.moved.Store(true)
		last, err := x.send(it)
		if err != nil {
			x.stop(err)
		}
		if last || err != nil {
			return
		}
	}
}

func (x *exchange) send(it item) (last bool, err error) {
	switch {
	case it.kind == itemHead && it.status < http.StatusOK:
		// The client can do without; if it is gone, the next thing says so.
		x.client.Interim(it.status, it.header)
		return false, nil
	case it.kind == itemHead:
		return it.last, x.head(it)
	case it.kind == itemContent:
		if _, err := x.conn.Write(it.content); err != nil {
			return false, &endError{from: frames.ToOrigin, err: err}
		}
		return false, nil
	}
	if !x.completes() {
		return true, nil
	}
	if len(it.header) > 0 {
		err = x.client.SendTrailer(it.header)
	} else {
		err = x.conn.CloseWrite()
	}
	if err != nil {
		x.client.Reset(hop.InternalError)
	}
	return true, nil
}

// completes says that the response will be complete, unless the exchange is over.
func (x *exchange) completes() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.complete = !x.over
	return x.complete
}

// head sends the final response's head.
func (x *exchange) head(it item) error {
	x.mu.Lock()
	if x.over {
		x.mu.Unlock()
		return errSluiceClosed
	}
	x.begun, x.complete = true, it.last
	x.mu.Unlock()
	err := x.client.Respond(&hop.Response{Status: it.status, Header: it.header}, it.last)
	if err == nil {
		return nil
	}
	x.mu.Lock()
	x.begun, x.complete = false, false
	x.mu.Unlock()
	return &originError{err}
}

// answer answers in the origin's place.
func (x *exchange) answer(err error) {
	var gone *endError
	if err == nil || errors.As(err, &gone) {
		x.client.Reset(hop.Cancel)
		return
	}
	a := x.answerTo(err)
	r := x.session.answered(x.req, a)
	body := r.Body
	if x.req.Method == http.MethodHead {
		body = nil
	}
	err = x.client.Respond(r, len(body) == 0)
	if err == nil && len(body) > 0 {
		if _, err = x.conn.Write(body); err == nil {
			err = x.conn.CloseWrite()
		}
	}
	if err != nil {
		x.client.Reset(hop.InternalError)
	}
}

// logEnd says how the exchange ended, where "passed" does not say it all.
func (x *exchange) logEnd(err error) {
	attrs := []slog.Attr{
		slog.String("authority", x.target.Authority),
		slog.String("mode", string(x.target.Mode)),
		slog.Int64("to_origin", x.sluices[frames.ToOrigin].count()),
		slog.Int64("to_client", x.sluices[frames.ToClient].count()),
		slog.Duration("took", time.Since(x.started)),
	}
	var kill *inspect.KillError
	switch {
	case errors.As(err, &kill):
		x.session.logKilled(kill, attrs)
	case err != nil:
		attrs = append(attrs, slog.String("ended", oneLine(err.Error())))
		x.session.log.LogAttrs(x.session.ctx, slog.LevelDebug, "exchange ended early", attrs...)
	}
}

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
)

// maxSplitSends is how often a request may be sent: what the evidence is about may have gone since, and the proxy
// then shows other evidence and has sent nothing. It stops a proxy that does so for ever.
const maxSplitSends = 3

// A splitExchange is an exchange below intact: a request on hop 1, which the proxy makes its own.
type splitExchange struct {
	x         *exchange
	d         *Dialer
	route     *route
	agreement *Agreement
	about     *Tunnel // what a kill would be of
	probe     *probe
	asked     hop.Asked
	conn      *hop.Conn
	up        *upload
	resp      *http.Response
	signature *signature // nil where signed is not accepted, or not there
	head      bool       // the response's head has come
	closed    atomic.Bool
	uncount   func()
	stops     []func() bool
	once      sync.Once
}

// split sends the request on a's route. again says that another attempt may do better, and err what to return if
// there is none.
func (x *exchange) split(a *attempt) (resp *http.Response, again bool, err error) {
	r := a.route
	a.route = nil // it is e's, who gives it back; what is found next may be a tunnel
	x.keepBody()
	*x.rep = *a.rep
	x.rep.Evidence, x.rep.EvidenceBytes, x.rep.Hops = r.evidence, r.raw, r.hops
	e := &splitExchange{x: x, d: x.pool.dialer, route: r, agreement: a.agreement}
	e.about = &Tunnel{level: r.level, authority: r.authority, proxy: r.session.leaf, name: r.session.name}
	if err := e.send(a); err != nil {
		if e.asked == nil {
			x.pool.splitOver(e)
			var retry *hop.RetryError
			if errors.As(err, &retry) {
				e.d.hop1.retire(r.session)
				return nil, true, &UnreachableError{Party: PartyProxy, Err: err}
			}
			return nil, false, err
		}
		e.finish(false)
		return nil, false, err
	}
	answer, err := e.await()
	if err != nil {
		again := errors.As(err, new(*hop.RetryError)) && x.req.Context().Err() == nil
		err = e.failure(err)
		e.finish(false)
		if again {
			e.d.hop1.retire(r.session)
		}
		return nil, again && e.whole(), err
	}
	switch id, err := fields.ParseEvidenceID(answer.Header.Values(fields.EvidenceID)); {
	case errors.Is(err, fields.ErrAbsent):
		again, err := e.refused(a, answer)
		e.finish(false)
		return nil, again && e.whole(), err
	case err != nil || id != r.id:
		e.finish(false)
		return nil, false, &IntegrityError{What: "the response is not said to rest on the evidence of its request", Err: err}
	}
	if err := e.deliver(a, answer); err != nil {
		e.finish(false)
		return nil, false, err
	}
	return e.resp, false, nil
}

// send sends the request's head, and begins with its content.
func (e *splitExchange) send(a *attempt) error {
	x := e.x
	ctx := x.req.Context()
	if len(a.fields) > 0 && !a.agreement.Credentials {
		return keptBack(a.fields, nil)
	}
	requester, ok := e.route.session.Session.(hop.Requester)
	if !ok {
		return &UnreachableError{Party: PartyProxy, Err: errors.New("hop 1 carries no requests")}
	}
	consented, stop := a.agreement.within(ctx)
	defer stop()
	wanted, cancel := context.WithCancel(consented)
	defer cancel()
	defer context.AfterFunc(e.d.hop1.life(), cancel)()
	if a.accepts(Signed) {
		if err := x.digestBody(wanted); err != nil {
			return e.unsent(err)
		}
	}
	p, err := newProbe([][32]byte{pki.LeafHash(e.route.session.leaf)}, e.route.authority)
	if err != nil {
		return err
	}
	e.probe = p
	e.about.nonce = &p.offer.Nonce
	req, err := splitRequest(x.req, x.announced, e.route.authority)
	if err != nil {
		return err
	}
	req.Header.Set(fields.EvidenceID, fields.FormatEvidenceID(e.route.id))
	req.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(p.request))
	if a.accepts(Signed) {
		e.signature = newSignature(req)
	}
	end := x.body == nil || x.body == http.NoBody
	if end := a.agreement.ended(); end != nil { // which its context hears of a moment later
		return end.trust()
	}
	enough := x.pool.makeRoom()
	asked, err := requester.Request(wanted, req, end)
	enough()
	switch {
	case err == nil:
	case errors.As(err, new(*hop.RetryError)):
		return e.unsent(err)
	default: // it cannot be sent, to nobody
		return e.unsent(fmt.Errorf("client: %w", err))
	}
	p.sent = e.d.now()
	e.asked = asked
	e.begin()
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	e.up = newUpload(e)
	if end {
		e.up.none()
	} else {
		go e.up.run()
	}
	return nil
}

// unsent is err, by which nothing was sent, unless the request is not wanted any more, which is then the reason.
func (e *splitExchange) unsent(err error) error {
	if ctx := e.x.req.Context(); ctx.Err() != nil {
		return step(ctx, nil)
	}
	if e.d.hop1.isClosed() {
		return ErrClosed
	}
	if end := e.agreement.ended(); end != nil {
		return end.trust()
	}
	return err
}

// begin has the exchange end with what it rests on.
func (e *splitExchange) begin() {
	e.conn = hop.NewConn(e.asked)
	e.d.hop1.count(1)
	e.uncount = sync.OnceFunc(func() { e.d.hop1.count(-1) })
	e.stops = append(e.stops, context.AfterFunc(e.x.req.Context(), func() { e.asked.Reset(hop.Cancel) }))
	if ends := e.agreement.Ends; ends != nil {
		e.stops = append(e.stops, context.AfterFunc(ends, func() {
			e.d.hop1.own(func() {
				e.asked.Reset(hop.Cancel)
				e.uncount()
				e.d.inners.Clear()
				e.d.hop1.closeIdle()
			})
		}))
	}
	p := e.x.pool
	p.mu.Lock()
	p.splits[e] = struct{}{}
	closed := p.closed
	p.mu.Unlock()
	if closed {
		e.asked.Reset(hop.Cancel)
	}
}

var errLate = errors.New("no response within ResponseTimeout")

// await waits for the final response's head.
func (e *splitExchange) await() (*hop.Response, error) {
	ctx, cancel := context.WithCancelCause(e.x.req.Context())
	defer cancel(nil)
	if wait := e.x.t.ResponseTimeout; wait > 0 {
		stop := make(chan struct{})
		var timer sync.WaitGroup
		defer timer.Wait()
		defer close(stop)
		timer.Go(func() {
			select {
			case <-e.up.done:
			case <-stop:
				return
			}
			late := time.NewTimer(wait)
			defer late.Stop()
			select {
			case <-late.C:
				cancel(errLate)
			case <-stop:
			}
		})
	}
	resp, err := e.asked.Response(ctx, e.interim)
	if err != nil && context.Cause(ctx) == errLate {
		return nil, &UnreachableError{Party: PartyOrigin, Err: errLate}
	}
	return resp, err
}

// interim passes on what says that the request may go on, or that more is to come. Nobody signs it: where only
// what is signed is wanted, its fields are not shown.
func (e *splitExchange) interim(status int, h http.Header) {
	if status == http.StatusContinue {
		e.up.proceed()
	}
	trace := httptrace.ContextClientTrace(e.x.req.Context())
	if trace == nil || e.signature != nil {
		return
	}
	if status == http.StatusContinue && trace.Got100Continue != nil {
		trace.Got100Continue()
	}
	if trace.Got1xxResponse != nil {
		if err := trace.Got1xxResponse(status, textproto.MIMEHeader(h)); err != nil {
			e.up.fail(err)
		}
	}
}

// refused reads an answer of the proxy's own. A 470 brings other evidence: where that holds, and justifies as
// much, the request is sent again.
func (e *splitExchange) refused(a *attempt, answer *hop.Response) (again bool, err error) {
	routes := &e.route.session.routes
	routes.drop(e.route)
	if answer.Status != frames.StatusInspectionRequired {
		return false, statusError(answer, e.route.authority)
	}
	if len(answer.Evidence) == 0 {
		// Whatever it is that it refuses now, a CONNECT says it better.
		return true, statusError(answer, e.route.authority)
	}
	a.rep = e.x.rep
	a.rep.EvidenceBytes = answer.Evidence
	refused, err := refusalOf(answer, e.route.authority, e.d.now(), func() (*evidence.Result, error) { return e.probe.verify(e.d, a, answer.Evidence) })
	if err != nil {
		return errors.As(err, new(*aheadError)), err // through a chain of proxies there is no such exchange
	}
	if refused.level() != "" {
		r := routes.add(e.d, a, refused.route(e.route.session, a))
		routes.release(r, e.d.now())
	}
	return true, &UnreachableError{
		Party: PartyProxy, Status: answer.Status,
		Err: errors.New("its connection to the origin has gone, and the request could not be sent again"),
	}
}

// deliver makes answer the response.
func (e *splitExchange) deliver(a *attempt, answer *hop.Response) error {
	x := e.x
	e.head = true
	e.up.answered()
	h := answer.Header
	if most := x.t.start().base.MaxResponseHeaderBytes; headerSize(h) > most {
		return fmt.Errorf("client: the response's header section is over %d bytes", most)
	}
	x.rep.Level = e.route.level
	if err := e.sign(a, answer); err != nil {
		return err
	}
	h.Del(fields.EvidenceID)
	resp := &http.Response{
		Status:     strings.TrimSpace(strconv.Itoa(answer.Status) + " " + http.StatusText(answer.Status)),
		StatusCode: answer.Status,
		Proto:      "HTTP/2.0", ProtoMajor: 2,
		Header:        h,
		ContentLength: contentLength(h),
		Request:       x.req.WithContext(withReport(x.req.Context(), x.rep)),
	}
	if resp.Trailer = announced(h); e.signature != nil {
		resp.Trailer = nil // a name that nobody signed is nothing to show
	}
	e.resp, x.rep.Status = resp, answer.Status
	if x.once != nil {
		x.once.settle(false)
	}
	b := newResponseBody(x, &splitContent{e: e, left: e.declared(resp)}, func(err error) error { return err })
	if x.req.Method == http.MethodHead || answer.Status == http.StatusNoContent || answer.Status == http.StatusNotModified {
		// There is no content, but maybe a trailer section, and the end has to come.
		if x.req.Method != http.MethodHead {
			resp.ContentLength = 0
		}
		if _, err := io.Copy(io.Discard, b); err != nil {
			return err
		}
		resp.Body = http.NoBody
		return nil
	}
	resp.Body = b
	if e.actedOn() {
		return e.readAhead(b)
	}
	if resp.ContentLength == 0 && len(resp.Trailer) == 0 {
		if _, err := io.Copy(io.Discard, b); err != nil {
			return err
		}
		resp.Body = http.NoBody
	}
	return nil
}

// failure types an error of the exchange.
func (e *splitExchange) failure(err error) error {
	ctx := e.x.req.Context()
	if ctx.Err() != nil {
		return step(ctx, nil)
	}
	if end := e.agreement.ended(); end != nil {
		return end.trust()
	}
	if e.x.pool.isClosed() {
		return ErrClosed
	}
	if err := e.up.fault(); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	switch err := err.(type) {
	case *IntegrityError, *UnreachableError, *LevelError, *KilledError:
		return err
	}
	if killed := e.about.killed(err); killed != nil {
		return killed
	}
	switch {
	case !e.head:
		return &UnreachableError{Party: PartyProxy, Err: err}
	case errors.As(err, new(*hop.SessionError)):
		return &IntegrityError{What: "hop 1 ended, and the response with it, before its end", Err: err}
	}
	if reset := (*hop.ResetError)(nil); errors.As(err, &reset) && reset.Remote && reset.Code == hop.InternalError {
		what := "the response was cut before its end: the origin's connection to the proxy ended or broke there"
		if e.resp != nil && e.resp.ContentLength < 0 && e.resp.Request.Method != http.MethodHead {
			what += "; a response without a length is whole only where its end comes with the framing of chunks or HTTP/2, or with TLS's close_notify"
		}
		return &IntegrityError{What: what, Err: err}
	}
	return &IntegrityError{What: "the response was cut before its end", Err: err}
}

// finish ends the exchange, once. complete says that the whole response has come.
func (e *splitExchange) finish(complete bool) {
	e.once.Do(func() {
		for _, stop := range e.stops {
			stop()
		}
		sent := e.up == nil || e.up.stop()
		if !complete || !sent {
			e.asked.Reset(hop.Cancel)
		}
		if !sent && e.resp != nil {
			e.x.closeBody() // else no response was returned, and RoundTrip's caller does
		}
		e.conn.Close()
		if (!complete || !sent) && !e.route.shared {
			e.route.session.routes.drop(e.route)
		}
		e.x.pool.splitOver(e)
		e.uncount()
	})
}

// whole says whether the request's content can be had again. It is called when no more of it is read.
func (e *splitExchange) whole() bool {
	return e.x.req.GetBody != nil || !e.up.touched() || e.x.kept != nil && e.x.kept.whole()
}

// splitOver gives back the route, and the slot.
func (p *pool) splitOver(e *splitExchange) {
	e.route.session.routes.release(e.route, e.d.now())
	p.mu.Lock()
	delete(p.splits, e)
	p.slots--
	p.wakeLocked()
	p.mu.Unlock()
}

// splitContent is the response's content as it arrives.
type splitContent struct {
	e    *splitExchange
	left int64 // of a signed response of declared length; -1 for any other
}

func (c *splitContent) Read(p []byte) (int, error) {
	e := c.e
	if end := e.agreement.ended(); end != nil { // nothing more passes, whether or not anybody has acted on it
		e.finish(false)
		return 0, end.trust()
	}
	n, err := e.conn.Read(p)
	if n > 0 && e.signature != nil {
		e.signature.content.Write(p[:n])
	}
	// Who counts takes the last of it for the end, and does not ask for that, which has to hold.
	last := c.left > 0 && c.left == int64(n)
	c.left -= int64(n)
	if last && err == nil {
		_, err = e.conn.Read(make([]byte, 1)) // the carrier lets no more content through
	}
	switch {
	case err == nil:
	case e.closed.Load():
		err = http.ErrBodyReadAfterClose
	case err == io.EOF:
		if bad := e.trailer(); bad != nil {
			err = bad
		}
		e.finish(true)
	default:
		err = e.failure(err) // before finish, which resets
		e.finish(false)
	}
	if last && err != io.EOF {
		n = 0
	}
	return n, err
}

func (c *splitContent) Close() error {
	c.e.closed.Store(true)
	c.e.finish(false)
	return nil
}

// trailer takes what came behind the content, and judges the whole.
func (e *splitExchange) trailer() error {
	h := e.asked.Trailer()
	if e.signature != nil {
		if err := e.signature.finish(h); err != nil {
			e.x.rep.Level = ""
			return err
		}
		e.verified()
	}
	for name, values := range h {
		if e.resp.Trailer == nil {
			e.resp.Trailer = make(http.Header)
		}
		e.resp.Trailer[http.CanonicalHeaderKey(name)] = values
	}
	return nil
}

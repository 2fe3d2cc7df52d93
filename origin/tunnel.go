package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/itls"
	"vitrine/internal/tlsmsg"
)

// A refusal is an ordinary answer to a CONNECT that opens no tunnel.
type refusal struct {
	status int
	reason string // one line, for the client
}

func (e *refusal) Error() string {
	return fmt.Sprintf("refused with %d: %s", e.status, e.reason)
}

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, reason: fmt.Sprintf(format, args...)}
}

// serve answers one request and, if it opens a tunnel, hands the session in it to the server.
func (c *carrier) serve(ctx context.Context, in hop.Incoming) error {
	if isClosed(c.o.inner.done) {
		in.Refuse(hop.RefusedStream) // Shutdown: another connection, or another server, may take it
		return nil
	}
	req, err := c.check(in.Request())
	if err == nil {
		err = c.open(ctx, in, req)
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		h := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
		if err := in.Reject(&hop.Response{Status: r.status, Header: h, Body: []byte(r.reason + "\n")}); err != nil {
			return err
		}
	}
	return err
}

// check reads a request that asks for a tunnel. The error is a *refusal.
func (c *carrier) check(r *hop.Request) (*evidence.Request, error) {
	switch {
	case r.Protocol == "" && r.Method != "" && r.Method != http.MethodConnect:
		return nil, refuse(http.StatusMisdirectedRequest, "this connection carries tunnels only")
	case r.Protocol == "":
		return nil, refuse(http.StatusForbidden, "this is an origin, not a proxy")
	case r.Protocol != frames.Protocol:
		return nil, refuse(http.StatusNotImplemented, "the only protocol here is %q", frames.Protocol)
	case r.Path != "/":
		return nil, refuse(http.StatusBadRequest, "the path of a tunnel is /")
	}
	if _, _, err := fields.ParseAuthority(r.Authority); err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	raw, err := fields.ParseEvidenceRequest(r.Header.Values(fields.EvidenceRequest))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	req, err := evidence.ParseRequest(raw)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	if c.stranger != nil {
		return nil, refuse(http.StatusForbidden, "this origin does not know the proxy")
	}
	if err := req.CheckProxy(r.Authority, c.leaf); err != nil {
		return nil, refuse(http.StatusForbidden, "%v", err)
	}
	return req, nil
}

// open answers with evidence, runs the inner handshake, and hands the session over.
func (c *carrier) open(ctx context.Context, in hop.Incoming, req *evidence.Request) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.handshakeTimeout(), errSlow)
	defer cancel()
	host, _, err := fields.ParseAuthority(req.Offer.Authority)
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	cert, err := c.o.certificate(c.conn, req)
	if err != nil {
		return refuse(http.StatusMisdirectedRequest, "this origin does not serve %s", req.Offer.Authority)
	}
	switch err := c.allow(ctx, in, req.Nonce); {
	case errors.Is(err, evidence.ErrRepeated):
		return refuse(http.StatusForbidden, "this nonce was used before")
	case errors.Is(err, evidence.ErrSpent):
		// A new connection has answers again, and a new hop to bind them to.
		in.Refuse(hop.RefusedStream)
		c.retired.Do(func() { close(c.spent) })
		return err
	case err != nil:
		in.Refuse(hop.RefusedStream)
		return err
	}
	free, err := c.slot(ctx, in)
	if err != nil {
		in.Refuse(hop.RefusedStream)
		return err
	}
	defer free()
	resp := &hop.Response{Status: http.StatusOK, Header: http.Header{}}
	answer, err := evidence.NewAnswer(&c.tls, c.o.cfg.Time(), c.o.cfg.Lifetime)
	if err == nil && c.session.Peer().Settings.Evidence {
		resp.Evidence, err = evidence.Authenticate(req, &c.tls, cert, answer)
	}
	if err != nil {
		in.Refuse(hop.InternalError)
		return err
	}
	stream, err := in.Accept(resp)
	if err != nil {
		return err
	}
	return c.handOver(ctx, stream, &tunnel{req: req, host: host, cert: cert, answer: answer, via: in.Request().Header.Values(fields.Via)})
}

// A tunnel is what its CONNECT has settled.
type tunnel struct {
	req    *evidence.Request
	host   string
	cert   *tls.Certificate
	answer *tlsmsg.InspectionAnswer
	via    []string
}

// handOver runs the inner handshake on stream and gives the session to the server.
func (c *carrier) handOver(ctx context.Context, stream hop.Stream, t *tunnel) error {
	i := &Inspection{
		Authority: t.req.Offer.Authority, Nonce: t.req.Nonce,
		ProxyCertificate: c.proxy, ProxyVerified: c.o.cfg.ProxyRoots != nil,
		Hop: c.tls, HopID: t.answer.HopID, RemoteAddr: c.conn.RemoteAddr(),
		Via: slices.Clone(t.via),
	}
	session := itls.Server(hop.NewConn(stream), &itls.Config{
		TLS:         c.o.innerConfig(t.host, t.cert),
		RequireALPN: true,
		Tickets:     c.o.tickets,
		AnswerInspection: func(offer *tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) {
			if err := sameOffer(offer, t.req.Offer); err != nil {
				return nil, err
			}
			i.Proxies = offer.Proxies
			return t.answer, nil
		},
	})
	served := false
	defer func() { // also when a callback of the user's panics
		if !served {
			session.Close()
		}
	}()
	if err := session.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("inner handshake: %w", err)
	}
	i.conn = session
	served = c.o.inner.deliver(ctx, &conn{Conn: session, state: session.ConnectionState(), inspection: i})
	return nil
}

var errSlow = errors.New("the tunnel took too long to open")

// allow waits until the hop's rate of evidence admits one more.
func (c *carrier) allow(ctx context.Context, in hop.Incoming, nonce [32]byte) error {
	for {
		err := c.evidence.Allow(nonce)
		if !errors.Is(err, evidence.ErrRate) {
			return err
		}
		retry := time.NewTimer(rateRetry)
		select {
		case <-retry.C:
		case <-in.Context().Done():
			retry.Stop()
			return context.Cause(in.Context())
		case <-ctx.Done():
			retry.Stop()
			return err
		}
	}
}

// rateRetry is how often a tunnel that waits in allow looks again.
const rateRetry = 20 * time.Millisecond

// slot waits for a place among the inner handshakes.
func (c *carrier) slot(ctx context.Context, in hop.Incoming) (free func(), err error) {
	if err := acquire(ctx, in, c.handshake); err != nil {
		return nil, err
	}
	if err := acquire(ctx, in, c.o.handshakes); err != nil {
		<-c.handshake
		return nil, err
	}
	return func() { <-c.o.handshakes; <-c.handshake }, nil
}

func acquire(ctx context.Context, in hop.Incoming, places chan<- struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-in.Context().Done():
		return context.Cause(in.Context())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sameOffer refuses an inner session that says something else than the request that opened its
// tunnel: who reads it, on the way to whom, and for which CONNECT. That the last proxy is hop 2's
// peer was checked there.
func sameOffer(inner, outer *tlsmsg.InspectionOffer) error {
	switch {
	case inner == nil:
		return errors.New("origin: the client does not say who reads")
	case inner.Authority != outer.Authority:
		return errors.New("origin: the session is for another authority than its tunnel")
	case inner.Nonce != outer.Nonce:
		return errors.New("origin: the session has another nonce than its tunnel")
	case !slices.Equal(inner.Proxies, outer.Proxies):
		return errors.New("origin: the session names other proxies than its tunnel")
	}
	return nil
}

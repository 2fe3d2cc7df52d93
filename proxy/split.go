package proxy

import (
	"context"
	"net/http"
	"slices"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// split answers an ordinary request that names the evidence it rests on. It goes out on the very connection
// that the evidence is of. Where there is none, nothing of it leaves: the client gets evidence of another
// connection, and decides again. A nil error means that the request was taken over.
func (s *session) split(ctx context.Context, in hop.IncomingRequest) error {
	req := in.Request()
	id, err := fields.ParseEvidenceID(req.Header.Values(fields.EvidenceID))
	if err != nil {
		return badRequest("evidence-id is malformed", err)
	}
	t, err := s.splitTarget(req)
	if err != nil {
		return err
	}
	modes, err := s.modes(t.Authority)
	if err != nil {
		return err
	}
	if !slices.Contains(modes, fields.Split) || t.next != nil {
		return s.anew(ctx, t, modes, "policy allows no split mode to this target")
	}
	if left, given, err := fields.MaxForwards(req.Method, req.Header); err == nil && given && left == 0 {
		return lastForward(req)
	}
	c := s.keeper.take(id, t.Authority, s.run.current.Load().epoch)
	if c == nil {
		return s.anew(ctx, t, modes, connectionGone)
	}
	client, err := in.Answer()
	if err != nil {
		c.cc.Release()
		c.put()
		return err
	}
	s.exchange(in, client, t, c)
	return nil
}

// lastForward answers a TRACE or OPTIONS that may not go on from here.
func lastForward(req *hop.Request) *answer {
	a := &answer{status: http.StatusOK, details: "max-forwards is 0, so this proxy answers, and not the origin"}
	if req.Method == http.MethodTrace {
		a.media = "message/http"
		a.body = string(fields.Trace(req.Method, req.Path, req.Authority, req.Header))
	}
	return a
}

// connectionGone is what a 470 to a request says whose connection is no more.
const connectionGone = "no connection with this evidence can take the request; here is the evidence of a new one"

// splitTarget reads what an ordinary request has in common with a CONNECT as strictly as there.
func (s *session) splitTarget(req *hop.Request) (*Target, error) {
	c := *req
	c.Path = "/"
	if _, _, err := fields.ParseAuthority(req.Authority); err != nil {
		c.Authority = req.Authority + ":443"
	}
	t, err := s.target(&c)
	if err != nil {
		return nil, err
	}
	if len(t.Request.Offer.Proxies) != 1 {
		return nil, badRequest("split mode does not go through other proxies in this version", nil)
	}
	t.Mode = fields.Split
	return t, checkRequest(req)
}

// anew answers a request with the evidence of a connection that is made for it.
func (s *session) anew(ctx context.Context, t *Target, modes []fields.Mode, why string) error {
	switch {
	case len(modes) == 0:
		return errForbidden()
	case t.next != nil:
		// What the origin can do is for the next proxy to find out.
		return refusal(modes, why)
	}
	t.Fresh, t.Split = true, slices.Contains(modes, fields.Split)
	up, err := s.dial(ctx, t)
	if err != nil {
		return err
	}
	defer up.Close()
	up.retire(false)
	a := refusal(modes, why)
	a.protocol = up.State.NegotiatedProtocol
	if up.Session != nil {
		a.details = "the origin picked an itls token"
	}
	return s.shown(ctx, t, up, a)
}

// shown adds the evidence of up to a, and keeps up for the requests that rest on it.
func (s *session) shown(ctx context.Context, t *Target, up *Upstream, a *answer) error {
	if up.Transcript == nil {
		return a
	}
	if up.HTTP == nil || !t.Split {
		p, err := up.Transcript.Append(nil)
		if err != nil {
			return err
		}
		a.evidence = p
		return a
	}
	p, id, err := s.keeper.name(up.Transcript)
	if err != nil {
		return err
	}
	a.evidence = p
	if err := s.keeper.keep(ctx, up, t.Authority, id); err != nil {
		return err
	}
	return a
}

// exchange takes a request over that c has a place for.
func (s *session) exchange(in hop.IncomingRequest, client hop.Answering, t *Target, c *kept) {
	x := newExchange(s, in, client, t, c)
	kill := s.add(x)
	if kill != nil {
		x.stop(kill)
	}
	go x.run()
}

// forwarded are the fields of an origin's message that the client gets.
func (x *exchange) forwarded(protocol string, h http.Header) http.Header {
	out := endToEnd(h)
	fields.AppendVia(out, protocol, x.session.front.via)
	out.Set(fields.EvidenceID, fields.FormatEvidenceID(x.kept.id))
	return out
}

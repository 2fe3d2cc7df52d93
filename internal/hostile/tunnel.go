package hostile

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/proxy"
)

// A lyingSession is a hop 1 of a [Liar].
type lyingSession struct {
	*session
	l   *Liar
	ctx context.Context
}

func (s *lyingSession) Accept(ctx context.Context) (hop.Incoming, error) {
	for {
		in, err := s.Session.Accept(ctx)
		if err != nil {
			return nil, err
		}
		v := &victim{Incoming: in, s: s}
		r, ok := in.(hop.IncomingRequest)
		if !ok {
			return v, nil
		}
		if request := (&splitVictim{IncomingRequest: r, v: v}); !request.takenOver() {
			return request, nil
		}
	}
}

// A victim is one request, and what is lied about it.
type victim struct {
	hop.Incoming
	s *lyingSession
}

func (v *victim) Session() hop.Session { return v.s }

func (v *victim) Accept(resp *hop.Response) (hop.Stream, error) {
	request, err := requestOf(v.Request())
	if err != nil {
		return v.Incoming.Accept(resp) // nothing but an intact tunnel is lied about
	}
	st, err := v.Incoming.Accept(v.lie(request, resp))
	if err != nil {
		return nil, err
	}
	m, err := v.mangler(request)
	if err != nil {
		v.s.l.missed(v.authority(), err)
	}
	if m == nil {
		return st, nil
	}
	return &stream{Stream: st, s: v.s.session, m: m}, nil
}

func (v *victim) Reject(resp *hop.Response) error {
	if request, err := requestOf(v.Request()); err == nil {
		resp = v.lie(request, resp)
	} else if resp.Status == http.StatusOK {
		resp = v.label(resp)
	}
	return v.Incoming.Reject(resp)
}

// label is the proxy's own page, which would else call it honest.
func (v *victim) label(resp *hop.Response) *hop.Response {
	l := *resp
	l.Body = fmt.Appendf(nil, "%s lies on purpose, to show that clients notice: it %s.\n", v.s.l.Proxy.Name, v.s.l.Mode.About())
	return &l
}

// authority is the target's. That of an ordinary request may come without the port.
func (v *victim) authority() string {
	authority, err := fields.CanonicalAuthority(hostPort(v.Request().Authority))
	if err != nil {
		return v.Request().Authority
	}
	return authority
}

// requestOf is the client's request for evidence. Only a CONNECT for an intact tunnel has one.
func requestOf(req *hop.Request) (*evidence.Request, error) {
	if req.Protocol != frames.Protocol {
		return nil, errors.New("no intact tunnel")
	}
	return requestIn(req.Header)
}

// requestIn is the request for evidence among the fields of a request.
func requestIn(h http.Header) (*evidence.Request, error) {
	raw, err := fields.ParseEvidenceRequest(h.Values(fields.EvidenceRequest))
	if err != nil {
		return nil, err
	}
	return evidence.ParseRequest(raw)
}

// struck reports a lie that the client is told.
func (v *victim) struck(record, offset int, what string) {
	v.s.l.struck(Strike{
		Authority: v.authority(), Hop: 1, Stream: v.ID(), Direction: frames.ToClient, Record: record, Offset: offset, What: what,
	})
}

// lie is what is answered to the client in the place of resp.
func (v *victim) lie(request *evidence.Request, resp *hop.Response) *hop.Response {
	if len(resp.Evidence) == 0 {
		return resp
	}
	if v.s.l.Mode == ModeStripToken {
		if resp.Status == frames.StatusInspectionRequired {
			v.struck(-1, -1, "the origin was offered no inner session, and the client is told that it has none")
		}
		return resp
	}
	ctx, cancel := context.WithTimeout(v.s.ctx, patience)
	defer cancel()
	forged, what, err := v.s.l.forge(ctx, request, resp)
	switch {
	case err != nil:
		v.s.l.missed(v.authority(), err)
		return resp
	case forged == nil:
		return resp
	}
	v.struck(-1, -1, what)
	lie := *resp
	lie.Evidence = forged
	return &lie
}

// mangler is what changes the bytes to the client, nil in the modes that change none.
func (v *victim) mangler(request *evidence.Request) (Mangler, error) {
	f := v.s.l.forger
	attack := newResponseAttack(v.struck)
	switch v.s.l.Mode {
	case ModeFlip:
		attack.strike = flipResponse
	case ModeDrop:
		attack.strike = dropResponse
	case ModeInsert:
		attack.strike = insertResponse
	case ModeReorder:
		attack.strike = reorderResponse
	case ModeReplay:
		attack.strike = replayResponse
	case ModeTruncate:
		attack.strike = truncateResponse
	case ModeSplice:
		ctx, cancel := context.WithTimeout(v.s.ctx, patience)
		defer cancel()
		record, err := f.foreignRecord(ctx, v.authority())
		if err != nil {
			return nil, err
		}
		attack.strike = spliceResponse(record)
	case ModeFalseVerdict:
		verdict, err := f.falseVerdict(request, v.s.l.now())
		if err != nil {
			return nil, err
		}
		attack.strike = killResponse(verdict)
	default:
		return nil, nil
	}
	return attack, nil
}

// dial is the proxy's way to a target, with the lies that are told there.
func (l *Liar) dial(ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
	if t.Request == nil {
		return l.Proxy.Dial(ctx, t)
	}
	switch l.Mode {
	case ModeStripToken:
		return l.forger.dialWithoutToken(ctx, t)
	case ModeNoAnswer:
		t.Fresh = true // so that there is a transcript to show in the authenticator's place
	}
	up, err := l.Proxy.Dial(ctx, t)
	if err == nil && up.Session != nil && (l.Mode == ModeNoAnswer || l.Mode == ModeSwapCert) {
		up.Session = &lyingHop2{Session: up.Session, l: l, up: up}
	}
	return up, err
}

// A lyingHop2 is a hop 2 on which the proxy itself is lied to, about the origin.
type lyingHop2 struct {
	hop.Session
	l  *Liar
	up *proxy.Upstream
}

func (s *lyingHop2) Open(ctx context.Context, req *hop.Request) (*hop.Response, hop.Stream, error) {
	resp, st, err := s.Session.Open(ctx, req)
	if err != nil || st == nil || resp.Status >= http.StatusMultipleChoices {
		return resp, st, err
	}
	strike := Strike{Authority: req.Authority, Hop: 2, Stream: st.ID(), Direction: frames.ToClient, Record: -1, Offset: -1}
	if s.l.Mode == ModeNoAnswer {
		if len(resp.Evidence) == 0 {
			s.l.missed(req.Authority, errors.New("the origin made no authenticator that could be hidden"))
			return resp, st, nil
		}
		hidden := *resp
		hidden.Evidence = nil
		strike.What = "the origin's authenticator, with its answer, is not passed on"
		s.l.struck(strike)
		return &hidden, st, nil
	}
	own, err := s.l.impersonate(req.Authority, &s.up.State)
	if err != nil {
		s.l.missed(req.Authority, err)
		return resp, st, nil
	}
	st.Start(sink{})
	st.Reset(hop.Cancel)
	strike.What = "the inner session is with an endpoint and a certificate of the proxy's own"
	s.l.struck(strike)
	return resp, own, nil
}

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// place finds this proxy in the path of a request for evidence, and checks that the path is the one that the
// CONNECT has come along, and goes on along.
func (s *session) place(req *hop.Request, er *evidence.Request, next *nextProxy) (int, error) {
	path, own := er.Offer.Proxies, s.front.hash
	at := slices.Index(path, own)
	if at >= 0 && slices.Contains(path[at+1:], own) || fields.HasVia(req.Header, s.front.via) {
		return 0, errLoop()
	}
	last := own
	if at >= 0 {
		last = path[len(path)-1] // that there is a way to it is checked below
	}
	if err := er.CheckProxy(req.Authority, last); err != nil {
		return 0, badRequest("evidence-request is for another proxy or authority", err)
	}
	if at < len(path)-1 && next == nil {
		return 0, badRequest("evidence-request names a proxy behind this one, which goes to origins itself", nil)
	}
	if at == 0 {
		return 0, nil
	}
	// Else a client could have the origin believe that somebody reads who does not.
	switch leaf := s.hop.Peer().PeerCertificate(); {
	case leaf == nil:
		return 0, denied("a proxy that asks its clients for no certificate cannot be behind another one")
	case pki.LeafHash(leaf) != path[at-1]:
		return 0, denied("hop 1 does not come from the proxy that evidence-request names before this one")
	case pki.RefuseProxyAsOrigin(leaf) == nil:
		// Its verdicts would become ours.
		return 0, denied("what evidence-request names before this proxy is no proxy")
	}
	return at, nil
}

func denied(details string) *answer {
	return &answer{status: http.StatusForbidden, reason: fields.ErrorHTTPRequestDenied, details: details}
}

// chained answers an Extended CONNECT through the next proxy.
func (s *session) chained(ctx context.Context, in hop.Incoming, t *Target, modes []fields.Mode) error {
	if err := s.run.current.Load().targets.mayPass(t.Authority); err != nil {
		return err
	}
	if !slices.Contains(modes, fields.Intact) {
		// What the origin can do is for the next proxy to find out, which a client that may not be read here
		// has no reason to tell of itself.
		return &answer{
			status: frames.StatusInspectionRequired, reason: fields.ErrorHTTPRequestDenied,
			details: "policy allows no intact tunnels to this target", options: modes, next: t.next.name,
		}
	}
	path := t.Request.Offer.Proxies
	// A client that does not know of the next proxy is shown that proxy's answer to this very request.
	t.Fresh = t.place == len(path)-1
	retried := false
	for {
		up, err := s.dial(ctx, t)
		if err != nil {
			return err
		}
		o, again, err := s.tryNext(ctx, in, t, up, modes)
		switch {
		case err == nil:
			return s.join(in, t, o)
		case !again || retried:
			up.Close()
			return err
		}
		up.retire(false)
		up.Close()
		retried, t.Fresh = true, true
	}
}

// tryNext opens the tunnel on up. again says that a new connection may do better.
func (s *session) tryNext(ctx context.Context, in hop.Incoming, t *Target, up *Upstream, modes []fields.Mode) (o *opened, again bool, err error) {
	if up.Session == nil || len(up.State.PeerCertificates) == 0 {
		return nil, false, errors.New("chain: the dial gave no hop to a proxy")
	}
	path, at := t.Request.Offer.Proxies, t.place
	switch leaf := pki.LeafHash(up.State.PeerCertificates[0]); {
	case slices.Contains(path[:at+1], leaf):
		up.retire(false)
		a := errLoop()
		a.details, a.next = "the next proxy is one that the request passed before", t.next.name
		return nil, false, a
	case at+1 == tlsmsg.MaxProxies:
		return nil, false, &answer{
			status: http.StatusInternalServerError, reason: fields.ErrorProxyConfiguration, next: t.next.name,
			details: fmt.Sprintf("there are more than %d proxies on the way", tlsmsg.MaxProxies),
		}
	case at+1 == len(path) || path[at+1] != leaf:
		if up.Transcript == nil {
			return nil, true, errNothingProven
		}
		link, err := s.link(t, up, nil)
		if err != nil {
			return nil, false, &nextError{err: &evidenceMissingError{err}, next: t.next.name}
		}
		return nil, false, &answer{
			status: frames.StatusInspectionRequired, reason: fields.ErrorHTTPRequestDenied,
			details: "the next proxy reads too, and the request does not name it",
			options: modes, evidence: link, protocol: up.State.NegotiatedProtocol, next: t.next.name,
		}
	}
	h := s.onward(in.Request().Header)
	h.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(t.Request.Raw))
	resp, stream, err := s.openNext(ctx, t, up, &hop.Request{Protocol: frames.Protocol, Authority: t.Authority, Path: "/", Header: h})
	if err != nil {
		return nil, errors.As(err, new(*hop.RetryError)), err
	}
	if stream == nil {
		a, err := s.relayed(t, up, resp, modes)
		if err != nil {
			return nil, false, err
		}
		return nil, false, a
	}
	link, err := s.link(t, up, resp.Evidence)
	if err != nil || len(resp.Evidence) == 0 {
		stream.Reset(hop.Cancel)
		return nil, false, &nextError{err: &evidenceMissingError{err}, next: t.next.name}
	}
	return &opened{up: up, stream: stream, evidence: link, above: above(resp.Header)}, false, nil
}

// onward is what a CONNECT to the next proxy carries of the client's fields.
func (s *session) onward(header http.Header) http.Header {
	h := make(http.Header)
	for _, via := range header.Values(fields.Via) {
		h.Add(fields.Via, via)
	}
	fields.AppendVia(h, s.version, s.front.via)
	return h
}

// openNext sends a CONNECT to the next proxy. It may have to dial the origin first, and so gets the time for
// that: resolving, TCP and TLS, and the origin's answer.
func (s *session) openNext(ctx context.Context, t *Target, up *Upstream, req *hop.Request) (*hop.Response, hop.Stream, error) {
	wait, cancel := context.WithTimeout(ctx, 3*s.run.limits.Handshake)
	defer cancel()
	resp, stream, err := up.Session.Open(wait, req)
	if err == nil {
		return resp, stream, nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = &unansweredError{err}
		if ctx.Err() == nil {
			up.retire(false)
		}
	}
	return nil, nil, &nextError{err: err, next: t.next.name}
}

// link is evidence of the hop to the next proxy, and behind it what that one showed.
func (s *session) link(t *Target, up *Upstream, next []byte) ([]byte, error) {
	if len(next) > 0 {
		if _, err := evidence.Parse(next); err != nil {
			return nil, err
		}
	}
	e, err := evidence.NewLink(up.State, up.Transcript, t.Authority, s.run.now(), next)
	if err != nil {
		return nil, err
	}
	return e.Append(nil)
}

// evidenceMissingError says that the next proxy opened a tunnel without evidence that has the form of one.
type evidenceMissingError struct{ err error }

func (e *evidenceMissingError) Error() string {
	if e.err == nil {
		return "it showed no evidence"
	}
	return "its evidence: " + e.err.Error()
}

func (e *evidenceMissingError) Unwrap() error { return e.err }

func aMissingEvidence(err error) *answer {
	if !errors.As(err, new(*evidenceMissingError)) {
		return nil
	}
	return &answer{status: http.StatusBadGateway, reason: fields.ErrorHTTPProtocol, details: "the next proxy's evidence does not hold"}
}

// above are the fields by which the proxies behind this one say who they are and what they found.
func above(h http.Header) http.Header {
	out := make(http.Header)
	size := 0
	for _, via := range h.Values(fields.Via) {
		if size += len(via); size <= maxVia {
			out.Add(fields.Via, via)
		}
	}
	if _, err := fields.ParseProxyStatus(h.Values(fields.ProxyStatusName)); err == nil {
		for _, status := range h.Values(fields.ProxyStatusName) {
			out.Add(fields.ProxyStatusName, status)
		}
	}
	return out
}

// relayed is the next proxy's refusal as this proxy passes it on: with its status, its reasons, and of the modes on
// offer those that this proxy allows too.
func (s *session) relayed(t *Target, up *Upstream, resp *hop.Response, modes []fields.Mode) (*answer, error) {
	a := &answer{
		status: resp.Status, received: resp.Status, protocol: up.State.NegotiatedProtocol, above: above(resp.Header), next: t.next.name,
		body: strings.TrimSpace(frames.CleanText(string(resp.Body), 1024)), details: "the next proxy refused it",
	}
	if a.status < http.StatusBadRequest || a.status > 599 {
		a.status, a.reason = http.StatusBadGateway, fields.ErrorHTTPProtocol
		a.details, a.body, a.above = "the next proxy's answer makes no sense", "", nil
	}
	if a.status != frames.StatusInspectionRequired {
		return a, nil
	}
	offered, err := fields.ParseOptions(resp.Header.Values(fields.InspectionOptions))
	if err != nil {
		return nil, &nextError{err: &answer{
			status: http.StatusBadGateway, reason: fields.ErrorHTTPProtocol, details: "the next proxy's answer makes no sense", cause: err,
		}, next: t.next.name}
	}
	for _, m := range offered {
		if slices.Contains(modes, m) { // of which split is none
			a.options = append(a.options, m)
		}
	}
	if len(resp.Evidence) == 0 || t.Request == nil {
		return a, nil
	}
	if a.evidence, err = s.link(t, up, resp.Evidence); err != nil {
		return nil, &nextError{err: &evidenceMissingError{err}, next: t.next.name}
	}
	return a, nil
}

// chainedBlind answers a plain CONNECT, which policy allows, through the next proxy.
func (s *session) chainedBlind(ctx context.Context, in hop.Incoming, t *Target) error {
	if err := s.run.current.Load().targets.mayPass(t.Authority); err != nil {
		return err
	}
	for retried := false; ; retried = true {
		up, err := s.dial(ctx, t)
		if err != nil {
			return err
		}
		if up.Session == nil {
			up.Close()
			return errors.New("chain: the dial gave no hop to a proxy")
		}
		resp, stream, err := s.openNext(ctx, t, up, &hop.Request{Authority: t.Authority, Header: s.onward(in.Request().Header)})
		if err == nil && stream == nil {
			var a *answer
			var modes []fields.Mode
			if modes, err = s.modes(t.Authority); err == nil {
				if a, err = s.relayed(t, up, resp, modes); err == nil {
					err = a
				}
			}
		}
		if err == nil {
			// As for a connection of our own: what was revoked meanwhile is not begun.
			if err = s.mayBeBlind(t.Authority); err != nil {
				stream.Reset(hop.Cancel)
			}
		}
		if err == nil {
			return s.join(in, t, &opened{up: up, stream: stream, above: above(resp.Header)})
		}
		again := errors.As(err, new(*hop.RetryError)) && !retried
		if again {
			up.retire(false)
			t.Fresh = true
		}
		up.Close()
		if !again {
			return err
		}
	}
}

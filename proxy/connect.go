package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw"
	"vitrine/proxy/inspect"
)

// intact answers an Extended CONNECT for a tunnel that the proxy reads. A nil error means that the
// request was accepted.
func (s *session) intact(ctx context.Context, in hop.Incoming) error {
	t, err := s.target(in.Request())
	if err != nil {
		return err
	}
	modes, err := s.modes(t.Authority)
	if err != nil {
		return err
	}
	if len(modes) == 0 {
		return errForbidden()
	}
	if t.next != nil {
		return s.chained(ctx, in, t, modes)
	}
	allowed := slices.Contains(modes, fields.Intact)
	t.Split = slices.Contains(modes, fields.Split)
	// A refusal by policy still shows evidence, made for this request: what the client may do instead
	// depends on what the origin can do.
	t.Fresh = !allowed
	up, err := s.dial(ctx, t)
	if err != nil {
		return err
	}
	if up.Session == nil || !allowed {
		defer up.Close()
		up.retire(false)
		return s.inspectionRequired(ctx, t, up, modes)
	}
	o, err := s.open(ctx, t, up, in.Request().Header)
	if err != nil {
		return err
	}
	if o.stream == nil { // the second dial found an origin that picked no token
		defer o.up.Close()
		return s.inspectionRequired(ctx, t, o.up, modes)
	}
	return s.join(in, t, o)
}

// modes are those that authority may get now. A policy that panics has allowed none, and costs one CONNECT.
func (s *session) modes(authority string) (modes []fields.Mode, err error) {
	defer func() {
		if v := recover(); v != nil {
			modes, err = nil, &inspect.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return s.run.current.Load().policy.modes(authority), nil
}

// target reads the CONNECT of an intact tunnel, strictly: what is not exactly right is refused.
func (s *session) target(req *hop.Request) (*Target, error) {
	if _, _, err := fields.ParseAuthority(req.Authority); err != nil {
		return nil, badRequest(":authority must be host:port in canonical form", err)
	}
	if req.Scheme != "" {
		return nil, badRequest(":scheme must be https", nil)
	}
	if req.Path != "/" && req.Path != "" {
		return nil, badRequest(":path must be /", nil)
	}
	if !s.hop.Peer().Settings.Evidence {
		return nil, badRequest("the client's SETTINGS do not take evidence", nil)
	}
	rawRequest, err := fields.ParseEvidenceRequest(req.Header.Values(fields.EvidenceRequest))
	if err != nil {
		return nil, badRequest("evidence-request is missing or malformed", err)
	}
	er, err := evidence.ParseRequest(rawRequest)
	if err != nil {
		return nil, badRequest("evidence-request does not hold a request for evidence", err)
	}
	next := s.run.current.Load().next
	place, err := s.place(req, er, next)
	if err != nil {
		return nil, err
	}
	via := 0
	for _, v := range req.Header.Values(fields.Via) {
		via += len(v)
	}
	if via > maxVia {
		return nil, badRequest("via is too long", nil)
	}
	return &Target{
		Mode: fields.Intact, Authority: req.Authority, Request: er, Client: s.id, front: s.front, next: next, place: place,
	}, nil
}

// maxVia is how long the via of a request may be, which goes on to the origin: some forty proxies. It stops a
// client from filling the header list that the origin allows, which would be our fault then.
const maxVia = 4 << 10

func errLoop() *answer {
	return &answer{status: http.StatusBadGateway, reason: fields.ErrorProxyLoopDetected, details: "the request passed this proxy before"}
}

func errForbidden() *answer {
	return &answer{status: http.StatusForbidden, reason: fields.ErrorHTTPRequestDenied, details: "policy allows no tunnels to this target"}
}

// inspectionRequired is a 470 with what the client needs to decide: evidence of what the origin can do,
// and the modes that this proxy allows it.
func (s *session) inspectionRequired(ctx context.Context, t *Target, up *Upstream, modes []fields.Mode) error {
	why := "the origin picked no itls token"
	if !slices.Contains(modes, fields.Intact) {
		why = "policy allows no intact tunnels to this target"
	}
	a := refusal(modes, why)
	a.protocol = up.State.NegotiatedProtocol
	return s.shown(ctx, t, up, a)
}

func refusal(modes []fields.Mode, why string) *answer {
	return &answer{status: frames.StatusInspectionRequired, reason: fields.ErrorHTTPRequestDenied, details: why, options: modes}
}

// opened is a tunnel on hop 2, and the evidence for it. With a nil stream the origin picked no token.
type opened struct {
	up       *Upstream
	stream   hop.Stream
	evidence []byte
	above    http.Header // what the proxies behind this one say of themselves
}

// open opens the tunnel on up, or on one fresh connection where up turns out to be of no use: because
// the origin is about to close it, or because nothing on it proves anything about this request.
func (s *session) open(ctx context.Context, t *Target, up *Upstream, header http.Header) (*opened, error) {
	o, err := s.try(ctx, t, up, header)
	var retry *hop.RetryError
	switch {
	case err == nil:
		return o, nil
	case errors.As(err, &retry):
		up.retire(false)
	case errors.Is(err, errNothingProven) && !t.Fresh:
		up.retire(true)
	default:
		if wrong := (*evidence.Error)(nil); errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil || errors.As(err, &wrong) {
			// The next CONNECT shall not have to find out again that nobody is there, or somebody else.
			up.retire(false)
		}
		up.Close()
		return nil, err
	}
	up.Close()
	t.Fresh = true
	if up, err = s.dial(ctx, t); err != nil {
		return nil, err
	}
	if up.Session == nil {
		return &opened{up: up}, nil
	}
	if o, err = s.try(ctx, t, up, header); err != nil {
		up.Close()
		return nil, err
	}
	return o, nil
}

var errNothingProven = errors.New("there is no evidence for this request")

func (s *session) try(ctx context.Context, t *Target, up *Upstream, header http.Header) (*opened, error) {
	h := make(http.Header)
	for _, via := range header.Values(fields.Via) {
		h.Add(fields.Via, via)
	}
	fields.AppendVia(h, s.version, s.front.via)
	h.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(t.Request.Raw))
	wait, cancel := context.WithTimeout(ctx, s.run.limits.Handshake)
	defer cancel()
	resp, stream, err := up.Session.Open(wait, &hop.Request{Protocol: frames.Protocol, Authority: t.Authority, Path: "/", Header: h})
	if errors.Is(err, context.DeadlineExceeded) {
		err = &unansweredError{err}
	}
	if err != nil {
		return nil, err
	}
	if stream == nil {
		return nil, &answer{
			status: http.StatusServiceUnavailable, reason: fields.ErrorDestinationUnavailable,
			details:  "the origin refused the tunnel",
			received: resp.Status,
			protocol: up.State.NegotiatedProtocol,
		}
	}
	e, err := s.prove(t, up, resp)
	var p []byte
	if err == nil {
		p, err = e.Append(nil)
	}
	if err != nil {
		stream.Reset(hop.Cancel)
		return nil, err
	}
	return &opened{up: up, stream: stream, evidence: p}, nil
}

// prove returns the strongest evidence for t's request.
func (s *session) prove(t *Target, up *Upstream, resp *hop.Response) (*evidence.Evidence, error) {
	if len(resp.Evidence) > 0 {
		e, err := evidence.FromAuthenticator(resp.Evidence, t.Request, up.State, up.Verified)
		var bad *evidence.Error
		switch {
		case err == nil:
			up.answered()
			e.Time = s.run.now()
			return e, nil
		case !errors.As(err, &bad) || bad.Reason != evidence.ReasonRefused:
			return nil, err
		}
	}
	if up.Transcript == nil {
		return nil, errNothingProven
	}
	return up.Transcript, nil
}

// accepted is what a client is told with a 2xx.
func (s *session) accepted(t *Target, protocol string, proof []byte, above http.Header) *hop.Response {
	h, next := above.Clone(), t.Authority
	if h == nil {
		h = make(http.Header)
	}
	if t.next != nil {
		next = t.next.name
	}
	fields.AppendVia(h, s.version, s.front.via)
	h.Add(fields.ProxyStatusName, fields.ProxyStatus{Proxy: s.front.name, NextHop: next, NextProtocol: protocol}.String())
	return &hop.Response{Status: http.StatusOK, Header: h, Evidence: proof}
}

// blind answers a plain CONNECT: raw TCP where policy lets it, else a 470.
func (s *session) blind(ctx context.Context, in hop.Incoming) error {
	req := in.Request()
	authority, err := lenient(req.Authority)
	if err != nil {
		return badRequest("CONNECT needs host:port", err)
	}
	if fields.HasVia(req.Header, s.front.via) {
		return errLoop()
	}
	if err := s.mayBeBlind(authority); err != nil {
		return err
	}
	t := &Target{Mode: fields.Blind, Authority: authority, Client: s.id, front: s.front, next: s.run.current.Load().next}
	if t.next != nil {
		return s.chainedBlind(ctx, in, t)
	}
	up, err := s.dial(ctx, t)
	if err != nil {
		return err
	}
	if up.Conn == nil {
		up.Close()
		return fmt.Errorf("blind: the dial gave no connection")
	}
	// What an intact tunnel may no longer do is found out at its next request. Here nothing else would.
	if err := s.mayBeBlind(authority); err != nil {
		up.Conn.Close()
		up.Close()
		return err
	}
	stream := raw.NewStream(up.Conn)
	return s.join(in, t, &opened{up: up, stream: stream})
}

// mayBeBlind refuses a blind tunnel to authority where policy does not let it.
func (s *session) mayBeBlind(authority string) error {
	modes, err := s.modes(authority)
	if err != nil {
		return err
	}
	if len(modes) == 0 {
		return errForbidden()
	}
	if slices.Contains(modes, fields.Blind) {
		return nil
	}
	return &answer{
		status: frames.StatusInspectionRequired, reason: fields.ErrorHTTPRequestDenied,
		details: "policy allows no blind tunnels to this target",
		options: modes,
		body:    "To this target the proxy carries tunnels that it can read (" + strings.TrimSpace(fields.FormatOptions(modes)) + ") and no others.",
	}
}

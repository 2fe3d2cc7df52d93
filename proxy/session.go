package proxy

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
	"vitrine/proxy/inspect"
)

// A session is hop 1: a client and its tunnels.
type session struct {
	run    *running
	front  *front
	hop    hop.Session
	dial   DialFunc
	ctx    context.Context // of the session
	cancel context.CancelFunc
	// settingUp ends when no more tunnels shall be set up.
	settingUp context.Context
	settle    context.CancelFunc

	id      string // Target.Client
	own     bool   // id is of this session alone
	party   Party
	version string // of HTTP, as via has it
	log     *slog.Logger
	noise   *throttle // of answers

	setups chan struct{}
	wg     sync.WaitGroup // setups and passages

	keeper *keeper

	mu       sync.Mutex
	passages map[passage]int    // how many looks in a row at which nothing had moved
	killing  *inspect.KillError // for passages to come
}

// A passage is what a session carries: a tunnel, or an exchange in split mode.
type passage interface {
	quiet() bool // nothing has moved since it was asked last
	stale() bool // it has nobody to talk to
	stop(error)  // ends it; only the first call counts
}

// ServeSession serves one hop-1 session whose handshake the caller made, until it ends, and returns why
// it did. When ctx ends it closes the session. dial reaches targets; nil is [Proxy.Dial]. It returns
// when nothing of the session's tunnels is left. The certificate of that handshake must be the one that p
// has now.
func (p *Proxy) ServeSession(ctx context.Context, client hop.Session, dial DialFunc) error {
	r, err := p.start()
	if err != nil {
		client.Close(hop.InternalError, "")
		return err
	}
	if dial == nil {
		dial = p.Dial
	}
	return p.serveSession(ctx, r, r.current.Load().front, client, dial)
}

// serveSession serves a session that was made with f.
func (p *Proxy) serveSession(ctx context.Context, r *running, f *front, client hop.Session, dial DialFunc) error {
	s := &session{
		run:    r,
		front:  f,
		hop:    client,
		dial:   dial,
		noise:  newThrottle(20, 200),
		setups: make(chan struct{}, r.limits.Setups),
		keeper: newKeeper(r),

		passages: make(map[passage]int),
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer s.cancel()
	s.settingUp, s.settle = context.WithCancel(s.ctx)
	if !r.addSession(s) {
		client.Close(hop.NoError, "closing")
		<-client.Done()
		return ErrServerClosed
	}
	defer r.removeSession(s)
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		s.sweep(r.limits.TunnelIdle)
	}()
	err := s.accept()
	s.cancel()
	client.Close(hop.NoError, "")
	<-client.Done()
	s.wg.Wait()
	s.keeper.close()
	<-swept
	if s.own {
		r.pool.leaveClient(s.id)
	}
	return err
}

// accept hands each request to a goroutine of its own, which ends when the request is answered.
func (s *session) accept() error {
	for known := false; ; {
		in, err := s.hop.Accept(s.ctx)
		if err != nil {
			return err
		}
		if !known {
			s.know()
			known = true
		}
		select {
		case s.setups <- struct{}{}:
		case <-in.Context().Done():
			in.Refuse(hop.Cancel)
			continue
		case <-s.settingUp.Done():
			in.Refuse(hop.RefusedStream)
			continue
		case <-s.front.retired:
			in.Refuse(hop.RefusedStream)
			continue
		}
		if s.front.isRetired() {
			<-s.setups
			in.Refuse(hop.RefusedStream)
			continue
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer func() { <-s.setups }()
			s.serve(in)
		}()
	}
}

// know reads who the client is, once the session's first request says that Peer is complete.
func (s *session) know() {
	peer := s.hop.Peer()
	if peer.Remote != nil {
		s.party.Addr = peer.Remote.String()
	}
	if leaf := peer.PeerCertificate(); leaf != nil {
		s.id = byCertificate(leaf)
		s.party.Subject = leaf.Subject.String()
		s.party.SPKI = pki.SPKIHash(leaf)
	}
	// Behind another proxy's certificate are many clients, which it gives a connection each.
	if leaf := peer.PeerCertificate(); leaf == nil || pki.RefuseProxyAsOrigin(leaf) != nil {
		s.id = fmt.Sprintf("session %d", s.run.nextSerial())
		s.own = true
	}
	s.version = "2"
	if alpn := peer.TLS.NegotiatedProtocol; alpn == "http/1.1" || alpn == "" {
		s.version = "1.1"
	}
	s.log = s.run.log.With("client", s.party.Addr)
	if s.party.Subject != "" {
		s.log = s.log.With("subject", s.party.Subject)
	}
}

// byCertificate is the id of a client that showed leaf.
func byCertificate(leaf *x509.Certificate) string {
	hash := pki.LeafHash(leaf)
	return "certificate " + hex.EncodeToString(hash[:])
}

// serve answers one request.
func (s *session) serve(in hop.Incoming) {
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	defer context.AfterFunc(s.settingUp, cancel)()
	req := in.Request()
	var err error
	switch {
	case req.Protocol == frames.Protocol:
		err = s.intact(ctx, in)
	case req.Protocol != "":
		err = &answer{
			status: http.StatusNotImplemented, reason: fields.ErrorProxyInternalResponse,
			details: "this :protocol is not known here",
		}
	case req.Method == "" || req.Method == http.MethodConnect:
		err = s.blind(ctx, in)
	default:
		err = s.plain(ctx, in)
	}
	if err == nil {
		return
	}
	if ctx.Err() != nil {
		in.Refuse(hop.RefusedStream)
		return
	}
	s.reject(in, answerTo(err))
}

func (s *session) reject(in hop.Incoming, a *answer) {
	if err := in.Reject(s.answered(in.Request(), a)); err != nil {
		s.unanswered(in, err)
	}
}

// answered is a on its way to a client, and in the log.
func (s *session) answered(req *hop.Request, a *answer) *hop.Response {
	level, target := slog.LevelInfo, ""
	if req.Protocol != "" || req.Method == "" || req.Method == http.MethodConnect || len(req.Header.Values(fields.EvidenceID)) > 0 {
		level, target = slog.LevelWarn, oneLine(req.Authority)
	}
	attrs := []slog.Attr{slog.String("authority", oneLine(req.Authority)), slog.Int("status", a.status)}
	if req.Method != "" && req.Method != http.MethodConnect {
		attrs = append(attrs, slog.String("method", oneLine(req.Method)))
	}
	if a.reason != "" {
		attrs = append(attrs, slog.String("error", a.reason))
	}
	if why := a.Error(); why != "" {
		attrs = append(attrs, slog.String("why", oneLine(why)))
	}
	s.noise.log(s.ctx, s.log, level, "answered", attrs...)
	return a.response(s.front, s.version, target)
}

// unanswered ends a request whose answer could not be sent: because the client is gone, or takes no
// header list as large as the answer's.
func (s *session) unanswered(in hop.Incoming, err error) {
	in.Refuse(hop.InternalError)
	s.log.LogAttrs(s.ctx, slog.LevelDebug, "answer not sent",
		slog.String("authority", oneLine(in.Request().Authority)), slog.String("why", oneLine(err.Error())))
}

// plain answers what is no CONNECT: an exchange in split mode where the request names evidence, else a page.
func (s *session) plain(ctx context.Context, in hop.Incoming) error {
	req := in.Request()
	if r, ok := in.(hop.IncomingRequest); ok && len(req.Header.Values(fields.EvidenceID)) > 0 {
		return s.split(ctx, r)
	}
	return s.ordinary(req)
}

// ordinary answers what is no CONNECT and names no evidence. The proxy's own name has one page, for people and
// for load generators that want a 2xx; nothing is fetched on behalf of a client that did not say that it
// knows who reads.
func (s *session) ordinary(req *hop.Request) *answer {
	host := req.Authority
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	switch {
	case s.front.leaf.VerifyHostname(host) != nil:
		return &answer{
			status: http.StatusMisdirectedRequest, reason: fields.ErrorHTTPRequestDenied,
			details: "this proxy takes CONNECT only",
		}
	case req.Method != http.MethodGet && req.Method != http.MethodHead, req.Path != "/" && req.Path != "":
		return &answer{status: http.StatusNotFound, reason: fields.ErrorProxyInternalResponse, details: "there is nothing here"}
	}
	return &answer{status: http.StatusOK, body: s.front.name + " is a Vitrine proxy: it can read and end what passes, and change nothing."}
}

// sweep ends passages on which nothing moves for idle, and drains the session once its front is retired.
func (s *session) sweep(idle time.Duration) {
	// Each is looked at four times in that time, so it ends at most a quarter too late.
	const looks = 4
	ticker := time.NewTicker(max(idle/looks, time.Millisecond))
	defer ticker.Stop()
	var drain sync.WaitGroup
	defer drain.Wait()
	retired := s.front.retired
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-retired:
			retired = nil
			drain.Go(func() { s.hop.Drain(s.ctx) })
			continue
		case <-ticker.C:
		}
		s.mu.Lock()
		var stop []passage
		for p, looked := range s.passages {
			if looked++; !p.quiet() {
				looked = 0
			}
			s.passages[p] = looked
			if looked >= looks || p.stale() {
				stop = append(stop, p)
			}
		}
		s.mu.Unlock()
		for _, p := range stop {
			p.stop(errIdle)
		}
	}
}

var errIdle = errors.New("nothing moved for too long")

// add counts p as one of the session's. It returns why p is to be killed, nil for not.
func (s *session) add(p passage) *inspect.KillError {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passages[p] = 0
	s.wg.Add(1)
	return s.killing
}

func (s *session) remove(p passage) {
	s.mu.Lock()
	delete(s.passages, p)
	s.mu.Unlock()
	s.wg.Done()
}

// killAll kills the passages, those to come included.
func (s *session) killAll(kill *inspect.KillError) {
	s.mu.Lock()
	s.killing = kill
	all := slices.Collect(maps.Keys(s.passages))
	s.mu.Unlock()
	s.settle()
	for _, p := range all {
		p.stop(kill)
	}
}

// lenient reads the authority of a plain CONNECT, which comes from clients that have not heard of one
// canonical spelling.
func lenient(authority string) (string, error) {
	host, digits, err := net.SplitHostPort(authority)
	if err != nil {
		return "", err
	}
	port, err := strconv.ParseUint(digits, 10, 16) // unlike Atoi it takes no sign
	if err != nil {
		return "", err
	}
	return fields.CanonicalAuthority(host, int(port))
}

package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
	"vitrine/internal/verdict"
	"vitrine/proxy/inspect"
)

// A tunnel is what one accepted CONNECT became.
type tunnel struct {
	session *session
	target  *Target
	up      *Upstream
	join    *join
	started time.Time
}

func (t *tunnel) quiet() bool    { return t.join.idle() }
func (t *tunnel) stale() bool    { return t.join.stale() }
func (t *tunnel) stop(err error) { t.join.stop(err) }

// join accepts in and sets its tunnel going.
func (s *session) join(in hop.Incoming, t *Target, o *opened) error {
	client, err := in.Accept(s.accepted(t, o.up.State.NegotiatedProtocol, o.evidence, o.above))
	if err != nil {
		o.stream.Reset(hop.Cancel)
		if o.up.Conn != nil {
			<-o.stream.Session().Done()
		}
		o.up.Close()
		s.unanswered(in, err)
		return nil
	}
	tn := &tunnel{session: s, target: t, up: o.up, started: time.Now()}
	policy := &s.run.current.Load().policy
	tn.join = newJoin(client, o.stream, s.mayHold(policy), func(err error) { go tn.finish(err) })
	tn.join.reader = tn.reader(policy)
	if kill := s.add(tn); kill != nil {
		tn.join.stop(kill)
		return nil
	}
	tn.join.start()
	return nil
}

// reader makes what decides about the tunnel's bytes.
func (t *tunnel) reader(policy *Policy) reader {
	if t.target.Mode == fields.Blind {
		return new(unread)
	}
	s := t.session
	origin := Party{}
	if peer := t.up.Session.Peer(); peer != nil && peer.Remote != nil && t.target.next == nil {
		origin.Addr = peer.Remote.String()
	}
	if certs := t.up.State.PeerCertificates; len(certs) > 0 && t.target.next == nil {
		origin.Subject, origin.SPKI = certs[0].Subject.String(), pki.SPKIHash(certs[0])
	}
	var judge *settings // of the exchange that begins; the tunnel's lock guards it
	return inspect.NewTunnel(&inspect.Config{
		Authority: t.target.Authority,
		Nonce:     t.target.Request.Nonce,
		Proxies:   t.target.Request.Offer.Proxies,
		Client:    s.party,
		Proxy:     s.front.party,
		Origin:    origin,
		Admit: func() *inspect.KillError {
			judge = s.run.current.Load()
			return judge.admit(t.target.Authority)
		},
		Inspectors: func() []Inspector { return judge.inspectors },
		Limits:     s.run.limits.inspect(policy),
		Log:        func(p inspect.Passed) { s.logPassed(t.target, p) },
		Release:    t.join.release,
		Kill:       func(e *inspect.KillError) { t.join.stop(e) },
		Time:       s.run.now,
	})
}

// rulePolicyMode is the rule of a kill by admit. It is stable.
const rulePolicyMode = "policy-mode"

// admit kills an intact tunnel whose host may no longer be intact.
func (st *settings) admit(authority string) *inspect.KillError {
	if st.policy.allows(authority, fields.Intact) {
		return nil
	}
	return &inspect.KillError{
		Reason: frames.ReasonPolicy, Direction: frames.ToOrigin, Rule: rulePolicyMode,
		Detail: "policy allows no intact tunnels to this target any more",
	}
}

// finish ends what is left of the tunnel. It runs on a goroutine of its own, because signing and
// Inspections may take a while, and a hop's goroutine serves every tunnel of the hop.
func (t *tunnel) finish(err error) {
	t.end(err)
	t.join.reader.Close(err)
	t.join.reader.Wait()
	if t.up.Conn != nil {
		t.outlive(t.join.origin())
	}
	t.up.Close()
	t.logEnd(err)
	t.session.remove(t)
}

// outlive waits until a blind tunnel's connection to the origin has written what it still had.
func (t *tunnel) outlive(origin hop.Stream) {
	done := origin.Session().Done()
	select {
	case <-done:
	case <-t.session.run.life.Done():
		origin.Reset(hop.Cancel)
		<-done
	}
}

// end ends both streams, as err demands.
func (t *tunnel) end(err error) {
	sent := t.join.drop()
	client, origin := t.join.client(), t.join.origin()
	var kill *inspect.KillError
	var gone *endError
	switch {
	case err == nil:
	case errors.As(err, &kill) && t.target.Mode != fields.Blind:
		forClient, forOrigin, err := t.verdicts(kill, sent)
		if err != nil {
			t.session.log.Error("verdict not signed", "authority", t.target.Authority, "why", oneLine(err.Error()))
			client.Reset(hop.Killed)
			origin.Reset(hop.Killed)
			return
		}
		client.Kill(forClient)
		origin.Kill(forOrigin)
	case errors.As(err, &gone) && t.passKill(gone, client, origin, sent):
	case errors.As(err, &gone) && gone.from == frames.ToClient:
		// As for a TCP connection that broke (RFC 9113, section 8.5).
		client.Reset(hop.ConnectError)
		origin.Reset(hop.Cancel)
	default:
		client.Reset(hop.Cancel)
		origin.Reset(hop.Cancel)
	}
}

// verdicts signs the kill, once for each end.
func (t *tunnel) verdicts(kill *inspect.KillError, sent [2]int64) (forClient, forOrigin []byte, err error) {
	s := t.session
	tbs := s.verdict(t.target, kill, sent)
	if forClient, err = verdict.Sign(&s.front.certificate, tbs); err != nil {
		return nil, nil, fmt.Errorf("for the client: %w", err)
	}
	if s.run.current.Load().policy.TellOrigins {
		return forClient, forClient, nil
	}
	tbs.Rule, tbs.Detail = "", ""
	if forOrigin, err = verdict.Sign(&s.front.certificate, tbs); err != nil {
		return nil, nil, fmt.Errorf("for the origin: %w", err)
	}
	return forClient, forOrigin, nil
}

// verdict is what a kill of t says, after sent bytes in each direction.
func (s *session) verdict(t *Target, kill *inspect.KillError, sent [2]int64) *frames.VerdictTBS {
	return &frames.VerdictTBS{
		ProxyLeaf:        s.front.hash,
		Nonce:            t.Request.Nonce,
		Authority:        t.Authority,
		Time:             s.run.now(),
		Direction:        kill.Direction,
		ReleasedToOrigin: uint64(sent[frames.ToOrigin]),
		ReleasedToClient: uint64(sent[frames.ToClient]),
		Reason:           kill.Reason,
		Rule:             frames.CleanText(kill.Rule, 255),
		Detail:           frames.CleanText(kill.Detail, 1024),
	}
}

// maxLoggedPath keeps a client from writing our disk full with long paths.
const maxLoggedPath = 1024

// logPassed says what passed. It is called for each exchange, with the reader's lock held.
func (s *session) logPassed(t *Target, p inspect.Passed) {
	attrs := []slog.Attr{slog.String("authority", t.Authority)}
	if t.Mode == fields.Split {
		attrs = append(attrs, slog.String("mode", string(t.Mode)))
	}
	attrs = append(attrs,
		slog.String("method", oneLine(p.Method)),
		slog.String("path", frames.CleanText(p.Path, maxLoggedPath)),
		slog.Int("status", p.Status),
		slog.Int64("to_origin", p.ToOrigin),
		slog.Int64("to_client", p.ToClient),
		slog.Duration("took", s.run.now().Sub(p.Started)))
	if p.Err != nil {
		attrs = append(attrs, slog.String("ended", oneLine(p.Err.Error())))
	}
	s.log.LogAttrs(s.ctx, slog.LevelInfo, "passed", attrs...)
}

// logEnd says how the tunnel ended, where that is worth a line.
func (t *tunnel) logEnd(err error) {
	attrs := []slog.Attr{
		slog.String("authority", t.target.Authority),
		slog.String("mode", string(t.target.Mode)),
		slog.Int64("to_origin", t.join.halves[frames.ToOrigin].count()),
		slog.Int64("to_client", t.join.halves[frames.ToClient].count()),
		slog.Duration("took", time.Since(t.started)),
	}
	var kill *inspect.KillError
	switch {
	case errors.As(err, &kill):
		t.session.logKilled(kill, attrs)
	case t.target.Mode == fields.Blind:
		if err != nil {
			attrs = append(attrs, slog.String("ended", oneLine(err.Error())))
		}
		t.session.log.LogAttrs(t.session.ctx, slog.LevelInfo, "passed unread", attrs...)
	case err != nil:
		attrs = append(attrs, slog.String("ended", oneLine(err.Error())))
		t.session.log.LogAttrs(t.session.ctx, slog.LevelDebug, "tunnel ended early", attrs...)
	default:
		t.session.log.LogAttrs(t.session.ctx, slog.LevelDebug, "tunnel ended", attrs...)
	}
}

func (s *session) logKilled(kill *inspect.KillError, attrs []slog.Attr) {
	attrs = append(attrs,
		slog.String("reason", kill.Reason.String()),
		slog.String("direction", kill.Direction.String()),
		slog.String("rule", oneLine(kill.Rule)),
		slog.String("detail", oneLine(kill.Detail)))
	if panicked := (*inspect.PanicError)(nil); errors.As(kill.Err, &panicked) {
		// Whoever runs the inspector has to find the fault, and neither end is told.
		attrs = append(attrs, slog.String("panic", oneLine(panicked.Error())), slog.String("stack", string(panicked.Stack)))
	}
	s.log.LogAttrs(s.ctx, slog.LevelWarn, "killed", attrs...)
}

package proxy

import (
	"errors"
	"log/slog"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/verdict"
	"vitrine/proxy/inspect"
)

// passKill passes on that another proxy of the path killed the tunnel, and reports whether that is what happened.
// Towards the client a verdict goes on as it is: the client knows every proxy of the path. Towards the origin each
// proxy signs its own, since a receiver there knows its neighbour alone.
func (t *tunnel) passKill(gone *endError, client, origin hop.Stream, sent [2]int64) bool {
	var reset *hop.ResetError
	if t.target.Mode == fields.Blind || !errors.As(gone.err, &reset) || !reset.Remote || reset.Code != hop.Killed {
		return false
	}
	if gone.from == frames.ToClient {
		if t.target.next == nil { // origins do not kill
			return false
		}
		if len(reset.Verdict) > 0 {
			client.Kill(reset.Verdict)
		} else {
			client.Reset(hop.Killed)
		}
		origin.Reset(hop.Cancel)
		return true
	}
	before := t.session.hop.Peer().PeerCertificate()
	if t.target.place == 0 || before == nil { // nor do clients
		return false
	}
	tbs, err := verdict.Verify(reset.Verdict, verdict.Expect{
		Proxy: before, Nonce: t.target.Request.Nonce, Authority: t.target.Authority, CheckLeaf: true,
	})
	if err == nil {
		var forOrigin []byte
		kill := &inspect.KillError{Reason: tbs.Reason, Direction: tbs.Direction, Rule: tbs.Rule, Detail: tbs.Detail}
		if _, forOrigin, err = t.verdicts(kill, sent); err == nil {
			client.Reset(hop.Cancel)
			origin.Kill(forOrigin)
			return true
		}
	}
	t.session.log.LogAttrs(t.session.ctx, slog.LevelInfo, "killed before this proxy, for no reason that holds",
		slog.String("authority", t.target.Authority), slog.String("why", oneLine(err.Error())))
	return false
}

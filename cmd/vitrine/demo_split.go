package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"vitrine/client"
	"vitrine/internal/fields"
	"vitrine/internal/hostile"
)

// splitSteps are for the origins that do not speak inner sessions, where the user gives up what they cannot have.
func splitSteps() []demoStep {
	steps := []demoStep{
		{name: "attested", title: "That origin, where the user accepts that the proxy could change what it reads", run: stepAttested},
		{name: "signed", title: "An origin without inner sessions that signs its responses", run: stepSigned},
		{name: "claimed", title: "An origin of TLS 1.2 with RSA key exchange, of which nothing can be shown", run: stepClaimed},
	}
	for _, mode := range hostile.Modes() {
		if mode.Split() {
			steps = append(steps, demoStep{
				name: string(mode), title: fmt.Sprintf("A proxy that lies (%s): it %s", mode, mode.About()), lie: true,
				run: func(ctx context.Context, st *stage) (sights, error) { return stepSplitLie(ctx, st, mode) },
			})
		}
	}
	return steps
}

// serveSplit starts a proxy that allows split, and returns a transport through it for a user who accepts levels.
func (st *stage) serveSplit(ctx context.Context, levels ...client.Level) (*client.Transport, error) {
	tr, _, err := st.serveProxy(ctx, fields.Intact, fields.Split)
	if err != nil {
		return nil, err
	}
	tr.Levels = levels
	return tr, nil
}

// readBelow fetches a copy from host for a user who has accepted levels, and looks at what the proxy read.
func (st *stage) readBelow(ctx context.Context, saw *sights, host string, levels ...client.Level) (*client.Report, error) {
	tr, err := st.serveSplit(ctx, levels...)
	if err != nil {
		return nil, err
	}
	resp, body, err := get(ctx, tr, host, "/copy")
	if err != nil {
		return nil, err
	}
	rep := client.ReportOf(resp)
	if rep == nil || rep.Evidence == nil {
		return nil, errors.New("the response has no complete report")
	}
	e := rep.Evidence
	saw.add("client", "evidence %s, verified: %t, for %s; hop 2 as the proxy has it: %s, %s", e.Kind, e.Verified, e.OriginSubject, e.Hop.Version, noALPN(e.Hop.ALPN))
	saw.add("client", "level %s: %s", rep.Level, rep.Level.Words())
	s, err := st.sighting(ctx, "/copy")
	if err != nil {
		return rep, err
	}
	saw.add("proxy", "read %s /copy, status %d, %d bytes", s.method, s.status, s.bytes)
	return rep, errors.Join(
		check(string(body) == st.last(), "the client got %q, the origin sent %q", body, st.last()),
		check(string(s.content) == string(body), "the proxy read %q", s.content),
		check(rep.Inner == nil, "there is an inner session: %+v", rep.Inner),
		check(strings.Contains(strings.ToLower(strings.Join(resp.Header.Values("Via"), ",")), glassHost), "via %q", resp.Header.Values("Via")),
	)
}

// noALPN is a name that may be empty.
func noALPN(s string) string {
	if s == "" {
		return "no ALPN"
	}
	return s
}

func stepAttested(ctx context.Context, st *stage) (saw sights, err error) {
	tr, err := st.serveSplit(ctx)
	if err != nil {
		return nil, err
	}
	_, _, err = get(ctx, tr, stockHost, "/copy")
	var level *client.LevelError
	if !errors.As(err, &level) {
		return nil, fmt.Errorf("without the user's say: no LevelError: %w", err)
	}
	saw.add("client", "%v", level)
	rep, err := st.readBelow(ctx, &saw, stockHost, client.Intact, client.Attested)
	if err != nil {
		return saw, err
	}
	return saw, errors.Join(
		check(slices.Contains(level.Offered, "split"), "on offer: %v", level.Offered),
		check(rep.Level == client.Attested, "level %q", rep.Level),
		check(rep.Evidence.Kind == "transcript" && rep.Evidence.Verified && rep.Evidence.Hop.ALPN == "h2", "evidence %+v", rep.Evidence),
		check(rep.Signature == nil, "a signature from nowhere: %+v", rep.Signature),
	)
}

func stepSigned(ctx context.Context, st *stage) (saw sights, err error) {
	rep, err := st.readBelow(ctx, &saw, signHost, client.Intact, client.Signed)
	if err != nil {
		return saw, err
	}
	sig := rep.Signature
	if sig == nil {
		return saw, errors.New("the report has no signature")
	}
	saw.add("origin", "signed %s for this request, with the key that its evidence shows (SPKI SHA-256 %.16s...)", strings.Join(sig.Covered, " "), sig.KeyID)
	return saw, errors.Join(
		check(rep.Level == client.Signed, "level %q", rep.Level),
		check(sig.Verified && sig.Fresh && sig.ReplayableUntil.IsZero(), "signature %+v", sig),
		check(sig.KeyID == rep.Evidence.OriginSPKI, "signed by %s, evidence of %s", sig.KeyID, rep.Evidence.OriginSPKI),
	)
}

func stepClaimed(ctx context.Context, st *stage) (saw sights, err error) {
	tr, err := st.serveSplit(ctx, client.Intact, client.Attested)
	if err != nil {
		return nil, err
	}
	_, _, err = get(ctx, tr, oldHost, "/copy")
	var level *client.LevelError
	if !errors.As(err, &level) {
		return nil, fmt.Errorf("to a user who accepts attested: no LevelError: %w", err)
	}
	saw.add("client", "%v", level)
	// Beside intact it would not do: any proxy could claim that there is no better.
	rep, err := st.readBelow(ctx, &saw, oldHost, client.Claimed)
	if err != nil {
		return saw, err
	}
	return saw, errors.Join(
		check(rep.Level == client.Claimed, "level %q", rep.Level),
		check(rep.Evidence.Kind == "claim" && !rep.Evidence.Verified, "evidence %+v", rep.Evidence),
	)
}

// stepSplitLie shows the same lie to a user who accepts attested and to one who wants signed responses.
func stepSplitLie(ctx context.Context, st *stage, mode hostile.Mode) (saw sights, err error) {
	fetch := func(host string, level client.Level) (*client.Report, string, error) {
		tr, strikes, err := st.serveLiar(ctx, mode, fields.Intact, fields.Split)
		if err != nil {
			return nil, "", err
		}
		tr.Levels = []client.Level{level}
		resp, body, err := get(ctx, tr, host, "/copy")
		select {
		case strike := <-strikes:
			if strike.Mode != mode || len(strikes) > 0 {
				return nil, "", fmt.Errorf("it lied more than once, or in another way: %+v", strike)
			}
		default:
			return nil, "", fmt.Errorf("the proxy did not lie: %q, %v", body, err)
		}
		return client.ReportOf(resp), string(body), err
	}
	rep, body, err := fetch(stockHost, client.Attested)
	if err != nil {
		return nil, fmt.Errorf("at attested: %w", err)
	}
	saw.add("client", "at attested: exit status 0, and nothing shows that %q is not what the origin sent: this level proves no content", strings.TrimSpace(body))
	failures := []error{
		check(rep != nil && rep.Level == client.Attested, "report %+v", rep),
		check(body != st.last(), "the lie is the truth: %q", body),
	}
	_, body, err = fetch(signHost, client.Signed)
	code := exitCode(err)
	saw.add("client", "at signed:   exit status %d, %d bytes delivered: %v", code, len(body), err)
	return saw, errors.Join(append(failures,
		check(code == exitIntegrity, "exit status %d, want %d: %v", code, exitIntegrity, err),
		check(body == "" || strings.HasPrefix(st.last(), body), "the client delivered %q", body),
	)...)
}

// copies answers with a page that is never the same twice, and keeps it for the steps to compare.
func (st *stage) copies(w http.ResponseWriter, _ *http.Request) {
	st.mu.Lock()
	st.copied++
	text := fmt.Sprintf("The vase costs 100 crowns. This is copy %d of the price list.\n", st.copied)
	st.copy = text
	st.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, text)
}

// last is the copy that was served last.
func (st *stage) last() string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.copy
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"vitrine/client"
	"vitrine/internal/fields"
)

func demoSteps() []demoStep {
	steps := []demoStep{
		{name: "intact", title: "An inspected fetch from an origin that enables the token", run: stepIntact},
		{name: "kill", title: "A page that the proxy kills, while a sibling download on the same connection goes on", run: stepKill},
		{name: "stock", title: "An origin that has never heard of us", run: stepStock},
		{name: "blind", title: "The same origin, where the proxy allows blind and the user says so", run: stepBlind},
	}
	return slices.Concat(steps, splitSteps(), lieSteps())
}

// get fetches a path of host through tr, whole.
func get(ctx context.Context, tr http.RoundTripper, host, path string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// check returns an error that says what does not hold, and nil when ok.
func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func stepIntact(ctx context.Context, st *stage) (saw sights, err error) {
	tr, _, err := st.serveProxy(ctx, fields.Intact)
	if err != nil {
		return nil, err
	}
	resp, body, err := get(ctx, tr, shopHost, "/page")
	if err != nil {
		return nil, err
	}
	rep := client.ReportOf(resp)
	if rep == nil || rep.Evidence == nil || rep.Inner == nil {
		return nil, errors.New("the response has no complete report")
	}
	sum := sha256.Sum256(body)
	saw.add("client", "level %s, confirmed by the origin: %t; end to end %s with %s", rep.Level, rep.Inner.Confirmed, rep.Inner.Suite, rep.Inner.Group)
	saw.add("client", "evidence %s, verified: %t, for %s", rep.Evidence.Kind, rep.Evidence.Verified, rep.Evidence.OriginSubject)
	saw.add("client", "%d bytes, SHA-256 %x", len(body), sum[:8])
	// The exchange is over for the proxy when the tunnel is.
	tr.CloseIdleConnections()
	s, err := st.sighting(ctx, "/page")
	if err != nil {
		return saw, err
	}
	saw.add("proxy", "read %s /page, status %d, %d bytes, SHA-256 %x: %q", s.method, s.status, s.bytes, s.hash[:8], bytes.TrimSpace(s.content))
	info := <-st.reader
	if info == nil || info.ProxyCertificate == nil {
		return saw, errors.New("the origin does not know who read the exchange")
	}
	saw.add("origin", "knows that it was read by %s", info.ProxyCertificate.Subject)
	return saw, errors.Join(
		check(string(body) == pageText, "the client got %q", body),
		check(rep.Level == client.Intact, "level %q", rep.Level),
		check(rep.Inner.Confirmed, "the origin did not confirm proxy and hop"),
		check(rep.Evidence.Verified && rep.Evidence.Kind == "authenticator", "evidence %+v", rep.Evidence),
		check(s.hash == sum && s.bytes == len(body), "the proxy read something else than arrived"),
		check(info.ProxyCertificate.Equal(st.proxyCert.Leaf), "the origin knows another reader"),
	)
}

func stepKill(ctx context.Context, st *stage) (saw sights, err error) {
	tr, connections, err := st.serveProxy(ctx, fields.Intact)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+shopHost+"/big", nil)
	if err != nil {
		return nil, err
	}
	sibling, err := tr.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("the sibling: %w", err)
	}
	defer sibling.Body.Close()
	first := make([]byte, bigSize/2)
	if _, err := io.ReadFull(sibling.Body, first); err != nil {
		return nil, fmt.Errorf("the sibling: %w", err)
	}
	saw.add("client", "has half of a download of %d bytes on one tunnel", bigSize)

	_, body, err := get(ctx, tr, shopHost, "/secret")
	var killed *client.KilledError
	if !errors.As(err, &killed) {
		return saw, fmt.Errorf("/secret was not killed: %q, %w", body, err)
	}
	saw.add("client", "%v (signature verified: %t)", killed, killed.SignatureVerified)
	s, err := st.sighting(ctx, "/secret")
	if err != nil {
		return saw, err
	}
	saw.add("proxy", "read %d bytes of /secret and released none of them", s.bytes)

	st.open()
	rest, err := io.ReadAll(sibling.Body)
	if err != nil {
		return saw, fmt.Errorf("the sibling: %w", err)
	}
	saw.add("client", "has the whole download; connections to the proxy: %d", connections())
	return saw, errors.Join(
		check(killed.Rule == killRule && killed.Reason == killReason && killed.SignatureVerified, "the verdict says %+v", killed),
		check(!bytes.Contains(body, []byte(forbidden)), "%q got out", body),
		check(string(s.content) == secretText, "the proxy read %q", s.content),
		check(bytes.Equal(append(first, rest...), bigText()), "the sibling's bytes differ"),
		check(connections() == 1, "the sibling was on another connection"),
	)
}

func stepStock(ctx context.Context, st *stage) (saw sights, err error) {
	tr, _, err := st.serveProxy(ctx, fields.Intact)
	if err != nil {
		return nil, err
	}
	_, body, err := get(ctx, tr, stockHost, "/page")
	var level *client.LevelError
	if !errors.As(err, &level) {
		return nil, fmt.Errorf("no LevelError: %q, %w", body, err)
	}
	if level.Report == nil || level.Report.Evidence == nil {
		return nil, errors.New("the refusal came without evidence")
	}
	e := level.Report.Evidence
	saw.add("origin", "is net/http as it ships; it picked no inspection token")
	saw.add("proxy", "answered 470 and signed nothing itself; it allows %v", level.Offered)
	saw.add("client", "evidence %s, verified: %t, for %s: the origin's own handshake signature", e.Kind, e.Verified, e.OriginSubject)
	saw.add("client", "%v", level)
	return saw, errors.Join(
		check(e.Kind == "transcript" && e.Verified, "evidence %+v", e),
		check(slices.Equal(level.Offered, []string{"intact"}), "on offer: %v", level.Offered),
		check(len(st.reader) == 0, "a request reached the origin"),
	)
}

func stepBlind(ctx context.Context, st *stage) (saw sights, err error) {
	tr, _, err := st.serveProxy(ctx, fields.Intact, fields.Blind)
	if err != nil {
		return nil, err
	}
	_, _, err = get(ctx, tr, stockHost, "/page")
	var level *client.LevelError
	if !errors.As(err, &level) {
		return nil, fmt.Errorf("without the user's say: no LevelError: %w", err)
	}
	saw.add("client", "%v", level)
	tr.CloseIdleConnections()

	willing, _, err := st.serveProxy(ctx, fields.Intact, fields.Blind)
	if err != nil {
		return saw, err
	}
	willing.Levels = []client.Level{client.Intact, client.Blind}
	resp, body, err := get(ctx, willing, stockHost, "/page")
	if err != nil {
		return saw, err
	}
	info := <-st.reader
	rep := client.ReportOf(resp)
	if rep == nil || rep.Evidence == nil || rep.Inner == nil {
		return saw, errors.New("the response has no complete report")
	}
	saw.add("client", "with the user's say: level %s, %s to the origin, %d bytes", rep.Level, rep.Inner.Suite, len(body))
	saw.add("proxy", "carried it and read nothing")
	return saw, errors.Join(
		check(slices.Contains(level.Offered, "blind"), "on offer: %v", level.Offered),
		check(rep.Level == client.Blind, "level %q", rep.Level),
		check(rep.Evidence.Kind == "transcript" && rep.Evidence.Verified, "evidence %+v", rep.Evidence),
		check(string(body) == pageText, "the client got %q", body),
		check(st.watch.take("/page") == nil, "the proxy read the page"),
		check(info == nil, "the origin believes that it was inspected"),
	)
}

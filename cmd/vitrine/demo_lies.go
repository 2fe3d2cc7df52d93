package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vitrine/client"
	"vitrine/internal/fields"
	"vitrine/internal/hostile"
)

// lieSteps has a step for each way in which a proxy can lie about a tunnel.
func lieSteps() []demoStep {
	var steps []demoStep
	for _, mode := range hostile.Modes() {
		if mode.Split() {
			continue
		}
		steps = append(steps, demoStep{
			name: string(mode), title: fmt.Sprintf("A proxy that lies (%s): it %s", mode, mode.About()), lie: true,
			run: func(ctx context.Context, st *stage) (sights, error) { return stepLie(ctx, st, mode) },
		})
	}
	return steps
}

// caughtAs is the exit status of a fetch through a proxy that lies in the way of mode.
func caughtAs(mode hostile.Mode) int {
	switch mode {
	case hostile.ModeSwapCert:
		return exitOriginTrust
	case hostile.ModeStripToken:
		return exitLevel
	case hostile.ModeFalseVerdict:
		return exitKilled
	case hostile.ModeNoAnswer:
		return exitOK // it is as safe, and said to be less
	}
	return exitIntegrity
}

func stepLie(ctx context.Context, st *stage, mode hostile.Mode) (saw sights, err error) {
	tr, strikes, err := st.serveLiar(ctx, mode, fields.Intact)
	if err != nil {
		return nil, err
	}
	resp, body, err := get(ctx, tr, shopHost, "/page")
	code := exitCode(err)
	var strike hostile.Strike
	select {
	case strike = <-strikes:
	default:
		return nil, fmt.Errorf("the proxy did not lie: %q, %v", body, err)
	}
	failures := []error{
		check(code == caughtAs(mode), "exit status %d, want %d: %v", code, caughtAs(mode), err),
		check(strike.Mode == mode && len(strikes) == 0, "it lied more than once, or in another way: %+v", strike),
		check(strings.HasPrefix(pageText, string(body)), "the client delivered %q", body),
	}
	var killed *client.KilledError
	switch {
	case err != nil:
		saw.add("client", "exit status %d, %d bytes delivered: %v", code, len(body), err)
		failures = append(failures, check(!errors.As(err, &killed) || !killed.SignatureVerified, "the verdict counts as signed"))
	default:
		rep := client.ReportOf(resp)
		if rep == nil || rep.Evidence == nil || rep.Inner == nil {
			return saw, errors.Join(append(failures, errors.New("the response has no complete report"))...)
		}
		saw.add("client", "exit status 0: every byte is the origin's; confirmed by the origin: %t, evidence %s", rep.Inner.Confirmed, rep.Evidence.Kind)
		failures = append(failures,
			check(string(body) == pageText, "the client got %q", body),
			check(!rep.Inner.Confirmed && rep.Evidence.Kind == "transcript", "report %+v %+v", rep.Inner, rep.Evidence),
		)
	}
	return saw, errors.Join(failures...)
}

package testnet

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/proxy"
)

// lying has the lab's client go through a proxy that lies as mode says. struck returns the lies so far.
func (l *lab) lying(mode hostile.Mode) (struck func() int) { return l.lyingWith(mode, nil) }

// lyingWith is lying with a proxy that change has changed.
func (l *lab) lyingWith(mode hostile.Mode, change func(p *proxy.Proxy)) (struck func() int) {
	l.Helper()
	const host = "liar.example"
	var mu sync.Mutex
	strikes := 0
	liar := &hostile.Liar{
		Proxy: &proxy.Proxy{
			Certificate: l.certificate(l.Proxies.Proxy(host)), Roots: l.Origins.Pool().CertPool, Targets: l.Net.Proxy.Targets,
			Limits: proxy.Limits{Hop: hop.Limits{Resets: hop.Rate{PerSecond: 1e6, Burst: 1e6}}},
		},
		Mode: mode,
		Struck: func(s hostile.Strike) {
			mu.Lock()
			defer mu.Unlock()
			strikes++
		},
	}
	if change != nil {
		change(liar.Proxy)
	}
	ln := l.Listen(host)
	l.run(func() error { return liar.Serve(ln) }, liar.Close)
	l.Client = l.NewClient(func(_ *Net, tr *client.Transport) {
		tr.Proxy, tr.IdleTimeout = "https://"+host, -1
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return strikes
	}
}

// tunnelModes are those that lie about tunnels.
func tunnelModes() []hostile.Mode { return slices.DeleteFunc(hostile.Modes(), hostile.Mode.Split) }

// outcome is what an honest client says of each mode.
func outcome(mode hostile.Mode) string {
	switch mode {
	case hostile.ModeSwapCert:
		return "trust:origin"
	case hostile.ModeStripToken:
		return "level"
	case hostile.ModeNoAnswer:
		return "success"
	case hostile.ModeFalseVerdict:
		return "killed without a verdict"
	}
	return "integrity"
}

// Every mode, on requests with bodies and responses of every shape: the client says what it has to, what it
// gives and what the origin takes is true as far as it goes, the origin is asked no more than once, and the same
// origin through an honest proxy is as it was.
func TestEveryModeOnEveryShape(t *testing.T) {
	t.Parallel()
	for _, mode := range tunnelModes() {
		for _, s := range []shape{lengths, chunks, untilClose} {
			t.Run(string(mode)+", "+s.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					l := newLab(t, s, nil)
					honest := l.Client
					struck := l.lying(mode)
					for i, size := range []int{len(answer), 0, 1, 100_000, 100_000} {
						l.answer, l.question = string(pattern(size)), string(pattern(size/2+1))
						r := l.exchange()
						if r.lie != "" {
							t.Errorf("%d bytes: %s", size, r.lie)
						}
						if r.class != outcome(mode) {
							t.Errorf("%d bytes: %s, want %s: %v", size, r.class, outcome(mode), r.err)
						}
						if struck() != i+1 {
							t.Errorf("%d bytes: struck %d times in %d tunnels", size, struck(), i+1)
						}
					}
					l.Client = honest
					if r := l.exchange(); r.err != nil || r.lie != "" {
						t.Errorf("through an honest proxy: %+v", r)
					}
				})
			})
		}
	}
}

// A user who takes less than intact is not led there by a liar: no mode ends in a level that the origin's own
// signature does not justify, and nothing of a request leaves at it.
func TestP6NoModeLeadsToALowerLevel(t *testing.T) {
	t.Parallel()
	for _, mode := range tunnelModes() {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLab(t, lengths, nil)
				l.lying(mode)
				l.Client = l.NewClient(func(_ *Net, tr *client.Transport) {
					tr.Proxy, tr.Levels = l.Client.Proxy, []client.Level{client.Intact, client.Blind}
				})
				resp, _, err := l.get("/")
				rep := client.ReportOfError(err)
				if err == nil {
					rep = client.ReportOf(resp)
				}
				if c := class(err); c != outcome(mode) || rep == nil || rep.Level != "" && rep.Level != client.Intact {
					t.Errorf("%s: %v, report %+v", c, err, rep)
				}
			})
		})
	}
}

// Many at once: each of the tunnels is struck, and none of the exchanges gets another's bytes or outcome.
func TestALiarWithManyTunnelsAtOnce(t *testing.T) {
	t.Parallel()
	for _, mode := range tunnelModes() {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const many = 12
				l := newLab(t, lengths, func(cfg *Config) { cfg.Handler = new(echo) })
				struck := l.lying(mode)
				var wg sync.WaitGroup
				for range many {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
						defer cancel()
						req := l.request(ctx, http.MethodGet, "/", nil)
						req.Header.Set("X-Size", "50000")
						_, body, err := fetch(l.Client, req)
						if c := class(err); c != outcome(mode) || !bytes.HasPrefix(pattern(50000), body) || err == nil && len(body) != 50000 {
							t.Errorf("%s after %d bytes: %v", c, len(body), err)
						}
					})
				}
				wg.Wait()
				if struck() < many {
					t.Errorf("struck %d of %d", struck(), many)
				}
			})
		})
	}
}

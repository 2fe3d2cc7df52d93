package testnet

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/client/consent"
	"vitrine/internal/fields"
	"vitrine/proxy"
)

// stockBehindSplit is a network whose origin has never heard of us, behind a proxy that may end TLS for it.
func stockBehindSplit(t *testing.T, h http.Handler) *Net {
	return New(t, Config{
		Handler: h, Stock: true,
		Proxy: func(_ *Net, p *proxy.Proxy) {
			p.Policy.Modes = []fields.Mode{fields.Intact, fields.Split, fields.Blind}
		},
	})
}

// asking has the client ask p for levels and consent, and remember in s.
func (n *Net) asking(s *consent.Store, p *consent.Prompt) *client.Transport {
	return n.consenting(p, func(tr *client.Transport) { tr.Choose, tr.Memory = p.Choose, s })
}

// A user at a terminal is told what is on offer, and what was answered counts: once for this program, always for the
// next ones too, for this host and until it is revoked.
//
// spec: CLI-81 CLI-83
func TestAUserChoosesBelowIntact(t *testing.T) {
	for name, x := range map[string]struct {
		answer string
		level  client.Level
		stored bool
	}{
		"attested once":   {"attested once\n", client.Attested, false},
		"attested always": {"attested always\n", client.Attested, true},
		"blind once":      {"blind once\n", client.Blind, false},
		"blind always":    {"2\n", client.Blind, true},
		"no":              {"no\n", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := stockBehindSplit(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
				s, path := n.store("")
				n.grant(s, nil, "*") // to be read
				var out bytes.Buffer
				tr := n.asking(s, &consent.Prompt{Store: s, In: strings.NewReader(x.answer), Out: &out, ChooseOnly: true})
				for range 2 {
					n.comesTo(tr, x.level)
				}
				if asked := strings.Count(out.String(), "What do you choose?"); asked != 1 || strings.Contains(out.String(), "Do you agree") {
					t.Errorf("asked %d times:\n%s", asked, &out)
				}
				if x.level == "" {
					return
				}
				// The next program has what is stored, and nobody to ask.
				next, _ := n.store(path)
				later := n.asking(next, &consent.Prompt{Store: next, In: strings.NewReader(""), Out: io.Discard, ChooseOnly: true})
				if !x.stored {
					n.comesTo(later, "")
					return
				}
				n.comesTo(later, x.level)
				grants, err := next.Grants()
				if err != nil || len(grants) != 2 || !slices.Equal(grants[1].Levels, []client.Level{x.level}) {
					t.Fatalf("stored %+v %v", grants, err)
				}
				if _, err := next.Revoke(grants[1].ID); err != nil {
					t.Fatal(err)
				}
				n.comesTo(later, "")
			})
		})
	}
}

// comesTo fetches, and demands this level; "" for a refusal.
func (n *Net) comesTo(tr *client.Transport, want client.Level) {
	n.Helper()
	resp, body, err := fetch(tr, n.request(n.ctx, http.MethodGet, "/", nil))
	if want == "" {
		if e := (*client.LevelError)(nil); !errors.As(err, &e) {
			n.Errorf("%v, want a LevelError", err)
		}
		return
	}
	if err != nil || string(body) != "hello" || client.ReportOf(resp).Level != want {
		n.Errorf("%q %v, want level %s", body, err, want)
	}
}

// What is open at a level that was chosen for always ends within seconds of its revocation by another process, although
// to be read is still agreed to.
//
// spec: CLI-83 CLI-25
func TestARevokedLevelEndsWhatIsOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := stockBehindSplit(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "hello")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		s, path := n.store("")
		n.grant(s, nil, "*")
		tr := n.asking(s, &consent.Prompt{Store: s, In: strings.NewReader("attested always\n"), Out: io.Discard, ChooseOnly: true})
		resp, err := tr.RoundTrip(n.request(n.ctx, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		start := time.Now()
		other, _ := n.store(path)
		grants, err := other.Grants()
		if err != nil || len(grants) != 2 {
			t.Fatalf("%+v %v", grants, err)
		}
		if _, err := other.Revoke(grants[1].ID); err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent || !errors.Is(err, consent.ErrRevoked) {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// One program reaches an origin at intact; to the next, somebody makes it look as if it spoke no inner sessions. It
// does not go below, whatever its user accepts besides intact and whatever was stored before, until the user has been
// told.
//
// spec: CLI-19 CLI-82 CLI-84
func TestIntactIsNotForgottenBetweenPrograms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "consent.json")
	requests := 0
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		io.WriteString(w, "hello")
	})
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Handler: hello})
		s, _ := n.store(path)
		n.comesTo(n.NewClient(func(_ *Net, tr *client.Transport) { tr.Memory = s }), client.Intact)
		if err := s.Memory().Err(); err != nil {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) {
		n := stockBehindSplit(t, hello)
		s, _ := n.store(path)
		n.comesTo(n.NewClient(func(_ *Net, tr *client.Transport) {
			tr.Memory, tr.Levels = s, []client.Level{client.Intact, client.Attested, client.Blind}
		}), "")
		n.grant(s, func(g *consent.Grant) { g.Levels = []client.Level{client.Attested} }, "*")
		var out bytes.Buffer
		tr := n.asking(s, &consent.Prompt{Store: s, In: strings.NewReader("no\n"), Out: &out, ChooseOnly: true})
		n.comesTo(tr, "")
		if !strings.Contains(out.String(), "intact before") || !strings.Contains(out.String(), "less than before") {
			t.Errorf("asked %s", &out)
		}
		if requests != 1 { // the one at intact
			t.Errorf("%d requests reached the origin", requests-1)
		}
		s.Forget(OriginHost + ":443")
		n.comesTo(n.asking(s, &consent.Prompt{Store: s, In: strings.NewReader(""), Out: io.Discard, ChooseOnly: true}), client.Attested)
	})
}

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"vitrine/internal/fields"
)

// spec: CLI-37
func TestChoose(t *testing.T) {
	var offers []*Offer
	answer := Level("")
	var fail error
	choosing := func(w *world, levels ...Level) *Transport {
		return w.transport(func(tr *Transport) {
			tr.Levels = levels
			tr.Choose = func(_ context.Context, o *Offer) (Level, error) {
				offers = append(offers, o)
				return answer, fail
			}
		})
	}
	fetch := func(t *testing.T, tr *Transport) (Level, error) {
		t.Helper()
		resp, _, err := tryGet(t, tr, "https://origin.example/")
		if err != nil {
			return "", err
		}
		return ReportOf(resp).Level, nil
	}
	names := func(o *Offer) (l []Level) {
		for _, c := range o.Choices {
			if !strings.Contains(c.Words, proxyName) {
				t.Errorf("%s: %q", c.Level, c.Words)
			}
			l = append(l, c.Level)
		}
		return l
	}

	t.Run("attested or blind", func(t *testing.T) {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		w.modes = []fields.Mode{fields.Intact, fields.Split, fields.Blind}
		tr := choosing(w, Intact)
		offers, answer = nil, ""
		_, err := fetch(t, tr)
		wantLevelError(t, err, "its signature shows", "intact,blind")
		answer, fail = Attested, errors.New("asked and left")
		_, err = fetch(t, tr)
		if !errors.Is(wantLevelError(t, err, "its signature shows", "intact,blind"), fail) {
			t.Error("why nobody chose is lost")
		}
		fail = nil
		for range 2 {
			if l, err := fetch(t, tr); err != nil || l != Attested {
				t.Fatalf("%s, %v", l, err)
			}
		}
		if len(offers) != 4 {
			t.Fatalf("%d questions", len(offers))
		}
		for _, o := range offers {
			if !o.Justified || o.Worked || o.Authority != "origin.example:443" || o.ProxyName != proxyName || o.Evidence == nil || !slices.Equal(names(o), []Level{Blind, Attested}) {
				t.Errorf("%+v", o)
			}
		}
		if n := sp.dialled(); n != 3 {
			t.Errorf("%d connections: the fourth question needs none", n)
		}
		answer = Blind
		if l, err := fetch(t, tr); err != nil || l != Blind {
			t.Errorf("%s, %v", l, err)
		}
		answer = ""
		if _, err := fetch(t, tr); err == nil {
			t.Error("blind, which was chosen once, was used again")
		}
		answer = Claimed
		if _, err := fetch(t, tr); err == nil || !strings.Contains(err.Error(), "not on offer") {
			t.Error(err)
		}
	})
	t.Run("claimed", func(t *testing.T) {
		w := newWorld(t)
		w.split(t, w.rsaOrigin())
		offers, answer = nil, Claimed
		if l, err := fetch(t, choosing(w, Intact)); err != nil || l != Claimed {
			t.Errorf("%s, %v", l, err)
		}
		if o := offers[0]; o.Justified || !slices.Equal(names(o), []Level{Claimed}) {
			t.Errorf("%+v", o)
		}
	})
	t.Run("nothing on offer", func(t *testing.T) {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		sp.tokens = []string{"h2"}
		offers = nil
		_, err := fetch(t, choosing(w, Intact))
		wantLevelError(t, err, "did not offer", "")
		if len(offers) != 0 {
			t.Error("the user was asked to choose among nothing")
		}
	})
	t.Run("it worked before", func(t *testing.T) {
		w := newWorld(t)
		tr := choosing(w, Intact)
		offers, answer = nil, Attested
		get(t, tr, "https://origin.example/")
		w.split(t, new(tls.Config))
		tr.CloseIdleConnections()
		if l, err := fetch(t, tr); err != nil || l != Attested || !offers[0].Worked {
			t.Errorf("%s, %v, %+v", l, err, offers)
		}
		if l, err := fetch(t, tr); err != nil || l != Attested || len(offers) != 2 || !offers[1].Worked {
			t.Errorf("%s, %v, %d questions", l, err, len(offers))
		}
	})
	t.Run("a Dialer has tunnels only", func(t *testing.T) {
		w := newWorld(t)
		w.split(t, new(tls.Config))
		d := &Dialer{
			Proxy: "https://" + proxyName + ":8443", ProxyRoots: w.proxies.Pool().CertPool, Roots: w.origins.Pool().CertPool,
			Consent: Once{}, NetDial: w.netDial, Levels: []Level{Intact, Attested},
			Choose: func(context.Context, *Offer) (Level, error) { t.Error("asked"); return "", nil },
		}
		defer d.Close()
		_, err := d.DialTunnel(t.Context(), "origin.example:443")
		wantLevelError(t, err, "its signature shows", "")
	})
}

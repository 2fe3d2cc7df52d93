package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// spec: CLI-80 CLI-81 CLI-83
func TestAChosenLevelHasConsentOfItsOwn(t *testing.T) {
	for _, agrees := range []bool{true, false} {
		w := newWorld(t)
		w.stock, w.modes = true, []fields.Mode{fields.Blind}
		c := &asker{say: func(req *ConsentRequest) (*Agreement, error) {
			if agrees || slices.Contains(req.Levels, Intact) {
				return new(Agreement), nil
			}
			return nil, errTakenBack
		}}
		var offered []Offer
		resp, _, err := do(w.transport(func(tr *Transport) {
			tr.Consent = c
			tr.Levels = []Level{Intact, Direct}
			tr.Memory = remembers{}
			tr.Choose = func(_ context.Context, o *Offer) (Level, error) {
				offered = append(offered, *o)
				return Blind, nil
			}
		}), cookie(t, "https://origin.example/"))
		if agrees && (err != nil || ReportOf(resp).Level != Blind) {
			t.Errorf("%v", err)
		}
		if !agrees {
			wantTakenBack(t, err)
		}
		if len(offered) != 1 || !offered[0].Worked || !slices.Equal(offered[0].Fields, []string{"Authorization", "Cookie"}) {
			t.Errorf("offered %+v", offered)
		}
		asked := c.requests()
		if len(asked) != 2 || !slices.Equal(asked[0].Levels, []Level{Intact, Direct}) || !slices.Equal(asked[1].Levels, []Level{Blind}) ||
			asked[1].Words == asked[0].Words || asked[1].ProxyRootSPKI != asked[0].ProxyRootSPKI {
			t.Errorf("agrees %v: asked %+v", agrees, asked)
		}
	}
}

// remembers is of a user who has reached everything at intact.
type remembers struct{}

func (remembers) Reached(string) (Level, bool) { return Intact, true }
func (remembers) Remember(string, Level)       {}
func (remembers) Forget(string)                {}

// spec: CLI-6 CLI-84
func TestWhoChoosesNothingGetsNothing(t *testing.T) {
	gone := errors.New("the user has gone")
	for name, x := range map[string]struct {
		level Level
		err   error
	}{"no": {"", nil}, "an error": {"", gone}, "a level and an error": {Blind, gone}, "what is not on offer": {Claimed, nil}, "the accepted one": {Intact, nil}} {
		w := newWorld(t)
		w.stock, w.modes = true, []fields.Mode{fields.Blind}
		asked := 0
		_, _, err := tryGet(t, w.transport(func(tr *Transport) {
			tr.Memory = remembers{}
			tr.Choose = func(context.Context, *Offer) (Level, error) {
				asked++
				return x.level, x.err
			}
		}), "https://origin.example/")
		var level *LevelError
		if errors.As(err, &level) != (x.level == "" || x.err != nil) || err == nil || errors.Is(err, gone) != (x.err != nil) || asked != 1 {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
		if w.took() != 0 {
			t.Errorf("%s: a request left", name)
		}
	}
}

// The agreement that a chosen level is under is the one about that level: its end cuts the exchange, and the end of the
// one to be read that came before does not.
//
// spec: CLI-83
func TestTheEndOfAChosenLevelCutsWhatIsUnderIt(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	more := make(chan string)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for {
			select {
			case s := <-more:
				io.WriteString(rw, s)
				rw.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	read, endRead := context.WithCancelCause(t.Context())
	defer endRead(nil)
	changed, endChanged := context.WithCancelCause(t.Context())
	tr := w.transport(func(tr *Transport) {
		tr.Choose = func(context.Context, *Offer) (Level, error) { return Attested, nil }
		tr.Consent = ConsentFunc(func(_ context.Context, req *ConsentRequest) (*Agreement, error) {
			if slices.Equal(req.Levels, []Level{Attested}) {
				return &Agreement{Ends: changed}, nil
			}
			return &Agreement{Ends: read}, nil
		})
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	go func() { more <- "one" }()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, 3)
	for _, want := range []string{"one", "two"} {
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q %v, want %q", got, err, want)
		}
		if want == "one" {
			endRead(errors.New("this one is not about it"))
			go func() { more <- "two" }()
		}
	}
	endChanged(errTakenBack)
	_, err = io.ReadAll(resp.Body)
	wantTakenBack(t, err)
}

// What was answered is all that the attempt may come to: a proxy that has the user's answer fail, and then offers
// something else, has not been told yes to that.
//
// spec: CLI-37
func TestAnAnswerIsForWhatWasOffered(t *testing.T) {
	for _, x := range []struct {
		name     string
		accepted []Level
		answers  []Level // in turn
		turn     func(w *world, sp *splitter)
		got      Level
	}{
		{"blind stays blind", []Level{Intact, Claimed}, []Level{Blind}, nil, Blind},
		{"blind is not direct", []Level{Intact, Direct}, []Level{Blind}, func(w *world, _ *splitter) {
			w.answer = func(in hop.Incoming, _ *hop.Request) bool {
				w.refuse(in, frames.StatusInspectionRequired, "", nil)
				return true
			}
		}, ""},
		{"attested becomes claimed", []Level{Intact, Claimed}, []Level{Attested, ""}, toClaims, ""},
		{"attested becomes claimed, which is taken", []Level{Intact, Claimed}, []Level{Attested, Claimed}, toClaims, Claimed},
		{"attested becomes blind", []Level{Intact, Blind}, []Level{Attested, ""}, func(w *world, sp *splitter) {
			sp.lose()
			w.modes, sp.tokens = []fields.Mode{fields.Blind}, []string{"h2"}
		}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			sp := w.split(t, new(tls.Config))
			if x.answers[0] == Blind {
				sp = w.split(t, w.rsaOrigin())
			}
			w.modes = []fields.Mode{fields.Intact, fields.Split, fields.Blind}
			var once sync.Once
			w.answer = func(in hop.Incoming, req *hop.Request) (done bool) {
				if req.Protocol == "" { // the client tries again, on another hop 1
					once.Do(func() { in.Refuse(hop.RefusedStream); done = true })
				}
				return done
			}
			asked := 0
			c := &asker{say: func(*ConsentRequest) (*Agreement, error) { return new(Agreement), nil }}
			resp, _, err := tryGet(t, w.transport(func(tr *Transport) {
				tr.Levels, tr.Memory, tr.Consent = x.accepted, remembers{}, c
				tr.Choose = func(_ context.Context, o *Offer) (Level, error) {
					if asked++; asked > len(x.answers) {
						t.Fatalf("asked %d times", asked)
					}
					if asked == 1 && x.turn != nil {
						x.turn(w, sp)
					}
					return x.answers[asked-1], nil
				}
			}), "https://origin.example/")
			got := Level("")
			if err == nil {
				got = ReportOf(resp).Level
			}
			if got != x.got || (x.got == "") != (err != nil) || asked != len(x.answers) {
				t.Errorf("%q, %v, asked %d times", got, err, asked)
			}
			if reqs := c.requests(); !slices.Equal(reqs[len(reqs)-1].Levels, []Level{x.answers[max(0, asked-1)]}) && got != "" {
				t.Errorf("consent is for %v", reqs[len(reqs)-1].Levels)
			}
			if got == "" && w.took() != 0 {
				t.Error("a request left")
			}
		})
	}
}

// toClaims has the proxy lose the connections that it showed evidence of, and find an origin that gives it none.
func toClaims(w *world, sp *splitter) {
	sp.lose()
	sp.origin = w.rsaOrigin()
}

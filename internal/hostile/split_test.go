package hostile_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hostile"
	"vitrine/internal/testnet"
	"vitrine/proxy"
)

// newSplitStand is a Liar in front of an ordinary origin, with a user who accepts attested.
func newSplitStand(t *testing.T, mode hostile.Mode, h http.Handler, modes ...fields.Mode) *stand {
	t.Helper()
	s := newStand(t, mode, testnet.Config{Stock: true, Handler: h}, func(p *proxy.Proxy) { p.Policy.Modes = modes })
	s.Client = s.NewClient(func(_ *testnet.Net, tr *client.Transport) {
		tr.Proxy, tr.Levels = "https://"+liarHost, []client.Level{client.Attested}
	})
	return s
}

// do sends a request with a body, "" for none, and returns what came.
func (s *stand) do(method, path, body string) (*http.Response, string, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.Context(), method, "https://"+testnet.OriginHost+path, content)
	if err != nil {
		s.Fatal(err)
	}
	resp, err := s.Client.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp, string(got), err
}

func splitModes() (modes []hostile.Mode) {
	for _, m := range hostile.Modes() {
		if m.Split() {
			modes = append(modes, m)
		}
	}
	return modes
}

// Each mode strikes in the first exchange and in each one after it, whatever the response has, and says where.
func TestEverySplitModeStrikes(t *testing.T) {
	for _, mode := range splitModes() {
		synctest.Test(t, func(t *testing.T) {
			s := newSplitStand(t, mode, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/none":
					w.WriteHeader(http.StatusNoContent)
				case "/trailers":
					w.Header().Set("Trailer", "X-Behind")
					io.WriteString(w, page(5000))
					w.Header().Set("X-Behind", "it")
				default:
					pages(w, r)
				}
			}), fields.Intact, fields.Split)
			for _, x := range []struct{ method, path string }{
				{"GET", "/1"}, {"GET", "/0"}, {"GET", "/300000"}, {"GET", "/chunked/5000"}, {"HEAD", "/27"}, {"GET", "/none"}, {"GET", "/trailers"},
			} {
				resp, _, err := s.do(x.method, x.path, "")
				if err != nil {
					t.Errorf("%s, %s %s: %v", mode, x.method, x.path, err)
					continue
				}
				if via := resp.Header.Get("Via"); !strings.Contains(via, hostile.NamePrefix) {
					t.Errorf("%s: via %q", mode, via)
				}
				strikes := s.taken()
				if len(strikes) != 1 {
					t.Fatalf("%s, %s %s: struck %d times: %s", mode, x.method, x.path, len(strikes), s.log)
				}
				if k := strikes[0]; k.Mode != mode || k.Authority != testnet.OriginHost+":443" || k.Hop != 1 || k.Stream == 0 ||
					k.Direction != frames.ToClient || k.Record != -1 || k.What == "" {
					t.Errorf("%s: %+v", mode, k)
				}
			}
			checkLog(t, s.log.String(), mode)
		})
	}
}

// What is not sent twice is not lied about by who would have to, and he says so.
func TestARequestWithContentIsNotReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSplitStand(t, hostile.ModeSplitReplay, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), fields.Split)
		_, body, err := s.do(http.MethodPost, "/", "once")
		if err != nil || body != "once" || len(s.taken()) != 0 {
			t.Errorf("%q, %v", body, err)
		}
		if !strings.Contains(s.log.String(), `msg="did not strike" hostile=split-replay`) {
			t.Error(s.log)
		}
	})
}

// A response that has no end is not kept.
func TestAnEndlessResponseIsNotReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSplitStand(t, hostile.ModeSplitReplay, http.HandlerFunc(pages), fields.Split)
		_, body, err := s.do(http.MethodGet, "/3000000", "")
		if err != nil || body != page(3_000_000) || len(s.taken()) != 0 || !strings.Contains(s.log.String(), "is not kept") {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	})
}

// Where the policy has no split mode there is nothing to lie about, and the proxy's own answers are its own.
func TestSplitModesAreHonestAboutAllElse(t *testing.T) {
	for _, mode := range splitModes() {
		synctest.Test(t, func(t *testing.T) {
			s := newSplitStand(t, mode, nil, fields.Intact)
			if _, _, err := s.do(http.MethodGet, "/", ""); class(err) != "level" || len(s.taken()) != 0 {
				t.Errorf("%s: %v", mode, err)
			}
			honest := newStand(t, mode, testnet.Config{})
			if _, body, err := honest.get("/"); err != nil || string(body) != "hello" || len(honest.taken()) != 0 {
				t.Errorf("%s: %q, %v", mode, body, err)
			}
		})
	}
}

// Who leaves in the middle of an exchange leaves nothing behind.
func TestALiarClosesUnderAnOpenExchange(t *testing.T) {
	for _, mode := range splitModes() {
		synctest.Test(t, func(t *testing.T) {
			s := newSplitStand(t, mode, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "some")
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}), fields.Split)
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.do(http.MethodGet, "/", "") // it fails, or was lied to
			}()
			time.Sleep(time.Second) // the bubble's clock
			if err := s.liar.Close(); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
			<-done
		})
	}
}

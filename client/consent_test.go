package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// An asker is a Consent that records what it is asked.
type asker struct {
	say func(req *ConsentRequest) (*Agreement, error)

	mu    sync.Mutex
	asked []ConsentRequest
}

func (a *asker) Ask(_ context.Context, req *ConsentRequest) (*Agreement, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, *req)
	return a.say(req)
}

func (a *asker) requests() []ConsentRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

// until is a Consent that lasts until end is called with its cause.
func until() (c Consent, end context.CancelCauseFunc) {
	ctx, end := context.WithCancelCause(context.Background())
	return ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) { return &Agreement{Ends: ctx}, nil }), end
}

var errTakenBack = errors.New("the user took it back")

func wantTakenBack(t *testing.T, err error) {
	t.Helper()
	if trust := wantTrust(t, err, PartyConsent); !errors.Is(trust, errTakenBack) {
		t.Errorf("%v does not wrap the cause", err)
	}
}

func cookie(t *testing.T, url string) *http.Request {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", "s3cret")
	req.Header.Set("Authorization", "s3cret")
	return req
}

// spec: CLI-5
func TestCredentialsAreNamedBeforeACONNECT(t *testing.T) {
	w := newWorld(t)
	w.answer = func(hop.Incoming, *hop.Request) bool { t.Error("a CONNECT left"); return false }
	c := &asker{say: func(*ConsentRequest) (*Agreement, error) { return new(Agreement), nil }}
	req := cookie(t, "https://origin.example/")
	req.URL.User = nil
	_, _, err := do(w.transport(func(tr *Transport) { tr.Consent = c }), req)
	trust := wantTrust(t, err, PartyCredentials)
	if trust.Field != "Authorization" || len(trust.Report.Proxies) != 1 {
		t.Errorf("%v, report %+v", trust, trust.Report)
	}
	asked := c.requests()
	if len(asked) != 1 || !slices.Equal(asked[0].Fields, []string{"Authorization", "Cookie"}) {
		t.Fatalf("asked %+v", asked)
	}
	if q := asked[0]; !strings.Contains(q.Words, "Authorization, Cookie") || strings.Contains(q.Words, "s3cret") {
		t.Errorf("words %q", q.Words)
	}
}

// spec: CLI-20
func TestCredentialsOnAnOpenTunnelAreAskedFor(t *testing.T) {
	for _, x := range []struct {
		name string
		say  func() (*Agreement, error)
	}{
		{"nobody to ask", func() (*Agreement, error) { return nil, errors.New("not those") }},
		{"reading alone", func() (*Agreement, error) { return new(Agreement), nil }},
		{"no answer", func() (*Agreement, error) { return nil, nil }},
		{"yes", func() (*Agreement, error) { return &Agreement{Credentials: true}, nil }},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c := &asker{say: func(req *ConsentRequest) (*Agreement, error) {
					if req.Fields == nil {
						return new(Agreement), nil
					}
					return x.say()
				}}
				tr := w.transport(func(tr *Transport) { tr.Consent = c })
				get(t, tr, "https://origin.example/")
				synctest.Wait()
				yes, requests := x.name == "yes", 3
				for range 2 {
					_, _, err := do(tr, cookie(t, "https://origin.example/"))
					if !yes {
						requests = 2
						if trust := wantTrust(t, err, PartyCredentials); trust.Field != "Authorization" || trust.Report.Level != Intact {
							t.Errorf("%v, report %+v", err, trust.Report)
						}
					} else if err != nil {
						t.Error(err)
					}
					synctest.Wait()
				}
				asked := c.requests()
				if want := map[bool]int{true: 2, false: 3}[yes]; len(asked) != want {
					t.Errorf("asked %d times, want %d", len(asked), want)
				}
				if q := asked[1]; q.ProxyRootSPKI != asked[0].ProxyRootSPKI || q.ProxyName != proxyName || q.ProxySubject != asked[0].ProxySubject ||
					q.Authority != "origin.example:443" || !slices.Equal(q.Levels, []Level{Intact}) || len(q.Fields) != 2 || q.Words == "" {
					t.Errorf("asked %+v", q)
				}
				if yes {
					requests = 4
				}
				get(t, tr, "https://origin.example/")
				if w.took() != requests || w.opened() != 1 {
					t.Errorf("%d requests on %d tunnels, want %d on 1", w.took(), w.opened(), requests)
				}
			})
		})
	}
}

// spec: CLI-20
func TestCredentialsFollowTheTunnelsLevel(t *testing.T) {
	for _, stock := range []bool{true, false} {
		w := newWorld(t)
		w.stock, w.modes = stock, []fields.Mode{fields.Blind}
		c := &asker{say: func(*ConsentRequest) (*Agreement, error) { return new(Agreement), nil }}
		tr := w.transport(func(tr *Transport) { tr.Consent, tr.Levels = c, []Level{Intact, Blind} })
		_, _, err := do(tr, cookie(t, "https://origin.example/"))
		if stock {
			if err != nil || w.took() != 1 {
				t.Errorf("blind: %v", err)
			}
		} else if trust := wantTrust(t, err, PartyCredentials); trust.Report.Level != Intact || w.took() != 0 || w.opened() != 1 {
			t.Errorf("intact: %v, %d requests", err, w.took())
		}
		if asked := c.requests(); len(asked) != 1 {
			t.Errorf("asked %d times", len(asked))
		}
	}
}

// spec: CLI-3
func TestANilAgreementIsNone(t *testing.T) {
	w := newWorld(t)
	w.answer = func(hop.Incoming, *hop.Request) bool { t.Error("a CONNECT left"); return false }
	c := ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) { return nil, nil })
	_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.Consent = c }), "https://origin.example/")
	wantTrust(t, err, PartyConsent)
}

// spec: CLI-21
func TestConsentEndsAtEveryStep(t *testing.T) {
	for _, level := range []Level{Intact, Blind} {
		for name, hush := range map[string]func(w *world, stop <-chan struct{}){
			"CONNECT": func(w *world, stop <-chan struct{}) {
				w.answer = func(hop.Incoming, *hop.Request) bool { <-stop; return true }
			},
			"handshake": func(w *world, _ <-chan struct{}) { w.via = func(bool, []byte) []byte { return nil } },
			"response": func(w *world, stop <-chan struct{}) {
				w.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop })
			},
			"body": func(w *world, stop <-chan struct{}) {
				w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
					io.WriteString(rw, "a part")
					rw.(http.Flusher).Flush()
					<-stop
				})
			},
			"a request body": func(w *world, stop <-chan struct{}) {
				w.handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-stop })
			},
		} {
			t.Run(string(level)+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					stop := make(chan struct{})
					w.onClose(sync.OnceFunc(func() { close(stop) }))
					hush(w, stop)
					c, end := until()
					tr := w.transport(func(tr *Transport) { tr.Consent, tr.Levels = c, []Level{level} })
					req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
					var feed *io.PipeWriter
					if name == "a request body" {
						req.Body, feed = io.Pipe()
						req.Method = http.MethodPost
					}
					var wg sync.WaitGroup
					wg.Go(func() {
						resp, body, err := do(tr, req)
						wantTakenBack(t, err)
						if name == "body" && (string(body) != "a part" || ReportOf(resp).Error == "" || ReportOf(resp).Bytes != 6) {
							t.Errorf("body %q, report %+v", body, ReportOf(resp))
						}
					})
					synctest.Wait()
					end(errTakenBack)
					wg.Wait()
					if feed != nil {
						if _, err := feed.Write([]byte("more")); err == nil {
							t.Error("the request's body is still read")
						}
					}
					synctest.Wait()
					wantNoHop1(t, tr)
				})
			})
		}
	}
}

// wantNoHop1 says that nothing is left to the proxy but what ends.
func wantNoHop1(t *testing.T, tr *Transport) {
	t.Helper()
	h := &tr.pool.dialer.hop1
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current != nil || h.tunnels != 0 || tr.open() != 0 {
		t.Errorf("hop 1 is open: %v; %d tunnels counted, %d in the pool", h.current != nil, h.tunnels, tr.open())
	}
}

// spec: CLI-21
func TestIdleTunnelsCloseWhenConsentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ended := make(map[string]context.CancelCauseFunc)
		c := &asker{say: func(req *ConsentRequest) (*Agreement, error) {
			ctx, end := context.WithCancelCause(context.Background())
			ended[req.Authority] = end
			return &Agreement{Ends: ctx}, nil
		}}
		tr := w.transport(func(tr *Transport) { tr.Consent = c })
		get(t, tr, "https://origin.example/")
		get(t, tr, "https://second.example/")
		synctest.Wait()
		if tr.open() != 2 {
			t.Fatalf("%d tunnels", tr.open())
		}
		ended["origin.example:443"](errTakenBack)
		synctest.Wait()
		if tr.open() != 1 || w.dialled() != 1 {
			t.Errorf("%d tunnels; want the other user's consent to hold", tr.open())
		}
		get(t, tr, "https://second.example/")
		if w.opened() != 2 || w.dialled() != 1 {
			t.Errorf("%d tunnels on %d hops: the other tunnel is lost", w.opened(), w.dialled())
		}
		synctest.Wait()
		ended["second.example:443"](errTakenBack)
		synctest.Wait()
		wantNoHop1(t, tr)
		get(t, tr, "https://origin.example/")
		if asked := c.requests(); len(asked) != 3 || w.dialled() != 2 {
			t.Errorf("asked %d times, %d hops", len(asked), w.dialled())
		}
	})
}

// A tunnel that carried credentials under a second agreement ends with either.
// spec: CLI-21
func TestATunnelEndsWithEachOfItsAgreements(t *testing.T) {
	for _, first := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			one, endOne := context.WithCancelCause(context.Background())
			two, endTwo := context.WithCancelCause(context.Background())
			defer endOne(nil)
			defer endTwo(nil)
			c := &asker{say: func(req *ConsentRequest) (*Agreement, error) {
				if req.Fields != nil {
					return &Agreement{Credentials: true, Ends: two}, nil
				}
				return &Agreement{Ends: one}, nil
			}}
			tr := w.transport(func(tr *Transport) { tr.Consent = c })
			get(t, tr, "https://origin.example/")
			if _, _, err := do(tr, cookie(t, "https://origin.example/")); err != nil || w.opened() != 1 {
				t.Fatalf("%v, %d tunnels", err, w.opened())
			}
			synctest.Wait()
			if first {
				endOne(errTakenBack)
			} else {
				endTwo(errTakenBack)
			}
			synctest.Wait()
			wantNoHop1(t, tr)
		})
	}
}

// spec: CLI-3 CLI-21
func TestConsentThatHasEndedOpensNothing(t *testing.T) {
	w := newWorld(t)
	w.answer = func(hop.Incoming, *hop.Request) bool { t.Error("a CONNECT left"); return false }
	c, end := until()
	end(errTakenBack)
	_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.Consent = c }), "https://origin.example/")
	wantTakenBack(t, err)
}

// spec: CLI-21
func TestNothingPassesOnceConsentHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, strings.Repeat("x", 1<<20)) })
		c, end := until()
		d := w.dialer()
		d.Consent = c
		tun, err := d.DialTunnel(t.Context(), "origin.example:443")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(tun, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
		synctest.Wait()
		before := tun.wire.n.Load()
		end(errTakenBack)
		// Before any other goroutine has run.
		n, err := tun.Write([]byte("secret"))
		wantTakenBack(t, err)
		if n != 0 || tun.wire.n.Load() != before {
			t.Errorf("%d bytes were written", n)
		}
		n, err = tun.Read(make([]byte, 1000))
		wantTakenBack(t, err)
		if n != 0 {
			t.Errorf("%d bytes were read", n)
		}
		if ReportOfError(err) == nil {
			t.Error("no report")
		}
		synctest.Wait()
		if d.hop1.current != nil {
			t.Error("hop 1 is open")
		}
		tun.Close()
		if d.hop1.tunnels != 0 {
			t.Errorf("%d tunnels counted", d.hop1.tunnels)
		}
	})
}

// Nobody who ended in time waits for an agreement's end.
func TestAClosedTunnelForgetsItsAgreement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c, end := until()
		tr := w.transport(func(tr *Transport) { tr.Consent = c })
		resp, _ := get(t, tr, "https://origin.example/")
		tr.Close()
		end(errTakenBack)
		synctest.Wait()
		if r := ReportOf(resp); r.Error != "" {
			t.Errorf("report %+v", r)
		}
	})
}

// What a user goes to directly is no business of the proxy's, nor of the consent to it.
func TestADirectTunnelOutlivesConsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stock, w.modes = true, nil
		c, end := until()
		tr := w.transport(func(tr *Transport) { tr.Consent, tr.Levels = c, []Level{Intact, Direct} })
		if resp, _ := get(t, tr, "https://origin.example/"); ReportOf(resp).Level != Direct {
			t.Fatalf("level %s", ReportOf(resp).Level)
		}
		synctest.Wait()
		end(errTakenBack)
		synctest.Wait()
		if tr.open() != 1 {
			t.Error("the direct connection was closed")
		}
	})
}

// A helloTap records what goes to the proxy on a hop 1, up to its ClientHello's end.
type helloTap struct {
	net.Conn
	mu   sync.Mutex
	sent []byte
}

func (h *helloTap) Write(p []byte) (int, error) {
	h.mu.Lock()
	if len(h.sent) < 16<<10 {
		h.sent = append(h.sent, p...)
	}
	h.mu.Unlock()
	return h.Conn.Write(p)
}

// hello parses the ClientHello at the beginning of a connection.
func hello(t *testing.T, sent []byte) *tlsmsg.ClientHello {
	t.Helper()
	var content []byte
	for {
		header, err := tlsmsg.ParseRecordHeader(sent)
		if err != nil {
			t.Fatal(err)
		}
		end := tlsmsg.RecordHeaderLen + int(header.Length)
		content = append(content, sent[tlsmsg.RecordHeaderLen:end]...)
		sent = sent[end:]
		msg, _, err := tlsmsg.SplitHandshake(content, tlsmsg.MaxHandshake)
		if errors.Is(err, tlsmsg.ErrShort) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		h, err := tlsmsg.ParseClientHello(msg)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
}

// Tickets come on hop 1 and, at blind, from the origin: there is something to forget.
// spec: CLI-22
func TestNoSessionIsResumedAfterConsentEnded(t *testing.T) {
	for _, level := range []Level{Intact, Blind} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			var mu sync.Mutex
			var hops []*helloTap
			inside := [][]byte{nil}
			w.via = func(toOrigin bool, p []byte) []byte {
				mu.Lock()
				defer mu.Unlock()
				if last := len(inside) - 1; toOrigin && len(inside[last]) < 16<<10 {
					inside[last] = append(inside[last], p...)
				}
				return p
			}
			var end context.CancelCauseFunc
			c := ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) {
				ctx, stop := context.WithCancelCause(context.Background())
				end = stop
				return &Agreement{Ends: ctx}, nil
			})
			tr := w.transport(func(tr *Transport) {
				tr.Consent, tr.Levels = c, []Level{level}
				tr.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := w.netDial(ctx, network, addr)
					if err != nil {
						return nil, err
					}
					tap := &helloTap{Conn: conn}
					hops = append(hops, tap)
					return tap, nil
				}
			})
			for range 3 {
				get(t, tr, "https://origin.example/")
				synctest.Wait()
				end(errTakenBack)
				synctest.Wait()
				mu.Lock()
				inside = append(inside, nil)
				mu.Unlock()
			}
			if len(hops) != 3 {
				t.Fatalf("%d hops", len(hops))
			}
			for i, sent := range append(inside[:3], hops[0].sent, hops[1].sent, hops[2].sent) {
				if h := hello(t, sent); h.HasPSK || h.EarlyData || tlsmsg.HasExtension(h.Extensions, 35) {
					t.Errorf("%s: ClientHello %d offers a session from before", level, i)
				}
			}
		})
	}
}

// A lateEnd is over before anybody who waits for it hears so.
type lateEnd struct {
	context.Context
	over atomic.Bool
}

func (e *lateEnd) Err() error {
	if e.over.Load() {
		return errTakenBack
	}
	return nil
}

// The proxy is asked again for nothing when consent ends during its 470.
// spec: CLI-21
func TestConsentEndsBetweenTwoLevels(t *testing.T) {
	w := newWorld(t)
	w.stock, w.modes = true, []fields.Mode{fields.Blind}
	end := &lateEnd{Context: context.Background()}
	w.answer = func(in hop.Incoming, req *hop.Request) bool {
		if req.Protocol != frames.Protocol {
			t.Error("a second CONNECT left")
		}
		end.over.Store(true)
		return false
	}
	c := ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) { return &Agreement{Ends: end}, nil })
	_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.Consent, tr.Levels = c, []Level{Intact, Blind} }), "https://origin.example/")
	wantTakenBack(t, err)
}

// net/http waits for the Read of a request's body before it hands over an error.
func TestAKillIsReportedWhileTheRequestsBodyStalls(t *testing.T) {
	for _, early := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			stop := make(chan struct{})
			w.onClose(sync.OnceFunc(func() { close(stop) }))
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				if early {
					http.NewResponseController(rw).EnableFullDuplex()
					io.WriteString(rw, "a part")
					rw.(http.Flusher).Flush()
				}
				<-stop
			})
			tr := w.transport(nil)
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", nil)
			var feed *io.PipeWriter
			req.Body, feed = io.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() {
				_, _, err := do(tr, req)
				var killed *KilledError
				if !errors.As(err, &killed) || killed.Rule != "no-secrets" {
					t.Errorf("%v, want the kill", err)
				}
			})
			synctest.Wait()
			w.kill(nil)
			wg.Wait()
			if _, err := feed.Write([]byte("more")); err == nil {
				t.Error("the request's body is still read")
			}
		})
	}
}

// A user who thinks takes no stream of the proxy's, for which an idle tunnel would have to go.
func TestAQuestionCostsNoTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		tr := w.transport(func(tr *Transport) {
			tr.Consent = ConsentFunc(func(_ context.Context, req *ConsentRequest) (*Agreement, error) {
				if req.Authority == "second.example:443" {
					time.Sleep(10 * roomPatience)
				}
				return new(Agreement), nil
			})
		})
		get(t, tr, "https://origin.example/")
		get(t, tr, "https://second.example/")
		synctest.Wait()
		if tr.open() != 2 {
			t.Errorf("%d tunnels, want 2", tr.open())
		}
	})
}

// Nor does one who thinks about what to take in the place of intact.
func TestAChoiceCostsNoTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		tr := w.transport(func(tr *Transport) {
			tr.Choose = func(context.Context, *Offer) (Level, error) {
				time.Sleep(10 * roomPatience)
				return "", nil
			}
		})
		get(t, tr, "https://origin.example/")
		w.stock, w.modes = true, []fields.Mode{fields.Blind}
		var level *LevelError
		if _, _, err := tryGet(t, tr, "https://second.example/"); !errors.As(err, &level) {
			t.Error(err)
		}
		synctest.Wait()
		if tr.open() != 1 {
			t.Errorf("%d tunnels, want 1", tr.open())
		}
	})
}

// Hop 1 may end while the user thinks, and the proxy's certificate may be another one afterwards.
func TestHop1MayEndDuringTheQuestion(t *testing.T) {
	for _, same := range []bool{true, false} {
		w := newWorld(t)
		other, err := pki.NewAuthority("other proxies", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var tr *Transport
		c := &asker{}
		c.say = func(*ConsentRequest) (*Agreement, error) {
			if len(c.asked) == 1 {
				s := tr.pool.dialer.hop1.current
				s.Close(hop.NoError, "")
				<-s.Done()
				if !same {
					cert, err := other.Proxy(proxyName)
					if err != nil {
						t.Error(err)
					}
					w.proxy = cert
				}
			}
			return new(Agreement), nil
		}
		tr = w.transport(func(tr *Transport) {
			tr.Consent, tr.ProxyRoots = c, pki.NewPool(w.proxies.Root, other.Root).CertPool
		})
		get(t, tr, "https://origin.example/")
		asked := c.requests()
		if want := map[bool]int{true: 1, false: 2}[same]; len(asked) != want || w.dialled() != 2 {
			t.Errorf("asked %d times, want %d; %d hops", len(asked), want, w.dialled())
		}
		if !same && asked[0].ProxyRootSPKI == asked[1].ProxyRootSPKI {
			t.Error("asked about the same root")
		}
	}
}

// A lateTrailer sets a field of the trailer when its body has been read.
type lateTrailer struct {
	io.Reader
	set func()
}

func (b *lateTrailer) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.set()
	}
	return n, err
}

func (*lateTrailer) Close() error { return nil }

// net/http sends the trailer as it is behind the body: a field that was not there when the user was asked
// is one that nobody agreed to.
// spec: CLI-5
func TestATrailerIsWhatWasAnnounced(t *testing.T) {
	for _, x := range []struct {
		name    string
		trailer http.Header
		late    string
		again   bool // the request has GetBody, as of those that are sent as one write
		ok      bool
	}{
		{"announced, and set late", http.Header{"X-After": nil}, "X-After", false, true},
		{"a credential that was not announced", http.Header{"X-After": nil}, "X-Auth-Token", false, false},
		{"one where nothing was", http.Header{}, "Cookie", false, false},
		{"of a body that can be had twice", http.Header{}, "Cookie", true, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			got := make(chan http.Header, 1)
			w.handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					got <- r.Trailer
				}
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Trailer = x.trailer
			body := &lateTrailer{strings.NewReader("body"), func() { req.Trailer.Set(x.late, "s3cret") }}
			req.Body, req.ContentLength = body, -1
			if x.again {
				req.Body = io.NopCloser(body)
				req.GetBody = func() (io.ReadCloser, error) { return req.Body, nil }
			}
			_, _, err = do(w.transport(nil), req)
			if (err == nil) != x.ok || err != nil && (!strings.Contains(err.Error(), x.late) || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("%v", err)
			}
			select {
			case trailer := <-got:
				if !x.ok || trailer.Get(x.late) != "s3cret" {
					t.Errorf("the origin got %v", trailer)
				}
			default:
				if x.ok {
					t.Error("the origin got nothing")
				}
			}
		})
	}
}

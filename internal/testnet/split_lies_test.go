package testnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/httpsig"
	"vitrine/proxy"
)

// ordinary says that req is a request of split mode, and no CONNECT.
func ordinary(req *hop.Request) bool { return req.Method != "" && req.Method != http.MethodConnect }

// about has lie change the answers to requests of split mode alone.
func about(lie func(req *hop.Request, resp *hop.Response)) func(*hop.Request, *hop.Response) {
	return func(req *hop.Request, resp *hop.Response) {
		if ordinary(req) {
			lie(req, resp)
		}
	}
}

// A priced origin answers /head with a response that is signed in its head, and /stream with one that is signed in
// its trailer section.
func priced(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "text/x-price")
	w.Header().Set("Location", "https://origin.example/other")
	w.Header().Add("Set-Cookie", "a=1")
	w.Header().Add("Set-Cookie", "b=2")
	w.Header().Set("X-Price", "100")
	if r.URL.Path == "/stream" {
		io.WriteString(w, answer[:10])
		http.NewResponseController(w).Flush()
		io.WriteString(w, answer[10:])
		return
	}
	io.WriteString(w, answer)
}

// A headLie changes what a proxy says of a response.
type headLie struct {
	name    string
	answer  func(req *hop.Request, resp *hop.Response)
	trailer func(h http.Header) http.Header
	mangler func() hostile.Mangler
	// harmless says that the client drops what was added, and has the truth.
	harmless bool
	// only is the path for which it is a lie; "" for both.
	only string
}

func headLies() []headLie {
	set := func(name, value string) func(*hop.Request, *hop.Response) {
		return func(_ *hop.Request, resp *hop.Response) { resp.Header.Set(name, value) }
	}
	add := func(name, value string) func(*hop.Request, *hop.Response) {
		return func(_ *hop.Request, resp *hop.Response) { resp.Header.Add(name, value) }
	}
	del := func(name string) func(*hop.Request, *hop.Response) {
		return func(_ *hop.Request, resp *hop.Response) { resp.Header.Del(name) }
	}
	replace := func(name, old, new string) func(*hop.Request, *hop.Response) {
		return func(_ *hop.Request, resp *hop.Response) {
			lines := slices.Clone(resp.Header.Values(name))
			for i := range lines {
				lines[i] = strings.Replace(lines[i], old, new, 1)
			}
			resp.Header[http.CanonicalHeaderKey(name)] = lines
		}
	}
	digest := httpsig.FormatDigest(sha256.Sum256([]byte(strings.Replace(answer, "100", "999", 1))))
	changed := func() hostile.Mangler { return hostile.Flip([]byte("100 crowns")) }
	return []headLie{
		{name: "another status", answer: func(_ *hop.Request, resp *hop.Response) { resp.Status = 203 }},
		{name: "another type", answer: set("Content-Type", "text/html")},
		{name: "no type", answer: del("Content-Type")},
		{name: "a coding", answer: set("Content-Encoding", "gzip")},
		{name: "another place", answer: set("Location", "https://trap.example/")},
		{name: "no place", answer: del("Location")},
		{name: "another cookie", answer: replace("Set-Cookie", "a=1", "a=2")},
		{name: "one cookie more", answer: add("Set-Cookie", "c=3")},
		{name: "one cookie less", answer: set("Set-Cookie", "a=1")},
		{name: "the cookies in another order", answer: func(_ *hop.Request, resp *hop.Response) { slices.Reverse(resp.Header["Set-Cookie"]) }},
		{name: "the cookies as one", answer: set("Set-Cookie", "a=1, b=2")},
		{name: "no cookies", answer: del("Set-Cookie")},
		{name: "another price in a field", answer: set("X-Price", "999")},
		{name: "two prices in a field", answer: add("X-Price", "999")},
		{name: "no price in a field", answer: del("X-Price")},
		{name: "a field of the proxy's own", answer: set("X-Discount", "none"), harmless: true},
		{name: "a permission", answer: set("Access-Control-Allow-Origin", "*"), harmless: true},
		{name: "content of the same length", mangler: changed},
		{name: "content and its digest", mangler: changed, answer: set("Content-Digest", digest), only: "/head"},
		{name: "content and its digest in the trailer section", mangler: changed, trailer: func(h http.Header) http.Header {
			h.Set("Content-Digest", digest)
			return h
		}, only: "/stream"},
		{name: "no digest", answer: del("Content-Digest"), only: "/head"},
		{name: "a second digest", answer: add("Content-Digest", digest), only: "/head"},
		{name: "a digest in the head as well", answer: set("Content-Digest", digest), only: "/stream", harmless: true},
		{name: "no trailer section", trailer: func(http.Header) http.Header { return nil }, only: "/stream"},
		{name: "no signature in the trailer section", trailer: func(h http.Header) http.Header { h.Del("Signature"); return h }, only: "/stream"},
		{name: "another signature in the trailer section", trailer: func(h http.Header) http.Header {
			h.Set("Signature", "vitrine=:AAAA:")
			return h
		}, only: "/stream"},
		{name: "a field more in the trailer section", trailer: func(h http.Header) http.Header { h.Set("X-Price", "999"); return h }, only: "/stream", harmless: true},
		{name: "a trailer section where there is none", trailer: func(h http.Header) http.Header {
			return http.Header{"X-Price": {"999"}}
		}, only: "/head", harmless: true},
		{name: "another signature", answer: replace("Signature", "vitrine=:", "vitrine=:AAAA"), only: "/head"},
		{name: "no signature", answer: del("Signature"), only: "/head"},
		{name: "two signatures", answer: add("Signature-Input", `other=("@status");tag="vitrine"`)},
		{name: "a signature for caches", answer: replace("Signature-Input", ";nonce=", ";nonsense=")},
		{name: "one that holds for longer", answer: replace("Signature-Input", ";expires=", ";expires=1")},
		{name: "of another key", answer: replace("Signature-Input", `;keyid="`, `;keyid="00`)},
		{name: "that covers less", answer: replace("Signature-Input", `"@status" `, "")},
		{name: "that covers no request", answer: replace("Signature-Input", `"@target-uri";req`, "")},
		{name: "other evidence", answer: set(fields.EvidenceID, fields.FormatEvidenceID([32]byte{1}))},
		{name: "two pieces of evidence", answer: add(fields.EvidenceID, fields.FormatEvidenceID([32]byte{1}))},
		{name: "malformed evidence", answer: set(fields.EvidenceID, "yes")},
	}
}

// What the origin signed is what the client gets, or it gets an error: nothing that a proxy changes in the head, the
// content or the trailer section is taken for the origin's. At attested the same lies pass, and the level says so.
func TestSplitAlteredResponses(t *testing.T) {
	t.Parallel()
	for _, x := range headLies() {
		for _, path := range []string{"/head", "/stream"} {
			if x.only != "" && x.only != path {
				continue
			}
			t.Run(x.name+", "+path, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					lies := hostile.Lies{}
					var struck atomic.Int32
					if x.answer != nil {
						lies.Answer = about(func(req *hop.Request, resp *hop.Response) {
							before := resp.Header.Clone()
							status := resp.Status
							x.answer(req, resp)
							if status != resp.Status || !maps.EqualFunc(before, resp.Header, slices.Equal) {
								struck.Add(1)
							}
						})
					}
					if x.mangler != nil {
						lies.Mangler = func(uint64) hostile.Mangler { return x.mangler() }
					}
					lies.Trailer = func(_ uint64, h http.Header) http.Header {
						if x.trailer == nil {
							return h
						}
						if h == nil {
							h = http.Header{}
						}
						struck.Add(1)
						return x.trailer(h)
					}
					n := New(t, kindSigning.inSplit(t, Config{
						Handler: http.HandlerFunc(priced), Hop1: func(s hop.Session) hop.Session { return hostile.Lie(s, lies) },
					}))
					resp, body, err := n.get(path)
					if struck.Load() == 0 && x.mangler == nil && !(path == "/head" && x.trailer != nil) {
						t.Fatal("nothing was lied about")
					}
					if !x.harmless {
						if c := class(err); c != "integrity" && !(c == "level" && strings.Contains(x.name, "for caches")) {
							t.Errorf("%s: %v: %v %q", c, err, resp, body)
						}
						return
					}
					if err != nil || string(body) != answer || resp.Header.Get("X-Price") != "100" || resp.Trailer.Get("X-Price") != "" {
						t.Fatalf("%q %v", body, err)
					}
					if resp.Header.Get("X-Discount") != "" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
						t.Errorf("%v", resp.Header)
					}
				})
			})
		}
	}
}

// Every bit-flip, cut and addition in the content of a signed response ends in an error at the latest where the
// content ends.
func TestSplitEveryByteOfASignedResponse(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/head", "/stream"} {
		t.Run(path, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var mu sync.Mutex
				var next hostile.Mangler
				n := New(t, kindSigning.inSplit(t, Config{
					Handler: http.HandlerFunc(priced), Hop1: func(s hop.Session) hop.Session {
						return hostile.Wrap(s, func(uint64) hostile.Mangler {
							mu.Lock()
							defer mu.Unlock()
							return next
						})
					},
				}))
				for i := range len(answer) {
					flip := hostile.FlipByte(int64(i), 1<<(i%8))
					mu.Lock()
					next = flip
					mu.Unlock()
					_, _, err := n.get(path)
					if c := class(err); c != "integrity" || !flip.Fired() {
						t.Errorf("byte %d: %s: %v", i, c, err)
					}
				}
				mu.Lock()
				next = nil
				mu.Unlock()
				n.mustGet(path, answer)
			})
		})
	}
}

// The same lies at attested, and the honest word about them: they pass.
func TestSplitAttestedProvesNoContent(t *testing.T) {
	for _, k := range []kind{kindStock, kindStock11, kindECDHE12, kindRSA12} {
		t.Run(string(k), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := New(t, k.inSplit(t, Config{
					Handler: http.HandlerFunc(priced),
					Hop1: func(s hop.Session) hop.Session {
						return hostile.Lie(s, hostile.Lies{
							Answer:  about(func(_ *hop.Request, resp *hop.Response) { resp.Header.Set("X-Price", "999") }),
							Mangler: func(uint64) hostile.Mangler { return hostile.Flip([]byte("100 crowns")) },
						})
					},
				}))
				resp, body, err := n.get("/")
				if err != nil || resp.Header.Get("X-Price") != "999" || string(body) == answer {
					t.Errorf("the weakness that the design admits is gone, or hidden: %q %v", body, err)
				}
				if l := client.ReportOf(resp).Level; l != splitLevel(k) || !strings.Contains(l.Words(), "read and change it") {
					t.Errorf("%s: %s", l, l.Words())
				}
			})
		})
	}
}

// Requests are the proxy's to change, at signed as well; there the response says so: it was made for another.
func TestSplitAnAlteredRequestIsFoundOutAtSigned(t *testing.T) {
	for name, change := range map[string]func(req *hop.Request){
		"another path":     func(req *hop.Request) { req.Path = "/stream?x" },
		"another method":   func(req *hop.Request) { req.Method = http.MethodPut },
		"other content":    nil,
		"another cookie":   func(req *hop.Request) { req.Header.Set("Cookie", "a=2") },
		"no cookie":        func(req *hop.Request) { req.Header.Del("Cookie") },
		"another password": func(req *hop.Request) { req.Header.Set("Authorization", "Basic b3RoZXI=") },
		"another nonce": func(req *hop.Request) {
			req.Header.Set(fields.EvidenceRequest, strings.Replace(req.Header.Get(fields.EvidenceRequest), "A", "B", 1))
		},
		"no nonce": func(req *hop.Request) { req.Header.Del(fields.EvidenceRequest) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var asked atomic.Int32
				cfg := kindSigning.inSplit(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked.Add(1)
					priced(w, r)
				})})
				tamper := cfg.Origin
				n := New(t, cfg)
				_ = tamper
				// The change is made between the proxy and the origin: a handler in front of the one that signs.
				signed := n.Server.Handler
				n.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					h := &hop.Request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header}
					if change != nil {
						change(h)
						r.Method = h.Method
						r.RequestURI = h.Path
						r.URL.Path, r.URL.RawQuery, _ = strings.Cut(h.Path, "?")
					} else {
						r.Body = io.NopCloser(bytes.NewReader([]byte("something else, that is long")))
					}
					signed.ServeHTTP(w, r)
				})
				n.Client = n.NewClient(func(_ *Net, tr *client.Transport) {
					tr.Levels, tr.Consent = []client.Level{client.Signed}, client.Once{Credentials: true}
				})
				req := n.request(n.ctx, http.MethodPost, "/head", bytes.NewReader([]byte(question)))
				req.Header.Set("Cookie", "a=1")
				req.Header.Set("Authorization", "Basic c2VjcmV0")
				_, body, err := fetch(n.Client, req)
				if c := class(err); c != "integrity" && c != "level" || len(body) != 0 && !bytes.HasPrefix([]byte(answer), body) {
					t.Errorf("%s: %v: %q", c, err, body)
				}
			})
		})
	}
}

// Evidence that does not hold, or that does not justify it, leads nowhere below intact: the origin is not asked.
func TestP6NoEvidenceLeadsBelowIntactWithoutCause(t *testing.T) {
	t.Parallel()
	sets := [][]client.Level{{client.Attested}, {client.Signed}, {client.Intact, client.Attested, client.Signed}, {client.Intact, client.Attested, client.Claimed}}
	for _, mode := range []hostile.Mode{hostile.ModeFakeEvidence, hostile.ModeStaleEvidence, hostile.ModeOtherProxy, hostile.ModeStripToken} {
		for _, k := range []kind{kindToken, kindSigning, kindStock, kindECDHE12} {
			if k == kindToken && mode != hostile.ModeStripToken {
				continue
			}
			t.Run(string(mode)+", "+string(k), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					var asked atomic.Int32
					l := newLab(t, lengths, func(cfg *Config) {
						cfg.Hop1, cfg.Hop2 = nil, nil
						cfg.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })
						*cfg = k.as(t, *cfg)
					})
					struck := l.lyingWith(mode, func(p *proxy.Proxy) { p.Policy.Modes = []fields.Mode{fields.Intact, fields.Split} })
					through := l.Client.Proxy
					for _, levels := range sets {
						l.Client = l.NewClient(func(_ *Net, tr *client.Transport) { tr.Proxy, tr.Levels = through, levels })
						before := struck()
						_, _, err := l.get("/")
						if c := class(err); c != "integrity" && c != "level" {
							t.Errorf("%v: %s: %v", levels, c, err)
						}
						if struck() == before {
							t.Errorf("%v: nothing was lied about", levels)
						}
					}
					if asked.Load() != 0 {
						t.Errorf("the origin was asked %d times", asked.Load())
					}
				})
			})
		}
	}
}

// A proxy that forces TLS 1.2 on an origin of TLS 1.3 is convicted by the origin's own signature, and one that forces
// RSA key exchange can claim and not prove.
func TestP6AForcedDowngradeJustifiesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var n *Net
		var asked atomic.Int32
		n = New(t, kindStock.inSplit(t, Config{
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }),
			Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
				return n.dialHop2(ctx, target, OriginHost, func(cfg *tls.Config) {
					cfg.MaxVersion, cfg.NextProtos = tls.VersionTLS12, []string{frames.ALPNH2, frames.ALPNRaw, "h2", "http/1.1"}
				})
			},
		}))
		for _, levels := range [][]client.Level{{client.Attested}, {client.Signed}, {client.Intact, client.Attested, client.Claimed}} {
			n.Client = n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = levels })
			_, _, err := n.get("/")
			if c := class(err); c != "integrity" && c != "level" || asked.Load() != 0 {
				t.Errorf("%v: %s: %v; the origin was asked %d times", levels, c, err, asked.Load())
			}
		}
	})
}

// What was once reached at more is not had for less without the user: intact, then a proxy whose origin speaks no
// inner sessions any more; signed, then responses without a signature.
func TestSplitALowerOfferNeedsTheUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var signs atomic.Bool
		signs.Store(true)
		n := New(t, kindSigning.inSplit(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "hello")
		}), Hop1: answers(about(func(_ *hop.Request, resp *hop.Response) {
			if !signs.Load() {
				resp.Header.Del("Signature")
				resp.Header.Del("Signature-Input")
			}
		}))}))
		n.Client = n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = []client.Level{client.Signed, client.Attested} })
		if l := n.mustGet("/", "hello").Level; l != client.Signed {
			t.Fatal(l)
		}
		signs.Store(false)
		_, _, err := n.get("/")
		wantError[*client.LevelError](t, err)
		fresh := n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = []client.Level{client.Signed, client.Attested} })
		resp, _, err := fetch(fresh, n.request(n.ctx, http.MethodGet, "/", nil))
		if err != nil || client.ReportOf(resp).Level != client.Attested {
			t.Errorf("who never saw a signature: %v", err)
		}
	})
}

// A response that was signed for everybody can be shown again until it expires; the report says until when.
func TestSplitAPublicResponseSaysHowLongItCanBeReplayed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var kept atomic.Pointer[hop.Response]
		n := New(t, kindSigning.inSplit(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=600")
				io.WriteString(w, answer)
			}),
			Hop1: answers(about(func(req *hop.Request, resp *hop.Response) {
				if first := kept.Load(); first == nil {
					kept.Store(resp)
				} else {
					id := resp.Header.Get(fields.EvidenceID)
					resp.Header = first.Header.Clone()
					resp.Header.Set(fields.EvidenceID, id)
				}
			})),
		}))
		for i := range 2 {
			resp, body, err := n.get("/")
			rep := client.ReportOf(resp)
			fresh := rep != nil && rep.Signature != nil && rep.Signature.Fresh
			switch {
			case i == 0 && (err != nil || string(body) != answer || rep.Level != client.Signed):
				t.Fatalf("%q %v", body, err)
			case i == 1 && fresh:
				t.Error("a replay counts as fresh")
			case !fresh && (err != nil || !rep.Signature.ReplayableUntil.After(time.Now())):
				// The origin signed it for this request alone: then the replay is refused.
				if class(err) != "integrity" {
					t.Errorf("%v %+v", err, rep)
				}
			}
		}
	})
}

// Each lie of the liar's, at each level: at signed it is found out, and at attested it is not.
func TestSplitEveryModeAtEveryLevel(t *testing.T) {
	t.Parallel()
	for _, mode := range hostile.Modes() {
		if !mode.Split() {
			continue
		}
		for _, k := range splitKinds() {
			for _, path := range []string{"/head", "/stream"} {
				t.Run(fmt.Sprintf("%s, %s, %s", mode, k, path), func(t *testing.T) {
					bubble(t, func(t *testing.T) {
						l := newLab(t, lengths, func(cfg *Config) {
							cfg.Hop1, cfg.Hop2, cfg.Handler = nil, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
								w.Header().Set("X-Copy", r.Header.Get("X-Copy"))
								priced(w, r)
							})
							*cfg = k.as(t, *cfg)
						})
						struck := l.lyingWith(mode, func(p *proxy.Proxy) { p.Policy.Modes = []fields.Mode{fields.Intact, fields.Split} })
						through := l.Client.Proxy
						l.Client = l.NewClient(func(_ *Net, tr *client.Transport) {
							tr.Proxy, tr.Levels = through, []client.Level{splitLevel(k)}
						})
						for i := range 3 {
							resp, body, err := l.get(path)
							want := "success"
							if k == kindSigning {
								want = "integrity"
							}
							if c := class(err); c != want {
								t.Errorf("%s, want %s: %v", c, want, err)
							}
							if err == nil && mode != hostile.ModeSplitReplay && string(body) == answer {
								t.Errorf("the lie is the truth: %v %q", resp.Header, body)
							}
							if struck() != i+1 {
								t.Errorf("struck %d times in %d exchanges", struck(), i+1)
							}
						}
					})
				})
			}
		}
	}
}

// A proxy that sends the request on another connection than the evidence's. To the same origin nobody notices, and
// at signed it would change nothing: the origin signs what it answers, for this very request. To a server with
// another key it is found out at signed, and at no level that proves no content.
func TestSplitAnotherConnectionThanTheEvidences(t *testing.T) {
	for _, x := range []struct {
		name    string
		k       kind
		another bool // server
		want    string
	}{
		{"the same origin, signing", kindSigning, false, "success"},
		{"the same origin", kindStock, false, "success"},
		{"another server, signing", kindSigning, true, "integrity"},
		{"another server", kindStock, true, "success"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var n *Net
				var swapped atomic.Int32
				n = New(t, x.k.inSplit(t, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if x.another {
							t.Error("the origin was asked")
						}
						priced(w, r)
					}),
					Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
						up, err := n.Proxy.Dial(ctx, target)
						if err != nil || up.HTTP == nil {
							return up, err
						}
						host := OriginHost
						if x.another {
							host = "other.example"
						}
						conn, err := n.DialContext(ctx, "tcp", host+":443")
						if err != nil {
							up.Close()
							return nil, err
						}
						tc := tls.Client(conn, &tls.Config{RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{up.State.NegotiatedProtocol}})
						if err := tc.HandshakeContext(ctx); err != nil {
							up.Close()
							return nil, err
						}
						up.HTTP.Close()
						up.HTTP = tc
						swapped.Add(1)
						return up, nil
					},
				}))
				cert := n.certificate(n.Origins.Origin(OriginHost))
				srv := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
				srv.Handler = n.sign(http.HandlerFunc(priced), srv.TLSConfig)
				ln := n.Listen("other.example")
				n.run(func() error { return srv.ServeTLS(ln, "", "") }, srv.Close)
				resp, _, err := n.get("/head")
				if c := class(err); c != x.want || swapped.Load() != 1 {
					t.Fatalf("%s after %d swaps: %v", c, swapped.Load(), err)
				}
				if err == nil {
					if rep := client.ReportOf(resp); rep.Level != splitLevel(x.k) || rep.Signature != nil && !rep.Signature.Fresh {
						t.Errorf("%+v", rep)
					}
				}
			})
		})
	}
}

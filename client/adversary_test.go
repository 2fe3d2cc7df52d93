package client

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/hop"
	"vitrine/internal/tlsmsg"
)

// spec: CLI-13
func TestKilled(t *testing.T) {
	tests := []struct {
		name     string
		forge    func(w *world) func(*frames.VerdictTBS, *tls.Certificate)
		verified bool
	}{
		{"with a verdict", func(*world) func(*frames.VerdictTBS, *tls.Certificate) { return nil }, true},
		{"signed by another proxy", func(w *world) func(*frames.VerdictTBS, *tls.Certificate) {
			return func(_ *frames.VerdictTBS, cert *tls.Certificate) { *cert, _ = w.proxies.Proxy(proxyName) }
		}, false},
		{"with the verdict of another tunnel", func(*world) func(*frames.VerdictTBS, *tls.Certificate) {
			return func(tbs *frames.VerdictTBS, _ *tls.Certificate) { tbs.Nonce[0] ^= 1 }
		}, false},
		{"with a verdict about another authority", func(*world) func(*frames.VerdictTBS, *tls.Certificate) {
			return func(tbs *frames.VerdictTBS, _ *tls.Certificate) { tbs.Authority = "second.example:443" }
		}, false},
	}
	for _, tt := range tests {
		for _, midBody := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, mid-body %v", tt.name, midBody), func(t *testing.T) {
				w := newWorld(t)
				read := make(chan struct{})
				w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if midBody {
						rw.Header().Set("Content-Length", "1000")
						io.WriteString(rw, "first part")
						rw.(http.Flusher).Flush()
						<-read
					}
					w.kill(tt.forge(w))
					<-r.Context().Done()
				})
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
				resp, err := w.transport(nil).RoundTrip(req)
				var r *Report
				if midBody {
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
						t.Fatal(err)
					}
					close(read)
					_, err = resp.Body.Read(make([]byte, 10))
					r = ReportOf(resp)
				}
				var killed *KilledError
				if !errors.As(err, &killed) {
					t.Fatalf("%v, want a KilledError", err)
				}
				if r == nil {
					r = killed.Report
				}
				if killed.Report != r || ReportOfError(err) != r {
					t.Error("the error's report is not the exchange's")
				}
				if killed.SignatureVerified != tt.verified || r.Killed == nil || r.Killed.SignatureVerified != tt.verified {
					t.Errorf("signature verified %v, report %+v; want %v", killed.SignatureVerified, r.Killed, tt.verified)
				}
				rule, reason := "no-secrets", "the page has a secret in it"
				if !tt.verified {
					rule, reason = "", ""
				}
				if killed.Rule != rule || killed.Reason != reason || r.Killed.Rule != rule || r.Killed.Reason != reason {
					t.Errorf("rule %q, reason %q; want %q, %q", killed.Rule, killed.Reason, rule, reason)
				}
				if r.Level != Intact || r.Error == "" || killed.Proxy != proxyName {
					t.Errorf("report %+v", r)
				}
				if midBody && (r.Bytes != 10 || r.BodySHA256 == "" || r.Status != 200) {
					t.Errorf("report %+v", r)
				}
			})
		}
	}
}

// The attack on net/http's own pool: a killed request on a reused connection would be repeated.
//
// spec: CLI-14
func TestKillOnAReusedTunnelReachesTheOriginOnce(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	get(t, tr, "https://origin.example/1")
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.kill(nil)
		<-r.Context().Done()
	})
	_, _, err := tryGet(t, tr, "https://origin.example/2")
	var killed *KilledError
	if !errors.As(err, &killed) || !killed.SignatureVerified {
		t.Fatalf("%v, want a KilledError", err)
	}
	if n := w.took(); n != 2 {
		t.Errorf("the origin saw %d requests, want 2", n)
	}
	if w.opened() != 1 {
		t.Errorf("%d tunnels, want 1", w.opened())
	}
}

func TestKillTouchesNoSibling(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	started, finish := make(chan struct{}), make(chan struct{})
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.kill(nil)
			<-r.Context().Done()
			return
		}
		io.WriteString(rw, "first ")
		rw.(http.Flusher).Flush()
		close(started)
		<-finish
		io.WriteString(rw, "second")
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, body, err := tryGet(t, tr, "https://origin.example/good")
		if err != nil || string(body) != "first second" {
			t.Errorf("sibling: %q, %v", body, err)
		}
	})
	<-started
	_, _, err := tryGet(t, tr, "https://origin.example/bad")
	var killed *KilledError
	if !errors.As(err, &killed) {
		t.Errorf("%v, want a KilledError", err)
	}
	close(finish)
	wg.Wait()
	if w.dialled() != 1 {
		t.Errorf("%d hops, want both on 1", w.dialled())
	}
}

// Every byte that passes is changed once, in either direction. Nothing else than the origin's words may
// come out as a success; only what TLS itself has receivers ignore may still succeed.
//
// spec: CLI-15
func TestFlippedByteIsNeverAccepted(t *testing.T) {
	const secret = "the origin's own words"
	once := func(t *testing.T, toOrigin bool, at int64) (total int64, err error) {
		w := newWorld(t)
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/path" || r.Header.Get("X-Word") != "word" {
				t.Errorf("flip at %d: the origin took a changed request: %s %v", at, r.URL, r.Header)
			}
			io.WriteString(rw, secret)
		})
		var seen int64
		var mu sync.Mutex
		w.via = func(dir bool, p []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if dir != toOrigin {
				return p
			}
			if i := at - seen; i >= 0 && i < int64(len(p)) {
				p = bytes.Clone(p)
				p[i] ^= 0x10
			}
			seen += int64(len(p))
			return p
		}
		tr := w.transport(func(tr *Transport) { tr.ResponseTimeout = time.Minute })
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/path", nil)
		req.Header.Set("X-Word", "word")
		_, body, err := do(tr, req)
		if err == nil && string(body) != secret {
			t.Errorf("flip at %d: accepted %q", at, body)
		}
		mu.Lock()
		total = seen
		mu.Unlock()
		tr.Close()
		w.close()
		return total, err
	}
	// A record that is made longer is waited for, which costs nothing in a bubble.
	run := func(t *testing.T, toOrigin bool, at int64) (total int64, err error) {
		synctest.Test(t, func(t *testing.T) { total, err = once(t, toOrigin, at) })
		return total, err
	}
	for _, toOrigin := range []bool{true, false} {
		total, err := run(t, toOrigin, -1)
		if err != nil {
			t.Fatal(err)
		}
		stride := int64(13)
		if testing.Short() {
			stride = 97
		}
		caught := 0
		for at := int64(0); at < total; at += stride {
			_, err := run(t, toOrigin, at)
			if err == nil {
				continue
			}
			caught++
			var i *IntegrityError
			var tr *TrustError
			var u *UnreachableError
			var stalled net.Error
			if !errors.As(err, &i) && !errors.As(err, &tr) && !errors.As(err, &u) && !(errors.As(err, &stalled) && stalled.Timeout()) {
				t.Errorf("flip at %d of %d, to the origin %v: untyped error %v", at, total, toOrigin, err)
			}
		}
		if caught == 0 {
			t.Errorf("to the origin %v: no flip was caught", toOrigin)
		}
	}
}

// spec: CLI-15
func TestFlippedBodyByteIsAnIntegrityError(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, strings.Repeat("good ", 10))
	})
	w.via = func(toOrigin bool, p []byte) []byte {
		if i := bytes.Index(p, []byte("good good")); !toOrigin && i >= 0 {
			p = bytes.Clone(p)
			p[i] = 'f'
		}
		return p
	}
	_, body, err := tryGet(t, w.transport(nil), "https://origin.example/")
	var integrity *IntegrityError
	if !errors.As(err, &integrity) {
		t.Fatalf("%q, %v; want an IntegrityError", body, err)
	}
	if integrity.Report == nil || integrity.Report.Error == "" || integrity.Report.Level != Intact {
		t.Errorf("report %+v", integrity.Report)
	}
}

func TestFlippedRequestByteIsAnIntegrityError(t *testing.T) {
	w := newWorld(t)
	w.via = func(toOrigin bool, p []byte) []byte {
		if i := bytes.Index(p, []byte("GET /page")); toOrigin && i >= 0 {
			p = bytes.Clone(p)
			p[i+5] = 'x'
		}
		return p
	}
	_, _, err := tryGet(t, w.transport(nil), "https://origin.example/page")
	var integrity *IntegrityError
	if !errors.As(err, &integrity) {
		t.Fatalf("%v, want an IntegrityError", err)
	}
	if w.took() != 0 {
		t.Error("the origin took the request")
	}
}

// cutAfter drops all that comes from the origin behind the record that has text in it.
func cutAfter(text string) func(bool, []byte) []byte {
	var cut atomic.Bool
	return func(toOrigin bool, p []byte) []byte {
		if toOrigin {
			return p
		}
		if cut.Load() {
			return nil
		}
		if i := bytes.Index(p, []byte(text)); i >= 0 {
			cut.Store(true)
			return p[:i+len(text)+1+32] // content type and tag
		}
		return p
	}
}

func rawResponse(text string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		conn, buf, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		buf.WriteString(text)
		buf.Flush()
		conn.Close()
	}
}

// spec: CLI-15
func TestTruncation(t *testing.T) {
	for _, tt := range []struct {
		name, response, cut string
		blind, want         bool // want: an IntegrityError
	}{
		{"a body that its connection ends, uncut", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart", "", false, false},
		{"a body that its connection ends, cut", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart", "part", false, true},
		{"a complete body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npart", "part", false, false},
		{"a body shorter than its length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart", "part", false, true},
		{"a chunked body without its end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart", "part", false, true},
		{"the head", "HTTP/1.1 200 OK\r\nX-Half: ", "Half: ", false, true},
		{"an uncut sealed tunnel", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart", "", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.handler = rawResponse(tt.response)
			if tt.cut != "" {
				w.via = cutAfter(tt.cut)
			}
			tr := w.transport(func(tr *Transport) {
				if tt.blind {
					tr.Levels = []Level{Blind}
				}
			})
			resp, body, err := tryGet(t, tr, "https://origin.example/")
			var integrity *IntegrityError
			if errors.As(err, &integrity) != tt.want {
				t.Fatalf("%q, %v; want an IntegrityError: %v", body, err, tt.want)
			}
			if tt.want {
				return
			}
			if err != nil || string(body) != "part" {
				t.Errorf("%q, %v", body, err)
			}
			if r := ReportOf(resp); r.Error != "" {
				t.Errorf("report %+v", r)
			}
		})
	}
}

// An origin that breaks its own promise and says goodbye is no attack.
func TestShortBodyWithCloseNotifyIsNotAnIntegrityError(t *testing.T) {
	w := newWorld(t)
	w.handler = rawResponse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart")
	_, _, err := tryGet(t, w.transport(nil), "https://origin.example/")
	var integrity *IntegrityError
	if err == nil || errors.As(err, &integrity) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, want io.ErrUnexpectedEOF alone", err)
	}
	if ReportOfError(err) == nil {
		t.Error("no report")
	}
}

// spec: CLI-15
func TestSealedTunnelCutAtARecordIsAnIntegrityError(t *testing.T) {
	w := newWorld(t)
	first := make(chan struct{})
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connection", "close")
		rw.Header().Set("Transfer-Encoding", "identity")
		io.WriteString(rw, "part")
		rw.(http.Flusher).Flush()
		<-first
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tunnels[0].stream.CloseSend() // the proxy ends the stream, and no close_notify ever passes
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	resp, err := w.transport(func(tr *Transport) { tr.Levels = []Level{Blind} }).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	close(first)
	_, err = io.ReadAll(resp.Body)
	var integrity *IntegrityError
	if !errors.As(err, &integrity) {
		t.Errorf("%v, want an IntegrityError", err)
	}
}

// Who can end a TCP connection can cut at a record, without a proxy too.
func TestDirectBodyCutAtARecordIsAnIntegrityError(t *testing.T) {
	for _, polite := range []bool{true, false} {
		w := newWorld(t)
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			conn, buf, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			buf.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart")
			buf.Flush()
			if !polite {
				conn.(*closeConn).Conn.(*tls.Conn).NetConn().Close()
			}
			conn.Close()
		})
		_, body, err := tryGet(t, w.transport(func(tr *Transport) { tr.Levels = []Level{Direct} }), "https://origin.example/")
		var integrity *IntegrityError
		if polite && (err != nil || string(body) != "part") || !polite && !errors.As(err, &integrity) {
			t.Errorf("close_notify %v: %q, %v", polite, body, err)
		}
	}
}

// A proxy that ends hop 1 with an alert does not speak for the origin.
//
// spec: CLI-15
func TestAlertOnHop1IsNoneOfTheOrigins(t *testing.T) {
	for _, alert := range []tls.AlertError{42, 49, 116, 20} {
		hop1 := &hop.SessionError{Remote: true, Err: &net.OpError{Op: "remote error", Err: alert}}
		for _, level := range []Level{Intact, Blind} {
			tun := &Tunnel{level: level}
			var integrity *IntegrityError
			if err := tun.typed(hop1); !errors.As(err, &integrity) || strings.Contains(integrity.What, "origin ended") {
				t.Errorf("%s: %v, want an IntegrityError", level, err)
			}
		}
	}
}

// spec: CLI-15
func TestResetWithoutKillIsAnIntegrityError(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		tun := w.tunnels[0]
		w.mu.Unlock()
		tun.stream.Reset(hop.Cancel)
		tun.back.Close()
		<-r.Context().Done()
	})
	_, _, err := tryGet(t, w.transport(nil), "https://origin.example/")
	var integrity *IntegrityError
	if !errors.As(err, &integrity) {
		t.Errorf("%v, want an IntegrityError", err)
	}
}

// spec: CLI-7 CLI-8 CLI-9
func TestEvidenceThatIsNotAboutThisTunnel(t *testing.T) {
	var stolen []byte // from another tunnel of the same proxy
	tests := []struct {
		name string
		lie  func(w *world)
	}{
		{"none", func(w *world) { w.evidence = func([]byte) []byte { return nil } }},
		{"garbage", func(w *world) { w.evidence = func([]byte) []byte { return []byte("garbage") } }},
		{"cut short", func(w *world) { w.evidence = func(raw []byte) []byte { return raw[:len(raw)-1] } }},
		{"replayed", func(w *world) { w.evidence = func([]byte) []byte { return stolen } }},
		{"one byte changed", func(w *world) {
			w.evidence = func(raw []byte) []byte {
				raw = bytes.Clone(raw)
				raw[len(raw)/2] ^= 1
				return raw
			}
		}},
		{"about another hop 2 than the inner session", func(w *world) { w.otherHop = true }},
	}
	honest := newWorld(t)
	honest.evidence = func(raw []byte) []byte { stolen = bytes.Clone(raw); return raw }
	get(t, honest.transport(nil), "https://origin.example/")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.origins, w.proxies, w.proxy, w.origin = honest.origins, honest.proxies, honest.proxy, honest.origin
			tt.lie(w)
			_, _, err := tryGet(t, w.transport(nil), "https://origin.example/")
			var integrity *IntegrityError
			if !errors.As(err, &integrity) {
				t.Fatalf("%v, want an IntegrityError", err)
			}
			if e := integrity.Report.Evidence; e != nil && e.Verified && !w.otherHop {
				t.Errorf("report says that it was verified: %+v", e)
			}
			if w.took() != 0 {
				t.Error("a request left")
			}
		})
	}
}

// spec: CLI-1
func TestNothingButTheInnerHelloLeavesBeforeEvidence(t *testing.T) {
	w := newWorld(t)
	w.evidence = func(raw []byte) []byte { return raw[:len(raw)-1] }
	w.via = func(toOrigin bool, p []byte) []byte {
		if toOrigin {
			t.Errorf("%d bytes left for the origin", len(p))
		}
		return p
	}
	if _, _, err := tryGet(t, w.transport(nil), "https://origin.example/"); err == nil {
		t.Error("accepted")
	}
}

// spec: CLI-7
func TestNonceIsFreshForEveryCONNECT(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(func(tr *Transport) { tr.IdleTimeout = -1 })
	seen := make(map[[32]byte]bool)
	for range 5 {
		get(t, tr, "https://origin.example/")
	}
	for _, tun := range w.tunnels {
		if seen[tun.nonce] || tun.nonce == [32]byte{} {
			t.Errorf("nonce %x again", tun.nonce)
		}
		seen[tun.nonce] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d nonces for 5 tunnels", len(seen))
	}
}

// spec: CLI-9 CLI-12
func TestConfirmComparesWhatOriginAndProxySayOfHop2(t *testing.T) {
	answer := tlsmsg.InspectionAnswer{HopPeer: 1, HopVersion: tls.VersionTLS13, HopSuite: tls.TLS_AES_128_GCM_SHA256, HopALPN: frames.ALPNH2, HopID: [32]byte{1}}
	result := evidence.Result{
		Kind: evidence.Authenticator, HopID: answer.HopID, Answer: &answer,
		Hop: evidence.Hop{Version: answer.HopVersion, Suite: answer.HopSuite, ALPN: answer.HopALPN},
	}
	for _, tt := range []struct {
		name string
		set  func(r *evidence.Result, a *tlsmsg.InspectionAnswer)
		want bool
		fail bool
	}{
		{"equal", func(*evidence.Result, *tlsmsg.InspectionAnswer) {}, true, false},
		{"version", func(_ *evidence.Result, a *tlsmsg.InspectionAnswer) { a.HopVersion = tls.VersionTLS12 }, false, true},
		{"suite", func(_ *evidence.Result, a *tlsmsg.InspectionAnswer) { a.HopSuite++ }, false, true},
		{"ALPN", func(_ *evidence.Result, a *tlsmsg.InspectionAnswer) { a.HopALPN = frames.ALPNRaw }, false, true},
		{"hop_id", func(_ *evidence.Result, a *tlsmsg.InspectionAnswer) { a.HopID[0]++ }, false, true},
		{"hop_peer", func(_ *evidence.Result, a *tlsmsg.InspectionAnswer) { a.HopPeer = 0 }, false, true},
		{"no certificate on hop 2", func(r *evidence.Result, a *tlsmsg.InspectionAnswer) {
			a.HopPeer = 0
			other := *a
			r.Answer = &other
		}, false, false},
		{"authenticator without an answer", func(r *evidence.Result, _ *tlsmsg.InspectionAnswer) { r.Answer = nil }, false, false},
		{"transcript", func(r *evidence.Result, _ *tlsmsg.InspectionAnswer) {
			r.Kind, r.Answer, r.HopID = evidence.Transcript, nil, [32]byte{}
		}, false, false},
		{"transcript of another ALPN", func(r *evidence.Result, a *tlsmsg.InspectionAnswer) {
			r.Kind, r.Answer, a.HopALPN = evidence.Transcript, nil, "h2"
		}, false, true},
	} {
		r, a := result, answer
		tt.set(&r, &a)
		got, err := confirm(&r, &a)
		if got != tt.want || (err != nil) != tt.fail {
			t.Errorf("%s: confirmed %v, %v; want %v, failure %v", tt.name, got, err, tt.want, tt.fail)
		}
	}
	if got, err := confirm(&result, nil); got || err != nil {
		t.Errorf("no answer: %v, %v", got, err)
	}
}

// Without an answer in the inner session nothing is confirmed, and nothing is wrong.
//
// spec: CLI-12
func TestNoAnswerIsIntactAndNotConfirmed(t *testing.T) {
	w := newWorld(t)
	w.noAnswer = true
	resp, _ := get(t, w.transport(nil), "https://origin.example/")
	if r := ReportOf(resp); r.Level != Intact || r.Inner.Confirmed {
		t.Errorf("report %+v, inner %+v", r, r.Inner)
	}
}

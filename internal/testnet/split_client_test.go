package testnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// A kept is what a client knows of a connection that the proxy keeps for it.
type kept struct {
	s  hop.Session
	id [32]byte
}

// probe asks the proxy on s for evidence, which it keeps.
func (n *Net) probe(s hop.Session, authority string) kept {
	n.Helper()
	req, _ := n.connectRequest(authority)
	resp, st, err := s.Open(n.ctx, req)
	if err != nil || st != nil || resp.Status != frames.StatusInspectionRequired || len(resp.Evidence) == 0 {
		n.Fatalf("CONNECT: %+v %v", resp, err)
	}
	if !strings.Contains(resp.Header.Get(fields.InspectionOptions), "split") {
		n.Fatalf("on offer: %q", resp.Header.Get(fields.InspectionOptions))
	}
	return kept{s: s, id: sha256.Sum256(resp.Evidence)}
}

// request is what an honest client would send.
func (k kept) request(n *Net, authority, path string) *hop.Request {
	n.Helper()
	connect, _ := n.connectRequest(OriginHost + ":443")
	h := connect.Header
	h.Set(fields.EvidenceID, fields.FormatEvidenceID(k.id))
	return &hop.Request{Method: http.MethodGet, Authority: authority, Path: path, Header: h}
}

// send sends req without content and returns the status of the answer, 0 where there is none, and whether it is the
// origin's.
func (n *Net) send(s hop.Session, req *hop.Request) (status int, forwarded bool) {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
	defer cancel()
	asked, err := s.(hop.Requester).Request(ctx, req, true)
	if err != nil {
		return 0, false
	}
	conn := hop.NewConn(asked)
	defer conn.Close()
	resp, err := asked.Response(ctx, nil)
	if err != nil {
		return 0, false
	}
	io.Copy(io.Discard, conn)
	return resp.Status, len(resp.Header.Values(fields.EvidenceID)) > 0
}

// asked keeps what an origin was asked.
type asked struct {
	mu  sync.Mutex
	all []string
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, r.Method+" "+r.Host+" "+r.RequestURI)
	io.WriteString(w, "hello")
}

func (a *asked) taken() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.all
	a.all = nil
	return taken
}

// A client that names evidence which is not its own, or none, or says things that two parsers could read in two
// ways, gets nothing of it to any origin: at most it gets new evidence.
func TestSplitAHostileClientsRequestsReachNoOrigin(t *testing.T) {
	t.Parallel()
	const second = "second.example"
	for _, k := range []kind{kindStock, kindStock11, kindECDHE12} {
		t.Run(string(k), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var a asked
				n := New(t, k.inSplit(t, Config{Handler: &a, Names: []string{OriginHost, second}}))
				own := n.probe(n.hop1(), OriginHost+":443")
				other := n.probe(n.hop1(), OriginHost+":443")
				elsewhere := n.probe(own.s, second+":443")
				for name, change := range map[string]func(req *hop.Request){
					"no evidence":                  func(req *hop.Request) { req.Header.Del(fields.EvidenceID) },
					"unknown evidence":             func(req *hop.Request) { req.Header.Set(fields.EvidenceID, fields.FormatEvidenceID([32]byte{})) },
					"another client's evidence":    func(req *hop.Request) { req.Header.Set(fields.EvidenceID, fields.FormatEvidenceID(other.id)) },
					"another authority's evidence": func(req *hop.Request) { req.Header.Set(fields.EvidenceID, fields.FormatEvidenceID(elsewhere.id)) },
					"two pieces of evidence": func(req *hop.Request) {
						req.Header.Add(fields.EvidenceID, fields.FormatEvidenceID(elsewhere.id))
					},
					"malformed evidence":              func(req *hop.Request) { req.Header.Set(fields.EvidenceID, "1") },
					"no request for evidence":         func(req *hop.Request) { req.Header.Del(fields.EvidenceRequest) },
					"a malformed request for it":      func(req *hop.Request) { req.Header.Set(fields.EvidenceRequest, ":AAAA:") },
					"two of them":                     func(req *hop.Request) { req.Header.Add(fields.EvidenceRequest, req.Header.Get(fields.EvidenceRequest)) },
					"a request for another authority": func(req *hop.Request) { req.Authority = second },
					"another port":                    func(req *hop.Request) { req.Authority = OriginHost + ":8443" },
					"no authority":                    func(req *hop.Request) { req.Authority = "" },
					"an authority of two lines":       func(req *hop.Request) { req.Authority = OriginHost + "\r\nX: y" },
					"a user in it":                    func(req *hop.Request) { req.Authority = "user@" + OriginHost },
					"another host beside it":          func(req *hop.Request) { req.Header.Set("Host", second) },
					"a path of two lines":             func(req *hop.Request) { req.Path = "/ HTTP/1.1\r\nHost: " + second + "\r\n\r\nGET /" },
					"a path with a space":             func(req *hop.Request) { req.Path = "/ HTTP/1.1" },
					"a path that is none":             func(req *hop.Request) { req.Path = "x" },
					"a whole URL for a path":          func(req *hop.Request) { req.Path = "https://" + second + "/" },
					"a method of two words":           func(req *hop.Request) { req.Method = "GET /x" },
					"a method of two lines":           func(req *hop.Request) { req.Method = "GET / HTTP/1.1\r\nX:" },
					"a field of two lines":            func(req *hop.Request) { req.Header.Set("X", "a\r\nY: b") },
					"a field with a NUL":              func(req *hop.Request) { req.Header.Set("X", "a\x00b") },
					"a field that is chunked":         func(req *hop.Request) { req.Header.Set("Transfer-Encoding", "chunked") },
					"a field that upgrades":           func(req *hop.Request) { req.Header.Set("Upgrade", "h2c") },
					"a field that is per hop":         func(req *hop.Request) { req.Header.Set("Connection", "close") },
					"content that does not come":      func(req *hop.Request) { req.Header.Set("Content-Length", "5") },
					"two lengths":                     func(req *hop.Request) { req.Header["Content-Length"] = []string{"0", "1"} },
					"a length that is none":           func(req *hop.Request) { req.Header.Set("Content-Length", "+0") },
					"a loop":                          func(req *hop.Request) { req.Header.Set("Via", "2 "+ProxyHost) },
				} {
					req := own.request(n, OriginHost, "/x")
					change(req)
					status, forwarded := n.send(own.s, req)
					synctest.Wait()
					if all := a.taken(); len(all) > 0 || forwarded || status == http.StatusOK {
						t.Errorf("%s: %d, and the origin was asked %q", name, status, all)
					}
					if own.s.Err() != nil { // what no stream may say ends the connection
						own = n.probe(n.hop1(), OriginHost+":443")
						elsewhere = n.probe(own.s, second+":443")
					} else if status == frames.StatusInspectionRequired || status == 0 {
						own = n.probe(own.s, OriginHost+":443")
					}
				}
				req := own.request(n, OriginHost, "/the%20last?a=b&c")
				if status, forwarded := n.send(own.s, req); status != http.StatusOK || !forwarded {
					t.Errorf("an honest request: %d", status)
				}
				if all := a.taken(); !slices.Equal(all, []string{"GET " + OriginHost + " /the%20last?a=b&c"}) {
					t.Errorf("the origin was asked %q", all)
				}
			})
		})
	}
}

// What is hop-by-hop, or the proxy's own, stays on its hop; all else gets through as it was, in both directions.
func TestSplitFieldsGetThroughAsTheyWere(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		var got http.Header
		n := New(t, k.inSplit(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Clone()
			h := w.Header()
			h["Date"], h["Evidence-Id"] = []string{"Sun, 22 Nov 2026 07:00:00 GMT"}, []string{"forged"}
			h["Proxy-Authenticate"], h["X-Many"] = []string{"Basic"}, []string{"a", "b, c", ""}
			h.Set("Content-Type", "text/plain")
			io.WriteString(w, "hello")
		})}))
		req := n.request(n.ctx, http.MethodGet, "/", nil)
		req.Header["X-Many"] = []string{"1", "2, 3", ""}
		req.Header["User-Agent"], req.Header["Accept-Encoding"] = []string{"somebody/1"}, []string{"br"}
		resp, body, err := fetch(n.Client, req)
		if err != nil || string(body) != "hello" {
			t.Fatalf("%q %v", body, err)
		}
		if !slices.Equal(got["X-Many"], req.Header["X-Many"]) || got.Get("User-Agent") != "somebody/1" || !slices.Equal(got["Accept-Encoding"], []string{"br"}) {
			t.Errorf("the origin got %v", got)
		}
		for _, name := range []string{"Connection", "Evidence-Id", "Te", "Keep-Alive", "Proxy-Connection"} {
			if _, ok := got[name]; ok && name != "Te" {
				t.Errorf("%s got to the origin: %q", name, got[name])
			}
		}
		many := []string{"a", "b, c", ""}
		if k == kindSigning {
			many = []string{"a, b, c, "} // one value is signed
		}
		if !slices.Equal(resp.Header["X-Many"], many) && !slices.Equal(resp.Header["X-Many"], []string{"a, b, c,"}) {
			t.Errorf("X-Many %q", resp.Header["X-Many"])
		}
		if resp.Header.Get("Evidence-Id") != "" || resp.Header.Get("Via") == "" {
			t.Errorf("%v", resp.Header)
		}
	})
}

// A client that sends content without end to an origin that does not read holds no more than the windows.
func TestSplitASlowOriginBoundsWhatIsTaken(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		release := make(chan struct{})
		n := New(t, k.inSplit(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-release
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "hello")
		})}))
		s := n.hop1()
		own := n.probe(s, OriginHost+":443")
		req := own.request(n, OriginHost, "/")
		req.Method = http.MethodPut
		a, err := s.(hop.Requester).Request(n.ctx, req, false)
		if err != nil {
			t.Fatal(err)
		}
		conn := hop.NewConn(a)
		defer conn.Close()
		conn.SetWriteDeadline(time.Now().Add(10 * time.Second)) // the bubble's clock
		sent := 0
		for block := pattern(64 << 10); ; {
			m, err := conn.Write(block)
			sent += m
			if err != nil {
				break
			}
			if sent > 32<<20 {
				t.Fatal("32 MB were taken from a client, and the origin has read none")
			}
		}
		close(release)
		conn.SetWriteDeadline(time.Time{})
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, err := a.Response(n.ctx, nil)
		body, _ := io.ReadAll(conn)
		if err != nil || resp.Status != http.StatusOK || !bytes.Equal(body, []byte("hello")) {
			t.Errorf("%+v %q %v", resp, body, err)
		}
	})
}

package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/verdict"
)

// A connection to one port of a host is not for requests to another, whose evidence would have been of it.
//
// spec: PRX-55
func TestAKeptConnectionIsForItsAuthorityAlone(t *testing.T) {
	const other = originName + ":8443"
	st := newStage(t, withSplit, func(p *Proxy) { p.Targets.Ports = []int{443, 8443} })
	origin := st.stock(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "h2")
	st.mu.Lock()
	st.listeners["192.0.1.1:8443"] = st.listeners["192.0.1.1:443"]
	st.mu.Unlock()
	c := st.split()
	resp, _ := c.get("/", func(r *hop.Request) {
		r.Authority = other
		p, err := evidence.NewRequest(st.offer(other), originName)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(p))
	})
	c.isOwn(resp, 470, fields.ErrorHTTPRequestDenied)
	if n := origin.counts(); len(n) != 0 || st.dials() != 2 {
		t.Errorf("the origin saw %v requests, %d dials", n, st.dials())
	}
}

// What may be dialled, and who vouches for origins, is what it is when the request comes.
//
// spec: PRX-41 PRX-55
func TestAKeptConnectionIsOfTheSettingsOfNow(t *testing.T) {
	st := newStage(t, withSplit)
	origin := st.stock(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "h2")
	c := st.split()
	st.reload(func(p *Proxy) { p.Roots = st.clients.Pool().CertPool })
	resp, _ := c.get("/")
	c.isOwn(resp, 502, fields.ErrorTLSCertificate)
	if n := origin.counts(); len(n) != 0 {
		t.Errorf("the origin saw %v requests", n)
	}
}

// No new settings are needed for it: the function that knows the modes may change its mind.
//
// spec: PRX-58
func TestTheModesAreAskedAtEachRequest(t *testing.T) {
	var sealed atomic.Bool
	st := newStage(t, withSplit, func(p *Proxy) {
		p.Policy.HostModes = func(string) []Mode {
			if sealed.Load() {
				return []Mode{Blind}
			}
			return nil
		}
	})
	origin := st.stock(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "h2")
	c := st.split()
	resp, _ := c.get("/")
	c.isForwarded(resp, 200)
	sealed.Store(true)
	resp, _ = c.get("/")
	c.isOwn(resp, 470, fields.ErrorHTTPRequestDenied)
	if got := resp.Header.Get(fields.InspectionOptions); got != "blind" {
		t.Errorf("options %q", got)
	}
	if n := origin.counts(); !slices.Equal(n, []int{1}) {
		t.Errorf("the origin saw %v requests", n)
	}
}

// spec: PRX-50
func TestCookiesInPiecesBecomeOneField(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		st.stock(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := r.Header.Values("Cookie"); !slices.Equal(got, []string{"a=b; c=d; e=f"}) {
				t.Errorf("cookie %q", got)
			}
		}), protocol)
		c := st.split()
		resp, _ := c.get("/", func(r *hop.Request) { r.Header["Cookie"] = []string{"a=b", "c=d; e=f"} })
		c.isForwarded(resp, 200)
	})
}

// What Connection names is of hop 2 alone, and so is what an origin would say in the proxy's name.
//
// spec: PRX-52 PRX-63
func TestFieldsOfOneConnectionStayOnIt(t *testing.T) {
	st := newStage(t, withSplit)
	st.rawHTTP(func(conn net.Conn) {
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nConnection: X-Private\r\nX-Private: 1\r\nLink: </a>\r\n\r\n")
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close, X-Private,\r\n\tX-Folded\r\nX-Private: 1\r\nX-Folded: 3\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n"+
			"Proxy-Authenticate: Basic\r\nEvidence-Id: %s\r\nX-Public: 2\r\nContent-Length: 0\r\n\r\n", fields.FormatEvidenceID([32]byte{1}))
		io.Copy(io.Discard, conn)
	})
	c := st.split()
	a := c.ask(http.MethodGet, "/", true)
	early := 0
	resp, err := a.Response(t.Context(), func(_ int, h http.Header) {
		if early++; h.Get("Link") != "</a>" || h.Get("X-Private") != "" || h.Get("Connection") != "" {
			t.Errorf("interim response with %v", h)
		}
	})
	if err != nil || early != 1 {
		t.Fatalf("%d interim responses, %v", early, err)
	}
	c.isForwarded(resp, 200)
	if resp.Header.Get("X-Public") != "2" {
		t.Error("X-Public is gone")
	}
	for _, name := range []string{"Connection", "X-Private", "X-Folded", "Keep-Alive", "Upgrade", "Proxy-Authenticate"} {
		if got := resp.Header.Values(name); len(got) > 0 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// verdictOf verifies the verdict of a kill of a.
func (a *sent) verdictOf(st *stage, wire []byte) *frames.VerdictTBS {
	a.t.Helper()
	tbs, err := verdict.Verify(wire, verdict.Expect{Proxy: st.proxy.Certificate.Leaf, Nonce: a.probe.offer.Nonce, Authority: authority})
	if err != nil {
		a.t.Fatal(err)
	}
	return tbs
}

// What stands behind the content is read before it leaves, as all else.
//
// spec: RDR-40
func TestTrailersAreReadInSplitMode(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			if r.URL.Path != "/down" {
				return
			}
			io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"Transfer_encoding", "x") // which a gateway may read as Transfer-Encoding
		}), protocol)
		c := st.split()
		a := c.ask("GET", "/down", true)
		if tbs := a.verdictOf(st, a.killedWith()); tbs.Rule != "http-trailer" || tbs.Direction != frames.ToClient {
			t.Errorf("a trailer of the response: %+v", tbs)
		}
		c.probe()
		a = c.ask("POST", "/up", false, func(r *hop.Request) { r.Header.Set("Trailer", "Content_length") })
		io.WriteString(a.conn, "hello")
		if err := a.SendTrailer(http.Header{"Content_length": {"1"}}); err != nil {
			t.Fatal(err)
		}
		_, err := a.Response(t.Context(), nil)
		if reset := isKilled(err); reset == nil {
			t.Errorf("a trailer of the request: %v", err)
		} else if tbs := a.verdictOf(st, reset.Verdict); tbs.Direction != frames.ToOrigin {
			t.Errorf("a trailer of the request: %+v", tbs)
		}
	})
}

// The counts of a verdict are of the content that left the proxy, in each direction.
//
// spec: PRX-60
func TestAVerdictCountsContentInSplitMode(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit, func(p *Proxy) {
			p.Inspectors = []Inspector{inspectorOf(func(response bool, p Part) Decision {
				if response && bytes.Contains(p.Body.Append(nil), []byte("evil")) {
					return Decision{Action: Kill, Rule: "the-rule"}
				}
				return Decision{}
			})}
		})
		read := make(chan struct{})
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "good")
			w.(http.Flusher).Flush()
			<-read
			io.WriteString(w, "evil")
		}), protocol)
		c := st.split()
		a := c.ask("POST", "/", false)
		a.write([]byte("content"))
		c.isForwarded(a.head(), 200)
		if _, err := io.ReadFull(a.conn, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		close(read)
		tbs := a.verdictOf(st, a.killedWith())
		if tbs.ReleasedToOrigin != 7 || tbs.ReleasedToClient != 4 || tbs.Direction != frames.ToClient {
			t.Errorf("%+v", tbs)
		}
	})
}

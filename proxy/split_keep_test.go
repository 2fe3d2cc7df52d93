package proxy

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/fields"
)

// kept counts the connections that c's session keeps, those to come included.
func (c *splitClient) kept() (n int) {
	c.st.sessions(func(s *session) bool {
		s.keeper.mu.Lock()
		defer s.keeper.mu.Unlock()
		n += len(s.keeper.conns)
		return true
	})
	return n
}

// A connection that a request is on does not end for another one, of this session or of the pool, which would then be one
// more than the limit; and what could not be kept leaves nothing.
//
// spec: PRX-61
func TestABusyConnectionIsNotEndedForAnother(t *testing.T) {
	for name, limit := range map[string]func(l *Limits){
		"of the session": func(l *Limits) { l.Kept = 1 },
		"of the pool":    func(l *Limits) { l.Upstreams, l.Parts = 1, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, protocol string) {
				st := newStage(t, withSplit, func(p *Proxy) { limit(&p.Limits) })
				let := make(chan struct{})
				st.stock(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.(http.Flusher).Flush()
					<-let
					io.WriteString(w, "whole")
				}), protocol)
				c := st.split()
				busy := c.ask("GET", "/", true)
				c.isForwarded(busy.head(), 200)
				for range 3 {
					st.connect(c.s, authority).says(503, fields.ErrorConnectionLimitReached)
					if n := c.kept(); n != 1 {
						t.Errorf("%d connections are kept", n)
					}
				}
				close(let)
				if got := string(busy.body()); got != "whole" {
					t.Errorf("%q", got)
				}
				c.rest()
				c.probe()
				resp, _ := c.get("/")
				c.isForwarded(resp, 200)
			})
		})
	}
}

// An exchange may outlive what KeptLife gives its connection, and that ends with it.
//
// spec: PRX-61
func TestAKeptConnectionThatIsTooOldEndsWithItsExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, withSplit, func(p *Proxy) { p.Limits.KeptLife = time.Minute })
		let := make(chan struct{})
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			<-let
		}), "h2")
		c := st.split()
		a := c.ask("GET", "/", true)
		c.isForwarded(a.head(), 200)
		time.Sleep(2 * time.Minute)
		if n := c.kept(); n != 1 {
			t.Errorf("%d connections are kept", n)
		}
		close(let)
		a.body()
		synctest.Wait()
		if n := c.kept(); n != 0 {
			t.Errorf("%d connections are kept", n)
		}
		st.close()
		synctest.Wait()
	})
}

// Two claims about an origin that are made at the same moment would be the same bytes, and a request that names one could
// take the connection of the other.
//
// spec: PRX-54
func TestClaimsOfOneMomentNameTheirConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, withSplit)
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := st.origins.OriginOf(key, originName)
		if err != nil {
			t.Fatal(err)
		}
		origin := st.stockTLS(http.NotFoundHandler(), &tls.Config{
			Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}, MaxVersion: tls.VersionTLS12,
			// The first, of which there is no transcript, is what such a certificate can; the other one net/http insists on.
			CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		})
		c := st.split()
		ids := [][32]byte{c.id}
		for range 2 {
			c.probe()
			ids = append(ids, c.id)
		}
		for i, id := range ids {
			if slices.Contains(ids[:i], id) {
				t.Errorf("evidence %d is that of another connection", i)
			}
			c.id = id
			resp, _ := c.get("/")
			c.isForwarded(resp, 404)
		}
		if n := origin.counts(); !slices.Equal(n, []int{1, 1, 1}) {
			t.Errorf("requests on each connection: %v", n)
		}
		p := st.connect(c.s, authority)
		if r := p.evidence(); r.Kind != evidence.Claim {
			t.Errorf("it is a %v", r.Kind)
		}
		st.close()
		synctest.Wait()
	})
}

// What an origin says without a request is not shown to net/http, which would write it on standard error.
func TestWhatAnOriginSaysUnaskedIsNotRead(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	c := &originConn{Conn: near, http1: true}
	c.end(c.begin(nil))
	go func() {
		io.WriteString(far, "secret")
		far.Close()
	}()
	buf := make([]byte, 10)
	if n, err := c.Read(buf); n != 0 || !errors.Is(err, errUnsolicited) {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

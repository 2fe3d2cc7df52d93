package client

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
)

// What is said of a failure names who failed: else the user mends what is not broken.
func TestAFailureNamesWhoFailed(t *testing.T) {
	status := func(proxy, reason, next string) string {
		return fields.ProxyStatus{Proxy: proxy, Error: reason, NextHop: next, Details: "so it is"}.String()
	}
	for _, tt := range []struct {
		name    string
		status  []string
		party   Party
		next    string
		reached bool
		says    string
	}{
		{"an address", []string{status("a.example", fields.ErrorConnectionRefused, "origin.example:443")}, PartyOrigin, "", false, "the origin is unreachable"},
		{"a large head", []string{status("a.example", fields.ErrorHTTPResponseHeaderSectionSize, "origin.example:443")}, PartyOrigin, "", true, "the origin was reached and failed"},
		{"no HTTP", []string{status("a.example", fields.ErrorHTTPProtocol, "origin.example:443")}, PartyOrigin, "", true, "the origin was reached and failed"},
		{"an end", []string{status("a.example", fields.ErrorConnectionTerminated, "origin.example")}, PartyOrigin, "", true, "the origin was reached and failed"},
		{"a refusal of the origin", []string{status("a.example", fields.ErrorDestinationUnavailable, "origin.example:443")}, PartyOrigin, "", true, "the origin was reached and failed"},
		{"an address for the origin", []string{status("a.example", fields.ErrorConnectionRefused, "192.0.2.1")}, PartyOrigin, "", false, "the origin is unreachable"},
		{"the next proxy's address", []string{status("a.example", fields.ErrorConnectionRefused, "b.example")}, PartyProxy, "b.example", false, "the proxy a.example does not get through to the next one, b.example"},
		{"the next proxy's certificate", []string{status("a.example", fields.ErrorProxyConfiguration, "b.example")}, PartyProxy, "b.example", false, "the proxy a.example does not get through to the next one, b.example"},
		{"an origin behind the next proxy", []string{
			status("b.example", fields.ErrorConnectionRefused, "origin.example:443"), status("a.example", "", "b.example"),
		}, PartyOrigin, "", false, "the origin is unreachable"},
		{"a third proxy", []string{
			status("b.example", fields.ErrorConnectionRefused, "c.example"), status("a.example", "", "b.example"),
		}, PartyProxy, "c.example", false, "the proxy b.example does not get through to the next one, c.example"},
		{"a rule", []string{status("a.example", fields.ErrorHTTPRequestDenied, "b.example")}, PartyProxy, "", false, "the proxy refuses"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := statusError(&hop.Response{Status: 502, Header: http.Header{http.CanonicalHeaderKey(fields.ProxyStatusName): tt.status}}, "origin.example:443")
			var u *UnreachableError
			if !errors.As(err, &u) || u.Party != tt.party || u.NextProxy != tt.next || u.Reached != tt.reached || !strings.HasPrefix(err.Error(), tt.says) {
				t.Errorf("%+v: %v", u, err)
			}
		})
	}
}

// An origin whose TLS is too old for this client is where its name says.
func TestAnOriginWithoutACommonSuite(t *testing.T) {
	w := newWorld(t)
	old := w.staticRSA(t)
	for name, cfg := range map[string]*tls.Config{
		"suite": old,
		"version": {
			Certificates: []tls.Certificate{w.origin}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := handshakeWith(t, cfg)
			if !noCommonTLS(err) {
				t.Errorf("%v is not known", err)
			}
		})
	}
	if err := handshakeWith(t, nil); noCommonTLS(err) {
		t.Errorf("%v of what is no TLS", err)
	}
}

// handshakeWith is the error of the client's handshake with an origin; with nil it speaks no TLS.
func handshakeWith(t *testing.T, cfg *tls.Config) error {
	t.Helper()
	w := newWorld(t)
	d := w.dialer()
	a, b := pipe.New()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		if cfg == nil {
			io.WriteString(b, "HTTP/1.1 400 Bad Request\r\n\r\n")
			return
		}
		tls.Server(b, cfg).Handshake()
	}()
	tun := &Tunnel{level: Direct, authority: "origin.example:443", wire: &wire{Conn: a}, readEnd: make(chan struct{})}
	err := d.plainTLS(t.Context(), &attempt{host: originName, authority: "origin.example:443"}, tun, &noEOF{tun.wire})
	a.Close()
	<-done
	if err == nil {
		t.Fatal("the handshake succeeded")
	}
	return err
}

// A signature that was announced and does not come is not an alteration that anybody saw.
func TestASignatureThatDoesNotCome(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(make([]byte, 100_000)) })
	sp := w.signing(t, new(tls.Config))
	sp.bare = true
	_, _, err := tryGet(t, w.transport(accepting(Signed)), "https://origin.example/")
	wantIntegrity(t, err, "without the signature that was announced")
	if !errors.Is(err, ErrNoSignature) {
		t.Errorf("%v does not wrap ErrNoSignature", err)
	}
	sp.bare, sp.change = false, func(p []byte) { p[0] ^= 1 }
	_, _, err = tryGet(t, w.transport(accepting(Signed)), "https://origin.example/")
	wantIntegrity(t, err, "not what the origin signed")
	if errors.Is(err, ErrNoSignature) {
		t.Errorf("%v wraps ErrNoSignature", err)
	}
}

// Where the origin's connection ends in the middle the proxy resets with INTERNAL_ERROR, and the client says what that is.
func TestAResponseWithoutLengthThatIsCutSaysWhatMissed(t *testing.T) {
	for _, tt := range []struct {
		code   hop.ErrorCode
		length string
		says   string
		not    string
	}{
		{hop.InternalError, "", "close_notify", "nothing"},
		{hop.InternalError, "10", "the origin's connection to the proxy ended or broke", "close_notify"},
		{hop.Cancel, "", "cut before its end", "the origin's connection"},
	} {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		arrived := make(chan struct{})
		sp.onHead = func(ans hop.Answering, _ [32]byte, _ *http.Response) bool {
			h := http.Header{}
			sp.mu.Lock()
			h.Set(fields.EvidenceID, sp.asks[len(sp.asks)-1].Get(fields.EvidenceID))
			sp.mu.Unlock()
			if tt.length != "" {
				h.Set("Content-Length", tt.length)
			}
			ans.Respond(&hop.Response{Status: 200, Header: h}, false)
			<-arrived
			ans.Reset(tt.code)
			return true
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
		resp, err := w.transport(accepting(Attested)).RoundTrip(req)
		close(arrived)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		wantIntegrity(t, err, tt.says)
		if strings.Contains(err.Error(), tt.not) {
			t.Errorf("%v", err)
		}
	}
}

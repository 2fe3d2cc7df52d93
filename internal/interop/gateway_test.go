package interop

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/pki"
	"vitrine/origin"
	"vitrine/proxy"
	"vitrine/proxy/policy"
)

const (
	shopHost  = "shop.example"
	cdnHost   = "cdn.shop.example"
	glassHost = "glass.example"
)

// A gatewayStage is `vitrine gateway` with a proxy and an origin behind it, for programs that were made for neither.
type gatewayStage struct {
	*testing.T
	dir   string // the PKI
	proxy string // where the proxy is

	mu   sync.Mutex
	seen []visit
}

// A visit is a request as the origin saw it.
type visit struct {
	method, host, path string
	reader             string // who read it; "" for nobody
}

// newGatewayStage serves handler as two hosts, behind a proxy that reads it, and kills what asks for /killed.
func newGatewayStage(t *testing.T, handler http.Handler) *gatewayStage {
	t.Helper()
	s := &gatewayStage{T: t, dir: t.TempDir()}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(s.dir, "pki")
	check(pki.Init(dir))
	check(pki.IssueOrigin(dir, shopHost, cdnHost))
	check(pki.IssueProxy(dir, glassHost))
	s.dir = dir

	cert, err := pki.LoadKeyPair(s.file(shopHost+".pem"), s.file(shopHost+".key"))
	check(err)
	srv := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v := visit{method: r.Method, host: r.Host, path: r.URL.Path}
			if info, ok := origin.InspectionOf(r.Context()); ok && info.ProxyCertificate != nil {
				v.reader = info.ProxyCertificate.Subject.CommonName
			}
			s.mu.Lock()
			s.seen = append(s.seen, v)
			s.mu.Unlock()
			handler.ServeHTTP(w, r)
		}),
	}
	check(origin.ConfigureServer(srv, nil))
	at := s.serve(func(ln net.Listener) error { return srv.ServeTLS(origin.NewListener(ln), "", "") }, srv.Close)

	rule, err := connectto.ParseRules("::" + at)
	check(err)
	p := &proxy.Proxy{ConnectTo: rule, Policy: proxy.Policy{Modes: []fields.Mode{fields.Intact, fields.Blind}}}
	p.Certificate, err = pki.LoadKeyPair(s.file(glassHost+".pem"), s.file(glassHost+".key"))
	check(err)
	roots, err := pki.LoadPool(s.file("root.pem"))
	check(err)
	p.Roots = roots.CertPool
	rules, err := policy.Parse("policy.toml", []byte("[[rule]]\nid = \"no-killed\"\nwhen = 'request.path == \"/killed\"'\naction = \"kill\"\n"))
	check(err)
	p.Inspectors = []proxy.Inspector{rules.Inspector()}
	s.proxy = s.serve(p.Serve, p.Close)
	return s
}

func (s *gatewayStage) file(name string) string { return filepath.Join(s.dir, name) }

// serve runs a server on a socket until the test's end.
func (s *gatewayStage) serve(serve func(net.Listener) error, stop func() error) (addr string) {
	s.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(ln) // it ends with an error that says it was stopped, always
	}()
	s.Cleanup(func() {
		_ = stop()
		<-done
	})
	return ln.Addr().String()
}

// gateway starts one, and returns it and where it is.
func (s *gatewayStage) gateway(args ...string) (p *process, addr string) {
	s.Helper()
	p = start(s, nil, vitrine(s), append([]string{
		"gateway", "--listen", "127.0.0.1:0", "--proxy", "https://" + glassHost, "--proxy-roots", s.file("proxy-root.pem"),
		"--roots", s.file("root.pem"), "--connect-to", glassHost + ":443:" + s.proxy, "--consent", "once", "--allow-credentials",
		"--store", filepath.Join(s.TempDir(), "grants.json"),
	}, args...)...)
	return p, p.expect(`listening on (127\.0\.0\.1:\d+)`)[1]
}

// mapped is where a gateway's map of shopHost is.
func (s *gatewayStage) mapped(p *process) (addr string) {
	s.Helper()
	return p.expect(`http://(127\.0\.0\.\d:\d+) is https://` + shopHost)[1]
}

// visits are what the origin saw since the last call.
func (s *gatewayStage) visits() []visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// environment is for a program that somebody else wrote: a home of its own, and no settings of this machine's.
func environment(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"}
}

// programTime bounds what another program may take. A browser on a busy machine takes a while to begin.
const programTime = 90 * time.Second

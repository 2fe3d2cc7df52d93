package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"vitrine/internal/itls"
)

// openssl is the program of an OpenSSL that has the suites.
type openssl struct{ path, version string }

var opensslVersion = regexp.MustCompile(`^OpenSSL (\d+)\.(\d+)\.\S+`)

// findOpenSSL returns the program that OPENSSL names, or says why there is none.
func findOpenSSL() (o *openssl, missing string) {
	path := os.Getenv("OPENSSL")
	if path == "" {
		return nil, "OPENSSL names no program; `make interop-openssl` fetches one, and `make interop` uses it"
	}
	out, err := exec.Command(path, "version").CombinedOutput()
	if err != nil {
		return nil, "OPENSSL does not run: " + err.Error()
	}
	m := opensslVersion.FindStringSubmatch(string(out))
	if m == nil {
		return nil, "OPENSSL is no OpenSSL: " + strings.TrimSpace(string(out))
	}
	major, _ := strconv.Atoi(m[1]) // digits
	minor, _ := strconv.Atoi(m[2])
	if major < 3 || major == 3 && minor < 4 {
		return nil, m[0] + " has no suites of RFC 9150; 3.4 is the first"
	}
	return &openssl{path: path, version: m[0]}, ""
}

// A setup is what the two ends of a row's sessions are made from. Zero values are a plain server.
type setup struct {
	server *identity          // default: ECDSA P-256
	ours   func(*itls.Config) // changes our side
	theirs []string           // arguments of s_server or s_client
	ca     string             // the peer's file of roots; default: the right one
}

// A link is where sessions with a peer come from: its server, or our listener.
type link struct {
	r      *run
	o      *openssl
	cfg    *itls.Config
	theirs []string
	addr   string
	ln     net.Listener
	peer   *process // the s_server; or the s_client of the last session
	logs   string   // the file of the peer's key log
	texts  int      // that were exchanged
	sink   *sink    // for what the peer prints
}

// link starts the peer's server, or our listener.
func (o *openssl) link(r *run, s setup) *link {
	r.Helper()
	if s.server == nil {
		s.server = r.servers[kinds[0]]
	}
	if s.ca == "" {
		s.ca = r.file
	}
	l := &link{r: r, o: o, cfg: r.config(), logs: filepath.Join(r.TempDir(), "keys")}
	common := []string{
		"-tls1_3", "-ciphersuites", suiteName(r.suite), "-cipher", "DEFAULT@SECLEVEL=0", "-CAfile", s.ca, "-no-CApath", "-no-CAstore",
		"-keylogfile", l.logs, "-keymatexport", exporterLabel, "-keymatexportlen", "48",
	}
	if r.role == asServer {
		l.theirs = append(append([]string{"s_client", "-servername", host, "-verify_return_error"}, common...), s.theirs...)
		l.cfg.TLS.Certificates = append(l.cfg.TLS.Certificates, s.server.cert)
		if s.ours != nil {
			s.ours(l.cfg)
		}
		var err error
		if l.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			r.Fatal(err)
		}
		r.Cleanup(func() { l.ln.Close() })
		l.addr = l.ln.Addr().String()
		return l
	}
	if s.ours != nil {
		s.ours(l.cfg)
	}
	l.theirs = append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", s.server.certFile, "-key", s.server.keyFile}, common...)
	if s.server.others != "" {
		l.theirs = append(l.theirs, "-cert_chain", s.server.others)
	}
	l.theirs = append(l.theirs, s.theirs...)
	return l
}

// serve starts the peer's server, if it is not there yet.
func (l *link) serve() {
	l.r.Helper()
	if l.r.role == asServer || l.peer != nil {
		return
	}
	l.peer = start(l.r, l.sink, l.o.path, l.theirs...)
	l.addr = l.peer.expect(`(?m)^ACCEPT (127\.0\.0\.1:\d+)`)[1]
}

// try opens one session. more are arguments for s_client alone.
func (l *link) try(more ...string) (*session, error) {
	l.r.Helper()
	l.serve()
	var conn net.Conn
	var err error
	if l.r.role == asClient {
		conn, err = net.Dial("tcp", l.addr)
	} else {
		l.peer = start(l.r, l.sink, l.o.path, append(append(append([]string(nil), l.theirs...), "-connect", l.addr), more...)...)
		conn, err = l.ln.Accept()
	}
	if err != nil {
		l.r.Fatal(err)
	}
	return l.r.over(conn, l.cfg)
}

// open is try for sessions that must come about. It moves text both ways, and compares what both ends know.
func (l *link) open(more ...string) *session {
	l.r.Helper()
	s, err := l.try(more...)
	if err != nil {
		l.r.Fatalf("handshake: %v", err)
	}
	l.talk(s)
	return s
}

// finish ends a session from our side, and has the peer answer in kind.
func (l *link) finish(s *session) {
	l.r.Helper()
	if err := s.CloseWrite(); err != nil {
		l.r.Fatal(err)
	}
	s.wantEnd(l.r)
	if err := s.Close(); err != nil {
		l.r.Fatal(err)
	}
	if l.r.role == asServer {
		if code := l.peer.exit(); code != 0 {
			l.r.Errorf("it exits with %d", code)
		}
	}
}

// exchange moves text both ways.
func (l *link) exchange(s *session) {
	l.r.Helper()
	l.texts++
	s.send(l.r, fmt.Sprintf("from us: %d.\n", l.texts))
	l.peer.says(fmt.Sprintf("from us: %d.", l.texts))
	text := fmt.Sprintf("from them: %d.\n", l.texts)
	l.peer.write(text)
	s.want(l.r, text)
}

// talk moves text both ways, and compares exporters and key logs.
func (l *link) talk(s *session) {
	l.r.Helper()
	l.exchange(s)
	random := s.clientRandom()
	theirs, err := os.ReadFile(l.logs)
	if err != nil {
		l.r.Fatal(err)
	}
	a, b := keyLogOf(s.keylog.String(), random), keyLogOf(string(theirs), random)
	if strings.Join(a, "\n") != strings.Join(b, "\n") || len(a) != 5 {
		l.r.Errorf("key logs differ: ours %q, theirs %q", a, b)
	}
	all := regexp.MustCompile(`Keying material: ([0-9A-F]+)`).FindAllStringSubmatch(l.peer.out.String(), -1)
	if len(all) == 0 {
		l.r.Fatal("the peer exported nothing")
	}
	s.wantExporter(l.r, all[len(all)-1][1])
}

func TestInterop(t *testing.T) {
	p := newParty(t)
	t.Run("OpenSSL", func(t *testing.T) {
		o, missing := findOpenSSL()
		if o == nil {
			absent(t, "OpenSSL", missing)
		}
		check(t, o.version, p, o.rows())
	})
	t.Run("wolfSSL", func(t *testing.T) {
		w, missing := findWolfSSL()
		if w == nil {
			absent(t, "wolfSSL", missing)
		}
		check(t, w.version, p, w.rows())
	})
}

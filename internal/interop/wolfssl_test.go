package interop

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vitrine/internal/itls"
	"vitrine/internal/tlsmsg"
)

// wolfssl are the example programs of a wolfSSL built with HAVE_NULL_CIPHER.
type wolfssl struct{ client, server, version string }

// findWolfSSL returns the programs that WOLFSSL_CLIENT and WOLFSSL_SERVER name, or says why there are none.
func findWolfSSL() (w *wolfssl, missing string) {
	w = &wolfssl{client: os.Getenv("WOLFSSL_CLIENT"), server: os.Getenv("WOLFSSL_SERVER")}
	if w.client == "" || w.server == "" {
		return nil, "WOLFSSL_CLIENT and WOLFSSL_SERVER name no programs: examples/client/client and examples/server/server of a wolfSSL from 5.9 on"
	}
	cmd := exec.Command(w.server, "-?")
	cmd.Dir = filepath.Dir(w.server)
	out, _ := cmd.CombinedOutput() // it exits with what it likes
	m := regexp.MustCompile(`server (\d+)\.(\d+)\.\d+`).FindStringSubmatch(string(out))
	if m == nil {
		return nil, "WOLFSSL_SERVER is no example server of wolfSSL"
	}
	major, _ := strconv.Atoi(m[1]) // digits
	minor, _ := strconv.Atoi(m[2])
	if major < 5 || major == 5 && minor < 9 {
		return nil, "wolfSSL " + m[1] + "." + m[2] + " has a nonce of 12 bytes and interoperates with nobody; 5.9 is right"
	}
	w.version = "wolfSSL " + strings.TrimPrefix(m[0], "server ")
	return w, ""
}

// Its programs say one thing each.
const (
	wolfReply = "I hear you fa shizzle!"
	wolfHello = "hello wolfssl!"
)

// start runs a program where it finds the files of its source tree that it insists on.
func (w *wolfssl) start(r *run, program string, args ...string) *process {
	r.Helper()
	suite := map[uint16]string{tlsmsg.SuiteSHA256: "TLS13-SHA256-SHA256", tlsmsg.SuiteSHA384: "TLS13-SHA384-SHA384"}[r.suite]
	cmd := exec.Command(program, append([]string{"-v", "4", "-l", suite, "-A", r.file}, args...)...)
	cmd.Dir = filepath.Dir(program)
	return startCommand(r, nil, cmd)
}

// A wolf is a peer that serves, or a listener that its clients come to.
type wolf struct {
	r    *run
	w    *wolfssl
	cfg  *itls.Config
	ln   net.Listener
	peer *process
	addr string
}

// link starts the peer's server, or our listener and its client.
func (w *wolfssl) link(r *run, server *identity, ours func(*itls.Config), asTheirServer, asTheirClient []string) *wolf {
	r.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	l := &wolf{r: r, w: w, cfg: r.config(), addr: ln.Addr().String()}
	if r.role == asServer {
		r.Cleanup(func() { ln.Close() })
		l.ln = ln
		l.cfg.TLS.Certificates = []tls.Certificate{server.cert}
		ours(l.cfg)
		l.peer = w.start(r, w.client, append([]string{"-h", "127.0.0.1", "-p", port, "-S", host}, asTheirClient...)...)
		return l
	}
	ours(l.cfg)
	ln.Close() // it takes no port 0, so it gets one that was free a moment ago
	l.peer = w.start(r, w.server, append([]string{"-p", port, "-c", server.certFile, "-k", server.keyFile}, asTheirServer...)...)
	return l
}

// open runs a handshake. A server that is not there yet refuses connections.
func (l *wolf) open() *session {
	l.r.Helper()
	var conn net.Conn
	var err error
	if l.r.role == asServer {
		conn, err = l.ln.Accept()
	} else {
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for late := time.Now().Add(patience); ; <-again.C {
			if conn, err = net.Dial("tcp", l.addr); !isRefused(err) || time.Now().After(late) {
				break
			}
		}
	}
	if err != nil {
		l.r.Fatal(err)
	}
	s, err := l.r.over(conn, l.cfg)
	if err != nil {
		l.reordered(s)
		l.r.Fatalf("handshake: %v", err)
	}
	return s
}

// reordered ends a test in which wolfSSL's client puts the extensions of its second ClientHello into another order. RFC 8446,
// section 4.1.2, does not let it, and our servers hold clients to that. Any other difference is no excuse.
func (l *wolf) reordered(s *session) {
	l.r.Helper()
	if l.r.role == asClient || !s.ConnectionState().HelloRetryRequest {
		return
	}
	var hellos [][]tlsmsg.Extension
	var order [][]uint16
	for _, p := range s.flow.parts {
		if len(hellos) == 2 || !p.fromClient {
			continue
		}
		h, err := tlsmsg.ParseClientHello(p.data[tlsmsg.RecordHeaderLen:])
		if err != nil {
			return
		}
		var types []uint16
		for _, e := range h.Extensions {
			types = append(types, uint16(e.Type))
		}
		order = append(order, types)
		list := slices.DeleteFunc(slices.Clone(h.Extensions), func(e tlsmsg.Extension) bool { return e.Type == tlsmsg.ExtensionKeyShare })
		slices.SortFunc(list, func(x, y tlsmsg.Extension) int { return int(x.Type) - int(y.Type) })
		hellos = append(hellos, list)
	}
	if len(hellos) == 2 && !slices.Equal(order[0], order[1]) && slices.EqualFunc(hellos[0], hellos[1], func(x, y tlsmsg.Extension) bool {
		return x.Type == y.Type && bytes.Equal(x.Data, y.Data)
	}) {
		l.r.say("reorders")
		l.r.SkipNow()
	}
}

func isRefused(err error) bool {
	e, ok := err.(*net.OpError)
	if !ok {
		return false
	}
	call, ok := e.Err.(*os.SyscallError)
	return ok && call.Err == syscall.ECONNREFUSED
}

// talk says what the example programs say, of which a client's second session says something else. What they print
// they print when they end.
func (l *wolf) talk(s *session, hello string) {
	l.r.Helper()
	if l.r.role == asClient {
		s.send(l.r, "hello from us\n")
		s.want(l.r, wolfReply)
	} else {
		s.want(l.r, hello)
		s.send(l.r, "hello from us\n")
	}
	_ = s.CloseWrite() // it may have gone by now
	_, _ = io.Copy(io.Discard, s)
	s.Close()
}

// end waits for the program, which must have had what we said.
func (l *wolf) end() {
	l.r.Helper()
	if code := l.peer.exit(); code != 0 || !l.peer.out.has("hello from us") {
		l.r.Errorf("it exits with %d", code)
	}
}

func (w *wolfssl) rows() (rows []row) {
	add := func(name string, role role, test func(r *run)) { rows = append(rows, row{name, role, test}) }
	nothing := func(*itls.Config) {}
	// plain is a session without client certificates.
	plain := func(r *run, server *identity, ours func(*itls.Config), asTheirServer, asTheirClient []string) tls.ConnectionState {
		r.Helper()
		l := w.link(r, server, ours, append([]string{"-d"}, asTheirServer...), append([]string{"-x"}, asTheirClient...))
		s := l.open()
		l.talk(s, wolfHello)
		l.end()
		return s.ConnectionState()
	}
	add("as both choose", either, func(r *run) { plain(r, r.servers[kinds[0]], nothing, nil, nil) })
	for _, g := range groupNames[:3] {
		add("group "+g.name, either, func(r *run) {
			if got := plain(r, r.servers[kinds[0]], func(c *itls.Config) { c.Groups = []tls.CurveID{g.id} }, nil, nil); got.CurveID != g.id {
				r.Errorf("group %v", got.CurveID)
			}
		})
	}
	add("HelloRetryRequest", either, func(r *run) {
		ours := func(c *itls.Config) {
			if r.role == asClient {
				c.Groups = []tls.CurveID{tls.X25519MLKEM768, tls.CurveP256}
			}
		}
		if !plain(r, r.servers[kinds[0]], ours, nil, []string{"-J"}).HelloRetryRequest {
			r.Error("there was none")
		}
	})
	for _, kind := range []string{"ECDSA P-256", "ECDSA P-384", "Ed25519", "RSA-PSS"} {
		add("server "+kind, either, func(r *run) { plain(r, r.servers[kind], nothing, nil, nil) })
		add("client "+kind, either, func(r *run) {
			id := r.clients[kind]
			l := w.link(r, r.servers[kinds[0]], func(c *itls.Config) {
				if r.role == asServer {
					c.TLS.ClientAuth, c.TLS.ClientCAs = tls.RequireAndVerifyClientCert, r.pool
				} else {
					c.TLS.Certificates = []tls.Certificate{id.cert}
				}
			}, []string{"-F"}, []string{"-c", id.certFile, "-k", id.keyFile})
			s := l.open()
			l.talk(s, wolfHello)
			l.end()
			if got := s.ConnectionState(); r.role == asServer && (len(got.VerifiedChains) == 0 || got.PeerCertificates[0].Subject.CommonName != kind) {
				r.Errorf("client %+v", got.PeerCertificates)
			}
		})
	}
	add("ALPN", either, func(r *run) {
		ours := func(c *itls.Config) { c.TLS.NextProtos = []string{"http/1.1"} }
		if got := plain(r, r.servers[kinds[0]], ours, []string{"-L", "F:http/1.1"}, []string{"-L", "F:http/1.1"}); got.NegotiatedProtocol != "http/1.1" {
			r.Errorf("protocol %q", got.NegotiatedProtocol)
		}
	})
	add("resumption", either, func(r *run) {
		l := w.link(r, r.servers[kinds[0]], func(c *itls.Config) {
			c.Sessions, c.Tickets = new(itls.SessionCache), new(itls.TicketKeys)
		}, []string{"-d", "-r"}, []string{"-x", "-r"})
		for i := range 2 {
			s := l.open()
			l.talk(s, []string{wolfHello, "resuming wolfssl!"}[i])
			if got := s.ConnectionState().DidResume; got != (i == 1) {
				r.Errorf("session %d: resumed %t", i, got)
			}
		}
		l.end()
	})
	add("KeyUpdate, ours", either, func(r *run) {
		l := w.link(r, r.servers[kinds[0]], nothing, []string{"-d"}, []string{"-x"})
		s := l.open()
		if err := s.UpdateKeys(); err != nil {
			r.Fatal(err)
		}
		l.talk(s, wolfHello)
		l.end()
	})
	add("KeyUpdate, theirs", either, func(r *run) {
		plain(r, r.servers[kinds[0]], nothing, []string{"-U"}, []string{"-I"})
	})
	return rows
}

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

func lastLine(s string) string {
	trimmed := strings.TrimSuffix(s, "\n")
	return s[strings.LastIndexByte(trimmed, '\n')+1:]
}

// cmdLastLine is "lastline FILE TO": it writes the last line of FILE to TO.
func cmdLastLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lastline FILE TO")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(lastLine(ts.ReadFile(args[0]))), 0o644))
}

// An innerRun is a "vitrine inner" that runs in this process.
type innerRun struct {
	out  bytes.Buffer // to read once it has ended
	said *lines
	addr string // of a server
	stop context.CancelFunc
	code chan int
}

func startInner(t *testing.T, in io.Reader, out io.Writer, args ...string) *innerRun {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &innerRun{stop: stop, code: make(chan int, 1), said: &lines{grown: make(chan struct{}, 1)}}
	if out == nil {
		out = &r.out
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.code <- run(ctx, append([]string{"vitrine", "inner"}, args...), stdio{in, out, r})
	}()
	t.Cleanup(func() { stop(); <-ended })
	// The first words are waited for: the library that reads the flags cannot do so twice at once.
	for words := ""; words == "" || args[0] == "server" && !strings.Contains(words, "listening on"); words = r.said.String() {
		select {
		case <-r.said.grown:
		case <-ended:
			if args[0] == "server" {
				t.Fatal(r.said)
			}
			return r
		}
	}
	_, rest, _ := strings.Cut(r.said.String(), "listening on ")
	r.addr, _, _ = strings.Cut(rest, "\n")
	return r
}

// Write is its standard error.
func (r *innerRun) Write(p []byte) (int, error) {
	r.said.add(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// wait waits for the end and demands an exit status.
func (r *innerRun) wait(t *testing.T, want int) {
	t.Helper()
	select {
	case got := <-r.code:
		if got != want {
			t.Fatalf("exit status %d, want %d: %s", got, want, r.said)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

// finish ends a server once it is through with its clients: it takes one behind the other.
func (r *innerRun) finish(t *testing.T, client []string) {
	t.Helper()
	startInner(t, strings.NewReader(""), nil, with(client, r.addr)...).wait(t, 0)
	r.stop()
	r.wait(t, 0)
}

// report is what --json said of the session i.
func (r *innerRun) report(t *testing.T, i int) (report innerReport) {
	t.Helper()
	for line := range strings.Lines(r.said.String()) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		if i--; i < 0 {
			if err := json.Unmarshal([]byte(line), &report); err != nil {
				t.Fatal(err)
			}
			return report
		}
	}
	t.Fatalf("no report: %s", r.said)
	return report
}

// innerWorld is a PKI with a certificate, and what to say to use it.
func innerWorld(t *testing.T) (dir string, server, client []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "pki")
	if err := errors.Join(pki.Init(dir), pki.IssueOrigin(dir, "shop.example")); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	server = []string{"server", "--listen", "127.0.0.1:0", "--cert", file("shop.example.pem"), "--key", file("shop.example.key"), "--json"}
	client = []string{"client", "--server-name", "shop.example", "--roots", file("root.pem"), "--json", "--connect"}
	return dir, server, client
}

func with(args []string, more ...string) []string { return append(args[:len(args):len(args)], more...) }

func innerBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// TestInnerPassesBothDirectionsToTheirEnds: an end of one direction does not end the other.
func TestInnerPassesBothDirectionsToTheirEnds(t *testing.T) {
	_, server, client := innerWorld(t)
	const size = 5 << 20
	up, down := innerBytes(size), innerBytes(size + 1)[1:]
	for _, late := range []string{"client", "server"} {
		t.Run("the "+late+" ends last", func(t *testing.T) {
			// What ends last begins only when the other side's close_notify has arrived.
			first, last := up, down
			if late == "client" {
				first, last = down, up
			}
			feed, typing := io.Pipe()
			arrived := &waitWriter{want: len(first), full: make(chan struct{})}
			go func() {
				<-arrived.full
				typing.Write(last)
				typing.Close()
			}()
			ins := map[string]io.Reader{"client": bytes.NewReader(first), "server": bytes.NewReader(first)}
			outs := map[string]io.Writer{late: arrived}
			ins[late] = feed
			s := startInner(t, ins["server"], outs["server"], server...)
			c := startInner(t, ins["client"], outs["client"], with(client, s.addr)...)
			c.wait(t, 0)
			s.finish(t, client)
			received := &c.out
			if late == "client" {
				received = &s.out
			}
			if !bytes.Equal(arrived.buf.Bytes(), first) || !bytes.Equal(received.Bytes(), last) {
				t.Error("bytes are lost or changed")
			}
			for _, r := range []innerReport{c.report(t, 0), s.report(t, 0)} {
				if r.Sent != size || r.Received != size || !r.Closed || r.Error != nil {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// A waitWriter closes full when want bytes are there.
type waitWriter struct {
	buf  bytes.Buffer
	want int
	full chan struct{}
}

func (w *waitWriter) Write(p []byte) (int, error) {
	w.buf.Write(p)
	if w.buf.Len() == w.want {
		close(w.full)
	}
	return len(p), nil
}

// TestInnerNoticesWhatIsOnTheWay: a record that is changed, a session that is cut, in either direction.
// What was delivered is a beginning, and nobody takes it for all.
func TestInnerNoticesWhatIsOnTheWay(t *testing.T) {
	_, server, client := innerWorld(t)
	content := innerBytes(1 << 20)
	for _, tt := range []struct {
		name     string
		toClient bool
		cut      bool
		says     string // the one who receives
	}{
		{"changed on the way to the client", true, false, "failed authentication (sent bad_record_mac)"},
		{"changed on the way to the server", false, false, "failed authentication (sent bad_record_mac)"},
		{"cut on the way to the client", true, true, "cut off without close_notify"},
		{"cut on the way to the server", false, true, "cut off without close_notify"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var up, down io.Reader = bytes.NewReader(content), strings.NewReader("")
			if tt.toClient {
				up, down = down, up
			}
			s := startInner(t, down, nil, server...)
			c := startInner(t, up, nil, with(client, relay(t, s.addr, tt.toClient, &tamperer{at: 300_000, cut: tt.cut}))...)
			c.wait(t, 22)
			s.finish(t, client)
			received, report := s.out.Bytes(), s.report(t, 0)
			if tt.toClient {
				received, report = c.out.Bytes(), c.report(t, 0)
			}
			if len(received) < 200_000 || len(received) > 300_000 || !bytes.HasPrefix(content, received) {
				t.Errorf("%d bytes were delivered", len(received))
			}
			if report.Closed || report.Error == nil || !strings.Contains(*report.Error, tt.says) {
				t.Errorf("%+v", report)
			}
			if !tt.cut && !tt.toClient && !strings.Contains(*c.report(t, 0).Error, "the peer sent bad_record_mac") {
				t.Errorf("the client does not know why: %s", *c.report(t, 0).Error)
			}
		})
	}
}

// relay passes one connection on to addr, and one direction of it through a tamperer.
func relay(t *testing.T, addr string, toClient bool, tamper *tamperer) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		near, err := ln.Accept()
		if err != nil {
			return
		}
		defer near.Close()
		far, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer far.Close()
		pass := func(to, from net.Conn, tampered bool) {
			var w io.Writer = to
			if tampered {
				tamper.w = to
				w = tamper
			}
			io.Copy(w, from)
			to.(*net.TCPConn).CloseWrite()
		}
		back := make(chan struct{})
		go func() {
			defer close(back)
			pass(near, far, toClient)
		}()
		pass(far, near, !toClient)
		<-back
	}()
	return ln.Addr().String()
}

// A tamperer changes the byte at a place, or lets nothing through from there on.
type tamperer struct {
	w   io.Writer
	at  int
	cut bool
}

func (m *tamperer) Write(p []byte) (int, error) {
	if m.at >= 0 && m.at < len(p) {
		if m.cut {
			m.w.Write(p[:m.at])
			return m.at, io.ErrShortWrite
		}
		p = bytes.Clone(p)
		p[m.at] ^= 1
	}
	m.at -= len(p)
	return m.w.Write(p)
}

// TestInnerInterruptedIsNoEnd: who presses Ctrl-C has not sent all, and the other side must know.
func TestInnerInterruptedIsNoEnd(t *testing.T) {
	_, server, client := innerWorld(t)
	in, typing := io.Pipe()
	t.Cleanup(func() { typing.Close() })
	arrived := &waitWriter{want: 5, full: make(chan struct{})}
	s := startInner(t, strings.NewReader(""), arrived, server...)
	c := startInner(t, in, nil, with(client, s.addr)...)
	typing.Write([]byte("begin"))
	<-arrived.full
	c.stop()
	c.wait(t, 1)
	s.finish(t, client)
	if r := s.report(t, 0); r.Closed || r.Received != 5 || r.Error == nil || !strings.Contains(*r.Error, "without close_notify") {
		t.Errorf("%+v", r)
	}
}

// TestInnerOwnStreamsThatFail: it is not the peer's fault, and the peer is not told that this was all.
func TestInnerOwnStreamsThatFail(t *testing.T) {
	_, server, client := innerWorld(t)
	endless, typing := io.Pipe()
	t.Cleanup(func() { typing.Close() })
	broken := iotest.ErrReader(errors.New("broken"))
	for _, tt := range []struct {
		name string
		in   io.Reader
		out  io.Writer
		want string
	}{
		{"standard input", io.MultiReader(strings.NewReader("begin"), broken), io.Discard, "inner: reading standard input: broken"},
		{"standard output", endless, brokenWriter{}, "inner: writing standard output: broken"},
	} {
		for _, role := range []string{"client", "server"} {
			t.Run(tt.name+" of the "+role, func(t *testing.T) {
				ins := map[string]io.Reader{"client": strings.NewReader("data"), "server": strings.NewReader("data")}
				outs := map[string]io.Writer{}
				ins[role], outs[role] = tt.in, tt.out
				s := startInner(t, ins["server"], outs["server"], server...)
				c := startInner(t, ins["client"], outs["client"], with(client, s.addr)...)
				failed, other := c, s
				if role == "server" {
					failed, other = s, c
				}
				failed.wait(t, 1)
				if !strings.Contains(failed.said.String(), "vitrine: "+tt.want+"\n") {
					t.Errorf("it says %s", failed.said)
				}
				if role == "server" {
					c.wait(t, 22)
				} else {
					s.finish(t, client)
				}
				if r := other.report(t, 0); r.Closed {
					t.Errorf("the other takes it for all: %+v", r)
				}
			})
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestInnerWaitsOnlySoLongForAHandshake(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go io.Copy(io.Discard, far)
	setup := &innerSetup{std: stdio{nil, io.Discard, io.Discard}, config: &itls.Config{
		UnprotectedForTests: true, TLS: &tls.Config{ServerName: "shop.example"},
	}}
	err := newInnerSession(setup, "client", itls.Client(near, setup.config)).handshake(t.Context(), time.Millisecond)
	if exitCode(err) != exitUnreachable || !errors.Is(err, errPatience) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	near, far = net.Pipe()
	defer far.Close()
	err = newInnerSession(setup, "client", itls.Client(near, setup.config)).handshake(ctx, time.Minute)
	if err != errInnerInterrupted {
		t.Errorf("interrupted: %v", err)
	}
}

// TestInnerSessionFileIsSecretAndWhole: only a ticket replaces what was there, and nothing else is left.
func TestInnerSessionFileIsSecretAndWhole(t *testing.T) {
	dir, server, client := innerWorld(t)
	s := startInner(t, strings.NewReader(""), nil, server...)
	folder := t.TempDir()
	file := filepath.Join(folder, "session")
	if err := os.WriteFile(file, []byte("older"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
	}{
		{with(client, "127.0.0.1:1", "--session-out", file), 25},
		{with(client, s.addr, "--session-out", file, "--roots", filepath.Join(dir, "proxy-root.pem")), 24},
	} {
		startInner(t, strings.NewReader(""), nil, tt.args...).wait(t, tt.code)
		if text, err := os.ReadFile(file); err != nil || string(text) != "older" {
			t.Errorf("the file now has %q, %v", text, err)
		}
	}
	startInner(t, strings.NewReader(""), nil, with(client, s.addr, "--session-out", file)...).wait(t, 0)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() < 100 {
		t.Errorf("%v, %v", info, err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "half": text[:len(text)/2], "more": append(bytes.Clone(text), 0), "huge": make([]byte, maxSessionFile+1),
	} {
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		c := startInner(t, strings.NewReader(""), nil, with(client, s.addr, "--session-in", file)...)
		c.wait(t, 2)
		want := "not a stored session"
		if name == "huge" {
			want = "larger than"
		}
		if !strings.Contains(c.said.String(), want) {
			t.Errorf("%s: %s", name, c.said)
		}
	}
}

// TestInnerServerOfFilesTakesManyAtOnce holds many clients' connections open, some of them mute, while one is served.
func TestInnerServerOfFilesTakesManyAtOnce(t *testing.T) {
	dir, server, client := innerWorld(t)
	content := innerBytes(3 << 20)
	if err := os.WriteFile(filepath.Join(dir, "big"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	s := startInner(t, strings.NewReader(""), nil, with(server, "--root", dir)...)
	for range 10 {
		mute, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer mute.Close()
	}
	var clients []*innerRun
	for range 5 {
		clients = append(clients, startInner(t, strings.NewReader("GET /big HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"), nil, with(client, s.addr)...))
	}
	for _, c := range clients {
		c.wait(t, 0)
		if !bytes.HasSuffix(c.out.Bytes(), content) {
			t.Errorf("%d bytes", c.out.Len())
		}
	}
}

func TestExitStatusOfInnerErrors(t *testing.T) {
	remote := func(a tlsmsg.Alert) error { return &itls.AlertError{Alert: a, Remote: true} }
	local := func(a tlsmsg.Alert) error { return &itls.AlertError{Alert: a, Err: errors.New("why")} }
	untrusted := &itls.AlertError{Alert: tlsmsg.AlertUnknownCA, Err: &itls.CertificateError{Err: errors.New("why")}}
	for _, tt := range []struct {
		err                error
		handshake, session int
	}{
		{untrusted, 24, 22},
		{remote(tlsmsg.AlertHandshakeFailure), 25, 22},
		{remote(tlsmsg.AlertNoApplicationProtocol), 25, 22},
		{remote(tlsmsg.AlertCertificateRequired), 25, 25},
		{remote(tlsmsg.AlertUnknownCA), 25, 25},
		{remote(tlsmsg.AlertCloseNotify), 25, 22},
		{remote(tlsmsg.AlertInternalError), 25, 22},
		{remote(tlsmsg.AlertBadRecordMAC), 22, 22},
		{remote(tlsmsg.AlertDecryptError), 22, 22},
		{remote(tlsmsg.AlertIllegalParameter), 22, 22},
		{local(tlsmsg.AlertProtocolVersion), 25, 22},
		{local(tlsmsg.AlertBadRecordMAC), 22, 22},
		{local(tlsmsg.AlertDecodeError), 22, 22},
		{itls.ErrTruncated, 25, 22},
		{syscall.ECONNRESET, 25, 22},
	} {
		if got := exitCode(wrap(handshakeFailure("client", tt.err))); got != tt.handshake {
			t.Errorf("%v in the handshake: %d, want %d", tt.err, got, tt.handshake)
		}
		if got := exitCode(wrap(sessionFailure("client", tt.err))); got != tt.session {
			t.Errorf("%v behind it: %d, want %d", tt.err, got, tt.session)
		}
	}
}

// What fits into no message is refused before anything is sent.
func TestInnerFlagsAreBounded(t *testing.T) {
	for n, ok := range map[int]bool{0: false, 1: true, 249: true, 250: false} {
		if x, err := parseInnerExport(strings.Repeat("a", n) + ":32"); (err == nil) != ok || ok && len(x.label) != n {
			t.Errorf("a label of %d bytes: %+v, %v", n, x, err)
		}
	}
	name := strings.Repeat("a", 255)
	for list, ok := range map[string]bool{
		name: true, name + "a": false, "a,": false,
		strings.Repeat(name+",", 127) + name: true, strings.Repeat(name+",", 127) + name + ",a": false,
	} {
		if _, err := parseInnerProtocols(list); (err == nil) != ok {
			t.Errorf("%d bytes of protocols: %v", len(list), err)
		}
	}
}

func TestInnerTheLongestListOfProtocolsIsOffered(t *testing.T) {
	_, server, client := innerWorld(t)
	list := strings.Repeat(strings.Repeat("a", 255)+",", 127) + strings.Repeat("b", 255)
	s := startInner(t, strings.NewReader(""), nil, with(server, "--alpn", strings.Repeat("b", 255))...)
	c := startInner(t, strings.NewReader(""), nil, with(client, s.addr, "--alpn", list)...)
	c.wait(t, 0)
	if got := c.report(t, 0).ALPN; got != strings.Repeat("b", 255) {
		t.Errorf("ALPN %q", got)
	}
}

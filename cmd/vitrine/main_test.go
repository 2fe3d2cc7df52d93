package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vitrine": main})
}

// TestScripts runs the commands as a user would, each in a process of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": cmdServe, "halt": cmdHalt, "exits": cmdExits, "json": cmdJSON, "make": cmdMake, "same": cmdSame, "silent": cmdSilent, "stock": cmdStock,
			"old": cmdOld, "value": cmdValue, "prefix": cmdPrefix, "hup": cmdHup, "lastline": cmdLastLine, "said": cmdSaid,
		},
	})
}

// setup prepares what a script's commands share.
func setup(env *testscript.Env) error {
	env.Values["servers"] = map[string]*server{}
	// Under the race detector each process waits a second before it ends, unless told not to: a script runs a
	// hundred of them. A race that was found still ends it with a status of its own.
	env.Setenv("GORACE", "atexit_sleep_ms=0")
	// What is remembered of hosts is a script's own, whoever runs it.
	env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
	return nil
}

// A server is a "vitrine origin" or "vitrine proxy" that a script started.
type server struct {
	cmd    *exec.Cmd
	log    *lines
	ready  chan string // the address
	closed chan struct{}
}

// lines collects what a server says, for the script to look at.
type lines struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	grown chan struct{} // one waiter is told of more
}

func (l *lines) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.WriteString(s + "\n")
	select {
	case l.grown <- struct{}{}:
	default:
	}
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// serverTime bounds the wait for a server that does not do what it is told.
const serverTime = time.Minute

// cmdServe is "serve NAME vitrine ARGS...": it starts a server, waits for its "listening on", and
// sets $NAME to its address. What it prints goes to NAME.out.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: serve NAME vitrine ARGS...")
	}
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	s := &server{cmd: exec.Command(path, args[2:]...), log: &lines{grown: make(chan struct{}, 1)}, ready: make(chan string, 1), closed: make(chan struct{})}
	s.cmd.Dir = ts.MkAbs(".")
	out, err := os.Create(ts.MkAbs(args[0] + ".out"))
	ts.Check(err)
	defer out.Close()
	s.cmd.Stdout = out
	stderr, err := s.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	go func() {
		defer close(s.closed)
		scan := bufio.NewScanner(stderr)
		for scan.Scan() {
			s.log.add(scan.Text())
			if addr, ok := strings.CutPrefix(scan.Text(), "listening on "); ok {
				s.ready <- addr
			}
		}
	}()
	servers := ts.Value("servers").(map[string]*server)
	servers[args[0]] = s
	ts.Defer(func() {
		_ = s.cmd.Process.Kill()
		<-s.closed
		_ = s.cmd.Wait()
	})
	select {
	case addr := <-s.ready:
		ts.Setenv(args[0], addr)
		_, port, err := net.SplitHostPort(addr)
		ts.Check(err)
		ts.Setenv(args[0]+"_PORT", port)
	case <-s.closed:
		ts.Fatalf("%s did not start: %s", args[0], s.log)
	case <-time.After(serverTime):
		ts.Fatalf("%s says no address: %s", args[0], s.log)
	}
}

// cmdHalt is "halt NAME FILE": it sends SIGTERM, waits, demands exit status 0 and writes the log to FILE.
func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: halt NAME FILE")
	}
	s := ts.Value("servers").(map[string]*server)[args[0]]
	if s == nil {
		ts.Fatalf("no server %s", args[0])
	}
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	defer time.AfterFunc(serverTime, func() { _ = s.cmd.Process.Kill() }).Stop()
	<-s.closed
	if err := s.cmd.Wait(); err != nil {
		ts.Fatalf("%s ended with %v: %s", args[0], err, s.log)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(s.log.String()), 0o644))
}

// cmdSaid is "said NAME VAR PATTERN": what a server printed before its "listening on" matches, and $VAR is what is in
// the parentheses; $VAR_PORT is the port, if it is an address.
func cmdSaid(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: said NAME VAR PATTERN")
	}
	s := ts.Value("servers").(map[string]*server)[args[0]]
	if s == nil {
		ts.Fatalf("no server %s", args[0])
	}
	pattern, err := regexp.Compile(args[2])
	ts.Check(err)
	match := pattern.FindStringSubmatch(s.log.String())
	if len(match) != 2 {
		ts.Fatalf("%s did not say %q: %s", args[0], args[2], s.log)
	}
	ts.Setenv(args[1], match[1])
	if _, port, err := net.SplitHostPort(match[1]); err == nil {
		ts.Setenv(args[1]+"_PORT", port)
	}
}

// cmdExits is "exits N vitrine ARGS...": the command has to end with status N, and where N is not 0,
// say why in one line that begins with "vitrine: ", unless it was asked to be verbose. "vitrine inner" has said
// other things before.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N vitrine ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	stderr := ts.ReadFile("stderr")
	if got != want {
		ts.Fatalf("exit status %d, want %d: %s", got, want, stderr)
	}
	if len(args) > 2 && args[2] == "inner" {
		stderr = lastLine(stderr)
	}
	if want != 0 && (strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "vitrine: ")) && !strings.Contains(strings.Join(args, " "), " -v ") {
		ts.Fatalf("not one clear line: %q", stderr)
	}
}

// cmdJSON is "json FILE PATH VALUE": a dotted path in a JSON document has the value, as JSON text or
// as a plain string. "!" demands that it has not.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: json FILE PATH VALUE")
	}
	doc := jsonAt(ts, args[0], args[1])
	text, err := json.Marshal(doc)
	ts.Check(err)
	if s, isString := doc.(string); (string(text) == args[2] || isString && s == args[2]) == neg {
		ts.Fatalf("%s: %s is %s", args[0], args[1], text)
	}
}

// cmdValue is "value NAME FILE PATH": it sets $NAME to the string at the dotted path in a JSON document.
func cmdValue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: value NAME FILE PATH")
	}
	s, ok := jsonAt(ts, args[1], args[2]).(string)
	if !ok {
		ts.Fatalf("%s: %s is no string", args[1], args[2])
	}
	ts.Setenv(args[0], s)
}

// jsonAt is what is at the dotted path of a JSON document.
func jsonAt(ts *testscript.TestScript, file, path string) any {
	var doc any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &doc))
	for key := range strings.SplitSeq(path, ".") {
		switch v := doc.(type) {
		case map[string]any:
			value, ok := v[key]
			if !ok {
				ts.Fatalf("%s: no %s", file, path)
			}
			doc = value
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(v) {
				ts.Fatalf("%s: no %s", file, path)
			}
			doc = v[i]
		default:
			ts.Fatalf("%s: no %s", file, path)
		}
	}
	return doc
}

// cmdMake is "make FILE N": a file of N bytes that no two places of are alike. It sets $SUM to its
// SHA-256.
func cmdMake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: make FILE N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var content bytes.Buffer
	for i := 0; content.Len() < n; i++ {
		fmt.Fprintf(&content, "%d ", i)
	}
	content.Truncate(n)
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content.Bytes(), 0o644))
	sum := sha256.Sum256(content.Bytes())
	ts.Setenv("SUM", hex.EncodeToString(sum[:]))
}

// cmdSame is "same A B": two files have the same bytes.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same A B")
	}
	if (ts.ReadFile(args[0]) == ts.ReadFile(args[1])) == neg {
		ts.Fatalf("%s and %s: equal is %t", args[0], args[1], !neg)
	}
}

// cmdSilent is "silent NAME MODE": a peer that accepts connections on $NAME and never answers, or, with
// MODE garbage, answers noise; with MODE http it is an HTTP server that answers the path.
func cmdSilent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: silent NAME silent|garbage|http")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], ln.Addr().String())
	ts.Setenv(args[0]+"_PORT", strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	if args[1] == "http" {
		srv := &http.Server{Handler: http.HandlerFunc(upstream)}
		go srv.Serve(ln)
		ts.Defer(func() { srv.Close() })
		return
	}
	var mu sync.Mutex
	var conns []net.Conn
	ts.Defer(func() {
		ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			if args[1] == "garbage" {
				io.WriteString(c, strings.Repeat("this is no TLS record\n", 10))
			}
		}
	}()
}

// cmdStock is "stock NAME CERT KEY": an HTTPS server as net/http ships it, on $NAME. It answers with
// the path, and it counts in $WORK/NAME.requests what it was asked.
func cmdStock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: stock NAME CERT KEY")
	}
	cert, err := tls.LoadX509KeyPair(ts.MkAbs(args[1]), ts.MkAbs(args[2]))
	ts.Check(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], ln.Addr().String())
	seen := ts.MkAbs(args[0] + ".requests")
	ts.Check(os.WriteFile(seen, nil, 0o644))
	srv := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			os.WriteFile(seen, []byte(r.Method+" "+r.URL.Path+"\n"), 0o644)
			switch r.URL.Path {
			case "/large-head":
				for i := range 70 {
					w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
				}
			case "/reset":
				panic(http.ErrAbortHandler)
			}
			io.WriteString(w, r.URL.Path)
		}),
	}
	go srv.ServeTLS(ln, "", "")
	ts.Defer(func() { srv.Close() })
}

// upstream is what the gateway tests pass requests on to.
func upstream(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("X-Agent", r.Header.Get("User-Agent"))
		io.Copy(w, r.Body)
	case "/fields":
		json.NewEncoder(w).Encode(r.Header)
	case "/redirect":
		http.Redirect(w, r, "/echo", http.StatusFound)
	case "/away":
		http.Redirect(w, r, "https://other.example/fields", http.StatusFound)
	case "/as-user":
		http.Redirect(w, r, "https://user:hunter2@shop.example/fields", http.StatusFound)
	case "/plain":
		http.Redirect(w, r, "http://shop.example/fields", http.StatusFound)
	case "/loop":
		http.Redirect(w, r, "/loop", http.StatusFound)
	case "/cut":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "the first part")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "/stall":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "the first part")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "/upgrade":
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		rw.Flush()
	default:
		http.NotFound(w, r)
	}
}

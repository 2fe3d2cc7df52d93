package interop

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// An example is examples/itls-origin, with the commands of its README.
type example struct {
	*testing.T
	dir      string // where the commands run
	openssl  string
	haproxy  string
	commands []string
}

// readExample reads the commands of the README.
func readExample(t *testing.T) *example {
	t.Helper()
	source := filepath.Join("..", "..", "examples", "itls-origin")
	text, err := os.ReadFile(filepath.Join(source, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	e := &example{T: t, dir: t.TempDir()}
	whole := regexp.MustCompile(`\\\n *`).ReplaceAllString(string(text), "")
	for _, line := range regexp.MustCompile(`(?m)^    (.*)$`).FindAllStringSubmatch(whole, -1) {
		e.commands = append(e.commands, line[1])
	}
	there := filepath.Join(e.dir, "examples", "itls-origin")
	config, err := os.ReadFile(filepath.Join(source, "haproxy.cfg"))
	if err == nil {
		err = os.MkdirAll(there, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(there, "haproxy.cfg"), config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// command is the one of the README that contains a text, with its addresses replaced.
func (e *example) command(text string, addresses ...string) *exec.Cmd {
	e.Helper()
	for _, c := range e.commands {
		if !strings.Contains(c, text) {
			continue
		}
		replaced := strings.NewReplacer(addresses...).Replace(c)
		// The shell becomes the program, so that the program can be ended.
		cmd := exec.Command("sh", "-c", regexp.MustCompile(`^(?:[A-Z]+=\S+ )*`).ReplaceAllString(replaced, "${0}exec "))
		cmd.Dir = e.dir
		cmd.Env = append(os.Environ(), "OPENSSL="+e.openssl, "HAPROXY="+e.haproxy, "HOME="+e.dir)
		return cmd
	}
	e.Fatalf("README.md has no command with %q", text)
	return nil
}

// run runs a command of the README to its end.
func (e *example) run(code int, cmd *exec.Cmd) string {
	e.Helper()
	p := startCommand(e, nil, cmd)
	if got := p.exit(); got != code {
		e.Fatalf("%s exits with %d, not with %d", cmd.Args[2], got, code)
	}
	return p.out.String()
}

// The example is what its README says, and the origin is a full one: nobody on the way changes a byte. What it cannot do is
// said too.
func TestInteropTerminator(t *testing.T) {
	o, missing := findOpenSSL()
	if o == nil {
		absent(t, "OpenSSL behind HAProxy", missing)
	}
	haproxy := os.Getenv("HAPROXY")
	if haproxy == "" {
		haproxy, _ = exec.LookPath("haproxy") // missing is what is said next
	}
	if haproxy == "" {
		absent(t, "OpenSSL behind HAProxy", "HAPROXY names no program; `make interop-haproxy` fetches one, and `make interop` uses it")
	}
	e := readExample(t)
	var err error
	if e.openssl, err = filepath.Abs(o.path); err != nil {
		t.Fatal(err)
	}
	if e.haproxy, err = filepath.Abs(haproxy); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(vitrine(t), filepath.Join(e.dir, "vitrine")); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"pki init", "pki origin", "pki proxy", "cat ", "echo "} {
		e.run(0, e.command(text))
	}
	page, err := os.ReadFile(filepath.Join(e.dir, "hello.txt"))
	if err != nil {
		t.Fatal(err)
	}

	server := startCommand(t, nil, e.command("s_server", "127.0.0.1:9443", "127.0.0.1:0"))
	inner := server.expect(`(?m)^ACCEPT (127\.0\.0\.1:\d+)`)[1]
	// HAProxy inherits its listener, so that the port is its own from the start.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	defer ln.Close()
	terminator := e.command("haproxy.cfg")
	terminator.Env = append(terminator.Env, "LISTEN=fd@3", "INNER="+inner)
	terminator.ExtraFiles = []*os.File{file}
	startCommand(t, nil, terminator)

	outside := ln.Addr().String()
	proxy := startCommand(t, nil, e.command("vitrine proxy", "127.0.0.1:8444", "127.0.0.1:0", "127.0.0.1:8443", outside))
	port := proxy.expect(`listening on 127\.0\.0\.1:(\d+)`)[1]
	fetch := func(code int, port string) (string, map[string]any) {
		t.Helper()
		cmd := e.command("vitrine fetch", "localhost:8444", "localhost:"+port, "-v ", "-v --report report.json -o got ")
		said := e.run(code, cmd)
		var report map[string]any
		b, err := os.ReadFile(filepath.Join(e.dir, "report.json"))
		if err == nil {
			err = json.Unmarshal(b, &report)
		}
		if err != nil {
			t.Fatal(err)
		}
		return said, report
	}
	for range 2 { // one tunnel for each connection
		said, report := fetch(0, port)
		if !strings.Contains(said, "level intact") {
			t.Errorf("it says %q", said)
		}
		if got, err := os.ReadFile(filepath.Join(e.dir, "got")); err != nil || string(got) != string(page) {
			t.Errorf("got %q, %v", got, err)
		}
		session, _ := report["inner"].(map[string]any) // nil fails below
		evidence, _ := report["evidence"].(map[string]any)
		hop, _ := evidence["hop"].(map[string]any)
		for _, is := range []struct{ name, got, want any }{
			{"level", report["level"], "intact"},
			{"inner.suite", session["suite"], "TLS_SHA256_SHA256"},
			{"inner.alpn", session["alpn"], "http/1.1"},
			{"inner.confirmed", session["confirmed"], false},
			{"evidence.kind", evidence["kind"], "transcript"},
			{"evidence.verified", evidence["verified"], true},
			{"evidence.hop.alpn", hop["alpn"], "itls/1"},
		} {
			if is.got != is.want {
				t.Errorf("%s is %v, not %v", is.name, is.got, is.want)
			}
		}
	}

	liar := startCommand(t, nil, e.command("vitrine proxy", "127.0.0.1:8444", "127.0.0.1:0 --hostile flip", "127.0.0.1:8443", outside))
	if _, report := fetch(22, liar.expect(`listening on 127\.0\.0\.1:(\d+)`)[1]); report["exit"] != float64(22) {
		t.Errorf("exit %v", report["exit"])
	}
}

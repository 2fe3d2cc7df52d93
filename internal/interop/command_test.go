package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// binaries is where what tests build goes; TestMain owns it.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "interop")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		binaries = dir
		return m.Run()
	}())
}

var build = sync.OnceValues(func() ([]byte, error) {
	return exec.Command("go", "build", "-o", filepath.Join(binaries, "vitrine"), "vitrine/cmd/vitrine").CombinedOutput()
})

// vitrine is the path of our command.
func vitrine(t testing.TB) string {
	t.Helper()
	if out, err := build(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(binaries, "vitrine")
}

// The commands `vitrine inner client` and `vitrine inner server`, as somebody would use them with OpenSSL's.
func (o *openssl) commands() []row {
	return []row{{name: "the commands, vitrine inner", test: func(r *run) {
		l := o.link(r, setup{theirs: []string{"-alpn", "http/1.1"}})
		export := exporterLabel + ":48"
		common := []string{"--suite", suiteName(r.suite), "--alpn", "http/1.1", "--export", export, "--json"}
		var ours *process
		if r.role == asClient {
			l.serve()
			ours = start(r, nil, vitrine(r), append([]string{"inner", "client", "--connect", l.addr, "--server-name", host, "--roots", r.file}, common...)...)
		} else {
			id := r.servers[kinds[0]]
			ours = start(r, nil, vitrine(r), append([]string{"inner", "server", "--listen", "127.0.0.1:0", "--cert", id.certFile, "--key", id.keyFile}, common...)...)
			addr := ours.expect(`listening on (127\.0\.0\.1:\d+)`)[1]
			l.peer = start(r, nil, o.path, append(append([]string(nil), l.theirs...), "-connect", addr)...)
		}
		ours.write("from us\n")
		l.peer.says("from us")
		l.peer.write("from them\n")
		ours.says("from them")
		theirs := l.peer.expect(`Keying material: ([0-9A-F]+)`)[1]
		if err := ours.stdin.Close(); err != nil {
			r.Fatal(err)
		}
		if r.role == asServer {
			l.peer.exit() // at our close_notify
		} else if code := ours.exit(); code != 0 {
			r.Errorf("it exits with %d", code)
		}
		ours.says(strings.ToLower(theirs))
		ours.expect(`"suite": ?"` + suiteName(r.suite) + `"`)
	}}}
}

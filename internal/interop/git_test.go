package interop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInteropGit: git clones and pushes unchanged, by a map and by http.proxy, and the origin knows each time who
// could read it.
func TestInteropGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("NOT TESTED WITH GIT: there is none")
	}
	where, err := exec.Command(git, "--exec-path").Output()
	backend := filepath.Join(strings.TrimSpace(string(where)), "git-http-backend")
	if _, there := os.Stat(backend); err != nil || there != nil {
		t.Skip("NOT TESTED WITH GIT: it has no git-http-backend")
	}
	projects := t.TempDir()
	server := &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + projects, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=somebody"}, Stderr: t.Output()}
	s := newGatewayStage(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // CGI wants to know its length, and git does not say it
		if err != nil {
			t.Error(err)
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		server.ServeHTTP(w, r)
	}))
	env := environment(t.TempDir())
	run := func(t *testing.T, dir string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), programTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, git, append([]string{"-c", "user.name=n", "-c", "user.email=e@example", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			errors.As(err, &exit)
			t.Fatalf("git %q: %v\n%s%s", args, err, out, exit.Stderr)
		}
		return string(out)
	}
	run(t, projects, "init", "--bare", "repo.git")
	gw, addr := s.gateway("--host", shopHost, "--map", "127.0.0.1:0=https://"+shopHost)
	for _, way := range []struct {
		name, url string
		config    []string
	}{
		{"a map", "http://" + s.mapped(gw) + "/repo.git", nil},
		{"http.proxy", "http://" + shopHost + "/repo.git", []string{"-c", "http.proxy=http://" + addr}},
	} {
		t.Run(way.name, func(t *testing.T) {
			work := filepath.Join(t.TempDir(), "work")
			run(t, projects, append(way.config, "clone", way.url, work)...)
			// More than git sends without asking first whether it may, and than fits into any buffer on the way.
			large := make([]byte, 4<<20)
			for i := range large {
				large[i] = byte(i*i>>7) ^ byte(i*7919>>13)
			}
			if err := os.WriteFile(filepath.Join(work, "large"), large, 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, work, "add", ".")
			run(t, work, "commit", "-q", "-m", way.name, "--allow-empty")
			run(t, work, append(way.config, "push", "origin", "HEAD:main")...)
			again := filepath.Join(t.TempDir(), "again")
			run(t, projects, append(way.config, "clone", way.url, again)...)
			if got := run(t, again, "log", "-1", "--format=%s"); strings.TrimSpace(got) != way.name {
				t.Errorf("the clone has %q", got)
			}
			posts := 0
			for _, v := range s.visits() {
				if v.reader != glassHost || v.host != shopHost {
					t.Errorf("%+v", v)
				}
				if v.method == "POST" {
					posts++
				}
			}
			if posts < 2 {
				t.Errorf("the origin saw %d POSTs", posts)
			}
		})
	}
}

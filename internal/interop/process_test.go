package interop

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long anything of a peer may take. It is far more than any of it needs.
const patience = 20 * time.Second

// A process is a program of a peer.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *output // of both streams, as they come
	done  chan struct{}
}

// start runs a program until the test's end, unless it ends by itself. sink, which may be nil, stands in
// front of its standard output.
func start(t testing.TB, sink *sink, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, sink, exec.Command(name, args...))
}

func startCommand(t testing.TB, sink *sink, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, out: newOutput(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if sink != nil {
		sink.out, p.cmd.Stdout = p.out, sink
	}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in ProcessState
		p.out.end()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s\n%s", p.cmd, tail(p.out.String()))
		}
	})
	return p
}

// tail is the end of what a program said: all of it, where it is not much.
func tail(s string) string {
	if n := 4 << 10; len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// kill ends the program and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// exit waits until the program has ended by itself.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", p.cmd.Path)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) write(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, s); err != nil {
		p.t.Fatalf("to %s: %v", p.cmd.Path, err)
	}
}

// expect waits for output that matches, and returns the submatches.
func (p *process) expect(pattern string) []string {
	p.t.Helper()
	m, err := p.out.wait(regexp.MustCompile(pattern))
	if err != nil {
		p.t.Fatalf("%s said nothing like %q: %v", p.cmd.Path, pattern, err)
	}
	return m
}

// says is expect for a text.
func (p *process) says(text string) {
	p.t.Helper()
	p.expect(regexp.QuoteMeta(text))
}

// An output collects what a program says.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	more  chan struct{} // closed at the next change
	ended bool
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.more)
	o.more = make(chan struct{})
	return len(p), nil
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	close(o.more)
	o.more = make(chan struct{})
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) wait(pattern *regexp.Regexp) ([]string, error) {
	late := time.After(patience)
	for {
		o.mu.Lock()
		m, ended, more := pattern.FindStringSubmatch(o.text.String()), o.ended, o.more
		o.mu.Unlock()
		switch {
		case m != nil:
			return m, nil
		case ended:
			return nil, errors.New("it has ended")
		}
		select {
		case <-more:
		case <-late:
			return nil, errors.New("it takes too long")
		}
	}
}

// has says whether the output holds a text now.
func (o *output) has(text string) bool { return strings.Contains(o.String(), text) }

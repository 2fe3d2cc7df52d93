package consent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode"

	"vitrine/client"
)

// A terminal answers questions with lines, and counts them.
type terminal struct {
	*Prompt
	out *bytes.Buffer
}

func newTerminal(s *Store, lines string) *terminal {
	out := new(bytes.Buffer)
	return &terminal{&Prompt{Store: s, In: strings.NewReader(lines), Out: out}, out}
}

func (p *terminal) questions() int { return strings.Count(p.out.String(), "Do you agree?") }

func TestAQuestionSaysWhoReadsWhat(t *testing.T) {
	p := newTerminal(open(t, newPath(t)), "no\n")
	req := request("shop.example:443", "Authorization", "Cookie")
	req.ProxySubject = "CN=glass.example,O=Glass"
	if _, err := p.Ask(t.Context(), req); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	const want = `
The proxy reads everything.

  Proxy:  glass.example
          its certificate names CN=glass.example,O=Glass
          its root's key is 0102030000000000…
  Credentials that it will see:  Authorization, Cookie

Do you agree?
  1  once: for shop.example:443, until this program ends
  2  host: for shop.example:443, for 30 days
  3  every: for every host, for 30 days
  n  no
Your answer: `
	if got := p.out.String(); got != want {
		t.Errorf("asked\n%s\nwant\n%s", got, want)
	}
}

func TestAnswers(t *testing.T) {
	for _, x := range []struct {
		name, lines string
		fields      []string
		ok          bool
		scope       string // of what is stored
		left        string // of the input
	}{
		{name: "once", lines: "once\nmore", ok: true, left: "more"},
		{name: "once, by number", lines: "1\n", ok: true},
		{name: "this host", lines: "host\n", ok: true, scope: "shop.example:443"},
		{name: "this host, by number", lines: " 2 \r\n", ok: true, scope: "shop.example:443"},
		{name: "every host", lines: "EVERY\n", ok: true, scope: "*"},
		{name: "every host, by number", lines: "3\n", ok: true, scope: "*"},
		{name: "once, with credentials", lines: "once\n", fields: []string{"Cookie"}, ok: true},
		{name: "this host, with credentials", lines: "host\n", fields: []string{"Cookie"}, ok: true, scope: "shop.example:443"},
		{name: "no", lines: "no\n"},
		{name: "no, in short", lines: "N\n"},
		{name: "the end of the input", lines: ""},
		{name: "a line that never ends", lines: "once"},
		{name: "nothing, then once", lines: "\nonce\n", ok: true},
		{name: "yes is no answer to which", lines: "yes\ny\n1\n", ok: true},
		{name: "nonsense", lines: "a\nb\nc\n1\n", left: "1\n"},
		{name: "a word too much", lines: "once and for all\n4\n12\n", left: ""},
		{name: "an endless line", lines: strings.Repeat("1", 1<<20) + "\n\n\n", left: ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := open(t, newPath(t))
			p := newTerminal(s, x.lines)
			a, err := p.Ask(t.Context(), request("shop.example:443", x.fields...))
			if (err == nil) != x.ok || err != nil && !errors.Is(err, ErrRefused) {
				t.Errorf("%v %v", a, err)
			}
			if err == nil && a.Credentials != (x.fields != nil) {
				t.Errorf("credentials: %v", a.Credentials)
			}
			if err == nil && (a.Ends == nil) != (x.scope == "") {
				t.Errorf("ends %v", a.Ends)
			}
			list := grants(t, s)
			if x.scope == "" {
				if len(list) != 0 {
					t.Errorf("stored %+v", list)
				}
			} else if len(list) != 1 || len(list[0].Scope) != 1 || list[0].Scope[0].String() != x.scope || list[0].Credentials != (x.fields != nil) ||
				list[0].Until.Sub(list[0].Granted) != PromptTime || list[0].ProxyName != "glass.example" || list[0].ProxySubject == "" ||
				list[0].ProxyRootSPKI != [32]byte{1, 2, 3} {
				t.Errorf("stored %+v", list)
			}
			if left, _ := io.ReadAll(p.In); string(left) != x.left {
				t.Errorf("left %q of the input, want %q", left, x.left)
			}
		})
	}
}

func TestWhatIsStoredIsNotAsked(t *testing.T) {
	s := open(t, newPath(t))
	g := add(t, s, sample(t, "shop.example"))
	p := newTerminal(s, "")
	if a := ask(t, p, request("shop.example:443")); a.Ends == nil || p.out.Len() != 0 {
		t.Errorf("%+v; printed %q", a, p.out)
	}
	if _, err := s.Revoke(g.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ask(t.Context(), request("shop.example:443")); !errors.Is(err, ErrRefused) || p.questions() != 1 {
		t.Errorf("after its revocation: %v; printed %q", err, p.out)
	}
}

// What a prompt granted is taken back like any other grant.
func TestAPromptsGrantCanBeRevoked(t *testing.T) {
	s := open(t, newPath(t))
	p := newTerminal(s, "every\n")
	a := ask(t, p, request("shop.example:443"))
	if b := ask(t, p, request("other.example:443")); b.Ends != a.Ends || p.questions() != 1 {
		t.Errorf("asked %d times", p.questions())
	}
	if _, err := s.RevokeAll(); err != nil || context.Cause(a.Ends) != ErrRevoked {
		t.Errorf("%v, ends: %v", err, context.Cause(a.Ends))
	}
}

func TestOnceIsForThatHostAndThisProgram(t *testing.T) {
	s := open(t, newPath(t))
	p := newTerminal(s, "once\n")
	ask(t, p, request("shop.example:443"))
	ask(t, p, request("shop.example:443"))
	if p.questions() != 1 {
		t.Errorf("asked %d times", p.questions())
	}
	for name, change := range map[string]func(*client.ConsentRequest){
		"another host":  func(req *client.ConsentRequest) { req.Authority = "other.example:443" },
		"another port":  func(req *client.ConsentRequest) { req.Authority = "shop.example:444" },
		"another proxy": func(req *client.ConsentRequest) { req.ProxyName = "mirror.example" },
		"another root":  func(req *client.ConsentRequest) { req.ProxyRootSPKI[0]++ },
		"credentials":   func(req *client.ConsentRequest) { req.Fields = []string{"Cookie"} },
	} {
		req := request("shop.example:443")
		change(req)
		before := p.questions()
		if a, err := p.Ask(t.Context(), req); p.questions() != before+1 || a != nil && a.Credentials || (err == nil) != (name == "credentials") {
			t.Errorf("%s: %v %v, %d more questions", name, a, err, p.questions()-before)
		}
	}
	if len(grants(t, s)) != 0 {
		t.Error("it was stored")
	}
	if _, err := newTerminal(s, "").Ask(t.Context(), request("shop.example:443")); err == nil {
		t.Error("another program has it")
	}
}

// A page that asks for one host again and again gets one answer.
func TestNoIsAnAnswerForGood(t *testing.T) {
	for _, first := range []*client.ConsentRequest{request("shop.example:443"), request("shop.example:443", "Cookie")} {
		s := open(t, newPath(t))
		p := newTerminal(s, "no\n1\n1\n")
		for _, req := range []*client.ConsentRequest{first, request("shop.example:443"), request("shop.example:443", "Cookie")} {
			if _, err := p.Ask(t.Context(), req); !errors.Is(err, ErrRefused) {
				t.Errorf("%v", err)
			}
		}
		if p.questions() != 1 {
			t.Errorf("asked %d times", p.questions())
		}
		add(t, s, sample(t))
		if a := ask(t, p, request("shop.example:443")); a.Ends == nil {
			t.Error("what is granted elsewhere counts")
		}
	}
}

func TestCredentialsAreAskedForBesides(t *testing.T) {
	for _, stored := range []bool{true, false} {
		for answer, want := range map[string]bool{"once\n": true, "host\n": true, "no\n": false, "": false} {
			s := open(t, newPath(t))
			if stored {
				add(t, s, sample(t))
			}
			lines := answer
			if !stored {
				lines = "once\n" + lines
			}
			p := newTerminal(s, lines)
			ask(t, p, request("shop.example:443"))
			before := p.questions()
			for range 2 {
				if a := ask(t, p, request("shop.example:443", "Cookie")); a.Credentials != want {
					t.Errorf("stored %v, %q: %+v", stored, answer, a)
				}
			}
			asked := p.questions() - before
			if want := map[string]int{"": 2}[answer]; asked != max(want, 1) {
				t.Errorf("stored %v, %q: asked %d times", stored, answer, asked)
			}
			if !strings.Contains(p.out.String(), "You agreed before, but not to this:") {
				t.Errorf("printed %q", p.out)
			}
			if a := ask(t, p, request("shop.example:443")); a == nil || p.questions() != before+asked {
				t.Error("reading alone is asked for again")
			}
		}
	}
}

// spec: CLI-26
func TestWhatIsCarriedSealedIsNotConsentToBeRead(t *testing.T) {
	s := open(t, newPath(t))
	p := newTerminal(s, "host\nevery\nonce\nno\n")
	sealed := request("shop.example:443")
	sealed.Levels = []client.Level{client.Blind}
	ask(t, p, sealed)
	ask(t, p, sealed)
	if out := p.out.String(); strings.Contains(out, "every host") || p.questions() != 1 || len(grants(t, s)) != 0 {
		t.Errorf("printed %s", out)
	}
	if _, err := p.Ask(t.Context(), request("shop.example:443")); !errors.Is(err, ErrRefused) || p.questions() != 2 {
		t.Errorf("to be read: %v", err)
	}
	// Who may read may also carry.
	p = newTerminal(s, "once\n")
	ask(t, p, request("shop.example:443"))
	ask(t, p, sealed)
	if p.questions() != 1 {
		t.Errorf("asked %d times", p.questions())
	}
}

func TestWithoutAStoreThereIsOnceAndNo(t *testing.T) {
	p := newTerminal(nil, "host\nevery\n2\n")
	if _, err := p.Ask(t.Context(), request("shop.example:443")); !errors.Is(err, ErrRefused) || strings.Contains(p.out.String(), "30 days") {
		t.Errorf("%v, printed %q", err, p.out)
	}
	if a := ask(t, newTerminal(nil, "once\n"), request("shop.example:443")); a.Ends != nil {
		t.Error("it ends")
	}
}

// A store that cannot be read is not one that has nothing in it.
func TestABrokenStoreIsNotPaperedOver(t *testing.T) {
	s := open(t, newPath(t))
	s.Close()
	p := newTerminal(s, "once\n")
	if _, err := p.Ask(t.Context(), request("shop.example:443")); !errors.Is(err, ErrClosed) || p.out.Len() != 0 {
		t.Errorf("%v, printed %q", err, p.out)
	}
}

// spec: CLI-27
func TestAQuestionIsPrintable(t *testing.T) {
	const evil = "\x1b]0;x\a\x1b[2J\r\n1\u202e\u2066\x9b\xff\u200b"
	req := request("shop.example:443", "Cookie"+evil)
	req.Words, req.ProxySubject, req.ProxyName, req.Authority = "Reads."+evil, "CN="+evil, "glass"+evil, "shop.example:443"
	p := newTerminal(open(t, newPath(t)), evil+"\n\n\n")
	p.Ask(t.Context(), req)
	for _, r := range p.out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%q in %q", r, p.out)
		}
	}
	plain := newTerminal(p.Store, "\n\n\n")
	plain.Ask(t.Context(), request("shop.example:443", "Cookie"))
	if a, b := strings.Count(p.out.String(), "\n"), strings.Count(plain.out.String(), "\n"); a != b {
		t.Errorf("%d lines, want %d: %q", a, b, p.out)
	}
	long := newTerminal(p.Store, "\n\n\n")
	req.Words = strings.Repeat("x", 1<<20)
	long.Ask(t.Context(), req)
	if long.out.Len() > 16<<10 {
		t.Errorf("a question of %d bytes", long.out.Len())
	}
}

func TestAQuestionEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, typing := net.Pipe()
		defer in.Close()
		defer typing.Close()
		p := &Prompt{In: in, Out: io.Discard}
		gone := errors.New("the page was left")
		ctx, leave := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := p.Ask(ctx, request("shop.example:443")); !errors.Is(err, gone) {
				t.Errorf("asked: %v", err)
			}
		})
		synctest.Wait()
		waiting, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := p.Ask(waiting, request("other.example:443")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for its turn: %v", err)
		}
		leave(gone)
		wg.Wait()
		wg.Go(func() { io.WriteString(typing, "once\n") })
		ask(t, p, request("third.example:443")) // the terminal still works
		wg.Wait()
	})
}

// Twelve images of a page want their tunnels at once.
func TestOneQuestionAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, typing := net.Pipe()
		defer in.Close()
		defer typing.Close()
		out := new(lockedBuffer)
		p := &Prompt{In: in, Out: out}
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				authority := []string{"one.example:443", "two.example:443"}[i%2]
				if _, err := p.Ask(t.Context(), request(authority)); err != nil {
					t.Error(err)
				}
			})
		}
		for n := range 2 {
			synctest.Wait()
			if got := strings.Count(out.String(), "Do you agree?"); got != n+1 {
				t.Errorf("%d questions, want %d", got, n+1)
			}
			io.WriteString(typing, "once\n")
		}
		wg.Wait()
		if got := strings.Count(out.String(), "Do you agree?"); got != 2 {
			t.Errorf("%d questions for two hosts", got)
		}
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestWhatAPromptRemembersIsBounded(t *testing.T) {
	p := newTerminal(nil, "1\n")
	ask(t, p, request("shop.example:443"))
	for i := range maxRemembered + 10 {
		p.remember(question{root: [32]byte{byte(i), byte(i >> 8)}, name: "x"}, answer{})
	}
	if len(p.answers) != maxRemembered {
		t.Errorf("%d answers", len(p.answers))
	}
	p.remember(questionOf(request("shop.example:443")), answer{yes: true, credentials: true})
	if a := ask(t, p, request("shop.example:443", "Cookie")); !a.Credentials {
		t.Error("what is known cannot change")
	}
}

// Of a line without end only a beginning is kept.
func TestALongAnswerIsNotKept(t *testing.T) {
	in := strings.NewReader("")
	p := &Prompt{In: in, Out: io.Discard}
	endless := strings.Repeat("a", 1<<20) + "\n"
	kept := testing.AllocsPerRun(1, func() {
		in.Reset(endless)
		if line, err := p.readLine(t.Context()); line != "" || err != nil || in.Len() > 0 {
			t.Errorf("%d bytes, %v", len(line), err)
		}
	})
	if kept > 12 {
		t.Errorf("%v allocations", kept)
	}
}

// What is granted at a prompt lasts from the prompt's now.
func TestAPromptHasAClock(t *testing.T) {
	s := open(t, newPath(t))
	p := newTerminal(s, "host\n")
	at := time.Now().Add(-time.Hour).UTC().Round(time.Second)
	p.Now = func() time.Time { return at }
	ask(t, p, request("shop.example:443"))
	if list := grants(t, s); len(list) != 1 || !list[0].Granted.Equal(at) || !list[0].Until.Equal(at.Add(PromptTime)) {
		t.Errorf("%+v", list)
	}
}

func TestATerminalThatBreaksIsNoRefusal(t *testing.T) {
	if _, err := (&Prompt{In: iotest.ErrReader(io.ErrNoProgress), Out: io.Discard}).Ask(t.Context(), request("shop.example:443")); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("nobody to ask: %v", err)
	}
	if _, err := (&Prompt{In: strings.NewReader("once\n"), Out: brokenPipe{}}).Ask(t.Context(), request("shop.example:443")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("nowhere to ask: %v", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A typist types lines, and whether he waits to be asked depends.
type typist struct {
	asked   string // typed behind each question
	pending string // what can be read
	broken  error
}

func (t *typist) DiscardInput() error {
	t.pending = t.asked
	return t.broken
}

func (t *typist) Read(b []byte) (int, error) {
	if t.pending == "" {
		return 0, io.EOF
	}
	n := copy(b, t.pending)
	t.pending = t.pending[n:]
	return n, nil
}

// What is pasted into a shell, line by line, must not agree to what its first line asks.
func TestWhatWasTypedBeforeIsNoAnswer(t *testing.T) {
	for _, x := range []struct {
		name string
		typist
		asked int
		ok    bool
	}{
		{"before, and nothing behind", typist{pending: "every\n"}, 1, false},
		{"before, and no behind", typist{pending: "every\n", asked: "no\n"}, 1, false},
		{"before, and once behind", typist{pending: "no\n", asked: "once\n"}, 1, true},
		{"behind nonsense", typist{asked: "nonsense\nonce\n"}, maxTries, false},
		{"behind blanks", typist{asked: strings.Repeat(" ", maxAnswer-4) + "once\n"}, 1, true},
		{"in front of what is too long", typist{asked: "once" + strings.Repeat(" ", 300) + "and for nobody else\n"}, maxTries, false},
		{"a terminal that cannot drop it", typist{pending: "once\n", asked: "once\n", broken: io.ErrClosedPipe}, 0, false},
	} {
		s := open(t, newPath(t))
		out := new(bytes.Buffer)
		p := &Prompt{Store: s, In: &x.typist, Out: out}
		a, err := p.Ask(t.Context(), request("shop.example:443"))
		if (err == nil) != x.ok || (a != nil) != x.ok || errors.Is(err, io.ErrClosedPipe) != (x.broken != nil) {
			t.Errorf("%s: %v %v", x.name, a, err)
		}
		if n := strings.Count(out.String(), "Your answer: "); n != x.asked {
			t.Errorf("%s: asked %d times, want %d", x.name, n, x.asked)
		}
		if list := grants(t, s); len(list) != 0 {
			t.Errorf("%s: stored %+v", x.name, list)
		}
	}
}

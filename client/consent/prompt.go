package consent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"vitrine/client"
	"vitrine/internal/hosts"
)

// ErrRefused is what [Prompt.Ask] returns, wrapped, when the user said no, or nothing that makes sense.
var ErrRefused = errors.New("the user did not agree")

const (
	// PromptTime is how long what the user grants at a prompt lasts, unless it is once.
	PromptTime = 30 * 24 * time.Hour
	// maxTries stops a program that is taken for a user from being asked for ever.
	maxTries = 3
	// maxAnswer stops an endless line; the longest answer is a word.
	maxAnswer = 256
	// maxRemembered stops a page with links to ever more hosts from filling memory, should something
	// answer all those questions.
	maxRemembered = 4096
	// maxWords bounds what a question shows of one text that others chose a part of.
	maxWords = 2048
)

// A Prompt is a [client.Consent] that asks the user about what is not stored, and has the Choose of a
// client.Transport. It asks one question at a time. An
// answer "once" or "no" counts for that host and as long as the Prompt exists: a page cannot ask until the user
// is tired. The fields must not change after the first use; a Prompt must not be copied.
type Prompt struct {
	// Store is looked into first, and keeps what the user grants for longer. Nil: nothing is stored, and the user
	// may agree once.
	Store *Store
	// In is where the answers come from, one a line. A Read of it is broken off when the request's context ends
	// if In has a SetReadDeadline, as terminals have; else the question stays until it is answered. If In has a
	// method DiscardInput() error, it is called before each line that is read, to drop what was typed before: that
	// was meant for something else.
	In io.Reader
	// Out is where the questions go.
	Out io.Writer
	// Now is the clock for what is granted. Default: time.Now.
	Now func() time.Time
	// ChooseOnly keeps Ask from asking: it agrees to what is stored, and to what Choose was answered. Default: Ask asks.
	ChooseOnly bool

	once    sync.Once
	turn    chan struct{} // holds one token while a question is asked
	answers map[question]answer
	picks   map[matter]client.Level // "": no
}

// A question is what an answer that is not stored counts for.
type question struct {
	root      [32]byte
	name      string
	authority string
	power     int // what it lets the proxy do
}

type answer struct {
	yes         bool // to the question itself
	credentials bool // and to credentials
	refused     bool // credentials were asked about, and kept back
}

// Ask implements [client.Consent].
func (p *Prompt) Ask(ctx context.Context, req *client.ConsentRequest) (*client.Agreement, error) {
	leave, err := p.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	known, none, err := p.known(ctx, req)
	if err != nil || known != nil && (known.Credentials || len(req.Fields) == 0) {
		return known, err
	}
	if p.ChooseOnly {
		if known == nil && none == nil {
			none = ErrNoGrant
		}
		return known, none
	}
	q := questionOf(req)
	if said, ok := p.answers[q]; ok && (!said.yes && known == nil || said.refused) {
		return orRefused(known)
	}
	chosen, err := p.ask(ctx, req, known != nil)
	switch {
	case err != nil:
		return nil, err
	case chosen == nil: // nobody is there
		return orRefused(known)
	case chosen.no:
		said := p.answers[q]
		said.refused = len(req.Fields) > 0
		p.remember(q, said)
		return orRefused(known)
	case chosen.scope == nil:
		p.remember(q, answer{yes: true, credentials: len(req.Fields) > 0})
		return &client.Agreement{Credentials: len(req.Fields) > 0}, nil
	}
	now := p.now()
	if _, err := p.Store.Add(Grant{
		ProxyRootSPKI: req.ProxyRootSPKI, ProxyName: req.ProxyName, ProxySubject: req.ProxySubject,
		Scope: chosen.scope, Granted: now, Until: now.Add(PromptTime), Credentials: len(req.Fields) > 0,
		Levels: readableOf(req.Levels),
	}); err != nil {
		return nil, err
	}
	return p.Store.Ask(ctx, req)
}

// enter waits for the turn to ask. leave ends it.
func (p *Prompt) enter(ctx context.Context) (leave func(), err error) {
	p.once.Do(func() {
		p.turn = make(chan struct{}, 1)
		p.answers = make(map[question]answer)
		p.picks = make(map[matter]client.Level)
	})
	select {
	case p.turn <- struct{}{}:
		return func() { <-p.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *Prompt) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// orRefused is what stays when the user adds nothing to what is known.
func orRefused(known *client.Agreement) (*client.Agreement, error) {
	if known == nil {
		return nil, ErrRefused
	}
	return known, nil
}

// known is what was agreed to before, nil for nothing; none is then why nothing stored counts.
func (p *Prompt) known(ctx context.Context, req *client.ConsentRequest) (known *client.Agreement, none, err error) {
	var stored *client.Agreement
	if p.Store != nil {
		if stored, none = p.Store.Ask(ctx, req); none != nil && !errors.Is(none, ErrNoGrant) {
			return nil, nil, none
		}
	}
	var said answer
	for q := questionOf(req); q.power <= maxPower && !said.yes; q.power++ { // who may do more may do less
		said = p.answers[q]
	}
	switch {
	case said.yes && (stored == nil || said.credentials && !stored.Credentials):
		return &client.Agreement{Credentials: said.credentials}, nil, nil
	case stored != nil:
		return stored, nil, nil
	}
	return nil, none, nil
}

func (p *Prompt) remember(q question, a answer) {
	if _, ok := p.answers[q]; ok || len(p.answers) < maxRemembered {
		p.answers[q] = a
	}
}

func questionOf(req *client.ConsentRequest) question {
	return question{root: req.ProxyRootSPKI, name: req.ProxyName, authority: req.Authority, power: highest(req.Levels)}
}

// A choice is one of the answers to a question.
type choice struct {
	words []string // any of which chooses it
	text  string   // what it means
	no    bool
	scope []hosts.Pattern // nil: it is not stored
	level client.Level    // where levels are chosen from
}

// choices are those for req. To be carried sealed is agreed to once: what is stored allows reading.
func (p *Prompt) choices(req *client.ConsentRequest) ([]choice, error) {
	list := []choice{{words: []string{"1", "once"}, text: "once: for " + clean(req.Authority, maxSubject) + ", until this program ends"}}
	if p.Store != nil && len(readableOf(req.Levels)) > 0 {
		here, err := hosts.Parse(req.Authority)
		if err != nil {
			return nil, err
		}
		every, err := hosts.Parse("*")
		if err != nil {
			return nil, err
		}
		days := fmt.Sprintf(", for %d days", PromptTime/(24*time.Hour))
		list = append(list,
			choice{words: []string{"2", "host"}, text: "host: for " + here.String() + days, scope: []hosts.Pattern{here}},
			choice{words: []string{"3", "every"}, text: "every: for every host" + days, scope: []hosts.Pattern{every}})
	}
	return append(list, choice{words: []string{"n", "no"}, text: "no", no: true}), nil
}

// ask puts the question about req, and returns the choice; nil when the input has ended or makes no sense.
func (p *Prompt) ask(ctx context.Context, req *client.ConsentRequest, again bool) (*choice, error) {
	list, err := p.choices(req)
	if err != nil {
		return nil, err
	}
	return p.put(ctx, text(req, list, again), list)
}

// put writes a question and reads which of the answers in list it gets.
func (p *Prompt) put(ctx context.Context, text string, list []choice) (*choice, error) {
	if _, err := io.WriteString(p.Out, text); err != nil {
		return nil, err
	}
	for range maxTries {
		if in, ok := p.In.(interface{ DiscardInput() error }); ok {
			if err := in.DiscardInput(); err != nil {
				return nil, err
			}
		}
		if _, err := io.WriteString(p.Out, "Your answer: "); err != nil {
			return nil, err
		}
		line, err := p.readLine(ctx)
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case err == io.EOF:
				return nil, nil
			}
			return nil, err
		}
		word := strings.ToLower(strings.Join(strings.Fields(line), " "))
		for i := range list {
			if slices.Contains(list[i].words, word) {
				return &list[i], nil
			}
		}
		var words []string
		for i := range list {
			words = append(words, list[i].words[0])
		}
		if _, err := fmt.Fprintf(p.Out, "That is none of %s.\n", strings.Join(words, ", ")); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// text is the question.
func text(req *client.ConsentRequest, list []choice, again bool) string {
	var b strings.Builder
	b.WriteByte('\n')
	if again {
		b.WriteString("You agreed before, but not to this:\n")
	}
	fmt.Fprintf(&b, "%s\n\n", clean(req.Words, maxWords))
	fmt.Fprintf(&b, "  Proxy:  %s\n", clean(req.ProxyName, maxSubject))
	fmt.Fprintf(&b, "          its certificate names %s\n", clean(req.ProxySubject, maxSubject))
	fmt.Fprintf(&b, "          its root's key is %x…\n", req.ProxyRootSPKI[:8])
	if len(req.Fields) > 0 {
		fmt.Fprintf(&b, "  Credentials that it will see:  %s\n", clean(strings.Join(req.Fields, ", "), maxWords))
	}
	b.WriteString("\nDo you agree?\n")
	for i := range list {
		fmt.Fprintf(&b, "  %s  %s\n", list[i].words[0], list[i].text)
	}
	return b.String()
}

// readLine reads a line, byte by byte: what follows it is for others who read In. A line without an end is
// none, and one that is too long is no answer.
func (p *Prompt) readLine(ctx context.Context) (string, error) {
	if in, ok := p.In.(interface{ SetReadDeadline(time.Time) error }); ok {
		broken := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(broken)
			in.SetReadDeadline(time.Unix(1, 0))
		})
		defer func() {
			if !stop() {
				<-broken
				in.SetReadDeadline(time.Time{})
			}
		}()
	}
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := p.In.Read(b)
		switch {
		case n == 1 && b[0] == '\n' && len(line) > maxAnswer:
			return "", nil
		case n == 1 && b[0] == '\n':
			return string(line), nil
		case n == 1 && len(line) <= maxAnswer:
			line = append(line, b[0])
		}
		if err != nil {
			return "", err
		}
	}
}

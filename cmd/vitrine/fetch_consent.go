package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"vitrine/client"
	"vitrine/client/consent"
)

// A consenter is whom --consent names. It remembers what was asked last, so that an error can name the
// grant that would have allowed it.
type consenter struct {
	client.Consent
	prompt  *consent.Prompt                     // for levels; nil where nobody is asked for one
	memory  *consent.Memory                     // nil where there is no place for it
	once    bool                                // nothing is stored but memory
	store   string                              // as --store has it
	command string                              // that asks
	grant   func(*client.ConsentRequest) string // the command line
	close   []func() error

	mu    sync.Mutex
	asked *client.ConsentRequest
}

// consentFlags reads --consent, and --allow-credentials with it.
func consentFlags(c *cli.Context) (how string, err error) {
	switch how = c.String("consent"); how {
	case "once":
	case "stored", "ask":
		if c.Bool("allow-credentials") {
			return "", usagef("--allow-credentials is for --consent once; stored consent itself says whether they may leave: vitrine consent grant --credentials")
		}
	default:
		return "", usagef("--consent: %q is none of stored, ask, once", how)
	}
	return how, nil
}

// newConsenter opens the store where there is need of it. Memory is kept beside it whatever --consent is: who
// agrees once to be read has not agreed to be read at less than before.
func newConsenter(c *cli.Context, how string) (*consenter, error) {
	n := &consenter{once: how == "once", command: c.Command.Name, store: c.String("store"), grant: func(req *client.ConsentRequest) string { return grantLine(c, req) }}
	_, asks, err := parseLevels(c.String("level"))
	if err != nil {
		return nil, err
	}
	if _, err := storePath(c); err == nil || how != "once" {
		if n.memory, err = openMemory(c); err != nil {
			return nil, err
		}
	}
	var store *consent.Store
	if n.once {
		n.Consent = client.Once{Credentials: c.Bool("allow-credentials")}
	} else {
		if store, err = openStore(c); err != nil {
			return nil, err
		}
		n.Consent, n.close = store, append(n.close, store.Close)
	}
	if how != "ask" && !asks {
		return n, nil
	}
	t := &terminal{}
	p := &consent.Prompt{Store: store, In: t, Out: t, ChooseOnly: how != "ask"}
	n.close = append(n.close, t.Close)
	if asks {
		n.prompt = p
	}
	if !n.once {
		n.Consent = p
	}
	return n, nil
}

// Ask is [client.Consent]'s.
func (n *consenter) Ask(ctx context.Context, req *client.ConsentRequest) (*client.Agreement, error) {
	n.mu.Lock()
	n.asked = req
	n.mu.Unlock()
	return n.Consent.Ask(ctx, req)
}

// Close is called after the transport's, whose tunnels it would end.
func (n *consenter) Close() error {
	var errs []error
	for _, f := range n.close {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// advise adds to an error for want of consent what to type to give it. Who was asked and said no knows.
func (n *consenter) advise(err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.adviseAbout(n.asked, err)
}

// adviseAbout is advise where asked is what consent was asked for; nil for nothing.
func (n *consenter) adviseAbout(asked *client.ConsentRequest, err error) error {
	var (
		trust *client.TrustError
		level *client.LevelError
	)
	if errors.As(err, &level) {
		return n.adviseLevel(err, level)
	}
	if asked == nil || !errors.As(err, &trust) || errors.Is(err, consent.ErrRefused) {
		return err
	}
	line, once := n.grant(asked), "--consent once"
	if len(asked.Fields) > 0 {
		line, once = line+" --credentials", once+" --allow-credentials"
	}
	switch {
	case errors.Is(err, consent.ErrRevoked), errors.Is(err, consent.ErrExpired):
		return fmt.Errorf("%w; to allow it again: %s", err, line)
	case trust.Party == client.PartyCredentials, errors.Is(err, consent.ErrNoGrant), errors.Is(err, errNoTerminal):
		return fmt.Errorf("%w; to allow it for 30 days: %s; for this %s alone: %s", err, line, n.command, once)
	}
	return err
}

// grantLine is the command that grants what req asks for, ready for a shell.
func grantLine(c *cli.Context, req *client.ConsentRequest) string {
	words := []string{"--proxy", req.ProxyName, "--proxy-roots", c.String("proxy-roots"), "--scope", req.Authority}
	if _, err := chooseRoot(c.String("proxy-roots"), ""); err != nil {
		words = append(words, "--root", hex.EncodeToString(req.ProxyRootSPKI[:]))
	}
	if levels := readableLevels(req.Levels); levels != "" && levels != string(client.Intact) {
		words = append(words, "--level", levels)
	}
	if store := c.String("store"); store != "" {
		words = append(words, "--store", store)
	}
	for i := range words {
		words[i] = shellWord(words[i])
	}
	return "vitrine consent grant " + strings.Join(words, " ")
}

// readableLevels are those of levels that a grant has to name, as --level has them.
func readableLevels(levels []client.Level) string {
	var words []string
	for _, l := range levels {
		if l.Readable() {
			words = append(words, string(l))
		}
	}
	return strings.Join(words, ",")
}

// shellWord quotes s where a shell would not take it as it is.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+=,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"vitrine/client"
	"vitrine/client/consent"
)

// askLevel is the word among the levels of --level for those that the user is asked about.
const askLevel = "ask"

// parseLevels reads --level. ask says that the user is asked what else to accept when none of levels can be had.
func parseLevels(list string) (levels []client.Level, ask bool, err error) {
	for word := range strings.SplitSeq(list, ",") {
		if word = strings.TrimSpace(word); word == askLevel {
			ask = true
			continue
		}
		level, err := client.ParseLevel(word)
		if err != nil {
			return nil, false, usagef("--level: %v; or ask, to be asked on the terminal", err)
		}
		levels = append(levels, level)
	}
	switch {
	case len(levels) == 0:
		levels = []client.Level{client.Intact}
	case ask && !slices.ContainsFunc(levels, func(l client.Level) bool { return l != client.Direct }):
		return nil, false, usagef("--level: there is nothing to ask about where no proxy is used; name intact, or ask alone, which is the same")
	}
	return levels, ask, nil
}

// use has t ask the user, and remember beyond this program.
func (n *consenter) use(t *client.Transport) {
	t.Consent = n
	if n.prompt != nil {
		t.Choose = n.prompt.Choose
	}
	if n.memory != nil {
		t.Memory = n.memory
	}
}

// unkept is what -v, or whoever relies on it, is told of what could not be remembered.
func (n *consenter) unkept(verbose bool) error {
	if n.memory == nil || n.once && !verbose {
		return nil
	}
	return n.memory.Err()
}

// A declined is a level that was not had because the user took none of those that could be had. Who said no is
// not told how to say yes.
type declined struct{ *client.LevelError }

func (e *declined) Error() string {
	words := make([]string, len(e.Accepted))
	for i, l := range e.Accepted {
		words[i] = string(l)
	}
	return fmt.Sprintf("%s is not to be had at level %s, and you took no other", e.Authority, strings.Join(words, " or "))
}

func (e *declined) Unwrap() error { return e.LevelError }

// adviseLevel adds to an error for want of a level why nobody was asked, or how to go on where it was better before.
func (n *consenter) adviseLevel(err error, level *client.LevelError) error {
	switch {
	case errors.Is(level.Err, consent.ErrRefused):
		return &declined{level}
	case errors.Is(level.Err, errNoTerminal):
		err = fmt.Errorf("%w; there was no terminal to ask on", err)
	}
	if n.memory == nil {
		return err
	}
	before, ok := n.memory.Reached(level.Authority)
	if !ok || !slices.Contains(level.Accepted, before) {
		return err
	}
	line := "vitrine consent forget " + shellWord(level.Authority)
	if n.store != "" {
		line += " --store " + shellWord(n.store)
	}
	return fmt.Errorf("%w; if you know that it gave that up for good: %s", err, line)
}

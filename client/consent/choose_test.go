package consent

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"vitrine/client"
)

var (
	_ = client.Transport{Choose: (*Store)(nil).Choose}
	_ = client.Transport{Choose: (*Prompt)(nil).Choose}
)

func offer(levels ...client.Level) *client.Offer {
	o := &client.Offer{
		ProxyRootSPKI: [32]byte{1, 2, 3}, ProxyName: "glass.example", Authority: "shop.example:443",
		Accepted: []client.Level{client.Intact}, Why: "the origin does not speak inner sessions, as its signature shows", Justified: true,
	}
	for _, l := range levels {
		o.Choices = append(o.Choices, client.Choice{Level: l, Words: "Words about " + string(l) + "."})
	}
	return o
}

// at is a request of consent to these levels of shop.example:443.
func at(levels ...client.Level) *client.ConsentRequest {
	req := request("shop.example:443")
	req.Levels = levels
	return req
}

// spec: CLI-81
func TestAChoiceSaysWhatEachLevelGivesAway(t *testing.T) {
	p := newTerminal(open(t, newPath(t)), "no\n")
	o := offer(client.Blind, client.Attested)
	o.Fields = []string{"Authorization", "Cookie"}
	if l, err := p.Choose(t.Context(), o); l != "" || !errors.Is(err, ErrRefused) {
		t.Errorf("%q %v", l, err)
	}
	const want = `
shop.example:443 is not to be had at level intact: the origin does not speak inner sessions, as its signature shows.

  Proxy:  glass.example
          its root's key is 0102030000000000…
  Credentials that you send:  Authorization, Cookie

What can be had, and what it gives away:
  blind     Words about blind.
  attested  Words about attested.

What do you choose?
  1  blind once: for shop.example:443, until this program ends
  2  blind always: for shop.example:443, for 30 days or until you revoke it
  3  attested once: for shop.example:443, until this program ends
  4  attested always: for shop.example:443, for 30 days or until you revoke it
  n  no
Your answer: `
	if got := p.out.String(); got != want {
		t.Errorf("asked\n%s\nwant\n%s", got, want)
	}
	p = newTerminal(nil, "once\n")
	o = offer(client.Attested)
	o.Worked, o.Justified = true, false
	if l, err := p.Choose(t.Context(), o); l != client.Attested || err != nil {
		t.Errorf("%q %v", l, err)
	}
	for _, words := range []string{
		"That is less than before. Either shop.example:443 has changed, or somebody makes it look so", "say no", "Nothing shows that this is the origin's doing",
	} {
		if !strings.Contains(p.out.String(), words) {
			t.Errorf("%q is not in %s", words, p.out)
		}
	}
	if strings.Contains(p.out.String(), "always") || strings.Contains(p.out.String(), "Credentials") {
		t.Errorf("asked %s", p.out)
	}
}

func TestChoices(t *testing.T) {
	two := []client.Level{client.Blind, client.Attested}
	for _, x := range []struct {
		name, lines string
		levels      []client.Level
		want        client.Level
		stored      bool
	}{
		{"once", "once\n", two[1:], client.Attested, false},
		{"once, by number", "1\n", two[1:], client.Attested, false},
		{"always", "ALWAYS\n", two[1:], client.Attested, true},
		{"always, by number", "2\n", two[1:], client.Attested, true},
		{"the first of two, once", "blind once\n", two, client.Blind, false},
		{"the second of two, always", "  attested \t always \n", two, client.Attested, true},
		{"the second of two, by number", "4\n", two, client.Attested, true},
		{"which of two is not said", "once\nalways\nyes\n", two, "", false},
		{"a level, and not for how long", "attested\nattested\nattested\n", two, "", false},
		{"a level that is not on offer", "claimed once\n5\n0\n", two, "", false},
		{"no", "no\n", two, "", false},
		{"the end of the input", "", two, "", false},
		{"a line without an end", "once", two[1:], "", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := open(t, newPath(t))
			p := newTerminal(s, x.lines)
			l, err := p.Choose(t.Context(), offer(x.levels...))
			if l != x.want || (err == nil) != (x.want != "") || err != nil && !errors.Is(err, ErrRefused) {
				t.Errorf("%q %v, want %q", l, err, x.want)
			}
			list := grants(t, s)
			if !x.stored {
				if len(list) != 0 {
					t.Errorf("stored %+v", list)
				}
			} else if len(list) != 1 || !slices.Equal(list[0].Levels, []client.Level{x.want}) || len(list[0].Scope) != 1 || list[0].Scope[0].String() != "shop.example:443" ||
				list[0].Until.Sub(list[0].Granted) != PromptTime || list[0].Credentials || list[0].ProxyName != "glass.example" || list[0].ProxyRootSPKI != [32]byte{1, 2, 3} {
				t.Errorf("stored %+v", list)
			}
			if x.want == "" {
				return
			}
			// What was chosen is consent to that level, and asks nothing more.
			before := p.out.Len()
			a := ask(t, p, at(x.want))
			if a.Credentials || (a.Ends != nil) != x.stored || p.out.Len() != before {
				t.Errorf("%+v, and asked %s", a, p.out.String()[before:])
			}
			if l, err := p.Choose(t.Context(), offer(x.levels...)); l != x.want || err != nil || p.out.Len() != before {
				t.Errorf("again: %q %v, and asked %s", l, err, p.out.String()[before:])
			}
		})
	}
}

// A page that is loaded again and again gets one answer.
func TestNoToALevelIsAnAnswerForGood(t *testing.T) {
	p := newTerminal(open(t, newPath(t)), "no\n1\n1\n")
	for range 3 {
		if l, err := p.Choose(t.Context(), offer(client.Attested)); l != "" || !errors.Is(err, ErrRefused) {
			t.Errorf("%q %v", l, err)
		}
	}
	if n := strings.Count(p.out.String(), "What do you choose?"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	other := offer(client.Attested)
	other.Authority = "other.example:443"
	if l, err := p.Choose(t.Context(), other); l != client.Attested || err != nil {
		t.Errorf("another host: %q %v", l, err)
	}
}

// Who took blind has not taken attested, and has to say so.
func TestAnAnswerIsForALevelOnOffer(t *testing.T) {
	p := newTerminal(nil, "once\nno\n")
	if l, err := p.Choose(t.Context(), offer(client.Blind)); l != client.Blind || err != nil {
		t.Fatalf("%q %v", l, err)
	}
	if l, err := p.Choose(t.Context(), offer(client.Attested)); l != "" || !errors.Is(err, ErrRefused) {
		t.Errorf("%q %v", l, err)
	}
	p.ChooseOnly = true
	if _, err := p.Ask(t.Context(), at(client.Attested)); !errors.Is(err, ErrNoGrant) {
		t.Errorf("consent to blind is some to attested: %v", err)
	}
}

// spec: CLI-80 CLI-81
func TestCredentialsAreChosenWithTheLevel(t *testing.T) {
	for _, answer := range []string{"once\n", "always\n"} {
		p := newTerminal(open(t, newPath(t)), answer)
		p.ChooseOnly = true
		o := offer(client.Attested)
		o.Fields = []string{"Cookie"}
		if l, err := p.Choose(t.Context(), o); l != client.Attested || err != nil {
			t.Fatalf("%q %v", l, err)
		}
		req := at(client.Attested)
		req.Fields = o.Fields
		if a := ask(t, p, req); !a.Credentials {
			t.Errorf("%q: %+v", answer, a)
		}
		req.Levels = []client.Level{client.Claimed}
		if a, err := p.Ask(t.Context(), req); !errors.Is(err, ErrNoGrant) {
			t.Errorf("%q: %+v %v", answer, a, err)
		}
	}
	p := newTerminal(open(t, newPath(t)), "once\n")
	p.ChooseOnly = true
	if _, err := p.Choose(t.Context(), offer(client.Attested)); err != nil {
		t.Fatal(err)
	}
	req := at(client.Attested)
	req.Fields = []string{"Cookie"}
	if a := ask(t, p, req); a.Credentials {
		t.Error("credentials may leave, and nobody was asked about them")
	}
}

// spec: CLI-23 CLI-80
func TestAStoredLevelCountsForWhatItSaysAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		add(t, s, sample(t)) // which is for intact
		g := sample(t, "shop.example")
		g.Levels = []client.Level{client.Attested}
		add(t, s, g)
		for _, x := range []struct {
			name   string
			change func(o *client.Offer)
			ok     bool
		}{
			{"as chosen", func(*client.Offer) {}, true},
			{"another host", func(o *client.Offer) { o.Authority = "other.example:443" }, false},
			{"another root", func(o *client.Offer) { o.ProxyRootSPKI[31] = 1 }, false},
			{"another name", func(o *client.Offer) { o.ProxyName = "mirror.example" }, false},
			{"a level that lets the proxy do less", func(o *client.Offer) { o.Choices = o.Choices[:1] }, false},
			{"a level that lets the proxy do more", func(o *client.Offer) { o.Choices[1].Level = client.Claimed }, false},
			{"it was better before", func(o *client.Offer) { o.Worked = true }, false},
		} {
			o := offer(client.Blind, client.Attested)
			x.change(o)
			if l, err := s.Choose(t.Context(), o); (err == nil) != x.ok || (l == client.Attested) != x.ok || err != nil && !errors.Is(err, ErrNoGrant) {
				t.Errorf("%s: %q %v", x.name, l, err)
			}
		}
		time.Sleep(time.Hour)
		if l, err := s.Choose(t.Context(), offer(client.Attested)); !errors.Is(err, ErrNoGrant) {
			t.Errorf("after its time: %q %v", l, err)
		}
		s.Close()
		if _, err := s.Choose(t.Context(), offer(client.Attested)); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if _, err := newTerminal(s, "once\n").Choose(t.Context(), offer(client.Attested)); !errors.Is(err, ErrClosed) {
			t.Errorf("a store that cannot be read is papered over: %v", err)
		}
	})
}

// spec: CLI-82
func TestALossOfIntactIsAskedAboutWhateverIsStored(t *testing.T) {
	s := open(t, newPath(t))
	p := newTerminal(s, "always\nno\n")
	if _, err := p.Choose(t.Context(), offer(client.Attested)); err != nil {
		t.Fatal(err)
	}
	s.Remember("shop.example:443", client.Intact)
	worked := offer(client.Attested)
	worked.Worked = true
	if l, err := p.Choose(t.Context(), worked); l != "" || !errors.Is(err, ErrRefused) || !strings.Contains(p.out.String(), "less than before") {
		t.Errorf("%q %v, asked %s", l, err, p.out)
	}
	reached(t, s, "shop.example:443", client.Intact)

	// Once is no reason to forget; always is.
	p = newTerminal(s, "once\n")
	if l, err := p.Choose(t.Context(), worked); l != client.Attested || err != nil {
		t.Errorf("%q %v", l, err)
	}
	reached(t, s, "shop.example:443", client.Intact)
	p = newTerminal(s, "always\n")
	if l, err := p.Choose(t.Context(), worked); l != client.Attested || err != nil || len(grants(t, s)) != 1 {
		t.Errorf("%q %v, %v", l, err, grants(t, s))
	}
	reached(t, open(t, s.path), "shop.example:443", "")
}

// spec: CLI-83
func TestAStoredLevelIsRevokedWithWhatIsOpenUnderIt(t *testing.T) {
	s := open(t, newPath(t))
	add(t, s, sample(t)) // to be read, for every host
	p := newTerminal(s, "always\nno\n")
	if _, err := p.Choose(t.Context(), offer(client.Attested)); err != nil {
		t.Fatal(err)
	}
	read, changed := ask(t, p, at(client.Intact)), ask(t, p, at(client.Attested))
	list := grants(t, s)
	if _, err := s.Revoke(list[len(list)-1].ID); err != nil {
		t.Fatal(err)
	}
	if context.Cause(changed.Ends) != ErrRevoked || read.Ends.Err() != nil {
		t.Errorf("ends: %v; to be read: %v", context.Cause(changed.Ends), context.Cause(read.Ends))
	}
	if l, err := p.Choose(t.Context(), offer(client.Attested)); l != "" || !errors.Is(err, ErrRefused) {
		t.Errorf("after it was revoked: %q %v", l, err)
	}
}

// spec: CLI-27
func TestAChoiceIsPrintable(t *testing.T) {
	const evil = "\x1b]0;x\a\x1b[2J\r\n1\u202e\u2066\x9b\xff\u200b"
	o := offer(client.Attested)
	o.Why, o.ProxyName, o.Fields, o.Choices[0].Words, o.Accepted = "Why"+evil, "glass"+evil, []string{"Cookie" + evil}, "W"+evil, []client.Level{client.Level(evil)}
	p := newTerminal(open(t, newPath(t)), "no\n")
	p.Choose(t.Context(), o)
	for _, r := range p.out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%q in %q", r, p.out)
		}
	}
	if got := strings.Count(p.out.String(), "\n"); got != 14 {
		t.Errorf("%d lines: %s", got, p.out)
	}
	o.Why, o.Choices[0].Words = strings.Repeat("x", 1<<20), strings.Repeat("x", 1<<20)
	p = newTerminal(p.Store, "no\n")
	if p.Choose(t.Context(), o); p.out.Len() > 16<<10 {
		t.Errorf("a question of %d bytes", p.out.Len())
	}
	o.Authority = "shop.example\x1b[2J:443"
	if l, err := newTerminal(nil, "1\n").Choose(t.Context(), o); l != "" || err == nil {
		t.Errorf("%q %v", l, err)
	}
}

func TestWhatWasChosenIsBounded(t *testing.T) {
	p := newTerminal(nil, "1\n")
	if _, err := p.Choose(t.Context(), offer(client.Attested)); err != nil {
		t.Fatal(err)
	}
	for i := range maxRemembered + 10 {
		p.pick(matter{root: [32]byte{byte(i), byte(i >> 8)}, name: "x"}, "")
	}
	if len(p.picks) != maxRemembered {
		t.Errorf("%d answers", len(p.picks))
	}
	if l, err := p.Choose(t.Context(), offer(client.Attested)); l != client.Attested || err != nil {
		t.Errorf("%q %v", l, err)
	}
}

// Where consent is what is stored, a choice of levels is the only question.
func TestAPromptForLevelsAsksNothingElse(t *testing.T) {
	for _, s := range []*Store{nil, open(t, newPath(t))} {
		p := newTerminal(s, "once\n")
		p.ChooseOnly = true
		if a, err := p.Ask(t.Context(), at(client.Intact)); a != nil || !errors.Is(err, ErrNoGrant) || p.out.Len() != 0 {
			t.Errorf("%v %v, asked %s", a, err, p.out)
		}
		if left, _ := io.ReadAll(p.In); string(left) != "once\n" {
			t.Errorf("left %q", left)
		}
	}
	s := open(t, newPath(t))
	add(t, s, sample(t))
	p := newTerminal(s, "")
	p.ChooseOnly = true
	if a := ask(t, p, request("shop.example:443", "Cookie")); a.Credentials || p.out.Len() != 0 {
		t.Errorf("%+v, asked %s", a, p.out)
	}
}

// spec: CLI-80
func TestConsentToBeReadDoesNotAnswerForMore(t *testing.T) {
	s := open(t, newPath(t))
	p := newTerminal(s, "host\nonce\nno\n")
	ask(t, p, at(client.Intact))
	if list := grants(t, s); len(list) != 1 || !slices.Equal(list[0].Levels, []client.Level{client.Intact}) {
		t.Errorf("stored %+v", list)
	}
	ask(t, p, at(client.Intact, client.Signed))
	if p.questions() != 2 {
		t.Errorf("asked %d times", p.questions())
	}
	if _, err := p.Ask(t.Context(), at(client.Attested)); !errors.Is(err, ErrRefused) || p.questions() != 3 {
		t.Errorf("%v, asked %d times", err, p.questions())
	}
	ask(t, p, at(client.Blind)) // who may read may also carry
	if p.questions() != 3 {
		t.Errorf("asked %d times", p.questions())
	}
	p = newTerminal(s, "host\n")
	ask(t, p, at(client.Intact, client.Blind, client.Attested))
	if list := grants(t, s); len(list) != 2 || !slices.Equal(list[1].Levels, []client.Level{client.Intact, client.Attested}) {
		t.Errorf("stored %+v", list)
	}
}

package consent

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"vitrine/client"
)

// spec: CLI-80
func TestConsentToBeReadIsNotConsentToBeChanged(t *testing.T) {
	all := []client.Level{client.Direct, client.Blind, client.Intact, client.Signed, client.Attested, client.Claimed}
	for granted, covers := range map[client.Level]int{client.Direct: 2, client.Blind: 2, client.Intact: 3, client.Signed: 4, client.Attested: 5, client.Claimed: 6} {
		s := open(t, newPath(t))
		g := sample(t)
		g.Levels = []client.Level{granted}
		add(t, s, g)
		for i, l := range all {
			req := request("shop.example:443")
			req.Levels = []client.Level{client.Blind, l}
			if _, err := s.Ask(t.Context(), req); (err == nil) != (i < covers) || err != nil && !errors.Is(err, ErrNoGrant) {
				t.Errorf("granted %s, asked for %s: %v", granted, l, err)
			}
		}
	}
	s := open(t, newPath(t))
	if g := add(t, s, sample(t)); !slices.Equal(g.Levels, []client.Level{client.Intact}) {
		t.Errorf("by default a grant is for %v", g.Levels)
	}
	bad := sample(t)
	bad.Levels = []client.Level{"everything"}
	if _, err := s.Add(bad); err == nil {
		t.Error("an unknown level was granted")
	}
}

// Of two grants the one that allows less is used: to revoke the other must not end what it allows.
func TestAnAgreementIsUnderTheGrantThatAllowsLess(t *testing.T) {
	s := open(t, newPath(t))
	more := sample(t, "shop.example")
	more.Levels = []client.Level{client.Attested, client.Intact, client.Attested}
	more.Until = time.Now().Add(3 * time.Hour)
	more = add(t, s, more)
	if !slices.Equal(more.Levels, []client.Level{client.Intact, client.Attested}) {
		t.Errorf("levels %v", more.Levels)
	}
	add(t, s, sample(t))
	read := ask(t, s, request("shop.example:443"))
	req := request("shop.example:443")
	req.Levels = []client.Level{client.Attested}
	change := ask(t, s, req)
	if _, err := s.Revoke(more.ID); err != nil {
		t.Fatal(err)
	}
	if read.Ends.Err() != nil || context.Cause(change.Ends) != ErrRevoked {
		t.Errorf("to read ends: %v, to change ends: %v", context.Cause(read.Ends), context.Cause(change.Ends))
	}
}

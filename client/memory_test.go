package client

import (
	"slices"
	"strings"
	"testing"
)

func TestMemoryIsBounded(t *testing.T) {
	var m memory
	for i := range maxRemembered + 10 {
		m.Remember(strings.Repeat("x", i), Signed)
		m.Remember(strings.Repeat("x", i), Intact)
	}
	if len(m.known) != maxRemembered || len(m.order) != maxRemembered {
		t.Errorf("%d known, %d in order; want %d", len(m.known), len(m.order), maxRemembered)
	}
	if _, ok := m.Reached(""); ok {
		t.Error("the oldest did not go first")
	}
	if _, ok := m.Reached(strings.Repeat("x", maxRemembered)); !ok {
		t.Error("a young one has gone")
	}
	const one = "xxxxxxxxxxxxxxxxxxxx"
	m.Forget(one)
	if _, ok := m.Reached(one); ok || slices.Contains(m.order, one) {
		t.Error("forgotten and still there")
	}
}

func TestMemoryKeepsWhatIsBetter(t *testing.T) {
	var m memory
	for _, l := range []Level{Signed, Intact, Signed} {
		m.Remember("a:443", l)
	}
	if l, ok := m.Reached("a:443"); !ok || l != Intact {
		t.Errorf("%q, %v; want intact", l, ok)
	}
}

package consent

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"vitrine/client"
)

// power ranks levels by what the user lets the proxy do. Who agreed to more has agreed to less; who accepts a
// level accepts no other by that.
func power(l client.Level) int {
	switch l {
	case client.Direct, client.Blind:
		return 0 // it carries, at most
	case client.Intact:
		return 1 // it reads
	case client.Signed:
		return 2 // it changes what the user sends
	case client.Attested:
		return 3 // it changes everything
	}
	return 4 // and who is behind it is its word
}

// maxPower is the highest that power returns.
const maxPower = 4

// highest is the power of the levels together.
func highest(levels []client.Level) int {
	most := 0
	for _, l := range levels {
		most = max(most, power(l))
	}
	return most
}

// readableOf are those of levels at which the proxy can read.
func readableOf(levels []client.Level) []client.Level {
	return slices.DeleteFunc(slices.Clone(levels), func(l client.Level) bool { return !l.Readable() })
}

// ordered is levels without what comes twice, what gives away least first.
func ordered(levels []client.Level) []client.Level {
	levels = slices.Clone(levels)
	slices.SortFunc(levels, func(a, b client.Level) int {
		return cmp.Or(cmp.Compare(power(a), power(b)), cmp.Compare(a, b))
	})
	return slices.Compact(levels)
}

func checkLevels(levels []client.Level) error {
	if len(levels) == 0 {
		return errors.New("no levels")
	}
	for i, l := range levels {
		if _, err := client.ParseLevel(string(l)); err != nil {
			return fmt.Errorf("unknown level %q", clean(string(l), maxSubject))
		}
		if slices.Contains(levels[:i], l) {
			return fmt.Errorf("the level %s comes twice", l)
		}
	}
	return nil
}

// sameSet says whether two lists have the same in them, in whatever order.
func sameSet[T comparable](a, b []T) bool {
	within := func(a, b []T) bool {
		return !slices.ContainsFunc(a, func(x T) bool { return !slices.Contains(b, x) })
	}
	return within(a, b) && within(b, a)
}

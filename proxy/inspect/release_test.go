package inspect

import (
	"errors"
	"testing"

	"vitrine/frames"
)

// Release ends the hold of one direction while the other stays held, and one that comes late ends none.
func TestReleaseOfOneDirectionLeavesTheOther(t *testing.T) {
	watch := &watcher{decide: func(_ *Exchange, d frames.Direction, p Part) Decision {
		if d == toClient || p.Head == nil {
			return Decision{Action: Hold}
		}
		return Decision{}
	}}
	var got told
	r, w := connected(t, got.config(watch), nil)
	r.passes(t, c(w.app(post("Content-Length: 6\r\n", ""))))
	for _, part := range []step{c(w.app("abc")), o(w.app(ok5))} {
		if err := r.feed(t, part); err != nil {
			t.Fatal(err)
		}
	}
	before := r.released[toClient]
	x := watch.seen[0].x
	x.Release(toOrigin)
	x.Release(toOrigin)
	if got.released(toOrigin) != r.fed[toOrigin] || got.released(toClient) != 0 || r.released[toClient] != before {
		t.Fatalf("released %d of %d to the origin and %d to the client", got.released(toOrigin), r.fed[toOrigin], got.released(toClient))
	}
	x.Release(toClient)
	if got.released(toClient) != r.fed[toClient] {
		t.Fatalf("released %d of %d to the client", got.released(toClient), r.fed[toClient])
	}
}

// A Release that nobody carried out yet keeps no decision back.
func TestDecideCountsAfterARelease(t *testing.T) {
	for _, both := range []bool{false, true} {
		watch := &watcher{decide: func(x *Exchange, _ frames.Direction, _ Part) Decision {
			x.Release(toClient)
			if both {
				x.Release(toOrigin)
			}
			x.Decide(Decision{Action: Kill, Rule: "inside"})
			x.Release(toOrigin)
			return Decision{Action: Hold}
		}}
		var got told
		r, w := connected(t, got.config(watch), nil)
		var kill *KillError
		if err := r.feed(t, c(w.app(get))); !errors.As(err, &kill) || kill.Rule != "inside" {
			t.Fatalf("both %v: %v", both, err)
		}
	}
}

// Releases of both directions, one after the other and not carried out between, are for both.
func TestReleasesAddUp(t *testing.T) {
	watch := &watcher{decide: only(toOrigin, func(x *Exchange, _ Part) Decision {
		x.Release(toOrigin)
		x.Release(toClient)
		return Decision{Action: Hold}
	})}
	var got told
	r, w := connected(t, got.config(watch), nil)
	r.passes(t, c(w.app(get)), o(w.app(ok5)))
}

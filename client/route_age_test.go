package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/internal/evidence"
)

// The ten minutes of evidence run while its user thinks.
//
// spec: CLI-36
func TestEvidenceGrowsOldWhileTheUserChooses(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	sp.evidence = func(raw []byte) []byte { // as of a proxy with that clock
		e, err := evidence.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		e.Time = now()
		dated, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		sp.mu.Lock()
		defer sp.mu.Unlock()
		sp.kept[sha256.Sum256(dated)] = sp.kept[sha256.Sum256(raw)]
		return dated
	}
	asked := 0
	slow := false
	tr := w.transport(func(tr *Transport) {
		tr.Time = now
		tr.Choose = func(context.Context, *Offer) (Level, error) {
			if asked++; slow {
				later.Add(int64(maxRouteAge))
			}
			slow = false
			return Attested, nil
		}
	})
	for i, want := range []struct {
		slow  bool
		dials int
	}{{true, 2}, {false, 2}, {true, 3}} {
		slow = want.slow
		resp, _ := get(t, tr, "https://origin.example/")
		if sp.dialled() != want.dials || ReportOf(resp).Level != Attested {
			t.Errorf("request %d: %d connections, level %q", i, sp.dialled(), ReportOf(resp).Level)
		}
	}
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}

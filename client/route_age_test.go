package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"strings"
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
	now, pass := sp.clock(t, func() {})
	asked := 0
	slow := false
	tr := w.transport(func(tr *Transport) {
		tr.Time = now
		tr.Choose = func(context.Context, *Offer) (Level, error) {
			if asked++; slow {
				pass(10 * time.Minute)
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

// Evidence that comes long after the request may be as old as that, whatever its proxy's clock says.
//
// spec: EVD-29 CLI-33
func TestEvidenceOfAnotherConnectionComesInTime(t *testing.T) {
	for after, ok := range map[time.Duration]bool{20 * time.Second: true, 70 * time.Second: false} {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		late := func() {}
		now, pass := sp.clock(t, func() { late() })
		tr := w.transport(func(tr *Transport) {
			tr.Levels = []Level{Attested}
			tr.Time = now
		})
		get(t, tr, "https://origin.example/")
		sp.lose()
		late = func() { pass(after) }
		_, _, err := tryGet(t, tr, "https://origin.example/")
		var bad *IntegrityError
		if ok && err != nil || !ok && (!errors.As(err, &bad) || !strings.Contains(err.Error(), "after the request")) {
			t.Errorf("%v: %v", after, err)
		}
	}
}

// clock has the proxy and the client tell a time that pass moves. before is called before evidence is made.
func (sp *splitter) clock(t *testing.T, before func()) (now func() time.Time, pass func(time.Duration)) {
	var later atomic.Int64
	now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	sp.evidence = func(raw []byte) []byte {
		before()
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
	return now, func(d time.Duration) { later.Add(int64(d)) }
}

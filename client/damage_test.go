package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/hop"
)

// A proxy does something to one of several exchanges, at any byte: what the origin takes, it takes once and
// whole, and what comes out as a success is what the origin said.
//
// spec: CLI-13 CLI-14 CLI-15
func TestWhateverHappensARequestIsTakenOnceAndNothingForgedSucceeds(t *testing.T) {
	acts := []string{"flip", "drop", "repeat", "swallow", "insert", "kill", "reset", "end"}
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	outcomes := make(map[string]int)
	for _, act := range acts {
		for i := range rounds {
			rnd := rand.New(rand.NewPCG(uint64(i), uint64(len(act))<<8|uint64(act[0])))
			synctest.Test(t, func(t *testing.T) { damage(t, act, rnd, outcomes) })
		}
	}
	for _, want := range []string{"success", "*client.KilledError", "*client.IntegrityError", "*client.UnreachableError"} {
		if outcomes[want] == 0 {
			t.Errorf("no %s among %v", want, outcomes)
		}
	}
}

func damage(t *testing.T, act string, rnd *rand.Rand, outcomes map[string]int) {
	w := newWorld(t)
	var mu sync.Mutex
	taken := make(map[string]int)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		taken[r.URL.Path]++
		mu.Unlock()
		if !strings.HasSuffix(r.URL.Path, fmt.Sprint(len(body))) || bytes.Count(body, []byte("q")) != len(body) {
			t.Errorf("%s: the origin took a changed request %s with %d bytes", act, r.URL, len(body))
		}
		if len(body)%2 == 0 {
			rw.Header().Set("Content-Length", fmt.Sprint(len(body)+1))
		}
		io.WriteString(rw, "a"+string(body)) // chunked, unless
	})
	toOrigin := rnd.IntN(2) == 0
	left := rnd.IntN(6000) // bytes until it happens; the handshakes are about 1,500
	swallowed := false
	w.via = func(dir bool, p []byte) []byte {
		if dir != toOrigin {
			return p
		}
		mu.Lock()
		defer mu.Unlock()
		if swallowed {
			return nil
		}
		if left < 0 || left >= len(p) {
			left -= len(p)
			return p
		}
		at := left
		left = -1
		p = bytes.Clone(p)
		w.mu.Lock()
		tun := w.tunnels[len(w.tunnels)-1]
		w.mu.Unlock()
		switch act {
		case "flip":
			p[at] ^= 1 << rnd.IntN(8)
		case "drop":
			p = append(p[:at], p[at+1:]...)
		case "repeat":
			p = append(p, p...)
		case "insert":
			p = append(p[:at:at], append([]byte("x"), p[at:]...)...)
		case "swallow":
			swallowed = true
			return p[:at]
		case "kill":
			tun.kill(nil)
		case "reset":
			tun.stream.Reset(hop.Cancel)
		case "end":
			tun.stream.CloseSend()
			tun.back.Close()
		}
		return p
	}
	tr := w.transport(func(tr *Transport) { tr.ResponseTimeout = time.Minute })
	for i := range 4 {
		n := rnd.IntN(1500)
		path := fmt.Sprintf("/%d/%d", i, n)
		var body io.Reader = bytes.NewReader(bytes.Repeat([]byte("q"), n))
		if rnd.IntN(2) == 0 {
			body = io.MultiReader(body)
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://origin.example"+path, body)
		_, got, err := do(tr, req)
		if err == nil && string(got) != "a"+strings.Repeat("q", n) {
			t.Errorf("%s: accepted %d bytes for %s", act, len(got), path)
		}
		what := outcome(err)
		if what == "" {
			t.Errorf("%s: untyped error %v", act, err)
		}
		outcomes[what]++
		mu.Lock()
		if taken[path] > 1 || err == nil && taken[path] != 1 {
			t.Errorf("%s: the origin took %s %d times, and the client says %v", act, path, taken[path], err)
		}
		mu.Unlock()
	}
	tr.Close()
	w.close()
}

func outcome(err error) string {
	var killed *KilledError
	var integrity *IntegrityError
	var unreachable *UnreachableError
	switch {
	case err == nil:
		return "success"
	case errors.As(err, &killed):
		return "*client.KilledError"
	case errors.As(err, &integrity):
		return "*client.IntegrityError"
	case errors.As(err, &unreachable):
		return "*client.UnreachableError"
	}
	return ""
}

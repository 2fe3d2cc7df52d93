package testnet

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vitrine/client"
	"vitrine/proxy"
)

// A source is n bytes that repeat only after a long while, and their hash.
type source struct {
	block []byte
	left  int64
	sum   hash.Hash
}

func newSource(n int64) *source {
	return &source{block: pattern(1<<20 - 7), left: n, sum: sha256.New()}
}

func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	at := int(s.left % int64(len(s.block)))
	n := copy(p, s.block[at:])
	n = int(min(int64(n), s.left))
	s.left -= int64(n)
	s.sum.Write(p[:n])
	return n, nil
}

// bulk is the size of a large body, and heap what all three parties may hold of it together.
func bulk() (size, live int64) {
	size = 1 << 30
	if raceEnabled || testing.Short() {
		size = 64 << 20
	}
	return size, 8 << 20
}

// summing is an inspector that keeps nothing but a hash.
type summing struct{ got, sent atomic.Pointer[string] }

func (s *summing) Begin(*proxy.Exchange) proxy.Inspection {
	return &sums{s: s, request: sha256.New(), response: sha256.New()}
}

type sums struct {
	s                 *summing
	request, response hash.Hash
}

func (x *sums) add(h hash.Hash, p proxy.Part, into *atomic.Pointer[string]) proxy.Decision {
	io.Copy(h, p.Body.Reader())
	if p.End {
		sum := hex.EncodeToString(h.Sum(nil))
		into.Store(&sum)
	}
	return proxy.Decision{}
}

func (x *sums) Request(p proxy.Part) proxy.Decision  { return x.add(x.request, p, &x.s.sent) }
func (x *sums) Response(p proxy.Part) proxy.Decision { return x.add(x.response, p, &x.s.got) }
func (x *sums) Close(proxy.Outcome)                  {}

// A body of 1 GB down, and a tenth of it up: the same hash at both ends and at the inspector, in bounded memory.
func TestABodyOfAGigabyteInBoundedMemory(t *testing.T) {
	size, limit := bulk()
	boundedMemory(t, size, limit, func(cfg Config) Config { return cfg })
}

// The same in split mode, where the proxy writes down for its reader what it passes on.
func TestSplitALargeBodyInBoundedMemory(t *testing.T) {
	size, limit := bulk()
	for _, k := range []kind{kindStock, kindStock11} {
		t.Run(string(k), func(t *testing.T) {
			boundedMemory(t, max(size/4, 64<<20), limit, func(cfg Config) Config { return k.inSplit(t, cfg) })
		})
	}
}

// boundedMemory sends size bytes down and a tenth of it up through a Net of change's, while limit holds. Who receives
// halts again and again until nothing moves: then all is held that can be, however busy the machine is.
func boundedMemory(t *testing.T, size, limit int64, change func(Config) Config) {
	bubble(t, func(t *testing.T) {
		var saw summing
		var down *source
		var held memory
		up := make(chan string, 1)
		n := New(t, change(Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					h := sha256.New()
					if _, err := held.copy(h, r.Body, size/40); err != nil {
						t.Error(err)
					}
					up <- hex.EncodeToString(h.Sum(nil))
					return
				}
				down = newSource(size)
				w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
				io.Copy(struct{ io.Writer }{w}, down)
			}),
			Proxy:  func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{&saw} },
			Client: func(_ *Net, tr *client.Transport) { tr.SkipDigest = true },
		}))
		held.before = live() // left by other tests
		resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		got, err := held.copy(h, resp.Body, size/8)
		if err != nil || got != size {
			t.Fatalf("%d bytes, %v", got, err)
		}
		resp.Body.Close()
		sum := hex.EncodeToString(h.Sum(nil))
		if want := hex.EncodeToString(down.sum.Sum(nil)); sum != want || *saw.got.Load() != want {
			t.Errorf("sent %s, read %s, arrived %s", want, *saw.got.Load(), sum)
		}
		source := newSource(size / 10)
		resp, _, err = fetch(n.Client, n.request(n.ctx, http.MethodPost, "/", source))
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(err)
		}
		if want := hex.EncodeToString(source.sum.Sum(nil)); <-up != want || *saw.sent.Load() != want {
			t.Error("the upload is not what was sent, or not what was read")
		}
		t.Logf("%d MB down, %d MB up: at most %d kB of memory live", size>>20, size/10>>20, held.peak>>10)
		if held.peak > limit {
			t.Errorf("%d bytes of memory live, at most %d", held.peak, limit)
		}
	})
}

// A memory is what a bubble holds beyond what was there before, at the worst moment that it was looked at.
type memory struct{ before, peak int64 }

// copy copies from r to h, and looks before each step, when all who could send have sent what they can.
func (m *memory) copy(h hash.Hash, r io.Reader, step int64) (n int64, err error) {
	for err == nil {
		synctest.Wait()
		m.peak = max(m.peak, live()-m.before)
		var part int64
		part, err = io.CopyN(h, r, step)
		n += part
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// live is the heap without what is garbage. What a collection finds while others make garbage counts as live, so
// nobody may.
func live() int64 {
	runtime.GC()
	runtime.GC() // what pools keep goes with the second
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

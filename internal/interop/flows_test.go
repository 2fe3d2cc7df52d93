package interop

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/tlsmsg"
	"vitrine/proxy/inspect"
)

// A recorder keeps what passes a connection.
type recorder struct {
	net.Conn
	client bool // ours is the client

	mu    sync.Mutex
	parts []part
	bytes int           // that were received
	more  chan struct{} // closed when there are more
}

// A part is what one end sent in a row.
type part struct {
	fromClient bool
	data       []byte
}

func (c *recorder) add(fromClient bool, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.parts); n > 0 && c.parts[n-1].fromClient == fromClient {
		c.parts[n-1].data = append(c.parts[n-1].data, p...)
		return
	}
	c.parts = append(c.parts, part{fromClient, append([]byte(nil), p...)})
}

func (c *recorder) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.add(!c.client, p[:n])
		c.mu.Lock()
		c.bytes += n
		if c.more != nil {
			close(c.more)
			c.more = nil
		}
		c.mu.Unlock()
	}
	return n, err
}

// received is how many bytes have arrived.
func (c *recorder) received() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// waitFor waits until n bytes have arrived.
func (c *recorder) waitFor(n int) bool {
	late := time.After(patience)
	for {
		c.mu.Lock()
		if c.bytes >= n {
			c.mu.Unlock()
			return true
		}
		if c.more == nil {
			c.more = make(chan struct{})
		}
		more := c.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-late:
			return false
		}
	}
}

func (c *recorder) Write(p []byte) (int, error) {
	c.add(c.client, p)
	return c.Conn.Write(p)
}

// largest is the length of the largest record that one end sent.
func (c *recorder) largest(fromClient bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []byte
	for _, p := range c.parts {
		if p.fromClient == fromClient {
			all = append(all, p.data...)
		}
	}
	most := 0
	for {
		h, err := tlsmsg.ParseRecordHeader(all)
		if err != nil || len(all) < tlsmsg.RecordHeaderLen+h.Length {
			return most
		}
		most = max(most, h.Length)
		all = all[tlsmsg.RecordHeaderLen+h.Length:]
	}
}

// loadFlows reads what internal/itls keeps.
func loadFlows(t *testing.T) map[string]*flow {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(flowDir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no flows: %v", err)
	}
	flows := make(map[string]*flow)
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f := new(flow)
		if err := json.Unmarshal(b, f); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		flows[strings.TrimSuffix(filepath.Base(name), ".json")] = f
	}
	return flows
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A proxy reads what OpenSSL servers said to us: all of it passes, in whole records and byte by byte. What OpenSSL's
// client says does not pass, because it does not know who reads.
func TestFlowsThroughTheProxy(t *testing.T) {
	for name, f := range loadFlows(t) {
		t.Run(name, func(t *testing.T) {
			for _, cut := range []int{1, 7, 1 << 20} {
				f.inspect(t, name, cut)
			}
		})
	}
}

func (f *flow) inspect(t *testing.T, name string, cut int) {
	t.Helper()
	var passed []inspect.Passed
	tunnel := inspect.NewTunnel(&inspect.Config{
		Authority: f.Authority,
		Nonce:     [32]byte(mustHex(t, f.Nonce)),
		Proxies:   [][32]byte{[32]byte(mustHex(t, f.Proxy))},
		Log:       func(p inspect.Passed) { passed = append(passed, p) },
	})
	defer tunnel.Close(nil)
	var fed, released [2]int64
	for i, r := range f.Records {
		d := frames.ToClient
		if r.From == asClient {
			d = frames.ToOrigin
		}
		for p := range slices.Chunk(mustHex(t, r.Record), cut) {
			n, err := tunnel.Feed(d, p)
			if f.We == asServer {
				if kill, ok := errors.AsType[*inspect.KillError](err); ok && kill.Rule == inspect.RuleOfferMissing && i == 0 && n == 0 {
					return
				}
			}
			if err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
			fed[d] += int64(len(p))
			released[d] = n
		}
	}
	if f.We == asServer {
		t.Fatal("a client that does not say who reads came through")
	}
	for _, d := range []frames.Direction{frames.ToOrigin, frames.ToClient} {
		if released[d] != fed[d] {
			t.Errorf("%v: %d of %d bytes may leave", d, released[d], fed[d])
		}
		if err := tunnel.End(d); err != nil && !strings.HasSuffix(name, "-keyupdate") {
			t.Errorf("%v: the end: %v", d, err)
		}
	}
	if strings.HasSuffix(name, "-keyupdate") {
		if len(passed) > 0 && passed[0].Status != 0 {
			t.Errorf("what passed: %+v", passed)
		}
		return // OpenSSL breaks it before it answers
	}
	if len(passed) != 1 || passed[0].Method != "GET" || passed[0].Status != 200 || passed[0].Err != nil ||
		passed[0].ToOrigin != int64(len(f.Client)) || passed[0].ToClient != int64(len(f.Server)) {
		t.Errorf("what passed: %+v", passed)
	}
}

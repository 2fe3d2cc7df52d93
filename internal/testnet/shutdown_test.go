package testnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/proxy"
)

// half is a handler whose response stops in the middle until its gate opens.
type half struct {
	body []byte
	gate chan struct{}
}

func newHalf() *half { return &half{body: pattern(200_000), gate: make(chan struct{})} }

func (h *half) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		return
	}
	w.Write(h.body[:len(h.body)/2])
	http.NewResponseController(w).Flush()
	select {
	case <-h.gate:
	case <-r.Context().Done():
		return
	}
	w.Write(h.body[len(h.body)/2:])
}

// begin reads the first half.
func (h *half) begin(n *Net) (*http.Response, []byte) {
	n.Helper()
	resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "/", nil))
	if err != nil {
		n.Fatal(err)
	}
	first := make([]byte, len(h.body)/2)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		n.Fatal(err)
	}
	return resp, first
}

func (h *half) finish(n *Net, resp *http.Response, first []byte) {
	n.Helper()
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(append(first, rest...), h.body) {
		n.Errorf("%d bytes, %v", len(first)+len(rest), err)
	}
	resp.Body.Close()
}

func TestShutdownDrainsARunningExchange(t *testing.T) {
	for name, shutdown := range map[string]func(n *Net, ctx context.Context) error{
		"proxy":  func(n *Net, ctx context.Context) error { return n.Proxy.Shutdown(ctx) },
		"origin": func(n *Net, ctx context.Context) error { return n.Server.Shutdown(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHalf()
				n := New(t, Config{Handler: h})
				resp, first := h.begin(n)
				ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
				defer cancel()
				down := make(chan error, 1)
				go func() { down <- shutdown(n, ctx) }()
				time.Sleep(10 * time.Second) // the bubble's clock
				select {
				case err := <-down:
					t.Fatalf("it did not wait: %v", err)
				default:
				}
				// Nothing new is taken meanwhile.
				_, _, err := n.get("/new")
				if err == nil {
					t.Error("a new exchange was taken")
				}
				close(h.gate)
				h.finish(n, resp, first)
				n.Client.CloseIdleConnections()
				start := time.Now()
				if err := <-down; err != nil {
					t.Errorf("shutdown: %v", err)
				}
				if waited := time.Since(start); waited > 20*time.Second {
					t.Errorf("it took %v more", waited)
				}
			})
		})
	}
}

func TestShutdownIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHalf()
		n := New(t, Config{Handler: h})
		resp, first := h.begin(n)
		ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := n.Proxy.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if waited := time.Since(start); waited > 15*time.Second {
			t.Errorf("it took %v", waited)
		}
		rest, err := io.ReadAll(resp.Body)
		k := wantError[*client.KilledError](t, err)
		if !k.SignatureVerified || k.Rule != "shutdown" || len(rest) != 0 {
			t.Errorf("%+v", k)
		}
		if k.Report.Bytes != int64(len(first)) {
			t.Errorf("the report says %d bytes of %d", k.Report.Bytes, len(first))
		}
	})
	bubble(t, func(t *testing.T) {
		h := newHalf()
		n := New(t, Config{Handler: h})
		resp, first := h.begin(n)
		ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
		defer cancel()
		if err := n.Server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		n.Server.Close()
		_, err := io.ReadAll(resp.Body)
		if !cutShort(err) {
			t.Error(err)
		}
		if r := client.ReportOf(resp); r.Bytes != int64(len(first)) || r.Error == "" {
			t.Errorf("the report says %d bytes of %d", r.Bytes, len(first))
		}
	})
}

// cutShort says that a body was cut: by whoever can cut a tunnel, or by the origin itself, which may have
// time to say close_notify where it closes.
func cutShort(err error) bool {
	return class(err) == "integrity" || errors.Is(err, io.ErrUnexpectedEOF)
}

// A peer that dies in the middle of a body: the end is not taken for one, and the report says how much came.
func TestADeadPeerInABody(t *testing.T) {
	for _, x := range []struct {
		name string
		die  func(n *Net, conns *conns)
	}{
		{"the connection to the proxy breaks", func(_ *Net, c *conns) { c.kill(ProxyHost) }},
		{"the connection to the origin breaks", func(_ *Net, c *conns) { c.kill("198.51.100") }},
		{"the proxy closes", func(n *Net, _ *conns) { n.Proxy.Close() }},
		{"the origin closes", func(n *Net, _ *conns) { n.Server.Close() }},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHalf()
				c := new(conns)
				n := New(t, Config{
					Handler: h,
					Client:  func(n *Net, tr *client.Transport) { tr.NetDial = c.dialer(n) },
					Proxy:   func(n *Net, p *proxy.Proxy) { p.Targets.DialContext = c.dialer(n) },
				})
				resp, first := h.begin(n)
				x.die(n, c)
				_, err := io.ReadAll(resp.Body)
				switch c := class(err); {
				case c == "integrity":
				case c == "killed" && x.name == "the proxy closes":
				case cutShort(err) && x.name == "the origin closes":
				default:
					t.Errorf("%s: %v", c, err)
				}
				if r := client.ReportOf(resp); r.Bytes != int64(len(first)) || r.Error == "" || r.Level != client.Intact {
					t.Errorf("report: %+v", r)
				}
				resp.Body.Close()
			})
		})
	}
}

// conns are connections that can be broken.
type conns struct {
	mu   sync.Mutex
	open map[net.Conn]string
}

func (c *conns) dialer(n *Net) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := n.DialContext(ctx, network, addr)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.open == nil {
				c.open = make(map[net.Conn]string)
			}
			c.open[conn] = addr
		}
		return conn, err
	}
}

// kill resets the connections to addresses that begin with prefix.
func (c *conns) kill(prefix string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, addr := range c.open {
		if strings.HasPrefix(addr, prefix) {
			conn.(interface{ SetLinger(int) error }).SetLinger(0)
			conn.Close()
		}
	}
}

// After a proxy came back, or lost its connection, the client goes on without being told.
func TestTheClientReconnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := new(conns)
		n := New(t, Config{Client: func(n *Net, tr *client.Transport) { tr.NetDial = c.dialer(n) }})
		n.mustGet("/", "hello")
		c.kill(ProxyHost)
		time.Sleep(time.Second) // the bubble's clock: the client has seen it
		n.mustGet("/", "hello")
	})
}

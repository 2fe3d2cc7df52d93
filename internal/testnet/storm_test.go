package testnet

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/proxy"
)

// An origin that resets every tunnel: each request fails, after one more try at most, and what goes to another
// origin in the same hop 1 does not notice.
func TestResetStormFromAnOrigin(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]hop.ErrorCode{"cancelled": hop.Cancel, "refused": hop.RefusedStream, "internal error": hop.InternalError} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const storms = 600
				h := &halves{body: pattern(300_000), gate: make(chan struct{})}
				var hop1, hop2, tunnels atomic.Int32
				n := New(t, Config{
					Names: []string{"else.example"}, Handler: h,
					Proxy: func(n *Net, p *proxy.Proxy) {
						p.Targets.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
							hop2.Add(1)
							return n.DialContext(ctx, network, addr)
						}
					},
					Client: func(n *Net, tr *client.Transport) {
						tr.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
							hop1.Add(1)
							return n.DialContext(ctx, network, addr)
						}
					},
				})
				n.serveOwnOrigin(&ownOrigin{opened: func(st hop.Stream) bool {
					tunnels.Add(1)
					st.Start(drain{})
					st.Reset(code)
					return true
				}})
				resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "https://else.example/big", nil))
				if err != nil {
					t.Fatal(err)
				}
				classes := make(map[string]int)
				for range storms {
					_, _, err := n.get("/")
					classes[class(err)]++
				}
				t.Logf("%v; %d tunnels, %d connections to origins, %d to the proxy", classes, tunnels.Load(), hop2.Load(), hop1.Load())
				for c := range classes {
					if c != "unreachable:origin" && c != "unreachable:proxy" && c != "integrity" {
						t.Errorf("%s", c)
					}
				}
				if tunnels.Load() > 2*storms || hop2.Load() > storms+2 {
					t.Errorf("%d tunnels and %d connections for %d requests", tunnels.Load(), hop2.Load(), storms)
				}
				close(h.gate)
				if err := h.rest(n, &opened{Response: resp}); err != nil {
					t.Errorf("the sibling: %v", err)
				}
				if hop1.Load() != 1 {
					t.Errorf("%d connections to the proxy", hop1.Load())
				}
			})
		})
	}
}

// A proxy that refuses every tunnel, in a way that asks for another try, is not asked without end.
func TestARefusalStormFromAProxy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var asked, dials atomic.Int32
		n := New(t, Config{
			Hop1: func(s hop.Session) hop.Session { return &refusing{Session: s, asked: &asked} },
			Client: func(n *Net, tr *client.Transport) {
				tr.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					dials.Add(1)
					return n.DialContext(ctx, network, addr)
				}
			},
		})
		_, _, err := n.get("/")
		if e := wantError[*client.UnreachableError](t, err); e.Party != client.PartyProxy {
			t.Error(err)
		}
		t.Logf("asked %d times on %d connections", asked.Load(), dials.Load())
		if asked.Load() > 4 || dials.Load() > 4 {
			t.Errorf("asked %d times on %d connections", asked.Load(), dials.Load())
		}
	})
}

// A refusing session refuses every stream without an answer.
type refusing struct {
	hop.Session
	asked *atomic.Int32
}

func (s *refusing) Accept(ctx context.Context) (hop.Incoming, error) {
	for {
		in, err := s.Session.Accept(ctx)
		if err != nil {
			return nil, err
		}
		s.asked.Add(1)
		in.Refuse(hop.RefusedStream)
	}
}

// Frames that cost their sender nothing, without end, at both ports: whoever sends them loses the connection, and
// others are served meanwhile.
func TestFrameStorms(t *testing.T) {
	t.Parallel()
	storms := map[string]func(f *http2.Framer) error{
		"SETTINGS":       func(f *http2.Framer) error { return f.WriteSettings() },
		"PING":           func(f *http2.Framer) error { return f.WritePing(false, [8]byte{1}) },
		"PING's answers": func(f *http2.Framer) error { return f.WritePing(true, [8]byte{1}) },
		"WINDOW_UPDATE":  func(f *http2.Framer) error { return f.WriteWindowUpdate(0, 1) },
		"unknown frames": func(f *http2.Framer) error { return f.WriteRawFrame(0xbe, 0, 0, nil) },
		"PRIORITY":       func(f *http2.Framer) error { return f.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
		"EVIDENCE, from a peer": func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameType(frames.TypeEvidence), 0, 1, []byte{0, 1})
		},
		"VERDICT, from a peer": func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameType(frames.TypeVerdict), 0, 0, make([]byte, 20))
		},
		"HEADERS that are reset": func() func(f *http2.Framer) error {
			id := uint32(1)
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			return func(f *http2.Framer) error {
				block.Reset()
				for _, x := range [][2]string{{":method", "CONNECT"}, {":protocol", "itls"}, {":scheme", "https"}, {":authority", OriginHost + ":443"}, {":path", "/"}} {
					if err := enc.WriteField(hpack.HeaderField{Name: x[0], Value: x[1]}); err != nil {
						return err
					}
				}
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
					return err
				}
				id += 2
				return f.WriteRSTStream(id-2, http2.ErrCodeCancel)
			}
		}(),
	}
	for _, port := range []struct{ host, alpn string }{{ProxyHost, "h2"}, {OriginHost, frames.ALPNH2}} {
		for name, frame := range storms {
			t.Run(port.host+"/"+name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					n := New(t, Config{})
					conn, err := n.DialContext(n.ctx, "tcp", port.host+":443")
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					tc := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{port.alpn}, Certificates: []tls.Certificate{n.ProxyCert}})
					if err := tc.HandshakeContext(n.ctx); err != nil {
						t.Fatal(err)
					}
					drained := make(chan struct{})
					go func() {
						defer close(drained)
						io.Copy(io.Discard, tc)
					}()
					io.WriteString(tc, http2.ClientPreface)
					f := http2.NewFramer(tc, nil)
					f.AllowIllegalWrites = true
					if err := f.WriteSettings(); err != nil {
						t.Fatal(err)
					}
					n.mustGet("/", "hello")
					start := time.Now()
					for sent := 0; sent < 20_000 && err == nil; sent++ {
						err = frame(f)
					}
					<-drained
					if waited := time.Since(start); waited > 5*time.Second {
						t.Errorf("it was kept for %v", waited)
					}
					n.mustGet("/", "hello")
				})
			})
		}
	}
}

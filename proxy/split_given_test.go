package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"vitrine/internal/hop"
)

// givenBack waits until no exchange has anything of what exchanges take.
func (c *splitClient) givenBack() {
	c.t.Helper()
	c.rest()
	if n := c.st.proxy.run.held.used.Load(); n != 0 {
		c.t.Errorf("%d bytes are still held", n)
	}
	c.st.sessions(func(s *session) bool {
		if len(s.setups) > 0 {
			return false
		}
		s.keeper.mu.Lock()
		defer s.keeper.mu.Unlock()
		for _, k := range s.keeper.conns {
			if k == nil || k.users > 0 || k.cc.Err() == nil && k.cc.InFlight() > 0 {
				return false
			}
		}
		return true
	})
}

// end closes everything, and checks that no connection is counted then.
func (c *splitClient) end() {
	c.t.Helper()
	p := c.st.proxy.run.pool
	c.s.Close(hop.NoError, "")
	<-c.s.Done()
	c.st.close()
	if len(p.spares) != 0 || p.others != 0 || len(p.clients) != 0 || len(p.slots) != 0 {
		c.t.Errorf("left: %d spares, %d others, %d slots, %v", len(p.spares), p.others, len(p.slots), p.clients)
	}
	if n := c.st.proxy.run.held.used.Load(); n != 0 {
		c.t.Errorf("%d bytes are still held", n)
	}
}

// However an exchange ends, it gives back its place on the connection, its memory and its setup.
func TestWhatExchangesTakeIsGivenBack(t *testing.T) {
	hold := strings.Repeat("hold ", 4<<10)
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit, func(p *Proxy) {
			p.Inspectors = []Inspector{inspectorOf(func(response bool, p Part) Decision {
				switch says := p.Body.String(); {
				case response && strings.Contains(says, "panic in response"), !response && strings.Contains(says, "panic in request"):
					panic("an inspector")
				case response && strings.Contains(says, "hold"), !response && strings.Contains(says, "hold"):
					return Decision{Action: Hold}
				}
				return Decision{}
			})}
		})
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/head":
				http.NewResponseController(w).EnableFullDuplex()
				w.(http.Flusher).Flush()
				io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			case "/much":
				for r.Context().Err() == nil {
					if _, err := io.WriteString(w, hold); err != nil {
						return
					}
				}
			default:
				p, _ := io.ReadAll(r.Body)
				w.Write(p)
			}
		}), protocol)
		c := st.split()
		post := func(path, content string) *sent {
			a := c.ask("POST", path, false)
			io.WriteString(a.conn, content)
			return a
		}
		answered := func(a *sent) *sent {
			a.Response(t.Context(), nil) // or not
			return a
		}
		for name, f := range map[string]func(){
			"reset at once":                 func() { c.ask("POST", "/", false).Reset(hop.Cancel) },
			"reset before an answer":        func() { c.ask("GET", "/", true).Reset(hop.Cancel) },
			"reset in content":              func() { post("/", strings.Repeat("x", 10<<10)).Reset(hop.Cancel) },
			"reset in content that is held": func() { post("/", strings.Repeat(hold, 10)).Reset(hop.Cancel) },
			"reset behind the head":         func() { answered(c.ask("GET", "/head", true)).Reset(hop.Cancel) },
			"reset in both contents":        func() { answered(post("/head", "x")).Reset(hop.Cancel) },
			"killed in content":             func() { answered(post("/", "panic in request")) },
			"killed in the response":        func() { a := c.ask("POST", "/", false); a.write([]byte("panic in response")); answered(a) },
			"held in the request past its bound": func() {
				a := c.ask("POST", "/", false)
				io.WriteString(a.conn, strings.Repeat(hold, 100))
				answered(a).killedWith()
			},
			"held in the response past its bound":  func() { answered(c.ask("GET", "/much", true)).killedWith() },
			"of a connection that is cut under it": func() { a := c.ask("POST", "/head", false); st.cutHop2(); answered(a).Reset(hop.Cancel) },
		} {
			t.Run(name, func(t *testing.T) {
				for range 5 {
					c.probe()
					f()
					c.givenBack()
				}
			})
		}
		c.end()
	})
}

// A client that opens as many requests as it may, and neither reads nor sends, leaves nothing when it goes.
func TestRequestsThatNobodyReads(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 16<<10)); err != nil {
					return
				}
			}
		}), protocol)
		c := st.split()
		for range 250 {
			c.ask("POST", "/", false)
		}
		c.end()
	})
}

// Origins of HTTP/2 that do as they like cost nothing that stays.
func TestWhatOddOriginsTakeIsGivenBack(t *testing.T) {
	ok := []byte{0x88} // :status 200
	trailer := append([]byte{0x40, 3}, "x-a\x01b"...)
	head := func(fr *http2.Framer, id uint32, block []byte, end bool) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
	}
	for name, answer := range map[string]func(fr *http2.Framer, conn net.Conn, id uint32){
		"PUSH_PROMISE": func(fr *http2.Framer, _ net.Conn, id uint32) {
			fr.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true, BlockFragment: []byte{0x82}})
		},
		"interim responses": func(fr *http2.Framer, _ net.Conn, id uint32) {
			for range 1000 {
				if head(fr, id, append([]byte{0x08, 3}, "103"...), false) != nil {
					return
				}
			}
		},
		"trailers": func(fr *http2.Framer, _ net.Conn, id uint32) {
			head(fr, id, ok, false)
			fr.WriteData(id, false, []byte("hello"))
			head(fr, id, trailer, true)
		},
		"trailers behind nothing": func(fr *http2.Framer, _ net.Conn, id uint32) { head(fr, id, ok, false); head(fr, id, trailer, true) },
		"a length as a trailer": func(fr *http2.Framer, _ net.Conn, id uint32) {
			head(fr, id, ok, false)
			head(fr, id, append([]byte{0x40, 14}, "content-length\x019"...), true)
		},
		"one stream": func(fr *http2.Framer, _ net.Conn, id uint32) {
			fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			head(fr, id, ok, true)
		},
		"GOAWAY": func(fr *http2.Framer, _ net.Conn, id uint32) {
			fr.WriteGoAway(id, http2.ErrCodeNo, nil)
			head(fr, id, ok, true)
		},
		"resets": func(fr *http2.Framer, _ net.Conn, id uint32) {
			head(fr, id, ok, false)
			fr.WriteRSTStream(id, http2.ErrCodeInternal)
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t, withSplit)
			st.rawHTTP2(answer)
			c := st.split()
			for range 10 {
				a := c.ask("POST", "/", false)
				io.WriteString(a.conn, "some content")
				a.Response(t.Context(), nil) // or not
				a.Reset(hop.Cancel)
				c.givenBack()
				c.probe()
			}
			c.end()
		})
	}
}

// The next exchange on a connection begins as soon as net/http has read a response without content, and the one before
// may look at its response's head only then.
func TestAnExchangeKeepsItsHead(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	c := &originConn{Conn: near, http1: true}
	first := c.begin(nil)
	go func() {
		io.WriteString(far, "HTTP/1.1 204 No Content\r\nConnection: x-a, close\r\nCache-Control: no-cache\r\n\r\n")
		far.Close()
	}()
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	second := c.begin(nil)
	if got := c.connectionOptions(first); c.noCacheControl(first) || len(got) != 2 {
		t.Errorf("cache-control missing %v, options %q", c.noCacheControl(first), got)
	}
	if got := c.connectionOptions(second); !c.noCacheControl(second) || len(got) != 0 {
		t.Errorf("of the next one: options %q", got)
	}
	c.end(first)
	if c.head != second {
		t.Error("the end of one ended the next")
	}
}

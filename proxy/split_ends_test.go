package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// A client that asks for evidence again and again has some of the connections, and not for ever.
//
// spec: PRX-61
func TestKeptConnectionsAreBounded(t *testing.T) {
	st := newStage(t, withSplit, func(p *Proxy) { p.Limits.Kept = 3 })
	st.stock(http.NotFoundHandler(), "h2")
	c := st.split()
	ids := [][32]byte{c.id}
	for range 4 {
		c.probe()
		ids = append(ids, c.id)
	}
	for i, id := range ids[2:] {
		c.id = id
		resp, _ := c.get("/")
		if resp.Status != 404 {
			t.Errorf("evidence %d: %d", i+2, resp.Status)
		}
	}
	c.id = ids[0]
	resp, _ := c.get("/")
	c.isOwn(resp, 470, fields.ErrorHTTPRequestDenied)
}

// spec: PRX-56 PRX-61
func TestKeptConnectionsGrowOld(t *testing.T) {
	for name, tt := range map[string]struct {
		every, during time.Duration
		want          int
	}{
		"used every minute":            {time.Minute, 9 * time.Minute, 200},
		"older than ten minutes":       {time.Minute, 11 * time.Minute, 470},
		"not used for a while":         {80 * time.Second, 80 * time.Second, 200},
		"not used for two minutes":     {2 * time.Minute, 2 * time.Minute, 470},
		"not used for a while, thrice": {80 * time.Second, 4 * time.Minute, 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStage(t, withSplit)
				st.stock(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "http/1.1")
				c := st.split()
				status := 0
				for began := time.Now(); time.Since(began) < tt.during; {
					time.Sleep(tt.every)
					resp, _ := c.get("/")
					status = resp.Status
				}
				if status != tt.want {
					t.Errorf("%d, want %d", status, tt.want)
				}
				st.close()
				synctest.Wait()
			})
		})
	}
}

// Kept connections are among those of the pool, and make room for others.
//
// spec: PRX-61
func TestKeptConnectionsMakeRoom(t *testing.T) {
	st := newStage(t, withSplit, func(p *Proxy) { p.Limits.Upstreams, p.Limits.Parts = 4, 2 })
	st.stock(http.NotFoundHandler(), "http/1.1")
	c := st.split()
	for range 9 {
		c.probe()
	}
	resp, _ := c.get("/")
	c.isForwarded(resp, 404)
	p := st.proxy.run.pool
	p.mu.Lock()
	if p.others > 2 || len(p.spares) > 2 || p.clients[""] > 2 {
		t.Errorf("%d connections, %d spares", p.others, len(p.spares))
	}
	p.mu.Unlock()
	c.s.Close(hop.NoError, "")
	<-c.s.Done()
	st.close()
	if len(p.spares) != 0 || p.others != 0 || len(p.clients) != 0 {
		t.Errorf("left: %d spares, %d others, %v", len(p.spares), p.others, p.clients)
	}
}

// spec: PRX-62
func TestARequestIsSentOnce(t *testing.T) {
	st := newStage(t, withSplit)
	var heads atomic.Int32
	st.rawHTTP(func(conn net.Conn) {
		buf := make([]byte, 4096)
		conn.Read(buf)
		heads.Add(1)
	})
	c := st.split()
	resp, _ := c.get("/")
	c.isOwn(resp, 502, fields.ErrorConnectionTerminated)
	if n := heads.Load(); n != 1 || st.dials() != 1 {
		t.Errorf("the origin saw it %d times, %d dials", n, st.dials())
	}
}

// rawHTTP is an origin of HTTP/1.1 that writes what it likes.
func (st *stage) rawHTTP(serve func(net.Conn)) {
	cfg := st.originConfig("http/1.1")
	st.listen(func(conn net.Conn) {
		tc := tls.Server(conn, cfg)
		if tc.Handshake() == nil {
			serve(tc)
			tc.Close()
		}
	})
}

// What an origin sends that is no response to the request is not passed on.
//
// spec: PRX-35 RDR-41
func TestOriginsThatDoNotSpeakHTTP(t *testing.T) {
	for name, tt := range map[string]struct {
		says   string
		status int // 0: the stream is killed
		reason string
	}{
		"garbage":             {"hello\r\n\r\n", 502, fields.ErrorHTTPProtocol},
		"an endless head":     {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 100) + "\r\n", 502, fields.ErrorHTTPResponseHeaderSectionSize},
		"a head with no end":  {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 70<<10), 502, fields.ErrorHTTPResponseHeaderSectionSize},
		"many fields":         {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 300) + "Content-Length: 0\r\n\r\n", 0, ""},
		"nothing":             {"", 502, fields.ErrorConnectionTerminated},
		"another protocol":    {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0, ""},
		"interim for ever":    {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20), 0, ""},
		"two lengths":         {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 502, fields.ErrorHTTPProtocol},
		"a name with a space": {"HTTP/1.1 200 OK\r\nA b: c\r\nContent-Length: 0\r\n\r\n", 502, fields.ErrorHTTPProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t, withSplit)
			st.rawHTTP(func(conn net.Conn) {
				conn.Read(make([]byte, 4096))
				io.WriteString(conn, tt.says)
			})
			c := st.split()
			a := c.ask("GET", "/", true)
			resp, err := a.Response(t.Context(), nil)
			switch {
			case tt.status == 0:
				if isKilled(err) == nil {
					t.Errorf("%v, %v", resp, err)
				}
			case err != nil:
				t.Error(err)
			default:
				c.isOwn(resp, tt.status, tt.reason)
			}
		})
	}
}

// A body that its sender did not complete never looks complete.
//
// spec: PRX-64
func TestCutContentInSplitMode(t *testing.T) {
	for name, says := range map[string]string{
		"of declared length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"in chunks":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"up to a FIN":        "HTTP/1.1 200 OK\r\n\r\nhello",
		"up to its end":      "HTTP/1.1 200 OK\r\n\r\nhello",
	} {
		t.Run("response "+name, func(t *testing.T) {
			st := newStage(t, withSplit)
			cfg := st.originConfig("http/1.1")
			st.listen(func(conn net.Conn) {
				tc := tls.Server(conn, cfg)
				if tc.Handshake() != nil {
					return
				}
				tc.Read(make([]byte, 4096))
				io.WriteString(tc, says)
				if name == "up to its end" {
					tc.Close() // with close_notify
				}
			})
			c := st.split()
			a := c.ask("GET", "/", true)
			p, own, err := c.cut(a)
			if own {
				return
			}
			var reset *hop.ResetError
			if cut := errors.As(err, &reset) && reset.Remote; cut == (name == "up to its end") || !strings.HasPrefix("hello", string(p)) {
				t.Errorf("%q, %v", p, err)
			}
		})
	}
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		ended, began := make(chan error, 1), make(chan struct{})
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/down" {
				io.WriteString(w, "hello")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			close(began)
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
		}), protocol)
		c := st.split()
		a := c.ask("GET", "/down", true)
		if p, own, err := c.cut(a); err == nil && !own {
			t.Errorf("a response cut short looks complete: %q", p)
		}
		c.probe()
		a = c.ask("POST", "/up", false)
		io.WriteString(a.conn, "hello")
		<-began
		a.Reset(hop.Cancel)
		if err := <-ended; err == nil {
			t.Error("a request cut short looks complete")
		}
	})
}

// cut reads a response that is cut short. The reset may overtake the head, and own says that the proxy answered in
// the origin's place, because it knew the end before it had sent the head.
func (c *splitClient) cut(a *sent) (p []byte, own bool, err error) {
	resp, err := a.Response(c.t.Context(), nil)
	if err != nil {
		return nil, false, err
	}
	if resp.Header.Get(fields.EvidenceID) == "" {
		if resp.Status != 502 {
			c.t.Errorf("status %d", resp.Status)
		}
		return nil, true, nil
	}
	p, err = io.ReadAll(a.conn)
	return p, false, err
}

// spec: PRX-21
func TestASilentOriginInSplitMode(t *testing.T) {
	for _, begun := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			st := newStage(t, withSplit)
			over := make(chan struct{})
			st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if begun {
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
				close(over)
			}), "http/1.1")
			c := st.split()
			a := c.ask("GET", "/", true)
			resp := a.head()
			if begun {
				c.isForwarded(resp, 200)
				if _, err := io.ReadAll(a.conn); err == nil {
					t.Error("the response looks complete")
				}
			} else {
				c.isOwn(resp, 504, fields.ErrorHTTPResponseTimeout)
			}
			<-over
			st.close()
			synctest.Wait()
		})
	}
}

// A client that does not read stops the origin, and nobody else.
//
// spec: PRX-32
func TestASlowReaderInSplitMode(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		var wrote atomic.Int64
		const size = 32 << 20
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/large" {
				io.WriteString(w, "small")
				return
			}
			p := make([]byte, 16<<10)
			for range size / len(p) {
				if _, err := w.Write(p); err != nil {
					return
				}
				wrote.Add(int64(len(p)))
			}
		}), protocol)
		c := st.split()
		req, _ := c.request("GET", "/large")
		large, err := c.s.(hop.Requester).Request(t.Context(), req, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := large.Response(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		c.probe()
		for range 20 {
			resp, p := c.get("/")
			c.isForwarded(resp, 200)
			if string(p) != "small" {
				t.Fatalf("%q", p)
			}
		}
		// Two windows, two queues and what lies in pipes and buffers.
		if n := wrote.Load(); n > 4<<20 {
			t.Errorf("the origin wrote %d bytes to a client that reads none", n)
		}
		n, err := io.Copy(io.Discard, hop.NewConn(large))
		if err != nil || n != size {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// A client that leaves ends the exchange on hop 2.
func TestAClientThatLeavesInSplitMode(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		for _, held := range []bool{false, true} {
			st := newStage(t, withSplit, func(p *Proxy) {
				p.Inspectors = []Inspector{inspectorOf(func(response bool, p Part) Decision {
					if held && response {
						return Decision{Action: Hold}
					}
					return Decision{}
				})}
			})
			began, over := make(chan struct{}), make(chan struct{})
			st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				close(began)
				<-r.Context().Done()
				close(over)
			}), protocol)
			c := st.split()
			a := c.ask("GET", "/", true)
			<-began
			a.Reset(hop.Cancel)
			<-over
			c.rest()
		}
	})
}

// A proxy that shuts down kills what is left.
//
// spec: PRX-23
func TestShutdownInSplitMode(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), protocol)
		c := st.split()
		a := c.ask("GET", "/", true)
		c.isForwarded(a.head(), 200)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		st.proxy.Shutdown(ctx)
		a.killedWith()
	})
}

// Whatever is sent is what comes, both ways, however it is cut.
//
// spec: PRX-50 PRX-52
func TestRandomExchangesInSplitMode(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		type side struct {
			header http.Header
			pieces [][]byte
		}
		var response side
		var arrived side
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, _ := io.ReadAll(r.Body)
			arrived = side{r.Header, [][]byte{p}}
			for name, values := range response.header {
				w.Header()[name] = values
			}
			for _, p := range response.pieces {
				w.Write(p)
				w.(http.Flusher).Flush()
			}
		}), protocol)
		c := st.split()
		fieldsGen := rapid.MapOfN(
			rapid.StringMatching(`X-[A-Z][a-z]{0,8}`),
			rapid.SliceOfN(rapid.StringMatching(`([!-~]([ -~\t]{0,30}[!-~])?)?`), 1, 3), 0, 5)
		piecesGen := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 2000), 0, 5)
		rapid.Check(t, func(rt *rapid.T) {
			header, pieces := fieldsGen.Draw(rt, "request fields"), piecesGen.Draw(rt, "request")
			response = side{fieldsGen.Draw(rt, "response fields"), piecesGen.Draw(rt, "response")}
			path := "/" + rapid.StringMatching(`([a-zA-Z0-9/._~!$&'()*+,;=:@|-]|%[0-9A-F]{2}){0,20}(\?[!$-;=?-~]{0,20})?`).Draw(rt, "path")
			if strings.HasPrefix(path, "//") {
				path = "/a" + path
			}
			sized := rapid.Bool().Draw(rt, "declares its length")
			a := c.ask("POST", path, false, func(r *hop.Request) {
				for name, values := range header {
					r.Header[name] = values
				}
				if sized {
					r.Header.Set("Content-Length", fmt.Sprint(len(bytes.Join(pieces, nil))))
				}
			})
			for _, p := range pieces {
				a.conn.Write(p)
			}
			a.conn.CloseWrite()
			resp, err := a.Response(context.Background(), nil)
			if err != nil {
				rt.Fatal(err)
			}
			p, err := io.ReadAll(a.conn)
			if err != nil || resp.Status != 200 {
				rt.Fatalf("%d %v: %v", resp.Status, resp.Header, err)
			}
			for what, s := range map[string]struct {
				got, want http.Header
				p         []byte
				pieces    [][]byte
			}{
				"request":  {arrived.header, header, arrived.pieces[0], pieces},
				"response": {resp.Header, response.header, p, response.pieces},
			} {
				if !bytes.Equal(s.p, bytes.Join(s.pieces, nil)) {
					rt.Errorf("%s: %d bytes", what, len(s.p))
				}
				for name, values := range s.want {
					if !slices.Equal(s.got[name], values) {
						rt.Errorf("%s: %s %q, want %q", what, name, s.got[name], values)
					}
				}
			}
		})
	})
}

// An origin of HTTP/1.1 takes a request for complete with the last byte of its declared length. What comes behind that
// byte is judged before the origin has it.
//
// spec: RDR-40 PRX-64
func TestTheEndOfARequestIsJudgedBeforeTheOriginHasIt(t *testing.T) {
	atEnd := inspectorOf(func(response bool, p Part) Decision {
		if !response && p.End {
			return Decision{Action: Kill, Rule: "the-rule"}
		}
		return Decision{}
	})
	for name, tt := range map[string]struct {
		inspectors []Inspector
		protocols  []string
		end        func(a *sent) error
	}{
		"a kill": {[]Inspector{atEnd}, []string{"http/1.1", "h2"}, func(a *sent) error { return a.conn.CloseWrite() }},
		"a trailer section that may not be": {nil, []string{"http/1.1"}, func(a *sent) error {
			return a.SendTrailer(http.Header{"X-Late": {"1"}})
		}},
		"a reset": {nil, []string{"http/1.1", "h2"}, func(a *sent) error { a.Reset(hop.Cancel); return nil }},
	} {
		for _, protocol := range tt.protocols {
			t.Run(name+" "+protocol, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st := newStage(t, withSplit, func(p *Proxy) { p.Inspectors = tt.inspectors })
					read := make(chan error, 1)
					st.stock(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						_, err := io.ReadAll(r.Body)
						read <- err
					}), protocol)
					c := st.split()
					a := c.ask("POST", "/", false, func(req *hop.Request) { req.Header.Set("Content-Length", "8") })
					for _, p := range []string{"good", "good"} {
						if _, err := io.WriteString(a.conn, p); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
					}
					if err := tt.end(a); err != nil {
						t.Fatal(err)
					}
					if resp, err := a.Response(t.Context(), nil); err == nil {
						t.Fatalf("%+v, %v", resp, err)
					}
					if err := <-read; err == nil {
						t.Error("the origin has the whole request")
					}
					a.conn.Close()
					st.close()
					synctest.Wait()
				})
			})
		}
	}
}

// A request of a method that seldom has content keeps its trailer section where it has no content but that.
//
// spec: PRX-50
func TestTrailersBehindNoContent(t *testing.T) {
	for _, method := range []string{"GET", "DELETE", "POST"} {
		overBoth(t, func(t *testing.T, protocol string) {
			st := newStage(t, withSplit)
			st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if p, err := io.ReadAll(r.Body); len(p) > 0 || err != nil {
					t.Errorf("%d bytes, %v", len(p), err)
				}
				w.Header().Set("X-Got", r.Trailer.Get("X-Late"))
			}), protocol)
			c := st.split()
			a := c.ask(method, "/", false, func(req *hop.Request) { req.Header.Set("Trailer", "x-late") })
			if err := a.SendTrailer(http.Header{"X-Late": {"here"}}); err != nil {
				t.Fatal(err)
			}
			resp := a.head()
			c.isForwarded(resp, 200)
			if got := resp.Header.Get("X-Got"); got != "here" {
				t.Errorf("%s: the origin got %q", method, got)
			}
			a.body()
		})
	}
}

// Policy that has come to refuse a target is asked before a connection is made for a request, too.
//
// spec: PRX-34 PRX-58
func TestNoNewConnectionToATargetThatIsRefused(t *testing.T) {
	st := newStage(t, withSplit)
	st.stock(http.NotFoundHandler(), "h2")
	c := st.split()
	req, _ := c.request("GET", "/")
	dials := st.dials()
	st.sessions(func(s *session) bool {
		target, err := s.splitTarget(req)
		if err != nil {
			t.Fatal(err)
		}
		if a := anAnswer(s.anew(t.Context(), target, nil, connectionGone)); a == nil || a.status != http.StatusForbidden {
			t.Errorf("%+v", a)
		}
		return true
	})
	if st.dials() != dials {
		t.Error("it was dialled")
	}
}

// An origin that answers an upload at once and closes is heard, though what is sent to it then fails.
func TestAnEarlyAnswerInSplitMode(t *testing.T) {
	for range 20 {
		st := newStage(t, withSplit)
		st.rawHTTP(func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo")
				io.WriteString(conn, " large")
			}
		})
		c := st.split()
		a := c.ask("POST", "/", false)
		var sending sync.WaitGroup
		sending.Go(func() { io.Copy(a.conn, io.LimitReader(zeros{}, 1<<20)) }) // fails when the answer is complete
		resp := a.head()
		c.isForwarded(resp, 413)
		if got := string(a.body()); got != "too large" {
			t.Errorf("%q", got)
		}
		a.conn.Close()
		sending.Wait()
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An origin whose connection breaks while its client has not sent all is an error at once, and not when the client goes on.
func TestABrokenConnectionIsToldToAClientThatIsSilent(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		asked := make(chan struct{})
		st.stock(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			io.Copy(io.Discard, r.Body)
		}), protocol)
		c := st.split()
		a := c.ask("POST", "/", false)
		io.WriteString(a.conn, "the beginning")
		<-asked
		st.cutHop2()
		resp, err := a.Response(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.isOwn(resp, 502, fields.ErrorConnectionTerminated)
	})
}

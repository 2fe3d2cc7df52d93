package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
)

// far is the other end of a tunnel, on a socket.
func far(t *testing.T) (here *net.TCPConn, there net.Conn) {
	t.Helper()
	ln := loopback(t)
	defer ln.Close()
	here, err := net.DialTCP("tcp", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	if there, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// connected is a CONNECT that was let through, and what follows on it.
func (r *rig) connected() (net.Conn, *bufio.Reader) {
	r.Helper()
	conn, err := net.Dial("tcp", r.proxy)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { conn.Close() })
	io.WriteString(conn, "CONNECT Bank.example:443 HTTP/1.1\r\nHost: bank.example:443\r\n\r\nearly ")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	if err != nil {
		r.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get(LevelField) != "blind" {
		r.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	return conn, in
}

// Everything passes both ways, what came with the CONNECT too, and either end may be the first to stop sending.
func TestACarriedConnectionIsWhole(t *testing.T) {
	for _, first := range []string{"the program", "the origin"} {
		t.Run(first, func(t *testing.T) {
			here, there := far(t)
			var asked string
			r := newRig(t, answer(hello), func(g *Gateway) {
				g.up.carry = func(_ context.Context, authority string) (tunnel, error) { asked = authority; return here, nil }
			})
			conn, in := r.connected()
			io.WriteString(conn, "and late")
			got := make([]byte, len("early and late"))
			if _, err := io.ReadFull(there, got); err != nil || string(got) != "early and late" || asked != "bank.example:443" {
				t.Errorf("%q %v for %s", got, err, asked)
			}
			closeProgram := func() { conn.(*net.TCPConn).CloseWrite() }
			closeOrigin := func() { there.(*net.TCPConn).CloseWrite() }
			if first == "the program" {
				closeProgram()
				if rest, err := io.ReadAll(there); err != nil || len(rest) > 0 {
					t.Errorf("%q %v", rest, err)
				}
				io.WriteString(there, "answer")
				closeOrigin()
			} else {
				io.WriteString(there, "answer")
				closeOrigin()
			}
			if back, err := io.ReadAll(in); err != nil || string(back) != "answer" {
				t.Errorf("%q %v", back, err)
			}
			if first == "the origin" {
				io.WriteString(conn, " and more")
				closeProgram()
				if rest, err := io.ReadAll(there); err != nil || string(rest) != " and more" {
					t.Errorf("%q %v", rest, err)
				}
			}
			if err := r.g.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if log := r.log.String(); !strings.Contains(log, "method=CONNECT host=bank.example:443") || !strings.Contains(log, "level=blind") || strings.Contains(log, "error=") {
				t.Error(log)
			}
		})
	}
}

// What cannot be read is refused to who does not accept that, with what to do instead.
func TestAConnectIsRefusedWithWords(t *testing.T) {
	r := newRig(t, answer(hello), func(g *Gateway) {
		g.up.carry = func(_ context.Context, authority string) (tunnel, error) {
			return nil, &client.LevelError{Authority: authority, Accepted: []client.Level{client.Intact}, Why: "level blind is not accepted", Option: "intact,blind"}
		}
	})
	resp, body := r.ask(r.proxy, "CONNECT shop.example:443 HTTP/1.1\nHost: shop.example:443\n\n")
	if resp.StatusCode != 403 || resp.Header.Get(ErrorField) != "level" || !strings.Contains(body, "neither the gateway nor the proxy can read") ||
		!strings.Contains(body, "--level intact,blind") || !strings.Contains(body, "http://shop.example/") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if _, body := r.ask(r.proxy, "CONNECT bank.example:443 HTTP/1.1\nHost: bank.example:443\n\n"); strings.Contains(body, "http://") {
		t.Errorf("%q: that is not fetched", body)
	}
}

// CONNECTs have a bound of their own, and a place is free again when one ends.
func TestConnectsAreBounded(t *testing.T) {
	here, there := far(t)
	again, _ := far(t)
	next := []*net.TCPConn{here, again}
	r := newRig(t, answer(hello), func(g *Gateway) {
		g.MaxCarried = 1
		g.up.carry = func(context.Context, string) (tunnel, error) {
			t := next[0]
			next = next[1:]
			return t, nil
		}
	})
	conn, in := r.connected()
	if resp, body := r.ask(r.proxy, "CONNECT bank.example:443 HTTP/1.1\nHost: x\n\n"); resp.StatusCode != 503 {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if resp, _ := r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\n\n"); resp.StatusCode != 200 {
		t.Error("what can be read waits for what cannot")
	}
	conn.Close()
	there.Close()
	io.ReadAll(in)
	for r.held() > 0 {
		<-time.After(time.Millisecond)
	}
	r.connected()
}

func (r *rig) held() int {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	return len(r.g.carried)
}

// Where one side fails, or nothing passes for too long, or the Gateway is closed, both sides are over.
func TestACarriageEndsWhole(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			program, client := net.Pipe()
			tun, there := net.Pipe()
			c := &carriage{program: halfOpen{program}, tunnel: halfOpen{tun}}
			began, ended := time.Now(), make(chan error)
			go func() { ended <- c.carry(program, time.Minute) }()
			// What passes, either way, is no idleness.
			for range 3 {
				<-time.After(50 * time.Second)
				go client.Write([]byte("x"))
				there.Read(make([]byte, 1))
				<-time.After(50 * time.Second)
				go there.Write([]byte("x"))
				client.Read(make([]byte, 1))
			}
			if err := <-ended; err == nil {
				t.Error("it ended in order")
			}
			if after := time.Since(began); after != 6*50*time.Second+time.Minute {
				t.Errorf("it ended after %v", after)
			}
			for _, end := range []net.Conn{client, there} {
				if n, err := end.Read(make([]byte, 1)); n > 0 || err == nil {
					t.Error("an end is open")
				}
			}
		})
	})
	t.Run("the tunnel fails", func(t *testing.T) {
		program, client := far(t)
		failed := errors.New("killed")
		c := &carriage{program: program, tunnel: &failedTunnel{failed}}
		if err := c.carry(program, time.Minute); !errors.Is(err, failed) {
			t.Error(err)
		}
		if n, err := client.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
			t.Errorf("what was cut looks whole to the program: %d bytes, %v", n, err)
		}
	})
	t.Run("the Gateway is closed", func(t *testing.T) {
		here, there := far(t)
		r := newRig(t, answer(hello), func(g *Gateway) {
			g.up.carry = func(context.Context, string) (tunnel, error) { return here, nil }
		})
		_, in := r.connected()
		if err := r.g.Close(); err != nil {
			t.Error(err)
		}
		io.ReadAll(there)
		if _, err := in.ReadByte(); err == nil || err == io.EOF {
			t.Errorf("what was cut looks whole to the program: %v", err)
		}
	})
	t.Run("the Gateway is closed while it is being made", func(t *testing.T) {
		reached := make(chan struct{})
		r := newRig(t, answer(hello), func(g *Gateway) {
			g.up.carry = func(ctx context.Context, _ string) (tunnel, error) {
				close(reached)
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		conn, err := net.Dial("tcp", r.proxy)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "CONNECT bank.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		<-reached
		if err := r.g.Close(); err != nil {
			t.Error(err)
		}
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			t.Error("it was answered")
		}
	})
	t.Run("the Gateway was closed when it was made", func(t *testing.T) {
		here, there := far(t)
		r := newRig(t, answer(hello), nil)
		r.g.Close()
		program, client := far(t)
		if r.g.hold(&carriage{}, program, here) {
			t.Error("it is held")
		}
		if n, err := client.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("the program's end is open")
		}
		there.Close()
	})
}

// halfOpen is a net.Pipe, which has no half.
type halfOpen struct{ net.Conn }

func (c halfOpen) CloseWrite() error { return c.Close() }

type failedTunnel struct{ err error }

func (t *failedTunnel) Read([]byte) (int, error)    { return 0, t.err }
func (t *failedTunnel) Write(p []byte) (int, error) { return len(p), nil }
func (t *failedTunnel) CloseWrite() error           { return nil }
func (t *failedTunnel) Close() error                { return nil }

package itls

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"vitrine/internal/tlsmsg"
)

// sendHandshake sends a handshake message as a peer that follows no rules.
func (c *Conn) sendHandshake(t testing.TB, msg []byte) {
	t.Helper()
	c.out.Lock()
	defer c.out.Unlock()
	if err := c.writeRecord(tlsmsg.TypeHandshake, msg); err != nil {
		t.Fatal(err)
	}
}

// startKeyUpdate does what this package never does unasked.
func (c *Conn) startKeyUpdate(t testing.TB, request bool) {
	t.Helper()
	msg, err := (&tlsmsg.KeyUpdate{Requested: request}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.sendHandshake(t, msg)
	c.out.Lock()
	defer c.out.Unlock()
	if err := c.out.update(); err != nil {
		t.Fatal(err)
	}
}

func (c *Conn) inSecret() []byte {
	c.in.Lock()
	defer c.in.Unlock()
	return c.in.secret
}

func (c *Conn) outSecret() []byte {
	c.out.Lock()
	defer c.out.Unlock()
	return c.out.secret
}

// spec: TLS-19 TLS-20
func TestKeyUpdateIsAnsweredWhenAsked(t *testing.T) {
	for _, request := range []bool{false, true} {
		client, server := connect(t, clientConfig(), serverConfig())
		for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
			before := way.to.outSecret()
			way.from.startKeyUpdate(t, request)
			exchange(t, client, server)
			exchange(t, client, server) // the answer is read with what follows it
			if !bytes.Equal(way.from.outSecret(), way.to.inSecret()) || !bytes.Equal(way.to.outSecret(), way.from.inSecret()) {
				t.Error("the two ends have different secrets")
			}
			if answered := !bytes.Equal(before, way.to.outSecret()); answered != request {
				t.Errorf("requested %v, answered %v", request, answered)
			}
		}
		exchange(t, client, server)
	}
}

// spec: TLS-18
func TestTheSixtyFifthKeyUpdateEndsTheSession(t *testing.T) {
	client, server := connect(t, clientConfig(), serverConfig())
	for range maxKeyUpdates {
		client.startKeyUpdate(t, true)
		exchange(t, client, server)
	}
	client.startKeyUpdate(t, false)
	client.Write([]byte("x"))
	if _, err := server.Read(make([]byte, 1)); alertOf(err) != tlsmsg.AlertUnexpectedMessage {
		t.Errorf("got %v", err)
	}
}

// spec: TLS-20
func TestKeyUpdatesBehindABusyWriteShareOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cc, sc := clientConfig(), serverConfig()
		cc.TLS.Time = certificateTime
		a, b := net.Pipe() // a Write waits there for its reader
		client, server := Client(a, cc), Server(b, sc)
		if clientErr, serverErr := shake(client, server); clientErr != nil || serverErr != nil {
			t.Fatal(clientErr, serverErr)
		}
		big := bytes.Repeat([]byte("big "), 10000)
		var wg sync.WaitGroup
		wg.Go(func() {
			if n, err := server.Write(big); n != len(big) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
		})
		synctest.Wait() // the server's first record is stuck in the carrier
		before := server.out.secret
		got := make([]byte, 2)
		wg.Go(func() {
			if _, err := io.ReadFull(server, got); err != nil {
				t.Error(err)
			}
		})
		for range 3 {
			client.startKeyUpdate(t, true)
		}
		if _, err := client.Write([]byte("ok")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if string(got) != "ok" {
			t.Errorf("a Read waits for a stuck Write: %q", got)
		}
		back := make([]byte, len(big))
		if _, err := io.ReadFull(client, back); err != nil || !bytes.Equal(back, big) {
			t.Errorf("read %d bytes, %v", len(back), err)
		}
		wg.Wait()
		once, err := server.suite.nextSecret(before)
		if err != nil || !bytes.Equal(once, server.outSecret()) || !bytes.Equal(once, client.inSecret()) {
			t.Error("three requests did not share one answer")
		}
		a.Close()
		b.Close()
	})
}

// spec: TLS-20
func TestKeyUpdatesWhileNothingIsSentShareOneAnswer(t *testing.T) {
	client, server := connect(t, clientConfig(), serverConfig())
	before := server.outSecret()
	for range 3 {
		client.startKeyUpdate(t, true)
	}
	exchange(t, client, server)
	once, err := server.suite.nextSecret(before)
	if err != nil || !bytes.Equal(once, server.outSecret()) || !bytes.Equal(once, client.inSecret()) {
		t.Error("three requests did not share one answer")
	}
}

// spec: TLS-9 TLS-15 TLS-17
func TestAfterTheHandshake(t *testing.T) {
	ticket, err := (&tlsmsg.NewSessionTicket{Lifetime: 7200, Ticket: []byte("ticket"), Nonce: []byte{1}}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	request, err := (&tlsmsg.CertificateRequest{Context: []byte{1}, Extensions: built(func(x *tlsmsg.ExtensionBuilder) { x.SignatureAlgorithms(tlsmsg.Schemes()) })}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	update := []byte{byte(tlsmsg.TypeKeyUpdate), 0, 0, 1, 0}
	send := func(msg []byte, times int) func(t *testing.T, from *Conn) {
		return func(t *testing.T, from *Conn) {
			for range times {
				from.sendHandshake(t, msg)
			}
		}
	}
	record := func(typ tlsmsg.ContentType, data []byte, times int) func(t *testing.T, from *Conn) {
		return func(t *testing.T, from *Conn) {
			from.out.Lock()
			defer from.out.Unlock()
			for range times {
				if err := from.writeRecord(typ, data); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	both := func(list ...func(t *testing.T, from *Conn)) func(t *testing.T, from *Conn) {
		return func(t *testing.T, from *Conn) {
			for _, f := range list {
				f(t, from)
			}
		}
	}
	const ok = 255
	for _, c := range []struct {
		name             string
		script           func(t *testing.T, from *Conn)
		toClient, toServ tlsmsg.Alert
	}{
		{"tickets", send(ticket, 4), ok, tlsmsg.AlertUnexpectedMessage},
		{"tickets in pieces", both(send(ticket[:3], 1), send(ticket[3:], 1)), ok, tlsmsg.AlertUnexpectedMessage},
		{"ticket in pieces of a byte", func(t *testing.T, from *Conn) {
			long := mustAppend(&tlsmsg.NewSessionTicket{Lifetime: 7200, Ticket: make([]byte, 2*maxIdleRecords)})
			for i := range long {
				from.sendHandshake(t, long[i:i+1])
			}
		}, ok, tlsmsg.AlertUnexpectedMessage},
		{"KeyUpdates without end", func(t *testing.T, from *Conn) {
			for range maxIdleRecords + 1 {
				from.startKeyUpdate(t, false)
			}
		}, tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"malformed ticket", send([]byte{4, 0, 0, 1, 0}, 1), tlsmsg.AlertDecodeError, tlsmsg.AlertUnexpectedMessage},
		{"records without data, at the limit", record(tlsmsg.TypeApplicationData, nil, maxIdleRecords), ok, ok},
		{"records without data, above the limit", record(tlsmsg.TypeApplicationData, nil, maxIdleRecords+1), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"tickets without end", send(ticket, maxIdleRecords+1), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"user_canceled", record(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)}, 3), ok, ok},
		{"user_canceled without end", record(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)}, maxIdleRecords+1), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"authentication after the handshake", send(request, 1), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"a new handshake", send([]byte{1, 0, 0, 0}, 1), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"KeyUpdate with more behind it", send(append(bytes.Clone(update), 24), 1), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"KeyUpdate of unknown meaning", send([]byte{24, 0, 0, 1, 2}, 1), tlsmsg.AlertIllegalParameter, tlsmsg.AlertIllegalParameter},
		{"message above the limit", send([]byte{24, 1, 0, 1}, 1), tlsmsg.AlertIllegalParameter, tlsmsg.AlertIllegalParameter},
		{"empty handshake record", send(nil, 1), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"data inside a message", both(send(update[:2], 1), record(tlsmsg.TypeApplicationData, []byte("x"), 1)), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"protected change_cipher_spec", record(tlsmsg.TypeChangeCipherSpec, []byte{1}, 1), tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"late change_cipher_spec", func(t *testing.T, from *Conn) { from.conn.Write(plainCCS) }, tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"unprotected alert", func(t *testing.T, from *Conn) { from.conn.Write([]byte{21, 3, 3, 0, 2, 1, 0}) }, tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertUnexpectedMessage},
		{"unprotected data", func(t *testing.T, from *Conn) { from.conn.Write([]byte{23, 3, 3, 0, 1, 'x'}) }, tlsmsg.AlertBadRecordMAC, tlsmsg.AlertBadRecordMAC},
	} {
		for _, role := range []string{"client", "server"} {
			t.Run(c.name+" to the "+role, func(t *testing.T) {
				from, to := connect(t, clientConfig(), serverConfig())
				want := c.toServ
				if role == "client" {
					from, to, want = to, from, c.toClient
				}
				c.script(t, from)
				if want == ok {
					exchange(t, from, to)
					return
				}
				from.Write([]byte("data"))
				_, err := to.Read(make([]byte, 9))
				if alertOf(err) != want {
					t.Fatalf("got %v, want %s", err, want)
				}
				checkEnded(t, to, err)
				_, err = from.Read(make([]byte, 9))
				if e, ok := err.(*AlertError); !ok || !e.Remote || e.Alert != want {
					t.Errorf("the sender reads %v", err)
				}
				checkEnded(t, from, err)
			})
		}
	}
}

// checkEnded asserts that every later call returns the same error.
//
// spec: TLS-22
func checkEnded(t *testing.T, c *Conn, want error) {
	t.Helper()
	for range 3 {
		if n, err := c.Read(make([]byte, 9)); n != 0 || err != want {
			t.Errorf("Read returns %d, %v; want %v", n, err, want)
		}
		if n, err := c.Write([]byte("x")); n != 0 || err != want {
			t.Errorf("Write returns %d, %v; want %v", n, err, want)
		}
	}
}

// spec: TLS-22
func TestAlertsEndBothDirections(t *testing.T) {
	client, server := connect(t, clientConfig(), serverConfig())
	server.Write([]byte("last"))
	server.fail(abort(tlsmsg.AlertAccessDenied, "test"))
	buf := make([]byte, 9)
	if n, err := client.Read(buf); string(buf[:n]) != "last" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	_, err := client.Read(buf)
	if e, ok := err.(*AlertError); !ok || !e.Remote || e.Alert != tlsmsg.AlertAccessDenied {
		t.Fatalf("got %v", err)
	}
	checkEnded(t, client, err)
	if _, err := server.Write([]byte("x")); alertOf(err) != tlsmsg.AlertAccessDenied {
		t.Errorf("Write after an alert of ours: %v", err)
	}
}

// spec: TLS-21 TLS-23
func TestClosing(t *testing.T) {
	t.Run("half close", func(t *testing.T) {
		client, server := connect(t, clientConfig(), serverConfig())
		client.Write([]byte("request"))
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write([]byte("x")); err != ErrClosedWrite {
			t.Errorf("Write after CloseWrite: %v", err)
		}
		if got, err := io.ReadAll(server); string(got) != "request" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		server.Write([]byte("response"))
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if got, err := io.ReadAll(client); string(got) != "response" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read again: %v", err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if err := client.Close(); err != net.ErrClosed {
			t.Errorf("closed twice: %v", err)
		}
		if _, err := client.Write([]byte("x")); err != net.ErrClosed {
			t.Errorf("written after Close: %v", err)
		}
	})
	t.Run("data behind close_notify is not read", func(t *testing.T) {
		client, server := connect(t, clientConfig(), serverConfig())
		if err := client.closeNotify(); err != nil {
			t.Fatal(err)
		}
		client.out.closed = false
		client.Write([]byte("smuggled"))
		if got, err := io.ReadAll(server); len(got) > 0 || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("truncation", func(t *testing.T) {
		client, server := connect(t, clientConfig(), serverConfig())
		client.Write([]byte("request"))
		client.NetConn().Close()
		got, err := io.ReadAll(server)
		if string(got) != "request" || err != ErrTruncated || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := server.Read(make([]byte, 1)); err != ErrTruncated {
			t.Errorf("read again: %v", err)
		}
	})
	t.Run("before the handshake", func(t *testing.T) {
		a, b := newPipe()
		c := Client(a, clientConfig())
		if err := c.CloseWrite(); err == nil {
			t.Error("close_notify without keys")
		}
		if err := c.Close(); err != nil || len(b.take()) > 0 {
			t.Errorf("Close: %v", err)
		}
		if err := c.Handshake(); err == nil {
			t.Error("a handshake after Close")
		}
	})
	t.Run("close_notify in the handshake", func(t *testing.T) {
		a, b := newPipe()
		b.inject([]byte{21, 3, 3, 0, 2, 1, 0})
		err := Client(a, clientConfig()).Handshake()
		if e, ok := err.(*AlertError); !ok || !e.Remote || e.Alert != tlsmsg.AlertCloseNotify {
			t.Errorf("got %v", err)
		}
	})
}

// stuckConn is a carrier that takes nothing more once stuck is set, until a deadline or Close.
type stuckConn struct {
	*pipe
	stuck           atomic.Bool
	closed, expired chan struct{}
	deadline        sync.Once
}

func newStuck(p *pipe) *stuckConn {
	return &stuckConn{pipe: p, closed: make(chan struct{}), expired: make(chan struct{})}
}

func (s *stuckConn) Write(b []byte) (int, error) {
	if !s.stuck.Load() {
		return s.pipe.Write(b)
	}
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	case <-s.expired:
		return 0, os.ErrDeadlineExceeded
	}
}

func (s *stuckConn) SetWriteDeadline(t time.Time) error {
	s.deadline.Do(func() { time.AfterFunc(time.Until(t), func() { close(s.expired) }) })
	return nil
}

func (s *stuckConn) Close() error {
	close(s.closed)
	return s.pipe.Close()
}

// connectStuck is connect over a carrier that can get stuck on the client's side; in a bubble.
func connectStuck(t *testing.T) (carrier *stuckConn, client, server *Conn) {
	t.Helper()
	cc := clientConfig()
	cc.TLS.Time = certificateTime
	a, b := newPipe()
	carrier = newStuck(a)
	client, server = Client(carrier, cc), Server(b, serverConfig())
	if clientErr, serverErr := shake(client, server); clientErr != nil || serverErr != nil {
		t.Fatal(clientErr, serverErr)
	}
	return carrier, client, server
}

func TestCloseWaitsForNobodyForLong(t *testing.T) {
	t.Run("a stuck carrier", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			carrier, client, _ := connectStuck(t)
			carrier.stuck.Store(true)
			start := time.Now()
			if err := client.Close(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Close: %v", err)
			}
			if d := time.Since(start); d > 6*time.Second {
				t.Errorf("Close took %v", d)
			}
		})
	})
	t.Run("a stuck Write and a waiting Read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			carrier, client, _ := connectStuck(t)
			carrier.stuck.Store(true)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Write: %v", err)
				}
			})
			wg.Go(func() {
				if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Read: %v", err)
				}
			})
			synctest.Wait()
			start := time.Now()
			if err := client.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			wg.Wait()
			if d := time.Since(start); d > time.Second {
				t.Errorf("Close took %v", d)
			}
		})
	})
	t.Run("an error while a Write is stuck", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			carrier, client, server := connectStuck(t)
			carrier.stuck.Store(true)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := client.Write([]byte("x")); alertOf(err) != tlsmsg.AlertBadRecordMAC {
					t.Errorf("Write: %v", err)
				}
			})
			synctest.Wait()
			server.out.seq++ // as if a record had been lost
			server.Write([]byte("x"))
			start := time.Now()
			if _, err := client.Read(make([]byte, 1)); alertOf(err) != tlsmsg.AlertBadRecordMAC {
				t.Errorf("Read: %v", err)
			}
			if time.Since(start) > 0 {
				t.Error("Read waited for the Write")
			}
			wg.Wait()
			client.Close()
		})
	})
}

func TestReadDeadlinesPassAndWriteErrorsStay(t *testing.T) {
	client, server := connect(t, clientConfig(), serverConfig())
	client.SetReadDeadline(timeLongAgo)
	for range 2 {
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	}
	client.SetReadDeadline(time.Time{})
	exchange(t, client, server)
	// A record that is cut by a deadline goes on where it stopped.
	a := client.NetConn().(*pipe)
	var late []byte
	b := server.NetConn().(*pipe)
	b.onSend = func(p []byte) []byte {
		late = append(late, p[7:]...)
		return p[:7]
	}
	server.Write([]byte("pong"))
	client.SetReadDeadline(timeLongAgo)
	if _, err := client.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	client.SetReadDeadline(time.Time{})
	b.onSend = nil
	b.inject(late)
	exchangeRest := make([]byte, 4)
	if _, err := io.ReadFull(client, exchangeRest); err != nil || string(exchangeRest) != "pong" {
		t.Errorf("%q, %v", exchangeRest, err)
	}
	a.CloseWrite()
	_, first := client.Write([]byte("x"))
	_, second := client.Write([]byte("x"))
	if first == nil || first != second {
		t.Errorf("%v, then %v", first, second)
	}
}

// carrierError is what a hop's stream says when it was reset.
type carrierError struct{ code int }

func (carrierError) Error() string { return "stream reset" }

type failingConn struct {
	*pipe
	err error
}

func (f failingConn) Read([]byte) (int, error) { return 0, f.err }

func TestTheCarriersErrorIsFound(t *testing.T) {
	a, _ := newPipe()
	err := Client(failingConn{a, carrierError{7}}, clientConfig()).Handshake()
	if e, ok := errors.AsType[carrierError](err); !ok || e.code != 7 {
		t.Errorf("in the handshake: %v", err)
	}
	client, _ := connect(t, clientConfig(), serverConfig())
	client.conn = failingConn{client.conn.(*pipe), carrierError{8}}
	for range 2 {
		_, err = client.Read(make([]byte, 1))
		if e, ok := errors.AsType[carrierError](err); !ok || e.code != 8 {
			t.Errorf("in Read: %v", err)
		}
	}
	client.conn = failingConn{client.conn.(failingConn).pipe, nil}
	client.in.err = nil
	if _, err := client.Read(make([]byte, 1)); err != io.ErrNoProgress {
		t.Errorf("a carrier that returns nothing for ever: %v", err)
	}
}

func TestAContextThatEndsEndsTheHandshake(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for name, role := range map[string]func() (*Conn, *pipe){
		"client": func() (*Conn, *pipe) { a, b := newPipe(); return Client(a, clientConfig()), b },
		"server": func() (*Conn, *pipe) { a, b := newPipe(); return Server(a, serverConfig()), b },
	} {
		c, _ := role()
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if err := c.HandshakeContext(ctx); !errors.Is(err, cause) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("%s reads after that: %v", name, err)
		}
	}
}

// Writes of both ends, in any sizes, with KeyUpdates and reads between, arrive as they were sent.
func TestSessionsCarryBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cc := clientConfig()
		cc.Suites = []uint16{rapid.SampledFrom([]uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384}).Draw(t, "suite")}
		a, b := newPipe()
		defer a.Close()
		defer b.Close()
		ends := [2]*Conn{Client(a, cc), Server(b, serverConfig())}
		if clientErr, serverErr := shake(ends[0], ends[1]); clientErr != nil || serverErr != nil {
			t.Fatal(clientErr, serverErr)
		}
		var sent [2]bytes.Buffer // by end, not yet read by the other
		var updates [2]int
		next := byte(0)
		read := func(i int) {
			want := sent[1-i].Bytes()
			if len(want) == 0 {
				return
			}
			buf := make([]byte, rapid.IntRange(1, 20000).Draw(t, "size"))
			n, err := ends[i].Read(buf)
			if err != nil || n == 0 || !bytes.HasPrefix(want, buf[:n]) {
				t.Fatalf("end %d read %d bytes, %v", i, n, err)
			}
			sent[1-i].Next(n)
		}
		end := rapid.IntRange(0, 1)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				i := end.Draw(t, "end")
				p := make([]byte, rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(16000, 40000)).Draw(t, "size"))
				for j := range p {
					next += 7
					p[j] = next
				}
				if n, err := ends[i].Write(p); n != len(p) || err != nil {
					t.Fatalf("wrote %d of %d, %v", n, len(p), err)
				}
				sent[i].Write(p)
			},
			"read": func(t *rapid.T) { read(end.Draw(t, "end")) },
			"update": func(t *rapid.T) {
				i := end.Draw(t, "end")
				if updates[i]++; updates[0]+updates[1] > maxIdleRecords {
					t.Skip("more would be a flood")
				}
				msg, err := (&tlsmsg.KeyUpdate{Requested: rapid.Bool().Draw(t, "request")}).Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				c := ends[i]
				c.out.Lock()
				defer c.out.Unlock()
				if err := c.writeRecord(tlsmsg.TypeHandshake, msg); err != nil {
					t.Fatal(err)
				}
				if err := c.out.update(); err != nil {
					t.Fatal(err)
				}
			},
		})
		for i, c := range ends {
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(ends[1-i])
			if err != nil || !bytes.Equal(got, sent[i].Bytes()) {
				t.Fatalf("end %d: %d bytes of %d arrived, %v", i, len(got), sent[i].Len(), err)
			}
		}
	})
}

// spec: TLS-13
func TestOneRecordForEachWriteOfTheCarrier(t *testing.T) {
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		cc := clientConfig()
		cc.Suites = []uint16{suite}
		client, server := connect(t, cc, serverConfig())
		var sizes []int
		client.conn.(*pipe).onSend = func(p []byte) []byte {
			if n := len(records(t, p)); n != 1 {
				t.Errorf("%d records in one Write", n)
			}
			sizes = append(sizes, len(p))
			return p
		}
		data := make([]byte, 40000)
		if _, err := client.Write(data); err != nil {
			t.Fatal(err)
		}
		if len(sizes) != 3 || sizes[0] != 16384-9 || sizes[1] != 16384-9 {
			t.Errorf("records of %v bytes", sizes)
		}
		if _, err := io.ReadFull(server, data); err != nil {
			t.Error(err)
		}
		if n, err := client.Write(nil); n != 0 || err != nil || len(sizes) != 3 {
			t.Errorf("empty Write: %d, %v, %d records", n, err, len(sizes))
		}
		if n, err := server.Read(nil); n != 0 || err != nil {
			t.Errorf("empty Read: %d, %v", n, err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	client, server := connect(t, clientConfig(), serverConfig())
	const writers, size = 4, 50000
	var wg sync.WaitGroup
	for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
		for i := range writers {
			wg.Go(func() {
				if _, err := way.from.Write(bytes.Repeat([]byte{byte('a' + i)}, size)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			all := make([]byte, writers*size)
			if _, err := io.ReadFull(way.to, all); err != nil {
				t.Error(err)
			}
			for i := range writers {
				if n := bytes.Count(all, []byte{byte('a' + i)}); n != size {
					t.Errorf("%d bytes of writer %d", n, i)
				}
			}
			way.to.ConnectionState()
		})
		wg.Go(func() { way.from.ExportKeyingMaterial("EXPORTER-x", nil, 8) })
	}
	wg.Wait()
}

func TestErrorsSayWhatHappened(t *testing.T) {
	for err, want := range map[error]string{
		&AlertError{Alert: tlsmsg.AlertUnknownCA, Remote: true}:                                 "itls: the peer sent unknown_ca",
		&AlertError{Alert: tlsmsg.AlertBadRecordMAC, Err: &RecordError{3}}:                      "itls: record 3 failed authentication (sent bad_record_mac)",
		&AlertError{Alert: tlsmsg.AlertBadCertificate, Err: &CertificateError{errors.New("x")}}: "itls: certificate refused: x (sent bad_certificate)",
		ErrTruncated: "itls: the session was cut off without close_notify",
	} {
		if err.Error() != want || strings.Contains(want, "\n") {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

package hop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStream is a Stream whose peer is the test.
type fakeStream struct {
	sink Sink

	mu     sync.Mutex
	queue  []byte
	above  bool
	ended  bool // CloseSend
	resets []ErrorCode
	err    error
}

func (s *fakeStream) ID() uint64       { return 1 }
func (s *fakeStream) Session() Session { return fakeSession{} }
func (s *fakeStream) Start(k Sink)     { s.sink = k }
func (s *fakeStream) Kill([]byte)      {}

func (s *fakeStream) Watermarks() (high, low int) { return 1000, 100 }
func (s *fakeStream) LingerTime() time.Duration   { return 5 * time.Second }

func (s *fakeStream) Send(b *Buffer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer b.Release()
	if s.err != nil {
		return s.err
	}
	if s.ended {
		return net.ErrClosed
	}
	s.queue = append(s.queue, b.Bytes()...)
	s.above = s.above || len(s.queue) >= 1000
	return nil
}

func (s *fakeStream) CloseSend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return s.err
}

func (s *fakeStream) Reset(code ErrorCode) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = &ResetError{Code: code}
		s.resets = append(s.resets, code)
		s.queue = nil
	}
	err := s.err
	s.mu.Unlock()
	if first {
		go s.sink.End(err) // on the carrier's goroutine
	}
}

func (s *fakeStream) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// drain is what the peer reads.
func (s *fakeStream) drain() []byte {
	s.mu.Lock()
	p := s.queue
	s.queue = nil
	tell := s.above
	s.above = false
	s.mu.Unlock()
	if tell {
		s.sink.Writable()
	}
	return p
}

// data is what the peer sends.
func (s *fakeStream) data(p string, from *ledger) {
	b := NewBufferSize(len(p))
	copy(b.Fill(len(p)), p)
	b.Owe(len(p), from)
	s.sink.Data(b)
}

func (s *fakeStream) state() (resets []ErrorCode, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resets, s.ended
}

type fakeSession struct{ Session }

func (fakeSession) Peer() *Peer {
	return &Peer{TLS: tls.ConnectionState{NegotiatedProtocol: "h2"}, Local: &net.TCPAddr{Port: 1}, Remote: &net.TCPAddr{Port: 2}}
}

func newFake() (*fakeStream, *Conn) {
	s := new(fakeStream)
	return s, NewConn(s)
}

func TestConnReadsAndGivesCreditBack(t *testing.T) {
	s, c := newFake()
	l := new(ledger)
	s.data("hello ", l)
	s.data("world", l)
	p := make([]byte, 4)
	if n, err := c.Read(p); err != nil || string(p[:n]) != "hell" || l.back != 4 {
		t.Errorf("%q, %v, %d bytes of credit", p[:n], err, l.back)
	}
	s.sink.End(io.EOF)
	rest, err := io.ReadAll(c)
	if err != nil || string(rest) != "o world" || l.back != 11 {
		t.Errorf("%q, %v, %d bytes of credit", rest, err, l.back)
	}
	if n, err := c.Read(nil); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
}

func TestConnDeliversWhatCameBeforeAReset(t *testing.T) {
	s, c := newFake()
	s.data("prefix", new(ledger))
	s.sink.End(&ResetError{Code: Killed, Remote: true, Verdict: []byte("v")})
	got, err := io.ReadAll(c)
	var reset *ResetError
	if string(got) != "prefix" || !errors.As(err, &reset) || string(reset.Verdict) != "v" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Write([]byte("x")); !errors.As(err, &reset) {
		t.Error("Write after a reset:", err)
	}
	if !errors.Is(err, net.ErrClosed) {
		t.Error("a reset is not net.ErrClosed")
	}
}

func TestConnWriteWaitsAboveHighWater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := newFake()
		want := bytes.Repeat([]byte("x"), 100_000)
		done := make(chan error, 1)
		go func() {
			_, err := c.Write(want)
			done <- err
		}()
		var got []byte
		for len(got) < len(want) {
			synctest.Wait()
			if n := s.Queued(); n > 1000+MaxChunk {
				t.Fatalf("%d bytes are queued", n)
			}
			got = append(got, s.drain()...)
		}
		if err := <-done; err != nil || !bytes.Equal(got, want) {
			t.Error(err)
		}
	})
}

func TestConnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := newFake()
		begin := time.Now()
		c.SetReadDeadline(begin.Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("Read: %v after %v", err, time.Since(begin))
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a deadline that has passed:", err)
		}
		c.SetReadDeadline(time.Time{})
		s.data("x", new(ledger))
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Error("after the deadline was taken back:", err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Second))
		begin = time.Now()
		n, err := c.Write(make([]byte, 100_000))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != s.Queued() || time.Since(begin) != time.Second {
			t.Errorf("Write: %d of %d, %v after %v", n, s.Queued(), err, time.Since(begin))
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Error("it is no timeout")
		}
	})
}

func TestConnDeadlineInterruptsAndIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newFake()
		done := make(chan error, 1)
		begin := time.Now()
		c.SetReadDeadline(begin.Add(time.Minute))
		go func() {
			_, err := c.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		c.SetReadDeadline(begin.Add(time.Hour))
		synctest.Wait()
		c.SetReadDeadline(begin.Add(time.Second))
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		go func() {
			_, err := c.Read(make([]byte, 1))
			done <- err
		}()
		c.SetReadDeadline(time.Unix(1, 0))
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestConnSecondWriterHonoursItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newFake()
		done := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := c.Write(make([]byte, 100_000))
				done <- err
			}()
		}
		synctest.Wait()
		c.SetWriteDeadline(time.Now().Add(time.Second))
		for range 2 {
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}
	})
}

func TestConnWritesAreWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := newFake()
		var writers sync.WaitGroup
		for _, letter := range "abc" {
			writers.Go(func() { c.Write(bytes.Repeat([]byte{byte(letter)}, 50_000)) })
		}
		var got []byte
		for len(got) < 150_000 {
			synctest.Wait()
			got = append(got, s.drain()...)
		}
		writers.Wait()
		changes := 0
		for i := 1; i < len(got); i++ {
			if got[i] != got[i-1] {
				changes++
			}
		}
		if changes != 2 {
			t.Errorf("writes are mixed: %d changes", changes)
		}
	})
}

func TestConnCloseKeepsWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := newFake()
		c.Write([]byte("goodbye"))
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		resets, ended := s.state()
		if len(resets) != 0 || !ended || s.Queued() != 7 {
			t.Errorf("resets %v, END_STREAM %v, %d bytes queued", resets, ended, s.Queued())
		}
		l := new(ledger)
		s.data("close_notify", l) // the peer's goodbye
		s.sink.End(io.EOF)
		timer := time.NewTimer(time.Hour)
		<-timer.C
		if resets, _ := s.state(); len(resets) != 0 || l.back != 12 {
			t.Errorf("resets %v, %d bytes of credit", resets, l.back)
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Error("a second Close:", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Error("Read after Close:", err)
		}
		if _, err := c.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Error("Write after Close:", err)
		}
		if err := c.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
			t.Error("SetDeadline after Close:", err)
		}
	})
}

func TestConnCloseResetsAPeerThatGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		unread int // before Close
		later  int // after it
		queued bool
		wait   time.Duration
	}{
		"unread bytes":                {unread: 5000, wait: 0},
		"bytes that come":             {later: 5000, wait: 0},
		"nothing, and no end":         {wait: 5 * time.Second},
		"bytes that come, ours leave": {later: 5000, queued: true, wait: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, conn := newFake()
				if c.queued {
					conn.Write([]byte("ours"))
				}
				l := new(ledger)
				for n := c.unread; n > 0; n -= 1000 {
					s.data(string(make([]byte, 1000)), l)
				}
				conn.Close()
				for n := c.later; n > 0; n -= 1000 {
					s.data(string(make([]byte, 1000)), l)
				}
				begin := time.Now()
				for {
					if resets, _ := s.state(); len(resets) > 0 {
						if resets[0] != Cancel {
							t.Errorf("reset with %v", resets[0])
						}
						break
					}
					if time.Since(begin) > time.Minute {
						t.Fatal("it was never reset")
					}
					timer := time.NewTimer(time.Second)
					<-timer.C
					synctest.Wait()
				}
				if d := time.Since(begin); d != c.wait {
					t.Errorf("it was reset after %v, want %v", d, c.wait)
				}
				if l.back != c.unread+c.later {
					t.Errorf("%d bytes of credit", l.back)
				}
			})
		})
	}
}

func TestConnCloseInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := newFake()
		done := make(chan error, 2)
		go func() {
			_, err := c.Read(make([]byte, 1))
			done <- err
		}()
		go func() {
			_, err := c.Write(make([]byte, 100_000))
			done <- err
		}()
		synctest.Wait()
		c.Close()
		for range 2 {
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		s.sink.End(io.EOF)
	})
}

func TestConnHalfClose(t *testing.T) {
	s, c := newFake()
	s.sink.End(io.EOF)
	if _, err := c.Write([]byte("still open")); err != nil {
		t.Error("after the peer's END_STREAM:", err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error("Write after CloseWrite:", err)
	}
	if err := c.CloseWrite(); !errors.Is(err, net.ErrClosed) {
		t.Error("a second CloseWrite:", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if resets, _ := s.state(); len(resets) != 0 {
		t.Errorf("a stream that ended both ways was reset: %v", resets)
	}
}

// The peer has ended its side, we wait for room, and then the stream is reset.
func TestConnWriterHearsOfAResetAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := newFake()
		s.sink.End(io.EOF)
		done := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, 100_000))
			done <- err
		}()
		synctest.Wait()
		s.mu.Lock()
		s.err, s.queue = &ResetError{Code: Killed, Remote: true}, nil
		s.mu.Unlock()
		s.sink.Writable()
		var reset *ResetError
		if err := <-done; !errors.As(err, &reset) {
			t.Error(err)
		}
	})
}

func TestConnSaysWhereItIs(t *testing.T) {
	s, c := newFake()
	if c.HopState().NegotiatedProtocol != "h2" || c.LocalAddr().String() != ":1" || c.RemoteAddr().String() != ":2" || c.Stream() != Stream(s) {
		t.Error("it does not say what its hop says")
	}
}

func TestErrorsWrapErrClosed(t *testing.T) {
	under := errors.New("under")
	for _, err := range []error{
		&ResetError{Code: Cancel},
		&SessionError{Code: NoError},
		&SessionError{Code: ProtocolError, Remote: true, Reason: "r", Err: under},
		&RetryError{Err: &ResetError{Code: RefusedStream, Remote: true}},
	} {
		if !errors.Is(err, net.ErrClosed) || err.Error() == "" {
			t.Errorf("%v", err)
		}
	}
	if !errors.Is(&SessionError{Err: under}, under) {
		t.Error("what was underneath is lost")
	}
}

func TestLimitsDefault(t *testing.T) {
	l := Limits{Streams: 3, LowWater: 1 << 30, PingInterval: -1}.WithDefaults()
	if l.Streams != 3 || l.LowWater != l.HighWater || l.PingInterval != -1 || l.HeaderFields != 200 || l.Resets.Burst == 0 {
		t.Errorf("%+v", l)
	}
	if l != l.WithDefaults() {
		t.Error("defaults are not stable")
	}
}

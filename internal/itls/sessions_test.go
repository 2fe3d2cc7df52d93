package itls

import (
	"bytes"
	"crypto/tls"
	"encoding"
	"io"
	"sync"
	"testing"
	"time"

	"vitrine/internal/tlsmsg"
)

func numbered(n int, binding byte) *Session {
	return &Session{
		suite: suiteByID(tlsmsg.SuiteSHA256), ageAdd: uint32(n), binding: [32]byte{binding},
		received: time.Unix(1000, 0), ends: time.Unix(2000, 0), serverName: testName, authority: testName + ":443",
	}
}

func (c *SessionCache) takeAt(binding byte, at int64) int {
	if s := c.take([32]byte{binding}, time.Unix(at, 0), func(*Session) bool { return true }); s != nil {
		return int(s.ageAdd)
	}
	return -1
}

// spec: TLS-32 TLS-33
func TestSessionCache(t *testing.T) {
	c := &SessionCache{Max: 3}
	for i := range 5 {
		c.Add(numbered(i, byte(i%2)))
	}
	if c.Len() != 3 {
		t.Errorf("%d sessions", c.Len())
	}
	for _, x := range []struct {
		binding byte
		at      int64
		want    int
	}{{0, 1500, 4}, {0, 1500, 2}, {0, 1500, -1}, {1, 1500, 3}, {1, 1500, -1}} {
		if got := c.takeAt(x.binding, x.at); got != x.want {
			t.Errorf("took %d, want %d", got, x.want)
		}
	}
	for _, at := range []int64{999, 2000} {
		c.Add(numbered(1, 1))
		if c.takeAt(1, at) != -1 || c.Len() != 0 {
			t.Errorf("at %d it is good, or still there", at)
		}
	}
	c.Add(numbered(1, 1))
	if c.take([32]byte{1}, time.Unix(1500, 0), func(*Session) bool { return false }) != nil || c.Len() != 1 {
		t.Error("took what is of no use")
	}
	if s := c.Take(); s == nil || c.Take() != nil {
		t.Error("Take does not take")
	}
	ended := make(chan struct{})
	until := numbered(1, 1)
	until.until = []<-chan struct{}{ended}
	c.Add(until)
	close(ended)
	if c.takeAt(1, 1500) != -1 {
		t.Error("took what is over")
	}
}

func TestOneServerDoesNotFillTheCache(t *testing.T) {
	c := new(SessionCache)
	c.Add(numbered(7, 7))
	for i := range 1000 {
		c.Add(numbered(i, 1))
	}
	if c.Len() != maxAlike+1 || c.takeAt(7, 1500) != 7 || c.takeAt(1, 1500) != 999 {
		t.Errorf("%d sessions", c.Len())
	}
	for i := range 1000 {
		c.Add(numbered(i, byte(i)))
	}
	if c.Len() != 256 {
		t.Errorf("%d sessions", c.Len())
	}
}

func TestForgottenSessions(t *testing.T) {
	c := new(SessionCache)
	c.Add(numbered(1, 1))
	other := numbered(2, 2)
	other.authority, other.proxies = "other.example:443", [][32]byte{{4}}
	c.Add(other)
	epoch := c.epoch()
	c.Forget(func(s *Session) bool { return s.Authority() == "other.example:443" && s.Proxies()[0] == [32]byte{4} })
	if c.takeAt(2, 1500) != -1 || c.Len() != 1 {
		t.Error("it is not forgotten, or not alone")
	}
	if c.put(numbered(3, 3), epoch); c.Len() != 1 {
		t.Error("a session of before came back")
	}
	if c.put(numbered(3, 3), c.epoch()); c.Len() != 2 {
		t.Error("a new session is not kept")
	}
	if c.Clear(); c.Len() != 0 {
		t.Error("not all are forgotten")
	}
}

// What is forgotten while a connection is open stays so, whatever the server sends then.
func TestTicketsOfForgottenTimes(t *testing.T) {
	cc, sc := resumable()
	client, server := connect(t, cc, sc)
	cc.Sessions.Clear()
	exchange(t, client, server)
	if cc.Sessions.Len() != 0 {
		t.Error("the ticket was kept")
	}
	ended := make(chan struct{})
	cc.SessionsUntil = []<-chan struct{}{make(chan struct{}), ended}
	meet(t, cc, sc)
	if !resumes(t, cc, sc) {
		t.Error("nothing was kept")
	}
	close(ended)
	if resumes(t, cc, sc) {
		t.Error("resumed behind the end")
	}
}

// spec: TLS-35
func TestTicketsThatAreIgnored(t *testing.T) {
	ticket := func(lifetime uint32, size int) []byte {
		msg, err := (&tlsmsg.NewSessionTicket{Lifetime: lifetime, Nonce: []byte{9}, Ticket: make([]byte, size)}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	const overhead = 4 + 4 + 4 + 1 + 1 + 2 + 2
	for _, c := range []struct {
		name     string
		messages [][]byte
		kept     int
	}{
		{"none", nil, 0},
		{"one", [][]byte{ticket(60, 10)}, 1},
		{"the largest", [][]byte{ticket(60, maxTicket-overhead)}, 1},
		{"too large", [][]byte{ticket(60, maxTicket-overhead+1)}, 0},
		{"no lifetime", [][]byte{ticket(0, 10)}, 0},
		{"five", [][]byte{ticket(60, 1), ticket(60, 2), ticket(60, 3), ticket(60, 4), ticket(60, 5)}, 4},
		{"those that are ignored do not count", [][]byte{ticket(0, 1), ticket(60, 3000), ticket(60, 3), ticket(60, 4), ticket(60, 5)}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := resumable()
			sc.Tickets = nil
			client, server := connect(t, cc, sc)
			for _, m := range c.messages {
				server.sendHandshake(t, m)
			}
			exchange(t, client, server)
			if n := cc.Sessions.Len(); n != c.kept {
				t.Errorf("%d are kept", n)
			}
		})
	}
	t.Run("a longer lifetime than allowed", func(t *testing.T) {
		cc, sc := resumable()
		sc.Tickets = nil
		client, server := connect(t, cc, sc)
		server.sendHandshake(t, ticket(1<<32-1, 10))
		exchange(t, client, server)
		if s := cc.Sessions.Take(); s.Ends().Sub(s.received) != maxLifetime {
			t.Errorf("kept for %v", s.Ends().Sub(s.received))
		}
	})
	t.Run("malformed", func(t *testing.T) {
		cc, sc := resumable()
		client, server := connect(t, cc, sc)
		server.sendHandshake(t, []byte{byte(tlsmsg.TypeNewSessionTicket), 0, 0, 1, 0})
		if _, err := io.ReadAll(client); alertOf(err) != tlsmsg.AlertDecodeError {
			t.Error(err)
		}
	})
	t.Run("from a client", func(t *testing.T) {
		cc, sc := resumable()
		client, server := connect(t, cc, sc)
		client.sendHandshake(t, ticket(60, 10))
		if _, err := io.ReadAll(server); alertOf(err) != tlsmsg.AlertUnexpectedMessage {
			t.Error(err)
		}
	})
}

func TestSessionCacheIsSafe(t *testing.T) {
	cc, sc := resumable()
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 5 {
				a, b := newPipe()
				client, server := Client(a, cc), Server(b, sc)
				if clientErr, serverErr := shake(client, server); clientErr != nil || serverErr != nil {
					t.Error(clientErr, serverErr)
					return
				}
				server.Write([]byte("data"))
				if _, err := io.ReadFull(client, make([]byte, 4)); err != nil {
					t.Error(err)
				}
				a.Close()
			}
		})
		g.Go(func() {
			cc.Sessions.Forget(func(*Session) bool { return false })
			cc.Sessions.Len()
		})
	}
	g.Wait()
}

var (
	_ encoding.BinaryMarshaler   = (*Session)(nil)
	_ encoding.BinaryUnmarshaler = (*Session)(nil)
)

// spec: TLS-31
func TestStoredSessions(t *testing.T) {
	for _, inspected := range []bool{false, true} {
		cc, sc := resumable()
		cc.TLS.NextProtos, sc.TLS.NextProtos = []string{"http/1.1"}, []string{"http/1.1"}
		sc.TLS.Certificates = []tls.Certificate{serverCertificates()["P-384"]}
		if inspected {
			cc.Inspection = testOffer(testName + ":443")
		}
		s := session(t, cc, sc)
		data, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		stored := new(Session)
		if err := stored.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		if again, err := stored.MarshalBinary(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x, %v", again, err)
		}
		if stored.ServerName() != testName || stored.Authority() != s.Authority() || len(stored.Proxies()) != len(s.Proxies()) ||
			stored.Suite() != tlsmsg.SuiteSHA256 || stored.NegotiatedProtocol() != "http/1.1" || stored.Ends().Sub(s.Ends()).Abs() > time.Millisecond {
			t.Errorf("%+v", stored)
		}
		other := with(cc, func(c *Config) { c.Sessions = new(SessionCache) })
		other.Sessions.Add(stored)
		client, _ := meet(t, other, sc)
		state := client.ConnectionState()
		if !state.DidResume || len(state.VerifiedChains) != 1 || string(state.OCSPResponse) != "ocsp of P-384" || len(state.SignedCertificateTimestamps) != 2 {
			t.Errorf("%+v", state)
		}
		other.Sessions.Clear()
		other.Sessions.Add(stored)
		other.TLS.RootCAs = newAuthority(t, "stranger").pool
		a, b := newPipe()
		defer a.Close()
		client = Client(a, other)
		if err, _ := shake(client, Server(b, sc)); alertOf(err) != tlsmsg.AlertUnknownCA {
			t.Errorf("with other roots: %v", err)
		}
		for i := range data {
			if new(Session).UnmarshalBinary(data[:i]) == nil {
				t.Fatalf("its first %d bytes are a session", i)
			}
		}
		for _, bad := range [][]byte{append(bytes.Clone(data), 0), bytes.Replace(data, []byte("v1"), []byte("v2"), 1)} {
			if new(Session).UnmarshalBinary(bad) == nil {
				t.Error("read what is no session")
			}
		}
	}
}

// A file that is named as a session's must not be a way to fill memory.
func TestStoredSessionsAreBounded(t *testing.T) {
	cc, sc := resumable()
	s := session(t, cc, sc)
	s.ocsp = nil
	data, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for size, ok := range map[int]bool{maxSession: true, maxSession + 1: false} {
		s.ocsp = make([]byte, size-len(data))
		data, err := s.MarshalBinary()
		if err != nil || len(data) != size {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		if err := new(Session).UnmarshalBinary(data); (err == nil) != ok {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func FuzzStoredSession(f *testing.F) {
	s := numbered(1, 1)
	s.psk, s.ticket, s.authenticated = make([]byte, 32), []byte("ticket"), s.received
	s.proxies, s.alpn, s.ocsp, s.scts = [][32]byte{{1}}, "http/1.1", []byte("ocsp"), [][]byte{[]byte("sct")}
	certs, err := parseChain(identities().server.Certificate)
	if err != nil {
		f.Fatal(err)
	}
	s.certs = certs
	seed, err := s.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	if err := new(Session).UnmarshalBinary(seed); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := new(Session)
		if s.UnmarshalBinary(data) != nil {
			return
		}
		if back, err := s.MarshalBinary(); err != nil || !bytes.Equal(back, data) {
			t.Fatalf("%x\n%x, %v", data, back, err)
		}
	})
}

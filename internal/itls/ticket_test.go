package itls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"strings"
	"testing"
	"time"

	"vitrine/internal/tlsmsg"
)

func testTicketState(at time.Time) *ticketState {
	return &ticketState{
		suite: suiteByID(tlsmsg.SuiteSHA384), psk: bytes.Repeat([]byte{7}, 48),
		issued: at.Truncate(time.Millisecond), authenticated: at.Add(-time.Hour).Truncate(time.Millisecond), ageAdd: 0xdeadbeef,
		serverName: testName, authority: testName + ":443", proxies: [][32]byte{{1}, {2}}, alpn: "http/1.1",
		leaf: [32]byte{9}, asked: true, certs: [][]byte{[]byte("leaf"), []byte("issuer")},
	}
}

// spec: TLS-39
func TestTicketsOpenOnceSealed(t *testing.T) {
	at := time.Unix(1700000000, 0)
	keys := &TicketKeys{Time: func() time.Time { return at }}
	for _, s := range []*ticketState{
		testTicketState(at),
		{suite: suiteByID(tlsmsg.SuiteSHA256), psk: make([]byte, 32), issued: at, authenticated: at},
	} {
		ticket, err := keys.seal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := keys.open(ticket, suiteByID); !sameState(got, s) {
			t.Errorf("opened %+v, sealed %+v", got, s)
		}
		if bytes.Contains(ticket, []byte(testName)) || bytes.Contains(ticket, s.psk[:16]) {
			t.Error("a reader reads it")
		}
		again, err := keys.seal(s)
		if err != nil || bytes.Equal(ticket[keyNameLen:], again[keyNameLen:]) {
			t.Error("two tickets are alike")
		}
		for i := range ticket {
			for bit := range 8 {
				changed := bytes.Clone(ticket)
				changed[i] ^= 1 << bit
				if keys.open(changed, suiteByID) != nil {
					t.Fatalf("bit %d of byte %d means nothing", bit, i)
				}
			}
			if keys.open(ticket[:i], suiteByID) != nil {
				t.Fatalf("its first %d bytes open", i)
			}
		}
		if keys.open(append(bytes.Clone(ticket), 0), suiteByID) != nil {
			t.Error("it opens with a byte behind it")
		}
		if new(TicketKeys).open(ticket, suiteByID) != nil {
			t.Error("other keys open it")
		}
		keys.Drop()
		if keys.open(ticket, suiteByID) != nil {
			t.Error("it opens after Drop")
		}
	}
}

func sameState(a, b *ticketState) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, err1 := a.append(nil)
	y, err2 := b.append(nil)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// spec: TLS-39
func TestTicketKeysRotate(t *testing.T) {
	c := &clock{time.Unix(1700000000, 0)}
	keys := &TicketKeys{Lifetime: 6 * time.Hour, Rotate: time.Hour, Time: c.now}
	names, tickets := map[string]bool{}, [][]byte{}
	for i := range 48 {
		ticket, err := keys.seal(testTicketState(c.now()))
		if err != nil {
			t.Fatal(err)
		}
		names[string(ticket[:keyNameLen])] = true
		tickets = append(tickets, ticket)
		for j, old := range tickets {
			age := time.Duration(i-j) * 30 * time.Minute
			if opens := keys.open(old, suiteByID) != nil; opens != (age < 7*time.Hour) && age <= 6*time.Hour {
				t.Errorf("a ticket of %v: opens %v", age, opens)
			} else if opens && age >= 7*time.Hour {
				t.Errorf("a ticket of %v opens", age)
			}
		}
		if n := len(keys.keys); n > 8 {
			t.Fatalf("%d keys are kept", n)
		}
		c.advance(30 * time.Minute)
	}
	if len(names) != 24 {
		t.Errorf("%d keys in a day", len(names))
	}
	if keys.keys[0].sealed = maxSealed; true {
		ticket, err := keys.seal(testTicketState(c.now()))
		if err != nil || names[string(ticket[:keyNameLen])] {
			t.Error("a key sealed more than its tickets")
		}
	}
	for range 2 * maxTicketKeys { // as fast as the limit on tickets could make them rotate
		keys.keys[0].sealed = maxSealed
		if _, err := keys.seal(testTicketState(c.now())); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(keys.keys); n != maxTicketKeys {
		t.Errorf("%d keys are kept", n)
	}
}

func TestTicketKeysAreChecked(t *testing.T) {
	for _, c := range []*struct {
		keys TicketKeys
		ok   bool
	}{
		{TicketKeys{}, true},
		{TicketKeys{Lifetime: maxLifetime}, true},
		{TicketKeys{Lifetime: time.Hour, Rotate: time.Minute}, true},
		{TicketKeys{Rotate: 30 * 24 * time.Hour}, true},
		{TicketKeys{Lifetime: maxLifetime + 1}, false},
		{TicketKeys{Lifetime: -1}, false},
		{TicketKeys{Rotate: -1}, false},
		{TicketKeys{Lifetime: time.Hour, Rotate: time.Minute - 1}, false},
	} {
		sc := serverConfig()
		sc.Tickets = &TicketKeys{Lifetime: c.keys.Lifetime, Rotate: c.keys.Rotate}
		if err := sc.check(nil, false); (err == nil) != c.ok {
			t.Errorf("%v %v: %v", c.keys.Lifetime, c.keys.Rotate, err)
		}
	}
}

// spec: TLS-40
func TestServersWithoutATicketToGive(t *testing.T) {
	big := identities().root.issue(t, profile{usage: x509.ExtKeyUsageClientAuth})
	for range 8 {
		big.Certificate = append(big.Certificate, identities().root.cert.Raw)
	}
	for _, c := range []struct {
		name  string
		set   func(cc, sc *Config)
		comes bool
	}{
		{"as usual", func(cc, sc *Config) {}, true},
		{"a client's chain that fits", func(cc, sc *Config) { cc.TLS.Certificates = []tls.Certificate{identities().client} }, true},
		{"a client's chain that does not fit", func(cc, sc *Config) { cc.TLS.Certificates = []tls.Certificate{big} }, false},
		{"a client without modes", func(cc, sc *Config) { cc.Sessions = nil }, false},
		{"no keys", func(cc, sc *Config) { sc.Tickets = nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := resumable()
			sc.TLS.ClientAuth = tls.RequestClientCert
			c.set(cc, sc)
			a, b := newPipe()
			defer a.Close()
			finished, early := false, 0
			var behind int
			a.onSend = func(p []byte) []byte {
				finished = len(p) < 3000 && p[0] == byte(tlsmsg.TypeApplicationData)
				return p
			}
			b.onSend = func(p []byte) []byte {
				if !finished {
					early++
				} else if behind++; len(p) > tlsmsg.RecordHeaderLen+maxTicket+1+32 {
					t.Errorf("a ticket of %d bytes", len(p))
				}
				return p
			}
			client, server := Client(a, cc), Server(b, sc)
			clientErr, serverErr := shake(client, server)
			if clientErr != nil || serverErr != nil {
				t.Fatal(clientErr, serverErr)
			}
			if (behind == 1) != c.comes || early != 1 {
				t.Errorf("%d flights, then %d tickets", early, behind)
			}
		})
	}
}

// spec: TLS-40
func TestAServerNameThatNoTicketHolds(t *testing.T) {
	cc, sc := resumable()
	a, b := newPipe()
	defer a.Close()
	hs := scriptedClient(t, a, cc, func(h *tlsmsg.ClientHello) {
		replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) { x.ServerName(strings.Repeat("a.", 150) + testName) })...)
	})
	finishScripted(t, hs, Server(b, sc))
	if cc.Sessions.Len() != 0 {
		t.Error("a ticket came")
	}
}

// A ticket is no part of the handshake: whoever takes nothing more from the server has a session all the
// same.
func TestATicketThatCannotLeaveIsNoError(t *testing.T) {
	cc, sc := resumable()
	a, b := newPipe()
	defer a.Close()
	client, server := Client(a, cc), Server(b, sc)
	a.onSend = func(p []byte) []byte {
		if p[0] == byte(tlsmsg.TypeApplicationData) {
			a.in.closed = true // under the mutex of both
		}
		return p
	}
	clientErr, serverErr := shake(client, server)
	if clientErr != nil || serverErr != nil {
		t.Fatal(clientErr, serverErr)
	}
	if _, err := client.Write([]byte("data")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 4)); err != nil {
		t.Error(err)
	}
	if _, err := server.Write([]byte("data")); err != io.ErrClosedPipe {
		t.Errorf("Write: %v", err)
	}
}

// spec: TLS-39
func TestTicketsDoNotCross(t *testing.T) {
	cc, sc := resumable()
	ours := session(t, cc, sc)

	cache := tls.NewLRUClientSessionCache(1)
	ordinary := &tls.Config{Certificates: sc.TLS.Certificates, MinVersion: tls.VersionTLS13}
	meetOrdinary := func() bool {
		a, b := newPipe()
		defer a.Close()
		client := tls.Client(a, &tls.Config{RootCAs: identities().root.pool, ServerName: testName, ClientSessionCache: cache, MinVersion: tls.VersionTLS13})
		server := tls.Server(b, ordinary)
		done := make(chan error, 1)
		go func() {
			_, err := server.Write([]byte("data")) // runs the handshake, which ends with tickets
			done <- err
		}()
		if _, err := io.ReadFull(client, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return client.ConnectionState().DidResume
	}
	if meetOrdinary() || !meetOrdinary() {
		t.Fatal("the ordinary server does not resume")
	}
	kept, _ := cache.Get(testName)
	theirs, state, err := kept.ResumptionState()
	if err != nil {
		t.Fatal(err)
	}

	crossed := *ours
	crossed.ticket = theirs
	cc.Sessions.Add(&crossed)
	if resumes(t, cc, sc) {
		t.Error("an ordinary ticket opened an inner session")
	}
	other, err := tls.NewResumptionState(ours.ticket, state)
	if err != nil {
		t.Fatal(err)
	}
	cache.Put(testName, other)
	if meetOrdinary() {
		t.Error("a ticket of an inner session opened an ordinary one")
	}
}

func FuzzTicketState(f *testing.F) {
	for _, at := range []time.Time{time.Unix(1700000000, 0), time.Unix(0, 0).Add(time.Hour)} {
		seed, err := testTicketState(at).append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := parseTicketState(data, suiteByID)
		if s == nil {
			return
		}
		if back, err := s.append(nil); err != nil || !bytes.Equal(back, data) {
			t.Fatalf("%x\n%x, %v", data, back, err)
		}
	})
}

package evidence

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestDialWithoutRequestIsAClaim(t *testing.T) {
	cfg := proxyConfig()
	d, err := NewDial(cfg, nil, nil, testAuthority)
	if err != nil {
		t.Fatal(err)
	}
	near, far := connPair(t)
	if d.Tap(near) != near {
		t.Error("there is nothing to record")
	}
	var wg sync.WaitGroup
	wg.Go(func() { tls.Server(far, serverConfig(parties().origin)).HandshakeContext(t.Context()) })
	conn := tls.Client(near, d.Config())
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	e, err := d.Evidence(conn.ConnectionState(), true)
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind != Claim || e.Authority != testAuthority || len(e.Hop.Chain) != 2 {
		t.Errorf("got %+v", e)
	}
}

func TestDialForAnotherProxyIsRefused(t *testing.T) {
	c := newConnect(t, testAuthority)
	if _, err := NewDial(proxyConfig(), c.req, [][32]byte{{1}}, testAuthority); err == nil {
		t.Error("a dial for another proxy's request")
	}
	if _, err := NewDial(proxyConfig(), c.req, c.req.Offer.Proxies, "other.example:443"); err == nil {
		t.Error("a dial for another authority's request")
	}
}

func TestEveryDialHasItsOwnRandom(t *testing.T) {
	c := newConnect(t, testAuthority)
	a, b := transcriptOf(t, c), transcriptOf(t, c)
	if a.Salt == b.Salt || bytes.Equal(a.Messages[6:38], b.Messages[6:38]) {
		t.Error("two handshakes share a random")
	}
}

// The only randomness that is not the system's is the first read.
func TestRandAfterTheHelloIsTheSystems(t *testing.T) {
	first := bytes.Repeat([]byte{7}, 32)
	r := &onceReader{first: bytes.Clone(first)}
	part := make([]byte, 20)
	var got []byte
	for len(got) < 32 {
		n, err := r.Read(part)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part[:n]...)
	}
	if !bytes.Equal(got, first) {
		t.Errorf("got %x", got)
	}
	next := make([]byte, 64)
	if _, err := io.ReadFull(r, next); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(next, first[:8]) || bytes.Equal(next[:32], next[32:]) {
		t.Errorf("got %x", next)
	}
}

// spec: EVD-15
func TestDialNeverResumes(t *testing.T) {
	cache := &spyCache{ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	c := newConnect(t, testAuthority)
	for range 2 {
		transcriptOf(t, c, func(cfg, _ *tls.Config) { cfg.ClientSessionCache = cache })
	}
	if cache.used {
		t.Error("the session cache was used: a resumed handshake is signed by nobody")
	}
}

type spyCache struct {
	tls.ClientSessionCache
	used bool
}

func (s *spyCache) Get(string) (*tls.ClientSessionState, bool) {
	s.used = true
	return nil, false
}

// spec: EVD-15
func TestDialLeavesTheCallersConfigAlone(t *testing.T) {
	var log bytes.Buffer
	cfg := proxyConfig()
	cfg.KeyLogWriter = &log
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	c := newConnect(t, testAuthority)
	ech := cfg.Clone()
	ech.EncryptedClientHelloConfigList = []byte{1}
	if d, err := NewDial(ech, c.req, c.req.Offer.Proxies, testAuthority); err != nil || d.Config().EncryptedClientHelloConfigList != nil {
		t.Errorf("a ClientHello that cannot be shown: %v", err)
	}
	d, err := handshake(t, c, cfg, serverConfig(parties().origin))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Rand != nil || cfg.KeyLogWriter != &log || cfg.ClientSessionCache == nil {
		t.Error("the caller's Config changed")
	}
	for _, label := range []string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"} {
		if !bytes.Contains(log.Bytes(), []byte(label)) {
			t.Errorf("the caller's key log lacks %s", label)
		}
	}
	d.dial.Discard()
}

// spec: EVD-16
func TestSecretsAreWipedAndNeverShown(t *testing.T) {
	var log bytes.Buffer
	cfg := proxyConfig()
	cfg.KeyLogWriter = &log
	c := newConnect(t, testAuthority)
	d, err := handshake(t, c, cfg, serverConfig(parties().origin))
	if err != nil {
		t.Fatal(err)
	}
	kept := d.dial.secret
	if len(kept) != 32 || bytes.Count(log.Bytes(), []byte(hex.EncodeToString(kept))) != 1 {
		t.Fatalf("kept %d bytes", len(kept))
	}
	if !bytes.Contains(log.Bytes(), append([]byte("SERVER_HANDSHAKE_TRAFFIC_SECRET "), hex.EncodeToString(d.dial.random[:])+" "+hex.EncodeToString(kept)...)) {
		t.Error("another secret than the server's handshake secret was kept")
	}
	e, err := d.dial.Evidence(d.client, true)
	if err != nil {
		t.Fatal(err)
	}
	if d.dial.secret != nil || !bytes.Equal(kept, make([]byte, 32)) {
		t.Error("the secret is still in memory")
	}
	p, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(log.Bytes()) {
		f := bytes.Fields(line)
		secret, err := hex.DecodeString(string(f[2]))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(p, secret) {
			t.Errorf("the evidence holds %s", f[0])
		}
	}
	if _, err := d.dial.Evidence(d.client, true); err == nil {
		t.Error("evidence twice from one dial")
	}
}

// spec: EVD-16
func TestDiscardWipes(t *testing.T) {
	c := newConnect(t, testAuthority)
	d, err := handshake(t, c, proxyConfig(), serverConfig(parties().origin))
	if err != nil {
		t.Fatal(err)
	}
	kept := d.dial.secret
	d.dial.Discard()
	d.dial.Discard()
	if !bytes.Equal(kept, make([]byte, 32)) || d.dial.tap.received != nil || d.dial.tap.sent != nil {
		t.Error("Discard left the secret or the recording")
	}
}

func TestDialThatWasNotTappedOrNotConfigured(t *testing.T) {
	c := newConnect(t, testAuthority)
	run := func(tapped, configured bool) error {
		d, err := NewDial(proxyConfig(), c.req, c.req.Offer.Proxies, testAuthority)
		if err != nil {
			t.Fatal(err)
		}
		near, far := connPair(t)
		var wg sync.WaitGroup
		wg.Go(func() { tls.Server(far, serverConfig(parties().origin)).HandshakeContext(t.Context()) })
		cfg := proxyConfig()
		if configured {
			cfg = d.Config()
		}
		under := near
		if tapped {
			under = d.Tap(near)
		}
		conn := tls.Client(under, cfg)
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		_, err = d.Evidence(conn.ConnectionState(), true)
		return err
	}
	if err := run(true, true); err != nil {
		t.Fatal(err)
	}
	if err := run(false, true); err == nil {
		t.Error("evidence without a tap")
	}
	if err := run(true, false); !errors.Is(err, ErrRandom) {
		t.Errorf("evidence with another random: %v", err)
	}
	for name, edit := range map[string]func(cs *tls.ConnectionState){
		"incomplete": func(cs *tls.ConnectionState) { cs.HandshakeComplete = false },
		"resumed":    func(cs *tls.ConnectionState) { cs.DidResume = true },
	} {
		d, err := handshake(t, c, proxyConfig(), serverConfig(parties().origin))
		if err != nil {
			t.Fatal(err)
		}
		edit(&d.client)
		if _, err := d.dial.Evidence(d.client, true); err == nil {
			t.Errorf("evidence of a handshake that is %s", name)
		}
	}
}

func TestEvidenceHasTheTimeOfTheConfig(t *testing.T) {
	c := newConnect(t, testAuthority)
	now := time.Now().Add(30 * time.Minute)
	e := transcriptOf(t, c, func(cfg, _ *tls.Config) { cfg.Time = func() time.Time { return now } })
	if !e.Time.Equal(now) {
		t.Errorf("got %v", e.Time)
	}
}

// An origin whose handshake cannot be shown, or does not fit what is kept, costs bounded memory.
func TestOversizedHandshakeIsAClaim(t *testing.T) {
	for _, size := range []int{50 << 10, 64<<10 - 2000} {
		c := newConnect(t, testAuthority)
		big := make([]byte, size)
		rand.Read(big)
		cfg, server := proxyConfig(), serverConfig(parties().origin)
		server.Certificates[0].OCSPStaple = big
		d, err := handshake(t, c, cfg, server)
		if err != nil {
			t.Fatal(err)
		}
		e, err := d.dial.Evidence(d.client, true)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != Claim {
			t.Errorf("got a %v of %d bytes", e.Kind, len(e.Messages))
		}
		if _, err := c.verifier.Verify(overTheWire(t, e)); err != nil {
			t.Error(err)
		}
	}
}

// A chain of more than 64 KiB, of which crypto/tls takes 256, can be shown in no way.
func TestOversizedChainIsAnError(t *testing.T) {
	c := newConnect(t, testAuthority)
	cfg, server := proxyConfig(), serverConfig(parties().origin)
	for range 3 {
		big, err := parties().origins.Issue(&x509.Certificate{
			ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, 40<<10)}},
		}, parties().origins.Key)
		if err != nil {
			t.Fatal(err)
		}
		server.Certificates[0].Certificate = append(slices.Clip(server.Certificates[0].Certificate), big.Certificate[0])
	}
	d, err := handshake(t, c, cfg, server)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.dial.tap.received); n > maxReceived {
		t.Errorf("%d bytes were kept", n)
	}
	_, err = d.dial.Evidence(d.client, true)
	wantReason(t, err, ReasonMalformed)
	if _, err := serverFlight(make([]byte, maxReceived), nil, &d.client); err == nil {
		t.Error("a flight of zeros")
	}
}

func TestTapIsBounded(t *testing.T) {
	c := newConnect(t, testAuthority)
	d, err := NewDial(proxyConfig(), c.req, c.req.Offer.Proxies, testAuthority)
	if err != nil {
		t.Fatal(err)
	}
	tapped := d.Tap(&endless{})
	buf := make([]byte, 32<<10)
	for range 100 {
		if _, err := tapped.Read(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := tapped.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.tap.received); n != maxReceived {
		t.Errorf("%d bytes received are kept", n)
	}
	if n := len(d.tap.sent); n != maxSent {
		t.Errorf("%d bytes sent are kept", n)
	}
}

type endless struct{ net.Conn }

func (endless) Read(p []byte) (int, error)  { return len(p), nil }
func (endless) Write(p []byte) (int, error) { return len(p), nil }

func TestTapStopsWithTheHandshake(t *testing.T) {
	for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := newConnect(t, testAuthority)
		server := serverConfig(parties().origin)
		server.MaxVersion = max
		d, err := handshake(t, c, proxyConfig(), server)
		if err != nil {
			t.Fatal(err)
		}
		if d.dial.tap.recording.Load() {
			t.Errorf("%s: still recording after the handshake", tls.VersionName(max))
		}
		before := len(d.dial.tap.received) + len(d.dial.tap.sent)
		var wg sync.WaitGroup
		wg.Go(func() {
			d.serverConn.Write([]byte("application data"))
			d.serverConn.CloseWrite()
		})
		if _, err := io.ReadAll(d.clientConn); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if after := len(d.dial.tap.received) + len(d.dial.tap.sent); after != before {
			t.Errorf("%s: %d bytes after the handshake are kept", tls.VersionName(max), after-before)
		}
		if e, err := d.dial.Evidence(d.client, true); err != nil || e.Kind != Transcript {
			t.Errorf("%s: %v", tls.VersionName(max), err)
		}
	}
}

// spec: EVD-18
func TestTranscriptRandomDependsOnEverything(t *testing.T) {
	proxies := [][32]byte{{1}, {2}}
	base := transcriptRandom([32]byte{3}, [32]byte{4}, proxies, testAuthority)
	for name, got := range map[string][32]byte{
		"nonce":           transcriptRandom([32]byte{5}, [32]byte{4}, proxies, testAuthority),
		"salt":            transcriptRandom([32]byte{3}, [32]byte{5}, proxies, testAuthority),
		"proxy":           transcriptRandom([32]byte{3}, [32]byte{4}, [][32]byte{{1}, {3}}, testAuthority),
		"order":           transcriptRandom([32]byte{3}, [32]byte{4}, [][32]byte{{2}, {1}}, testAuthority),
		"fewer proxies":   transcriptRandom([32]byte{3}, [32]byte{4}, proxies[:1], testAuthority),
		"authority":       transcriptRandom([32]byte{3}, [32]byte{4}, proxies, "origin.example:444"),
		"nonce and salt":  transcriptRandom([32]byte{4}, [32]byte{3}, proxies, testAuthority),
		"empty authority": transcriptRandom([32]byte{3}, [32]byte{4}, proxies, ""),
	} {
		if got == base {
			t.Errorf("%s does not matter", name)
		}
	}
}

// A fixed example, so that two implementations can compare.
// spec: EVD-15 EVD-18
func TestTranscriptRandomVector(t *testing.T) {
	var nonce, salt, proxy [32]byte
	for i := range 32 {
		nonce[i], salt[i], proxy[i] = byte(i), byte(0x20+i), byte(0x40+i)
	}
	got := transcriptRandom(nonce, salt, [][32]byte{proxy}, "origin.example:443")
	if want := vectorRandom; hex.EncodeToString(got[:]) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

const vectorRandom = "eee2ecbebb733690cda744f436abf454710f3c16c59efd952e1b3008a8c842d6"

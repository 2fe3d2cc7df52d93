package itls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vitrine/internal/tlsmsg"
)

func TestMain(m *testing.M) {
	if args := bogoArguments(); args != nil {
		os.Exit(runBogoShim(args, os.Stdout, os.Stderr))
	}
	identities() // with the real clock, before any bubble has its own
	goleak.VerifyTestMain(m)
}

// certificateTime is when the test's certificates are valid, whatever a bubble's clock says.
func certificateTime() time.Time { return identities().root.cert.NotBefore.Add(time.Hour) }

// authority issues certificates that live one hour around now.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
}

type profile struct {
	names    []string
	ips      []net.IP
	usage    x509.ExtKeyUsage
	keyUsage x509.KeyUsage // default: digitalSignature
	key      crypto.Signer
	notAfter time.Time
}

var serial struct {
	sync.Mutex
	n int64
}

func nextSerial() *big.Int {
	serial.Lock()
	defer serial.Unlock()
	serial.n++
	return big.NewInt(serial.n)
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "RSA-2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		t.Fatalf("no key of kind %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key := newKey(t, "P-256")
	template := &x509.Certificate{
		SerialNumber:          nextSerial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

func (a *authority) issue(t testing.TB, p profile) tls.Certificate {
	t.Helper()
	if p.key == nil {
		p.key = newKey(t, "P-256")
	}
	if p.notAfter.IsZero() {
		p.notAfter = time.Now().Add(time.Hour)
	}
	if p.usage == 0 {
		p.usage = x509.ExtKeyUsageServerAuth
	}
	if p.keyUsage == 0 {
		p.keyUsage = x509.KeyUsageDigitalSignature
	}
	template := &x509.Certificate{
		SerialNumber: nextSerial(),
		Subject:      pkix.Name{CommonName: "leaf"},
		DNSNames:     p.names,
		IPAddresses:  p.ips,
		NotBefore:    time.Now().Add(-2 * time.Hour),
		NotAfter:     p.notAfter,
		KeyUsage:     p.keyUsage,
		ExtKeyUsage:  []x509.ExtKeyUsage{p.usage},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, p.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: p.key}
}

// timeLongAgo as a deadline has passed.
var timeLongAgo = time.Unix(1, 0)

const testName = "origin.example"

// identities that most tests share, made once per test binary.
var identities = sync.OnceValue(func() (id struct {
	root           *authority
	server, client tls.Certificate
},
) {
	var t fataler
	id.root = newAuthority(&t, "test root")
	id.server = id.root.issue(&t, profile{names: []string{testName}})
	id.client = id.root.issue(&t, profile{usage: x509.ExtKeyUsageClientAuth})
	return id
})

// fataler is a testing.TB for set-up outside a test.
type fataler struct{ testing.TB }

func (*fataler) Helper()                   {}
func (*fataler) Fatal(args ...any)         { panic(args) }
func (*fataler) Fatalf(s string, a ...any) { panic(s) }

func clientConfig() *Config {
	return &Config{
		TLS:                 &tls.Config{RootCAs: identities().root.pool, ServerName: testName},
		UnprotectedForTests: true,
	}
}

func serverConfig() *Config {
	return &Config{
		TLS:                 &tls.Config{Certificates: []tls.Certificate{identities().server}},
		UnprotectedForTests: true,
	}
}

// shake runs both handshakes over two ends of a carrier. A side that fails closes its end, so that
// the other does not wait for it.
func shake(client, server *Conn) (clientErr, serverErr error) {
	done := make(chan error, 1)
	go func() {
		err := server.Handshake()
		if err != nil {
			server.NetConn().Close()
		}
		done <- err
	}()
	if clientErr = client.Handshake(); clientErr != nil {
		client.NetConn().Close()
	}
	return clientErr, <-done
}

// connect returns two ends whose handshake is done.
func connect(t testing.TB, cc, sc *Config) (client, server *Conn) {
	t.Helper()
	a, b := newPipe()
	client, server = Client(a, cc), Server(b, sc)
	clientErr, serverErr := shake(client, server)
	if clientErr != nil || serverErr != nil {
		t.Fatalf("handshake: client %v, server %v", clientErr, serverErr)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return client, server
}

// exchange sends a message each way and checks it.
func exchange(t testing.TB, client, server *Conn) {
	t.Helper()
	for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
		if _, err := io.WriteString(way.from, "ping"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4)
		if _, err := io.ReadFull(way.to, buf); err != nil || string(buf) != "ping" {
			t.Fatalf("read %q, %v", buf, err)
		}
	}
}

// pipe is an in-memory carrier that buffers without limit, so that one goroutine can drive both
// ends, and that shows each Write to a hook.
type pipe struct {
	mu     *sync.Mutex
	cond   *sync.Cond
	in     *pipeBuffer
	out    *pipeBuffer
	onSend func(p []byte) []byte // what leaves in the place of p; under mu

	readDeadline time.Time
	timer        *time.Timer
}

type pipeBuffer struct {
	data   []byte
	reuse  []byte // the array of data, from its start
	ended  bool   // the writer has closed: EOF behind data
	closed bool   // the reader has closed
}

func (b *pipeBuffer) append(p []byte) {
	if len(b.data) == 0 {
		b.data = b.reuse[:0]
	}
	grown := cap(b.data)-len(b.data) < len(p)
	b.data = append(b.data, p...)
	if grown {
		b.reuse = b.data
	}
}

func newPipe() (a, b *pipe) {
	mu := new(sync.Mutex)
	cond := sync.NewCond(mu)
	x, y := new(pipeBuffer), new(pipeBuffer)
	return &pipe{mu: mu, cond: cond, in: x, out: y}, &pipe{mu: mu, cond: cond, in: y, out: x}
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.in.closed:
			return 0, net.ErrClosed
		case len(p.in.data) > 0:
			n := copy(b, p.in.data)
			if p.in.data = p.in.data[n:]; len(p.in.data) == 0 {
				p.in.data = p.in.reuse[:0]
			}
			return n, nil
		case p.in.ended:
			return 0, io.EOF
		case !p.readDeadline.IsZero() && !time.Now().Before(p.readDeadline):
			return 0, os.ErrDeadlineExceeded
		}
		p.cond.Wait()
	}
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.ended {
		return 0, net.ErrClosed
	}
	if p.out.closed {
		return 0, io.ErrClosedPipe
	}
	send := b
	if p.onSend != nil {
		send = p.onSend(append([]byte(nil), b...))
	}
	p.out.append(send)
	p.cond.Broadcast()
	return len(b), nil
}

func (p *pipe) CloseWrite() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.ended = true
	p.cond.Broadcast()
	return nil
}

func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.ended, p.in.closed = true, true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.cond.Broadcast()
	return nil
}

// inject puts bytes in front of whoever reads from the other end.
func (p *pipe) inject(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.append(b)
	p.cond.Broadcast()
}

// take removes what the other end has sent and nobody has read.
func (p *pipe) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := bytes.Clone(p.in.data)
	p.in.data = nil
	return b
}

func (p *pipe) LocalAddr() net.Addr  { return pipeAddr{} }
func (p *pipe) RemoteAddr() net.Addr { return pipeAddr{} }

func (p *pipe) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readDeadline = t
	if p.timer != nil {
		p.timer.Stop()
	}
	if !t.IsZero() {
		p.timer = time.AfterFunc(time.Until(t), p.cond.Broadcast)
	}
	p.cond.Broadcast()
	return nil
}

// SetWriteDeadline does nothing: a Write never waits.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// records cuts a byte stream into records.
func records(t testing.TB, b []byte) [][]byte {
	t.Helper()
	var list [][]byte
	for len(b) > 0 {
		h, err := tlsmsg.ParseRecordHeader(b)
		if err != nil || len(b) < tlsmsg.RecordHeaderLen+h.Length {
			t.Fatalf("not whole records: %v", err)
		}
		n := tlsmsg.RecordHeaderLen + h.Length
		list = append(list, b[:n])
		b = b[n:]
	}
	return list
}

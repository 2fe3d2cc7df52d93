package inspect

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"vitrine/frames"
	"vitrine/internal/tlsmsg"
)

const (
	toOrigin = frames.ToOrigin
	toClient = frames.ToClient

	authority = "origin.example:443"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// judges is a Config's Inspectors that are the same for every exchange.
func judges(in ...Inspector) func() []Inspector { return func() []Inspector { return in } }

func config() *Config {
	return &Config{Authority: authority, Nonce: [32]byte{1, 2, 3}, Proxies: [][32]byte{{7, 7, 7}}}
}

// wire makes the bytes of an inner session as its ends would, but for the MACs, which nobody here can
// check: they are noise.
type wire struct {
	suite uint16
	rng   *rand.Rand
}

func newWire() *wire {
	return &wire{suite: tlsmsg.SuiteSHA256, rng: rand.New(rand.NewPCG(3, 4))}
}

func (w *wire) tagLen() int {
	if w.suite == tlsmsg.SuiteSHA384 {
		return 48
	}
	return 32
}

func plain(typ tlsmsg.ContentType, p []byte) []byte {
	return append(tlsmsg.RecordHeader{Type: typ, Version: tlsmsg.VersionTLS12, Length: len(p)}.Append(nil), p...)
}

// sealed is a protected record: content, type, padding, tag.
func (w *wire) sealed(typ tlsmsg.ContentType, p []byte, padding int) []byte {
	n := len(p) + 1 + padding + w.tagLen()
	b := tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: tlsmsg.VersionTLS12, Length: n}.Append(nil)
	b = append(b, p...)
	b = append(b, byte(typ))
	b = append(b, make([]byte, padding)...)
	for range w.tagLen() {
		b = append(b, byte(w.rng.Uint32()))
	}
	return b
}

func (w *wire) hs(msgs ...[]byte) []byte {
	return w.sealed(tlsmsg.TypeHandshake, bytes.Join(msgs, nil), 0)
}

func (w *wire) alert(a tlsmsg.Alert) []byte {
	level := byte(2)
	if a == tlsmsg.AlertCloseNotify || a == tlsmsg.AlertUserCanceled {
		level = 1
	}
	return w.sealed(tlsmsg.TypeAlert, []byte{level, byte(a)}, 0)
}

func (w *wire) closeNotify() []byte { return w.alert(tlsmsg.AlertCloseNotify) }

// app makes one record of each text.
func (w *wire) app(texts ...string) []byte {
	var b []byte
	for _, s := range texts {
		b = append(b, w.sealed(tlsmsg.TypeApplicationData, []byte(s), 0)...)
	}
	return b
}

func ccs() []byte { return plain(tlsmsg.TypeChangeCipherSpec, []byte{1}) }

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// helloSpec is a ClientHello and what tests change in it.
type helloSpec struct {
	name     string
	alpn     []string
	suites   []uint16
	versions []uint16
	offer    *tlsmsg.InspectionOffer
	group    tls.CurveID
	random   byte
	extra    []tlsmsg.Extension // before pre_shared_key
	psk      string             // a ticket
	modes    []uint8            // of the psk
}

func newHello() *helloSpec {
	cfg := config()
	return &helloSpec{
		name: "origin.example", alpn: []string{"http/1.1"},
		suites:   []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384},
		versions: []uint16{tlsmsg.VersionTLS13},
		offer:    &tlsmsg.InspectionOffer{Proxies: cfg.Proxies, Authority: cfg.Authority, Nonce: cfg.Nonce},
		group:    tls.X25519,
		modes:    []uint8{tlsmsg.PSKModeDHE},
	}
}

func (h *helloSpec) bytes() []byte {
	var x tlsmsg.ExtensionBuilder
	if h.name != "" {
		x.ServerName(h.name)
	}
	if h.alpn != nil {
		x.ALPN(h.alpn...)
	}
	if h.versions != nil {
		x.SupportedVersions(h.versions...)
	}
	x.SupportedGroups([]tls.CurveID{tls.X25519, tls.CurveP256})
	x.SignatureAlgorithms([]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256})
	x.KeyShares(tlsmsg.KeyShare{Group: h.group, Data: []byte("a key share of some bytes")})
	if h.offer != nil {
		x.InspectionOffer(h.offer)
	}
	for _, e := range h.extra {
		x.Raw(e.Type, e.Data)
	}
	if h.psk != "" {
		if h.modes != nil {
			x.PSKModes(h.modes...)
		}
		x.PreSharedKey(32, tlsmsg.PSKIdentity{Identity: []byte(h.psk)})
	}
	list, err := x.Extensions()
	if err != nil {
		panic(err)
	}
	m := &tlsmsg.ClientHello{
		LegacyVersion: tlsmsg.VersionTLS12, Random: [32]byte{9, h.random}, SessionID: make([]byte, 32),
		CipherSuites: h.suites, Compression: []byte{0}, Extensions: list,
	}
	return must(m.Append(nil))
}

type serverSpec struct {
	suite   uint16
	version uint16 // 0: no supported_versions
	group   tls.CurveID
	retry   bool
	psk     int // -1: none
	session []byte
}

func newServerHello(suite uint16) *serverSpec {
	return &serverSpec{suite: suite, version: tlsmsg.VersionTLS13, group: tls.X25519, psk: -1, session: make([]byte, 32)}
}

func (h *serverSpec) bytes() []byte {
	var x tlsmsg.ExtensionBuilder
	if h.version != 0 {
		x.SelectedVersion(h.version)
	}
	m := &tlsmsg.ServerHello{LegacyVersion: tlsmsg.VersionTLS12, Random: [32]byte{8}, SessionID: h.session, CipherSuite: h.suite}
	switch {
	case h.retry:
		m.Random = tlsmsg.HelloRetryRandom()
		x.SelectedGroup(h.group)
	case h.group != 0:
		x.KeyShare(tlsmsg.KeyShare{Group: h.group, Data: []byte("the server's share")})
	}
	if h.psk >= 0 {
		x.SelectedPSK(uint16(h.psk))
	}
	list, err := x.Extensions()
	if err != nil {
		panic(err)
	}
	m.Extensions = list
	return must(m.Append(nil))
}

func encryptedExtensions(alpn string) []byte {
	var x tlsmsg.ExtensionBuilder
	if alpn != "" {
		x.ALPN(alpn)
	}
	list, err := x.Extensions()
	if err != nil {
		panic(err)
	}
	return must((&tlsmsg.EncryptedExtensions{Extensions: list}).Append(nil))
}

func certificateRequest() []byte {
	var x tlsmsg.ExtensionBuilder
	x.SignatureAlgorithms([]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256})
	list, err := x.Extensions()
	if err != nil {
		panic(err)
	}
	return must((&tlsmsg.CertificateRequest{Extensions: list}).Append(nil))
}

func certificate(n int) []byte {
	m := new(tlsmsg.Certificate)
	for range n {
		m.Entries = append(m.Entries, tlsmsg.CertificateEntry{Cert: bytes.Repeat([]byte("der"), 100)})
	}
	return must(m.Append(nil))
}

func certificateVerify() []byte {
	return must((&tlsmsg.CertificateVerify{Scheme: tls.ECDSAWithP256AndSHA256, Signature: []byte("signature")}).Append(nil))
}

func (w *wire) finished() []byte {
	return must((&tlsmsg.Finished{VerifyData: make([]byte, w.tagLen())}).Append(nil))
}

func ticket(n int) []byte {
	return must((&tlsmsg.NewSessionTicket{Lifetime: 60, Nonce: []byte{1}, Ticket: make([]byte, n)}).Append(nil))
}

func keyUpdate() []byte { return must((&tlsmsg.KeyUpdate{}).Append(nil)) }

// A step is what one side sends.
type step struct {
	dir frames.Direction
	p   []byte
	end bool // the direction ends behind p
}

func c(p ...[]byte) step { return step{dir: toOrigin, p: bytes.Join(p, nil)} }
func o(p ...[]byte) step { return step{dir: toClient, p: bytes.Join(p, nil)} }

func clientEnds() step { return step{dir: toOrigin, end: true} }
func originEnds() step { return step{dir: toClient, end: true} }

// handshake is a full handshake as OpenSSL's ends lay it out.
func (w *wire) handshake() []step {
	return []step{
		c(plain(tlsmsg.TypeHandshake, newHello().bytes())),
		o(
			plain(tlsmsg.TypeHandshake, newServerHello(w.suite).bytes()), ccs(),
			w.hs(encryptedExtensions("http/1.1")), w.hs(certificate(1), certificateVerify()), w.hs(w.finished()),
		),
		c(ccs(), w.hs(w.finished())),
		o(w.hs(ticket(200)), w.hs(ticket(200))),
	}
}

// run is a Tunnel and everything that must hold of it whatever is fed.
type run struct {
	tun      *Tunnel
	cut      func(left int) int // how much of what is left the next Feed gets
	fed      [2]int64
	records  [2][]int64 // wire offsets at which a record ends
	released [2]int64
	loose    bool // steps are not whole records, so their ends are not known
}

// fatal is what *testing.T and *rapid.T share.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newRun(cfg *Config, cut func(int) int) *run {
	if cut == nil {
		cut = func(left int) int { return left }
	}
	return &run{tun: NewTunnel(cfg), cut: cut}
}

// feed returns the error that ends the tunnel.
func (r *run) feed(t fatal, s step) error {
	t.Helper()
	r.addRecords(s)
	for p := s.p; len(p) > 0; {
		n := r.cut(len(p))
		before := bytes.Clone(p[:n])
		release, err := r.tun.Feed(s.dir, p[:n])
		if !bytes.Equal(before, p[:n]) {
			t.Fatalf("Feed changed what it was fed")
		}
		r.fed[s.dir] += int64(n)
		p = p[n:]
		r.check(t, s.dir, release)
		if err != nil {
			var kill *KillError
			if !errors.As(err, &kill) || kill.Rule == "" || kill.Reason == 0 {
				t.Fatalf("Feed returned %v", err)
			}
			if _, again := r.tun.Feed(1-s.dir, []byte("x")); again != err {
				t.Fatalf("the kill did not stay for the other direction: %v", again)
			}
			return err
		}
	}
	if s.end {
		return r.tun.End(s.dir)
	}
	return nil
}

// check: releases grow, and end where a record that was fed does.
func (r *run) check(t fatal, d frames.Direction, release int64) {
	t.Helper()
	if release < r.released[d] || release > r.fed[d] {
		t.Fatalf("released %d of %v after %d, with %d fed", release, d, r.released[d], r.fed[d])
	}
	r.released[d] = release
	if release == 0 || r.loose {
		return
	}
	for _, end := range r.records[d] {
		if end == release {
			return
		}
	}
	t.Fatalf("released %d of %v, which is no end of a record: %v", release, d, r.records[d])
}

// addRecords notes where the records of s end. Steps are whole records unless a test wants otherwise.
func (r *run) addRecords(s step) {
	at := r.fed[s.dir]
	for p := s.p; len(p) >= 5; {
		n := 5 + int(p[3])<<8 + int(p[4])
		if n > len(p) {
			return
		}
		at += int64(n)
		r.records[s.dir] = append(r.records[s.dir], at)
		p = p[n:]
	}
}

func (r *run) all(t fatal, steps ...step) error {
	t.Helper()
	for _, s := range steps {
		if err := r.feed(t, s); err != nil {
			return err
		}
	}
	return nil
}

// passes wants every byte of the steps released.
func (r *run) passes(t fatal, steps ...step) {
	t.Helper()
	if err := r.all(t, steps...); err != nil {
		t.Fatalf("%v", err)
	}
	if r.released != r.fed {
		t.Fatalf("released %v of %v", r.released, r.fed)
	}
}

// kills wants rule, and nothing released of the step that it is for.
func kills(t *testing.T, err error, rule string) {
	t.Helper()
	var kill *KillError
	if !errors.As(err, &kill) {
		t.Fatalf("err %v, want a kill by %s", err, rule)
	}
	if kill.Rule != rule {
		t.Fatalf("%v, want rule %s", err, rule)
	}
	if want := reasonOf(rule); kill.Reason != want {
		t.Fatalf("reason %v for %s, want %v", kill.Reason, rule, want)
	}
}

// connected returns a run behind its handshake.
func connected(t fatal, cfg *Config, cut func(int) int) (*run, *wire) {
	t.Helper()
	w := newWire()
	r := newRun(cfg, cut)
	r.passes(t, w.handshake()...)
	return r, w
}

const get = "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n"

// A watcher records what it is shown, and decides as it is told.
type watcher struct {
	decide func(x *Exchange, d frames.Direction, p Part) Decision
	seen   []*exchangeSeen
}

type exchangeSeen struct {
	x       *Exchange
	msgs    [2][]*messageSeen
	outcome *Outcome
	decide  func(x *Exchange, d frames.Direction, p Part) Decision
	calls   int
}

type messageSeen struct {
	head    *Head
	body    []byte
	end     bool
	opaque  bool
	trailer http.Header
}

func (w *watcher) Begin(x *Exchange) Inspection {
	e := &exchangeSeen{x: x, decide: w.decide}
	w.seen = append(w.seen, e)
	return e
}

func (e *exchangeSeen) part(d frames.Direction, p Part) Decision {
	e.calls++
	if e.outcome != nil {
		panic("called after Close")
	}
	if p.Head != nil {
		e.msgs[d] = append(e.msgs[d], &messageSeen{head: p.Head})
	}
	m := e.msgs[d][len(e.msgs[d])-1]
	if m.end {
		panic("called after End")
	}
	m.body = p.Body.Append(m.body)
	m.end, m.opaque, m.trailer = p.End, p.Opaque, p.Trailer
	if e.decide == nil {
		return Decision{}
	}
	return e.decide(e.x, d, p)
}

func (e *exchangeSeen) Request(p Part) Decision  { return e.part(toOrigin, p) }
func (e *exchangeSeen) Response(p Part) Decision { return e.part(toClient, p) }
func (e *exchangeSeen) Close(o Outcome) {
	if e.outcome != nil {
		panic("closed twice")
	}
	e.outcome = &o
}

func (e *exchangeSeen) String() string {
	var b strings.Builder
	for d, msgs := range e.msgs {
		for _, m := range msgs {
			fmt.Fprintf(&b, "%v %+v %q end %v opaque %v trailer %v\n", frames.Direction(d), *m.head, m.body, m.end, m.opaque, m.trailer)
		}
	}
	if e.outcome != nil {
		fmt.Fprintf(&b, "outcome %v %v %d %d\n", e.outcome.Killed, e.outcome.Err, e.outcome.Sent, e.outcome.Recved)
	}
	return b.String()
}

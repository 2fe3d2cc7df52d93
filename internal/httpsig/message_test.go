package httpsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/internal/pki"
)

// A message is a signed response with the request that it answers, as a client has them. Tests change it.
type message struct {
	req     Request
	status  int
	head    http.Header
	content []byte
	trailer http.Header

	leaf  *x509.Certificate
	nonce [32]byte
	now   time.Time
}

// clone is deep where changes reach.
func (m message) clone() *message {
	m.req.Header, m.head, m.trailer = m.req.Header.Clone(), m.head.Clone(), m.trailer.Clone()
	m.content = slices.Clone(m.content)
	return &m
}

// verify does what a client does.
func (m *message) verify() (*Signature, error) {
	s, err := Read(&m.req, m.status, m.head)
	if err != nil {
		return nil, err
	}
	if err := s.Check(m.leaf, m.nonce, m.now); err != nil {
		return s, err
	}
	s.Body().Write(m.content)
	return s, s.Finish(m.trailer)
}

// A maker signs messages.
type maker struct {
	t    testing.TB
	key  crypto.Signer
	leaf *x509.Certificate
}

func newMaker(t testing.TB, key crypto.Signer) *maker {
	t.Helper()
	ca, err := pki.NewAuthority("origins", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.OriginOf(key, "origin.example")
	if err != nil {
		t.Fatal(err)
	}
	return &maker{t, key, cert.Leaf}
}

func ecKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{
		"ecdsa-p256-sha256": ecKey(t, elliptic.P256()), "ecdsa-p384-sha384": ecKey(t, elliptic.P384()), "ed25519": ed, "rsa-pss-sha512": rsaKey,
	}
}

func now() time.Time { return time.Unix(1_764_000_000, 0) }

// plain has every kind of component that there is.
func (k *maker) plain() *message {
	m := &message{
		req: Request{Method: "POST", TargetURI: "https://origin.example/pay?to=a", Header: http.Header{
			"Authorization": {"Bearer token"}, "Cookie": {"a=b; c=d"}, "Evidence-Request": {":AAAA:"},
			"Content-Digest": {FormatDigest(sha256.Sum256([]byte("pay 1")))}, "User-Agent": {"a client"},
		}},
		status: http.StatusCreated,
		head: http.Header{
			"Content-Type": {"text/plain"}, "Content-Encoding": {"identity"}, "Location": {"/paid, and/done"}, "Set-Cookie": {"a=b, c=d", "e=f"},
			"Cache-Control": {"private, no-store"}, "Etag": {`"a"`}, "X-Name": {"caf\xe9"}, "Link": {"</a>", "</b>"}, "Content-Length": {"4"},
		},
		content: []byte("paid"), leaf: k.leaf, now: now(),
	}
	rand.Read(m.nonce[:])
	return m
}

func (m *message) params() Params {
	return Params{Created: m.now, Expires: m.now.Add(MaxLifetime), Nonce: m.nonce[:], KeyID: pki.SPKIHash(m.leaf)}
}

func (k *maker) sign(m *message, p Params) *message {
	k.t.Helper()
	m.head.Set(ContentDigest, FormatDigest(sha256.Sum256(m.content)))
	if err := Sign(k.key, p, &m.req, m.status, m.head); err != nil {
		k.t.Fatal(err)
	}
	return m
}

func (k *maker) stream(m *message, p Params) *message {
	k.t.Helper()
	pending, err := Begin(k.key, p, &m.req, m.status, m.head)
	if err != nil {
		k.t.Fatal(err)
	}
	m.trailer = http.Header{}
	if err := pending.Finish(sha256.Sum256(m.content), m.trailer); err != nil {
		k.t.Fatal(err)
	}
	return m
}

// head is a signed message, stream one that is signed behind its content.
func (k *maker) signedHead() *message   { m := k.plain(); return k.sign(m, m.params()) }
func (k *maker) signedStream() *message { m := k.plain(); return k.stream(m, m.params()) }

// public is a message that caches may keep, signed without a nonce.
func (k *maker) public() *message {
	m := k.plain()
	m.req = Request{Method: http.MethodGet, TargetURI: "https://origin.example/logo", Header: http.Header{"Evidence-Request": {":AAAA:"}}}
	m.status = http.StatusOK
	m.head = http.Header{"Content-Type": {"image/png"}, "Cache-Control": {"public, max-age=3600"}, "Vary": {"accept"}}
	p := m.params()
	p.Nonce, p.Expires = nil, m.now.Add(time.Hour)
	return k.sign(m, p)
}

// resign signs the base of m again after its input was changed: what an origin that breaks the profile would do. input
// is the value of Signature-Input behind the label.
func (k *maker) resign(m *message, input string) *message {
	k.t.Helper()
	m.head[SignatureInput] = []string{Label + "=" + input}
	m.head[SignatureHeader] = []string{Label + "=:AAAA:"}
	s, err := Read(&m.req, m.status, m.head)
	if err != nil {
		return m // it is refused before anybody looks at the signature
	}
	sig, err := sign(k.key, s.base(""))
	if err != nil {
		k.t.Fatal(err)
	}
	m.head[SignatureHeader] = []string{Label + "=:" + base64.StdEncoding.EncodeToString(sig) + ":"}
	return m
}

func (m *message) input() string {
	return strings.TrimPrefix(m.head.Get(SignatureInput), Label+"=")
}

// Every algorithm signs and is verified, in both forms.
//
// spec: SIG-6
func TestEveryAlgorithm(t *testing.T) {
	for name, key := range keys(t) {
		k := newMaker(t, key)
		if got, err := Algorithm(key.Public()); got != name || err != nil {
			t.Errorf("%q, %v, want %q", got, err, name)
		}
		for form, m := range map[string]*message{"head": k.signedHead(), "stream": k.signedStream()} {
			s, err := m.verify()
			if err != nil {
				t.Errorf("%s %s: %v", name, form, err)
				continue
			}
			if !s.Verified() || !s.Fresh {
				t.Errorf("%s %s: verified %v, fresh %v", name, form, s.Verified(), s.Fresh)
			}
			m.head[SignatureInput][0] = strings.Replace(m.head[SignatureInput][0], ";tag", `;alg="`+name+`";tag`, 1)
			if _, err := m.verify(); err == nil {
				t.Errorf("%s %s: a parameter was added", name, form)
			}
		}
		m := k.signedHead()
		if _, err := k.resign(m, strings.Replace(m.input(), ";tag", `;alg="`+name+`";tag`, 1)).verify(); err != nil {
			t.Errorf("%s names its algorithm: %v", name, err)
		}
	}
}

// A half is a key of which nobody has the private part.
type half struct{ pub crypto.PublicKey }

func (h half) Public() crypto.PublicKey { return h.pub }

func (half) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("nobody has this key")
}

func rsaOf(bits uint) crypto.Signer {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return half{&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}}
}

// Keys that RFC 9421 has no algorithm for, that are weak or that are not for signatures make no signature and verify none.
//
// spec: SIG-6
func TestKeysThatCannotSign(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"P-521": ecKey(t, elliptic.P521()), "weak RSA": rsaOf(2047), "slow RSA": rsaOf(8193)} {
		k := newMaker(t, key)
		m := newMaker(t, ecKey(t, elliptic.P256())).signedHead()
		m.leaf = k.leaf
		if _, err := m.verify(); !isKind(err, ErrKey) {
			t.Errorf("%s verifies: %v", name, err)
		}
		m = k.plain()
		m.head.Set(ContentDigest, FormatDigest([32]byte{}))
		if err := Sign(key, m.params(), &m.req, m.status, m.head); !isKind(err, ErrKey) {
			t.Errorf("%s signs: %v", name, err)
		}
	}
	ca, err := pki.NewAuthority("origins", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key := ecKey(t, elliptic.P256())
	var cert tls.Certificate
	if cert, err = ca.Issue(&x509.Certificate{DNSNames: []string{"origin.example"}, KeyUsage: x509.KeyUsageKeyAgreement}, key); err != nil {
		t.Fatal(err)
	}
	m := (&maker{t, key, cert.Leaf}).signedHead()
	if _, err := m.verify(); !isKind(err, ErrKey) {
		t.Errorf("a key for key agreement: %v", err)
	}
}

// What a caller gets is what was covered, and what frames the message.
//
// spec: SIG-12
func TestStripLeavesWhatIsCovered(t *testing.T) {
	k := newMaker(t, ecKey(t, elliptic.P256()))
	for form, m := range map[string]*message{"head": k.signedHead(), "stream": k.signedStream()} {
		for name, value := range map[string]string{
			"X-Added": "1", "Refresh": "0", "Via": "2 proxy.example", "Proxy-Status": "proxy", "Evidence-Id": ":AA:", "Alt-Svc": "clear", "x-odd": "1",
			"Transfer-Encoding": "chunked", "Connection": "close",
		} {
			m.head[name] = []string{value}
		}
		s, err := m.verify()
		if err != nil {
			t.Fatal(form, err)
		}
		s.Strip(m.head)
		want := []string{
			"Cache-Control", "Content-Encoding", "Content-Length", "Content-Type", "Etag", "Evidence-Id", "Link", "Location", "Proxy-Status",
			"Set-Cookie", "Transfer-Encoding", "Via", "X-Name",
		}
		if form == "head" {
			want = append(want, ContentDigest)
			slices.Sort(want)
		}
		if got := slices.Sorted(maps.Keys(m.head)); !slices.Equal(got, want) {
			t.Errorf("%s: %v is left, want %v", form, got, want)
		}
		if got := m.head["Link"]; !slices.Equal(got, []string{"</a>, </b>"}) {
			t.Errorf("%s: %q: the signature does not say where one line ended", form, got)
		}
		if got := m.head["Set-Cookie"]; !slices.Equal(got, []string{"a=b, c=d", "e=f"}) {
			t.Errorf("%s: cookies are %q", form, got)
		}
		trailer := http.Header{ContentDigest: {"a"}, SignatureHeader: {"b"}, "X-Sum": {"c"}}
		s.StripTrailer(trailer)
		if _, digest := trailer[ContentDigest]; len(trailer) > 1 || digest != (form == "stream") {
			t.Errorf("%s: %v is left of the trailer section", form, trailer)
		}
	}
}

// Whoever forwards a response takes out what Connection names, and the signature still holds.
//
// spec: SIG-2
func TestFieldsThatConnectionNamesAreNotCovered(t *testing.T) {
	k := newMaker(t, ecKey(t, elliptic.P256()))
	m := k.plain()
	m.head["Connection"], m.head["X-Hop"] = []string{"close", "keep-alive,x-HOP"}, []string{"1"}
	k.sign(m, m.params())
	m.head.Del("Connection")
	m.head.Del("X-Hop")
	if _, err := m.verify(); err != nil {
		t.Error(err)
	}
}

// A proxy cannot say how long the content would be that a HEAD leaves out.
func TestStripTakesTheLengthOfNothing(t *testing.T) {
	k := newMaker(t, ecKey(t, elliptic.P256()))
	for _, covered := range []bool{false, true} {
		m := k.plain()
		m.req.Method, m.content = http.MethodHead, nil
		if !covered {
			m.head.Del("Content-Length")
		}
		k.sign(m, m.params())
		if !covered {
			m.head.Set("Content-Length", "99")
		}
		s, err := m.verify()
		if err != nil {
			t.Fatal(err)
		}
		s.Strip(m.head)
		if _, ok := m.head["Content-Length"]; ok != covered {
			t.Errorf("covered %v, left %v", covered, ok)
		}
	}
}

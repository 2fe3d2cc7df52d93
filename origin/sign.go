package origin

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/httpsig"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// SignConfig says how [SignResponses] signs. Only TLSConfig is needed.
type SignConfig struct {
	// TLSConfig is the server's. Its Certificates, GetCertificate and GetConfigForClient give the certificate that a
	// connection showed, whose key signs: of ECDSA over P-256 or P-384, Ed25519, or RSA of 2,048 to 8,192 bits. A server
	// that has several for one name must prefer the first that fits, as crypto/tls does.
	TLSConfig *tls.Config

	// BufferBytes is how much of a response is kept so that the signature can stand in its head; default 64 KiB, at most
	// 1 MiB. A larger response, or one that is flushed, streams and is signed in its trailer section.
	BufferBytes int

	// Lifetime is how long a signature holds; default and at most 5 minutes.
	Lifetime time.Duration

	// Signatures is how many are made at once; default half of the processors. It stops a flood of requests from
	// taking them all. Responses above it wait.
	Signatures int

	// OnUnsigned is told why a response for which a signature was asked has none; default nil. It must not block.
	OnUnsigned func(r *http.Request, err error)

	// Time gives the time; default TLSConfig.Time, or time.Now.
	Time func() time.Time
}

const (
	defaultSignBuffer = 64 << 10
	maxSignBuffer     = 1 << 20
)

// SignResponses returns a handler that signs what h answers (RFC 9421) with the key of the server's certificate, so that
// a client behind a proxy that reads in the mode "split" knows what the proxy changed. It signs for requests
// that carry evidence-request, and without a nonce what any cache may keep. Requests in tunnels pass as they are:
// there nobody can change anything. So do requests for an upgrade, and those without TLS.
//
// It must be the outermost handler that changes responses: what changes them behind it breaks the signature, and
// clients then refuse the response. Fields that are about one hop, such as Via and Connection, are not covered, nor
// are trailers of h: clients remove them. A response to a request whose content differs from its Content-Digest is not
// signed, and h finds an error in the place of the content's end. The ResponseWriter that h gets can be flushed and
// takes deadlines; it cannot be hijacked.
func SignResponses(h http.Handler, cfg *SignConfig) (http.Handler, error) {
	if cfg == nil || cfg.TLSConfig == nil {
		return nil, errors.New("origin: SignConfig.TLSConfig is needed: its key signs")
	}
	s := &signer{next: h, cfg: *cfg}
	if err := s.cfg.fill(); err != nil {
		return nil, err
	}
	s.slots = make(chan struct{}, s.cfg.Signatures)
	return s, nil
}

func (c *SignConfig) fill() error {
	if c.Lifetime < 0 || c.Lifetime > httpsig.MaxLifetime || c.Lifetime > 0 && c.Lifetime < time.Second {
		return fmt.Errorf("origin: a signature cannot hold for %v: from 1s to %v", c.Lifetime, httpsig.MaxLifetime)
	}
	if c.BufferBytes < 0 || c.BufferBytes > maxSignBuffer {
		return fmt.Errorf("origin: a buffer of %d bytes, at most %d", c.BufferBytes, maxSignBuffer)
	}
	if c.Lifetime == 0 {
		c.Lifetime = httpsig.MaxLifetime
	}
	if c.BufferBytes == 0 {
		c.BufferBytes = defaultSignBuffer
	}
	if c.Signatures <= 0 {
		c.Signatures = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if c.Time == nil {
		c.Time = c.TLSConfig.Time
	}
	if c.Time == nil {
		c.Time = time.Now
	}
	c.TLSConfig = c.TLSConfig.Clone()
	var unfit error
	for i := range c.TLSConfig.Certificates {
		_, _, err := signingKey(&c.TLSConfig.Certificates[i])
		if err == nil {
			return nil
		}
		unfit = err
	}
	if unfit != nil && c.TLSConfig.GetCertificate == nil && c.TLSConfig.GetConfigForClient == nil {
		return fmt.Errorf("origin: no certificate can sign responses: %w", unfit)
	}
	return nil
}

// A signer is what SignResponses returns.
type signer struct {
	next  http.Handler
	cfg   SignConfig
	slots chan struct{} // a token for each signature that is being made
}

func (s *signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.exchange(w, r)
	if x == nil {
		s.next.ServeHTTP(w, r)
		return
	}
	own := new(http.Request)
	*own = *r
	if r.Body != http.NoBody {
		own.Body = x.body
	}
	s.next.ServeHTTP(x, own)
	// Where the handler panics nothing is complete, and nothing is signed.
	x.finish()
}

// exchange says whether the answer to r may be signed; else it is nil.
func (s *signer) exchange(w http.ResponseWriter, r *http.Request) *signedExchange {
	if _, inspected := InspectionOf(r.Context()); inspected || r.TLS == nil || r.Method == http.MethodConnect || r.Header.Get("Upgrade") != "" {
		return nil
	}
	req := &httpsig.Request{Method: r.Method, TargetURI: httpsig.TargetURI(r.Host, r.RequestURI), Header: r.Header.Clone()}
	var nonce []byte
	if values := r.Header.Values(fields.EvidenceRequest); len(values) > 0 {
		n, err := requestNonce(values, r.Host)
		if err != nil {
			return nil
		}
		nonce = n[:]
	} else if _, maybe := httpsig.Cacheable(req, http.StatusOK, []string{"public, max-age=1"}, nil, false); !maybe {
		return nil // whatever the response will say
	}
	body, err := newCheckedBody(r)
	if err != nil {
		return nil
	}
	return &signedExchange{s: s, w: w, r: r, req: req, nonce: nonce, body: body, header: w.Header().Clone(), declared: -1}
}

// requestNonce is N of a request for evidence that is about this authority.
func requestNonce(values []string, host string) (nonce [32]byte, err error) {
	raw, err := fields.ParseEvidenceRequest(values)
	if err != nil {
		return nonce, err
	}
	req, err := evidence.ParseRequest(raw)
	if err != nil {
		return nonce, err
	}
	if httpsig.TargetURI(req.Offer.Authority, "/") != httpsig.TargetURI(host, "/") {
		return nonce, fmt.Errorf("origin: a request for evidence of %q came with one for %q", req.Offer.Authority, host)
	}
	return req.Nonce, nil
}

// key is that of the certificate which the connection of r showed.
func (s *signer) key(r *http.Request) (crypto.Signer, [32]byte, error) {
	cert, err := shown(s.cfg.TLSConfig, r)
	if err != nil {
		return nil, [32]byte{}, err
	}
	return signingKey(cert)
}

// slot waits until one more signature may be made.
func (s *signer) slot(r *http.Request) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

func signingKey(cert *tls.Certificate) (crypto.Signer, [32]byte, error) {
	leaf, err := pki.Leaf(cert)
	if err != nil {
		return nil, [32]byte{}, err
	}
	if err := httpsig.CheckLeaf(leaf); err != nil {
		return nil, [32]byte{}, err
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, [32]byte{}, errors.New("origin: the certificate's key cannot sign")
	}
	return key, pki.SPKIHash(leaf), nil
}

// shown is the certificate that c shows on the connection of r, chosen as crypto/tls chose it.
func shown(c *tls.Config, r *http.Request) (*tls.Certificate, error) {
	hello := &tls.ClientHelloInfo{
		CipherSuites:      []uint16{r.TLS.CipherSuite},
		ServerName:        r.TLS.ServerName,
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		SupportedPoints:   []uint8{0},
		SignatureSchemes:  append(tlsmsg.Schemes(), tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512),
		SupportedVersions: []uint16{r.TLS.Version},
		Conn:              addresses{r},
	}
	if r.TLS.NegotiatedProtocol != "" {
		hello.SupportedProtos = []string{r.TLS.NegotiatedProtocol}
	}
	if c.GetConfigForClient != nil {
		own, err := c.GetConfigForClient(hello)
		if err != nil {
			return nil, err
		}
		if own != nil {
			c = own
		}
	}
	if c.GetCertificate != nil && (len(c.Certificates) == 0 || hello.ServerName != "") {
		if cert, err := c.GetCertificate(hello); cert != nil || err != nil {
			return cert, err
		}
	}
	if len(c.Certificates) == 0 {
		return nil, ErrNoCertificate
	}
	for i := range c.Certificates {
		if hello.SupportsCertificate(&c.Certificates[i]) == nil {
			return &c.Certificates[i], nil
		}
	}
	return &c.Certificates[0], nil
}

// addresses stands for the connection of r before callbacks that ask who called whom. It carries nothing.
type addresses struct{ r *http.Request }

// An addr is an address that is known as text alone.
type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

func (a addresses) RemoteAddr() net.Addr { return addr(a.r.RemoteAddr) }

func (a addresses) LocalAddr() net.Addr {
	if local, ok := a.r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return local
	}
	return addr("")
}

func (addresses) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (addresses) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (addresses) Close() error                     { return net.ErrClosed }
func (addresses) SetDeadline(time.Time) error      { return net.ErrClosed }
func (addresses) SetReadDeadline(time.Time) error  { return net.ErrClosed }
func (addresses) SetWriteDeadline(time.Time) error { return net.ErrClosed }

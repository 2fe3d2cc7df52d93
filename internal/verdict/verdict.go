// Package verdict signs and verifies why a proxy killed a tunnel. A proxy calls [Sign]; who receives a
// VERDICT calls [Verify] with what the tunnel is known by. The wire form is that of package frames.
package verdict

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"vitrine/frames"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// signatureContext keeps a verdict from ever being another thing that the proxy's key signs: every
// TLS 1.3 signature begins with 64 spaces and such a string (RFC 8446, section 4.4.3).
const signatureContext = "vitrine verdict v1"

var (
	// ErrForeign says that a verdict is about another tunnel, or by another proxy: it is to be
	// ignored and counted.
	ErrForeign = errors.New("verdict of another tunnel")
	// ErrSignature says that the proxy did not sign this verdict.
	ErrSignature = errors.New("verdict was not signed by the proxy")
)

// Sign returns what follows the stream in a VERDICT ([frames.AppendVerdict] puts that before it),
// signed with the key of cert, whose leaf it names: tbs.ProxyLeaf is not looked at, and tbs stays as
// it is.
func Sign(cert *tls.Certificate, tbs *frames.VerdictTBS) ([]byte, error) {
	if len(cert.Certificate) == 0 {
		return nil, errors.New("verdict: no certificate to sign with")
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("verdict: a key of type %T cannot sign", cert.PrivateKey)
	}
	leaf, err := pki.Leaf(cert)
	if err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	t := *tbs
	t.ProxyLeaf = pki.LeafHash(leaf)
	body, err := t.Append(nil)
	if err != nil {
		return nil, err
	}
	scheme, err := tlsmsg.PickScheme(key.Public(), tlsmsg.Schemes())
	if err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	sig, err := tlsmsg.Sign(rand.Reader, key, scheme, tlsmsg.SignedContent(signatureContext, body))
	if err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	return frames.SignedVerdict{TBS: body, Scheme: uint16(scheme), Signature: sig}.Append(nil)
}

// Expect is what a receiver knows of the tunnel that a verdict names.
type Expect struct {
	// Proxy is the leaf that the proxy showed on the hop that the verdict came over. Required.
	Proxy *x509.Certificate
	// Nonce is N of the CONNECT.
	Nonce [32]byte
	// Authority is that of the CONNECT.
	Authority string
	// CheckLeaf demands that the verdict names Proxy. A client sets it. An origin does not have
	// to: on hop 2 a proxy may show the successor of the certificate it has on hop 1.
	CheckLeaf bool
}

// Verify reads what follows the stream in a VERDICT. The error wraps [ErrForeign] or [ErrSignature],
// or says that the verdict is malformed.
func Verify(signed []byte, e Expect) (*frames.VerdictTBS, error) {
	if e.Proxy == nil {
		return nil, errors.New("verdict: the proxy showed no certificate to verify it with")
	}
	v, err := frames.ParseSignedVerdict(signed)
	if err != nil {
		return nil, err
	}
	t, err := frames.ParseVerdictTBS(v.TBS)
	if err != nil {
		return nil, err
	}
	switch {
	case t.Nonce != e.Nonce:
		return nil, fmt.Errorf("%w: its nonce differs", ErrForeign)
	case t.Authority != e.Authority:
		return nil, fmt.Errorf("%w: it is about %s", ErrForeign, t.Authority)
	case e.CheckLeaf && t.ProxyLeaf != pki.LeafHash(e.Proxy):
		return nil, fmt.Errorf("%w: it names another proxy", ErrForeign)
	}
	content := tlsmsg.SignedContent(signatureContext, v.TBS)
	if err := tlsmsg.Verify(e.Proxy.PublicKey, tls.SignatureScheme(v.Scheme), content, v.Signature); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return t, nil
}

package client

import (
	"crypto/rand"
	"fmt"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/tlsmsg"
)

// A probe is a request for evidence, which goes with one CONNECT or one exchange.
type probe struct {
	offer   *tlsmsg.InspectionOffer
	request []byte
	sent    time.Time // zero before
}

// newProbe is for the proxies of these leaves, client side first.
func newProbe(proxies [][32]byte, authority string) (*probe, error) {
	p := &probe{offer: &tlsmsg.InspectionOffer{Proxies: proxies, Authority: authority}}
	if _, err := rand.Read(p.offer.Nonce[:]); err != nil {
		return nil, err
	}
	var err error
	if p.request, err = evidence.RequestFor(p.offer); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return p, nil
}

// verify is for evidence that answers p, and writes what it says into a's report.
func (p *probe) verify(d *Dialer, a *attempt, raw []byte) (*evidence.Result, error) {
	return a.verifyEvidence(raw, p.offer.Nonce, &evidence.Verifier{
		Request: p.request, Sent: p.sent, Authority: p.offer.Authority, Proxies: p.offer.Proxies, Roots: d.Roots, Time: d.now,
	})
}

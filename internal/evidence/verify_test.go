package evidence

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

// spec: EVD-29
func TestStaleEvidence(t *testing.T) {
	c := newConnect(t, testAuthority)
	e := transcriptOf(t, c)
	now := time.Now().Truncate(time.Millisecond)
	c.verifier.Time = func() time.Time { return now }
	for name, tt := range map[string]struct {
		sent, made time.Time
		ok         bool
	}{
		"fresh":                          {now, now, true},
		"no matter when it was sent":     {time.Time{}, now, true},
		"as old as it may be":            {now.Add(-MaxAge), now.Add(-MaxAge), true},
		"as far ahead as clocks may be":  {now, now.Add(MaxSkew), true},
		"came too late":                  {now.Add(-MaxAge - time.Millisecond), now, false},
		"made too early":                 {now, now.Add(-MaxAge - time.Millisecond), false},
		"made in the future":             {now, now.Add(MaxSkew + time.Millisecond), false},
		"made at the beginning of time":  {now, time.UnixMilli(0), false},
		"made at the end of time":        {now, time.UnixMilli(maxTime), false},
		"made by a clock a day too slow": {now, now.Add(-24 * time.Hour), false},
	} {
		lie := *e
		lie.Time = tt.made
		c.verifier.Sent = tt.sent
		_, err := c.verifier.Verify(&lie)
		if tt.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !tt.ok {
			if err == nil {
				t.Errorf("%s: accepted", name)
				continue
			}
			wantReason(t, err, ReasonStale)
		}
	}
}

func TestVerifierUsesItsClockForCertificates(t *testing.T) {
	c := newConnect(t, testAuthority)
	e := transcriptOf(t, c)
	later := time.Now().Add(365 * 24 * time.Hour)
	e.Time = later
	c.verifier.Time = func() time.Time { return later }
	_, err := c.verifier.Verify(overTheWire(t, e))
	wantUntrusted(t, err)
}

// A claim is held by nothing but this comparison.
// spec: EVD-27
func TestEvidenceForAnotherAuthority(t *testing.T) {
	c := newConnect(t, testAuthority)
	good := transcriptOf(t, c)
	for _, kind := range []Kind{Claim, Transcript} {
		lie := *good
		lie.Kind, lie.Authority = kind, "origin.example:8443"
		_, err := c.verifier.Verify(overTheWire(t, &lie))
		if err == nil {
			t.Fatalf("%v: accepted", kind)
		}
		wantReason(t, err, ReasonForeign)
	}
}

// publicKey stands in for a key that would take a minute to make.
type publicKey struct {
	crypto.Signer
	pub crypto.PublicKey
}

func (p publicKey) Public() crypto.PublicKey { return p.pub }

func TestHugeRSAKeyIsNotVerified(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), maxRSABits)
	n.SetBit(n, 0, 1)
	cert, err := parties().origins.Issue(&x509.Certificate{DNSNames: []string{testHost}}, publicKey{pub: &rsa.PublicKey{N: n, E: 65537}})
	if err != nil {
		t.Fatal(err)
	}
	c := newConnect(t, testAuthority)
	e := &Evidence{Kind: Claim, Hop: Hop{Chain: cert.Certificate}, Authority: testAuthority, Time: time.Now()}
	_, err = c.verifier.Verify(overTheWire(t, e))
	wantUntrusted(t, err)
	if !strings.Contains(err.Error(), "8193 bits") {
		t.Errorf("got %v", err)
	}
}

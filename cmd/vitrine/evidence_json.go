package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"time"

	"vitrine/client"
	"vitrine/internal/evidence"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// shownJSON is "evidence show --json". What could not be read is null.
type shownJSON struct {
	Kind      string           `json:"kind"`      // as it came: claim, transcript or authenticator
	CountsAs  string           `json:"counts_as"` // the kind that a report has
	Authority string           `json:"authority"`
	Time      time.Time        `json:"time"`
	Age       int64            `json:"age_seconds"`
	Bytes     int              `json:"bytes"`
	Verified  bool             `json:"verified"`
	Chain     bool             `json:"chain_verified"`
	Missing   []string         `json:"missing"`
	Error     *string          `json:"error"`
	Exit      int              `json:"exit"`
	Nonce     *string          `json:"nonce"` // that it was verified with
	Proxy     *string          `json:"proxy_leaf_sha256"`
	Links     []shownLink      `json:"links"` // to the proxies behind the first
	Hop       client.HopReport `json:"hop"`
	ByProxy   bool             `json:"hop_verified_by_proxy"`
	OCSP      int              `json:"ocsp_bytes"`
	SCTs      int              `json:"scts"`
	Origin    []shownCert      `json:"chain"`
	Hello     *shownHello      `json:"transcript"`
	Statement *shownStatement  `json:"authenticator"`
	Proves    []string         `json:"proves"`
	ProvesNot []string         `json:"proves_not"`
}

type shownLink struct {
	Subject string           `json:"subject"`
	Leaf    string           `json:"leaf_sha256"`
	Hop     client.HopReport `json:"hop"`
	Fresh   bool             `json:"fresh"` // that proxy's key answered the nonce
}

func (s *shownEvidence) shownLinks() []shownLink {
	links := []shownLink{}
	for _, e := range s.links {
		l := shownLink{Hop: hopWords(&e.Hop), Fresh: len(e.Messages) > 0, Leaf: hashHex(e.Hop.Chain[0])}
		if c, err := x509.ParseCertificate(e.Hop.Chain[0]); err == nil {
			l.Subject = c.Subject.String()
		}
		links = append(links, l)
	}
	return links
}

func hashHex(p []byte) string {
	hash := sha256.Sum256(p)
	return hex.EncodeToString(hash[:])
}

type shownCert struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SPKI      string    `json:"spki_sha256"`
}

type shownHello struct {
	Messages      []string `json:"messages"`
	ServerName    string   `json:"server_name"`
	Random        string   `json:"random"`
	Salt          string   `json:"salt"`
	Offered       []string `json:"offered"`
	Picked        string   `json:"picked"`
	Scheme        *string  `json:"signature_scheme"`
	OfferedTokens bool     `json:"offered_tokens"`
	PickedNone    bool     `json:"picked_none"`
}

type shownStatement struct {
	Nonce  string       `json:"nonce"`
	HopID  string       `json:"hop_id"`
	Scheme string       `json:"signature_scheme"`
	Answer *shownAnswer `json:"answer"`
}

type shownAnswer struct {
	HopPeer  uint8            `json:"hop_peer"`
	Hop      client.HopReport `json:"hop"`
	Time     time.Time        `json:"time"`
	Lifetime int64            `json:"lifetime_seconds"`
}

func (s *shownEvidence) json() *shownJSON {
	e := s.e
	j := &shownJSON{
		Links: s.shownLinks(), Kind: e.Kind.String(), CountsAs: e.Strength().String(), Authority: e.Authority, Time: e.Time, Age: int64(s.age.Seconds()), Bytes: s.size,
		Verified: s.verified, Chain: s.verified || s.chain, Missing: s.missing(), Exit: exitCode(s.err),
		Hop: hopWords(&e.Hop), ByProxy: e.Hop.Verified, OCSP: len(e.Hop.OCSP), SCTs: len(e.Hop.SCTs), Origin: []shownCert{},
	}
	if s.err != nil {
		text := oneLine(s.err.Error())
		j.Error = &text
	}
	if s.offer != nil {
		nonce, proxy := hex.EncodeToString(s.offer.Nonce[:]), hex.EncodeToString(s.offer.Proxies[len(s.offer.Proxies)-1][:])
		j.Nonce, j.Proxy = &nonce, &proxy
	}
	for _, c := range s.x.Chain {
		j.Origin = append(j.Origin, shownCert{
			c.Subject.String(), c.Issuer.String(), certNames(c), c.NotBefore.UTC(), c.NotAfter.UTC(), spkiHex(c),
		})
	}
	if t := s.x.Transcript; t != nil {
		h := &shownHello{
			Messages: []string{}, ServerName: t.ServerName, Random: hex.EncodeToString(t.Random[:]), Salt: hex.EncodeToString(e.Salt[:]),
			Offered: append([]string{}, t.Offered...), Picked: t.Picked, OfferedTokens: t.OfferedTokens, PickedNone: t.PickedNone,
		}
		for _, m := range t.Messages {
			h.Messages = append(h.Messages, m.String())
		}
		if t.Scheme != 0 {
			scheme := t.Scheme.String()
			h.Scheme = &scheme
		}
		j.Hello = h
	}
	if st := s.x.Statement; st != nil {
		j.Statement = &shownStatement{Nonce: hex.EncodeToString(st.Nonce), HopID: hex.EncodeToString(st.HopID[:]), Scheme: st.Scheme.String()}
		if a := st.Answer; a != nil {
			j.Statement.Answer = &shownAnswer{
				HopPeer: a.HopPeer, Time: a.Time, Lifetime: int64(a.Lifetime.Seconds()),
				Hop: client.HopReport{Version: tls.VersionName(a.HopVersion), Suite: tlsmsg.SuiteName(a.HopSuite), ALPN: a.HopALPN},
			}
		}
	}
	j.Proves, j.ProvesNot = s.meaning()
	return j
}

func hopWords(h *evidence.Hop) client.HopReport {
	return client.HopReport{Version: tls.VersionName(h.Version), Suite: tlsmsg.SuiteName(h.Suite), Group: tlsmsg.GroupName(h.Group), ALPN: h.ALPN}
}

func certNames(c *x509.Certificate) []string {
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func spkiHex(c *x509.Certificate) string {
	h := pki.SPKIHash(c)
	return hex.EncodeToString(h[:])
}

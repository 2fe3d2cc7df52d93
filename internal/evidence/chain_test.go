package evidence

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// nodes are proxies of a chain, by their place in it.
var nodes = sync.OnceValue(func() []tls.Certificate {
	certs := []tls.Certificate{parties().proxy}
	for i := 2; i <= 7; i++ {
		c, err := parties().proxies.Proxy(fmt.Sprintf("proxy%d.example", i))
		if err != nil {
			panic(err)
		}
		certs = append(certs, c)
	}
	return certs
})

func nodeHash(i int) [32]byte { return pki.LeafHash(nodes()[i].Leaf) }

// pathOf is a CONNECT that names these proxies.
func pathOf(t testing.TB, places ...int) *connect {
	t.Helper()
	offer := &tlsmsg.InspectionOffer{Authority: testAuthority, Nonce: [32]byte{1, 2, 3}}
	for _, i := range places {
		offer.Proxies = append(offer.Proxies, nodeHash(i))
	}
	return connectWith(t, offer)
}

// linkTo is a link to the proxy at place, made for c as change has it; behind it is next.
func linkTo(t testing.TB, c *connect, place int, next []byte, change ...func(cfg, server *tls.Config)) *Evidence {
	t.Helper()
	cfg := &tls.Config{
		RootCAs: parties().proxies.Pool().CertPool, ServerName: nodes()[place].Leaf.DNSNames[0], NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
	}
	server := &tls.Config{Certificates: []tls.Certificate{nodes()[place]}, NextProtos: []string{"h2"}}
	for _, f := range change {
		f(cfg, server)
	}
	d, err := NewProxyDial(cfg, c.req)
	if err != nil {
		t.Fatal(err)
	}
	near, far := connPair(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if tls.Server(far, server).HandshakeContext(t.Context()) != nil {
			far.Close()
		}
	})
	conn := tls.Client(d.Tap(near), d.Config())
	if err := conn.HandshakeContext(t.Context()); err != nil {
		near.Close()
		t.Fatal(err)
	}
	made, err := d.Evidence(conn.ConnectionState(), true)
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewLink(conn.ConnectionState(), made, c.req.Offer.Authority, time.Now(), next)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func encoded(t testing.TB, e *Evidence) []byte {
	t.Helper()
	p, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unmade is e as a connection gives it that was made for another request.
func unmade(e *Evidence) *Evidence {
	c := *e
	c.Salt, c.Messages = [32]byte{}, nil
	return &c
}

// spec: EVD-40 EVD-41
func TestWalk(t *testing.T) {
	c := pathOf(t, 0, 1, 2)
	about := encoded(t, transcriptOf(t, c))
	second := linkTo(t, c, 2, about)
	for name, first := range map[string]*Evidence{
		"made for the request":    linkTo(t, c, 1, encoded(t, second)),
		"made for another":        unmade(linkTo(t, c, 1, encoded(t, unmade(second)))),
		"one made and one not":    linkTo(t, c, 1, encoded(t, unmade(second))),
		"one not made and one is": unmade(linkTo(t, c, 1, encoded(t, second))),
	} {
		p, err := c.verifier.Walk(overTheWire(t, first))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Ahead != nil || len(p.Links) != 2 || !p.Links[0].Proxy.Equal(nodes()[1].Leaf) || !p.Links[1].Proxy.Equal(nodes()[2].Leaf) {
			t.Errorf("%s: %+v", name, p)
		}
		if p.Links[0].Fresh != (len(first.Messages) > 0) || p.Links[0].Fresh && p.Links[0].Name != "proxy2.example" || p.Links[0].Hop.ALPN != "h2" {
			t.Errorf("%s: %+v", name, p.Links[0])
		}
		if r, err := c.verifier.Verify(p.Origin); err != nil || r.Kind != Transcript || !r.PickedNone {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if _, err := c.verifier.Verify(first); err == nil {
			t.Errorf("%s: a link is evidence about the origin", name)
		}
		links, end, err := first.End()
		if err != nil || len(links) != 2 || !bytes.Equal(encoded(t, end), about) {
			t.Errorf("%s: %d links, %v", name, len(links), err)
		}
	}
	ahead, err := c.verifier.Walk(linkTo(t, c, 1, encoded(t, linkTo(t, c, 2, encoded(t, linkTo(t, c, 3, nil))))))
	if err != nil || len(ahead.Links) != 2 || ahead.Origin != nil || !ahead.Ahead.Fresh || ahead.Ahead.Name != "proxy4.example" || !ahead.Ahead.Proxy.Equal(nodes()[3].Leaf) {
		t.Errorf("%+v, %v", ahead, err)
	}
	one := pathOf(t, 0)
	if p, err := one.verifier.Walk(transcriptOf(t, one)); err != nil || len(p.Links) != 0 || p.Origin == nil {
		t.Errorf("%+v, %v", p, err)
	}
}

// Every path but the one that the client asked for, and the next step on it, is refused.
//
// spec: EVD-40 EVD-41
func TestWalkRefuses(t *testing.T) {
	c, other := pathOf(t, 0, 1), pathOf(t, 0, 1)
	about := encoded(t, transcriptOf(t, c))
	good := func() *Evidence { return linkTo(t, c, 1, about) }
	with := func(e *Evidence, change func(e *Evidence)) *Evidence {
		change(e)
		return e
	}
	nonce := pathOf(t, 0, 1)
	nonce.req.Nonce[0] ^= 1
	for name, tt := range map[string]struct {
		e    *Evidence
		c    *connect
		want Reason
	}{
		"no link":                        {e: transcriptOf(t, c), want: ReasonForeign},
		"a link too few":                 {e: linkTo(t, pathOf(t, 0, 1, 2), 1, about), c: pathOf(t, 0, 1, 2), want: ReasonForeign},
		"another proxy on the way":       {e: linkTo(t, c, 2, about), want: ReasonForeign},
		"another proxy, unmade":          {e: unmade(linkTo(t, c, 2, about)), want: ReasonForeign},
		"itself":                         {e: linkTo(t, c, 0, about), want: ReasonForeign},
		"itself ahead":                   {e: linkTo(t, c, 0, nil), want: ReasonForeign},
		"back to the first":              {e: linkTo(t, c, 1, encoded(t, linkTo(t, c, 0, nil))), want: ReasonForeign},
		"the same again":                 {e: linkTo(t, c, 1, encoded(t, linkTo(t, c, 1, nil))), want: ReasonForeign},
		"nothing behind the last":        {e: linkTo(t, c, 1, nil), want: ReasonMalformed},
		"a tail that is no evidence":     {e: linkTo(t, c, 1, []byte("hello")), want: ReasonMalformed},
		"for another nonce":              {e: linkTo(t, nonce, 1, about), want: ReasonForeign},
		"for a shorter path":             {e: linkTo(t, pathOf(t, 0), 1, about), want: ReasonForeign},
		"another salt":                   {e: with(good(), func(e *Evidence) { e.Salt[0] ^= 1 }), want: ReasonForeign},
		"another authority":              {e: with(good(), func(e *Evidence) { e.Authority = "other.example:443" }), want: ReasonForeign},
		"old":                            {e: with(good(), func(e *Evidence) { e.Time = e.Time.Add(-2 * MaxAge) }), want: ReasonStale},
		"from the future":                {e: with(good(), func(e *Evidence) { e.Time = e.Time.Add(2 * MaxSkew) }), want: ReasonStale},
		"another suite":                  {e: with(good(), func(e *Evidence) { e.Hop.Suite ^= 2 }), want: ReasonAltered},
		"another certificate":            {e: with(good(), func(e *Evidence) { e.Hop.Chain = nodes()[2].Certificate }), want: ReasonAltered},
		"a message changed":              {e: with(good(), func(e *Evidence) { e.Messages[len(e.Messages)-1] ^= 1 }), want: ReasonAltered},
		"an older TLS":                   {e: with(unmade(good()), func(e *Evidence) { e.Hop.Version = tls.VersionTLS12 }), want: ReasonMalformed},
		"another ALPN":                   {e: with(unmade(good()), func(e *Evidence) { e.Hop.ALPN = "http/1.1" }), want: ReasonMalformed},
		"a certificate that is none":     {e: with(unmade(good()), func(e *Evidence) { e.Hop.Chain = [][]byte{{1}} }), want: ReasonMalformed},
		"through one that is not named":  {e: unmade(with(linkTo(t, pathOf(t, 0), 1, nil), func(e *Evidence) { e.Next = about })), c: pathOf(t, 0), want: ReasonForeign},
		"ahead, by a name in upper case": {e: linkTo(t, pathOf(t, 0), 1, nil, func(cfg, _ *tls.Config) { cfg.ServerName = "PROXY2.example" }), c: pathOf(t, 0), want: ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.c == nil {
				tt.c = c
			}
			p, err := tt.c.verifier.Walk(tt.e)
			if err == nil {
				t.Fatalf("taken: %+v", p)
			}
			wantReason(t, err, tt.want)
		})
	}
	large, err := parties().origins.Issue(&x509.Certificate{BasicConstraintsValid: true, IsCA: true}, largeKey{})
	if err != nil {
		t.Fatal(err)
	}
	slow := unmade(good())
	slow.Hop.Chain = append(slices.Clip(slow.Hop.Chain), large.Certificate[0])
	_, err = c.verifier.Walk(slow)
	wantReason(t, err, ReasonMalformed)
	if err == nil || !strings.Contains(err.Error(), "8193 bits") {
		t.Error(err)
	}
	other.verifier.Authority = "other.example:443"
	if _, err := other.verifier.Walk(good()); err == nil {
		t.Error("a request that is not the verifier's")
	}
}

// A nest without a floor is refused at its fifth link, whatever is in it, and never parsed farther.
//
// spec: EVD-42
func TestWalkIsBounded(t *testing.T) {
	places := []int{0, 1, 2, 3, 4}
	c := pathOf(t, places...)
	next := encoded(t, transcriptOf(t, c))
	for _, i := range slices.Backward(places[1:]) {
		next = encoded(t, unmade(linkTo(t, c, i, next)))
	}
	full, err := Parse(next)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.verifier.Walk(full); err != nil || len(p.Links) != 4 {
		t.Fatalf("%+v, %v", p, err)
	}
	if links, _, err := full.End(); err != nil || len(links) != 4 {
		t.Fatalf("%d links, %v", len(links), err)
	}
	deep := encoded(t, transcriptOf(t, c))
	for i := 5; i > 0; i-- {
		deep = encoded(t, unmade(linkTo(t, c, i, deep)))
	}
	e, err := Parse(deep)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.verifier.Walk(e)
	wantReason(t, err, ReasonMalformed)
	_, _, err = e.End()
	wantReason(t, err, ReasonMalformed)
}

// What the next proxy showed may fill what evidence can be. The link then does without what nobody needs.
func TestALinkMakesRoomForWhatIsBehindIt(t *testing.T) {
	c := pathOf(t, 0, 1)
	l := linkTo(t, c, 1, nil)
	made := &Evidence{Kind: Transcript, Hop: l.Hop, Authority: l.Authority, Time: l.Time, Salt: l.Salt, Messages: l.Messages}
	cs := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: l.Hop.Suite, NegotiatedProtocol: "h2"}
	cs.PeerCertificates = append(cs.PeerCertificates, nodes()[1].Leaf)
	small, err := NewLink(cs, made, testAuthority, time.Now(), bytes.Repeat([]byte{1}, 64<<10-1200))
	if err != nil || len(small.Messages) != 0 || small.Salt != [32]byte{} {
		t.Errorf("%d bytes of messages, %v", len(small.Messages), err)
	}
	if _, err := NewLink(cs, made, testAuthority, time.Now(), bytes.Repeat([]byte{1}, 64<<10-1)); err == nil {
		t.Error("evidence above its limit")
	}
	if _, err := NewLink(cs, nil, testAuthority, time.Now(), nil); err == nil {
		t.Error("a link to nowhere")
	}
}

package evidence

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/frames"
)

func samples() map[string]*Evidence {
	hop := Hop{
		Version: 0x0304, Suite: 0x1301, Group: 29, ALPN: "http/1.1", Chain: [][]byte{{1, 2, 3}, {4}},
		OCSP: []byte("staple"), SCTs: [][]byte{{5}, {6, 7}}, Verified: true,
	}
	at := time.UnixMilli(1_700_000_000_123).UTC()
	return map[string]*Evidence{
		"claim":         {Kind: Claim, Hop: Hop{Chain: [][]byte{{1}}}, Authority: testAuthority, Time: at},
		"transcript":    {Kind: Transcript, Hop: hop, Authority: testAuthority, Time: at, Salt: [32]byte{9}, Messages: []byte{1, 0, 0, 0}},
		"authenticator": {Kind: Authenticator, Hop: hop, Authority: "[::1]:443", Time: at, HandshakeContext: make([]byte, 48), Authenticator: []byte{11}},
		"link":          {Kind: Chain, Hop: hop, Authority: testAuthority, Time: at, Salt: [32]byte{9}, Messages: []byte{1, 0, 0, 0}, Next: []byte{1, 3}},
		"link ahead":    {Kind: Chain, Hop: hop, Authority: testAuthority, Time: at, Messages: []byte{1, 0, 0, 0}},
		"link not made": {Kind: Chain, Hop: hop, Authority: testAuthority, Time: at, Next: []byte{1, 3}},
	}
}

// spec: EVD-1 EVD-42
func TestParseAppend(t *testing.T) {
	for name, e := range samples() {
		p, err := e.Append([]byte("before"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p = p[len("before"):]
		got, err := Parse(p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%s: got %+v, want %+v", name, got, e)
		}
		for i := range p {
			if _, err := Parse(p[:i]); err == nil {
				t.Errorf("%s: accepted when cut to %d of %d bytes", name, i, len(p))
			}
		}
		if _, err := Parse(append(p, 0)); err == nil {
			t.Errorf("%s: accepted with a byte behind its end", name)
		}
	}
}

// spec: EVD-1 EVD-42
func TestAppendRefusesWhatParseWould(t *testing.T) {
	many := func(n int) [][]byte {
		list := make([][]byte, n)
		for i := range list {
			list[i] = []byte{1}
		}
		return list
	}
	for name, edit := range map[string]func(e *Evidence){
		"kind 0":               func(e *Evidence) { e.Kind = 0 },
		"the kind of hop 2":    func(e *Evidence) { e.Kind = kindHop2 },
		"no authority":         func(e *Evidence) { e.Authority = "" },
		"authority with space": func(e *Evidence) { e.Authority = "a b:443" },
		"long authority":       func(e *Evidence) { e.Authority = strings.Repeat("a", 256) },
		"before 1970":          func(e *Evidence) { e.Time = time.UnixMilli(-1) },
		"after 9999":           func(e *Evidence) { e.Time = time.UnixMilli(maxTime + 1) },
		"no time":              func(e *Evidence) { e.Time = time.Time{} },
		"no chain":             func(e *Evidence) { e.Hop.Chain = nil },
		"an empty certificate": func(e *Evidence) { e.Hop.Chain = [][]byte{{1}, nil} },
		"an empty timestamp":   func(e *Evidence) { e.Hop.SCTs = [][]byte{nil} },
		"17 certificates":      func(e *Evidence) { e.Hop.Chain = many(maxChain + 1) },
		"33 timestamps":        func(e *Evidence) { e.Hop.SCTs = many(maxSCTs + 1) },
		"long ALPN":            func(e *Evidence) { e.Hop.ALPN = strings.Repeat("a", 256) },
		"a link to nowhere":    func(e *Evidence) { e.Kind, e.Messages, e.Next = Chain, nil, nil },
		"a salt of nothing":    func(e *Evidence) { e.Kind, e.Messages, e.Next, e.Salt = Chain, nil, []byte{1}, [32]byte{1} },
		"no authenticator":     func(e *Evidence) { e.Kind, e.HandshakeContext = Authenticator, make([]byte, 32) },
		"a context of 20 bytes": func(e *Evidence) {
			e.Kind, e.Authenticator, e.HandshakeContext = Authenticator, []byte{1}, make([]byte, 20)
		},
		"no messages":        func(e *Evidence) { e.Messages = nil },
		"oversized messages": func(e *Evidence) { e.Messages = make([]byte, math.MaxUint16+1) },
		"oversized in all":   func(e *Evidence) { e.Messages = make([]byte, math.MaxUint16) },
	} {
		e := *samples()["transcript"]
		edit(&e)
		if _, err := e.Append(nil); err == nil {
			t.Errorf("%s: encoded", name)
		} else {
			wantReason(t, err, ReasonMalformed)
		}
	}
}

// spec: EVD-1 EVD-42
func TestParseRefusesWhatIsOutOfRange(t *testing.T) {
	p, err := samples()["transcript"].Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	set := func(i int, b byte) []byte {
		q := bytes.Clone(p)
		q[i] = b
		return q
	}
	verified := 2 + 2 + 2 + 2 + 1 + len("http/1.1")
	for name, q := range map[string][]byte{
		"nothing":    nil,
		"version 0":  set(0, 0),
		"version 2":  set(0, 2),
		"kind 5":     set(1, 5),
		"verified 2": set(verified, 2),
		"oversized":  append(bytes.Clone(p), make([]byte, frames.MaxEvidence)...),
	} {
		_, err := Parse(q)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantReason(t, err, ReasonMalformed)
	}
	// Every length in it is right; it is only too long.
	large, err := samples()["claim"].Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	at := 2 + 2 + 2 + 2 + 1 + 1 // of the chain's length
	n := frames.MaxEvidence
	chain := []byte{byte((n + 3) >> 16), byte((n + 3) >> 8), byte(n + 3), byte(n >> 16), byte(n >> 8), byte(n)}
	large = slices.Concat(large[:at], chain, make([]byte, n), large[at+7:])
	if _, err := Parse(large); err == nil || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("%d bytes: %v", len(large), err)
	}
	if p[verified] != 1 {
		t.Fatal("the test looks for verified in the wrong place")
	}
}

func TestKindNames(t *testing.T) {
	for k, want := range map[Kind]string{Claim: "claim", Transcript: "transcript", Authenticator: "authenticator", Chain: "chain", 0x80: "kind 128"} {
		if k.String() != want {
			t.Errorf("%d is %q", uint8(k), k)
		}
	}
}

func TestErrorsUnwrap(t *testing.T) {
	cause := errors.New("cause")
	if !errors.Is(&Error{ReasonAltered, cause}, cause) || !errors.Is(&CertificateError{cause}, cause) {
		t.Error("the cause is lost")
	}
}

// spec: EVD-1 EVD-42
func FuzzParse(f *testing.F) {
	for _, e := range samples() {
		p, err := e.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := Parse(p)
		if err != nil {
			var typed *Error
			if !errors.As(err, &typed) {
				t.Fatalf("untyped %v", err)
			}
			return
		}
		if n := len(e.Hop.Chain); n < 1 || n > maxChain || len(p) > frames.MaxEvidence {
			t.Fatalf("a chain of %d in %d bytes", n, len(p))
		}
		q, err := e.Append(nil)
		if err != nil || !bytes.Equal(p, q) {
			t.Fatalf("parsed %x, appended %x: %v", p, q, err)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	for _, authority := range []string{testAuthority, "127.0.0.1:1", "[::1]:65535"} {
		f.Add(newConnect(f, authority).req.Raw)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := ParseRequest(p)
		if err != nil {
			return
		}
		q, err := r.msg.Append(nil)
		if err != nil || !bytes.Equal(p, q) {
			t.Fatalf("parsed %x, appended %x: %v", p, q, err)
		}
		if r.Nonce != r.Offer.Nonce || len(r.Offer.Proxies) == 0 || len(r.Schemes) == 0 || len(p) > MaxRequest {
			t.Fatalf("%+v", r)
		}
		if err := r.CheckProxy(r.Offer.Authority, r.Offer.Proxies[len(r.Offer.Proxies)-1]); err != nil {
			t.Fatal(err)
		}
	})
}

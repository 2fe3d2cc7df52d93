package httpsig

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vitrine/spec/vectors"
)

// FuzzRead gives a client every text for the fields of a signature. Nothing panics, and what verifies says what the
// one signature that was ever made with the key says.
func FuzzRead(f *testing.F) {
	k := newMaker(f, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	plain := k.plain()
	plain.nonce = [32]byte{1}
	head, stream := k.sign(plain.clone(), plain.params()), k.stream(plain.clone(), plain.params())
	for _, m := range []*message{head, stream} {
		f.Add(m.head.Get(SignatureInput), m.head.Get(SignatureHeader)+m.trailer.Get(SignatureHeader), m.head.Get(ContentDigest)+m.trailer.Get(ContentDigest), "text/plain")
	}
	list, err := vectors.Load("response-signature")
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range list {
		for line := range strings.Lines(string(v.Bytes)) {
			if value, ok := strings.CutPrefix(line, "Signature-Input: "); ok {
				f.Add(strings.TrimSpace(value), "vitrine=:AAAA:", "sha-256=:AAAA:", "text/html")
			}
		}
	}
	f.Fuzz(func(t *testing.T, input, signature, digest, contentType string) {
		for _, signed := range []*message{head, stream} {
			m := signed.clone()
			m.head.Set(SignatureInput, input)
			m.head.Set("Content-Type", contentType)
			set, section := m.head, "head"
			if signed == stream {
				set, section = m.trailer, "trailer"
			}
			set.Set(SignatureHeader, signature)
			set.Set(ContentDigest, digest)
			s, err := m.verify()
			if err != nil {
				if !isAny(err) {
					t.Fatalf("%s: an error of no kind: %v", section, err)
				}
				continue
			}
			want, err := signed.verify()
			if err != nil {
				t.Fatal(err)
			}
			if s.params != want.params {
				t.Fatalf("%s: %s verifies, %s was signed", section, s.params, want.params)
			}
			if got := strings.Trim(contentType, " \t"); got != "text/plain" {
				t.Fatalf("%s: content-type %q verifies", section, got)
			}
		}
	})
}

func isAny(err error) bool {
	for _, kind := range []error{ErrUnsigned, ErrMalformed, ErrUncovered, ErrAltered, ErrForeign, ErrStale, ErrKey} {
		if isKind(err, kind) {
			return true
		}
	}
	return false
}

// FuzzParseDigest never panics, and takes no digest that does not hold.
func FuzzParseDigest(f *testing.F) {
	f.Add(FormatDigest(sha256.Sum256(nil)), "")
	f.Add("sha-512=:AAAA:, sha-256=1", "a")
	f.Fuzz(func(t *testing.T, value, content string) {
		d, err := ParseDigest([]string{value})
		if err != nil {
			return
		}
		d.Write([]byte(content))
		if d.Check() == nil && !strings.Contains(value, "=:") {
			t.Fatalf("%q holds", value)
		}
	})
}

// Whatever fields a response has, it verifies as it was signed, a caller sees the values that were signed, and no one
// change to a covered value passes.
func TestAnyResponse(t *testing.T) {
	k := newMaker(t, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	value := rapid.OneOf(rapid.StringMatching(`[ -~\t]{0,20}`), rapid.StringMatching(`[ -~]{0,5}, [ -~]{0,5}`), rapid.Map(rapid.SliceOfN(rapid.ByteRange(0x20, 0xff), 0, 9), func(b []byte) string { return string(b) }))
	name := rapid.OneOf(
		rapid.SampledFrom([]string{"Content-Type", "Content-Encoding", "Location", "Set-Cookie", "Cache-Control", "Via", "Content-Length", "Vary"}),
		rapid.Map(rapid.StringMatching(`[A-Z][a-z0-9]{1,8}`), http.CanonicalHeaderKey),
	)
	rapid.Check(t, func(t *rapid.T) {
		m := k.plain()
		m.head = rapid.MapOfN(name, rapid.SliceOfN(value, 1, 3), 0, 6).Draw(t, "head")
		m.content = rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "content")
		before := http.Header(m.head).Clone()
		if rapid.Bool().Draw(t, "stream") {
			k.stream(m, m.params())
		} else {
			k.sign(m, m.params())
		}
		s, err := m.verify()
		if err != nil {
			t.Fatal(err)
		}
		seen := m.clone()
		s.Strip(seen.head)
		for field, lines := range before {
			if perHop(strings.ToLower(field)) {
				continue
			}
			trimmed := make([]string, len(lines))
			for i := range lines {
				trimmed[i] = strings.Trim(lines[i], " \t")
			}
			got := seen.head[field]
			for i := range got {
				got[i] = strings.Trim(got[i], " \t")
			}
			if strings.Trim(strings.Join(got, ", "), " \t") != strings.Trim(strings.Join(trimmed, ", "), " \t") {
				t.Fatalf("%s is %q, was %q", field, got, lines)
			}
			changed := m.clone()
			i := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
			changed.head[field][i] += fmt.Sprint("x", i)
			if _, err := changed.verify(); err == nil {
				t.Fatalf("%s passes as %q, was %q", field, changed.head[field], lines)
			}
		}
	})
}

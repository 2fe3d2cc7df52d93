package httpsig

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"strings"

	"github.com/dunglas/httpsfv"
)

// maxField bounds the lines of one field that are parsed, in bytes.
const maxField = 16 << 10

// FormatDigest writes the SHA-256 of content as the value of content-digest (RFC 9530, section 2).
func FormatDigest(sha256Sum [32]byte) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sha256Sum[:]) + ":"
}

// A Digest checks content against a content-digest. Write the content to it, then call [Digest.Check].
type Digest struct {
	want map[string][]byte
	sums map[string]hash.Hash
}

// ParseDigest reads the lines of a content-digest. Digests by other algorithms than sha-256 and sha-512 are left
// alone, and one of the two must be there; all of them must hold. The error is [ErrMalformed].
func ParseDigest(lines []string) (*Digest, error) {
	if size(lines) > maxField {
		return nil, fail(ErrMalformed, "a content-digest of %d bytes", size(lines))
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return nil, fail(ErrMalformed, "content-digest: %v", err)
	}
	d := newDigest()
	d.want = map[string][]byte{}
	for name, h := range d.sums {
		member, ok := dict.Get(name)
		if !ok {
			delete(d.sums, name)
			continue
		}
		item, _ := member.(httpsfv.Item)
		sum, ok := item.Value.([]byte)
		if !ok || len(sum) != h.Size() {
			return nil, fail(ErrMalformed, "content-digest: %s is not %d bytes", name, h.Size())
		}
		d.want[name] = sum
	}
	if len(d.want) == 0 {
		return nil, fail(ErrMalformed, "content-digest: neither sha-256 nor sha-512")
	}
	return d, nil
}

// newDigest computes every digest that a content-digest of a trailer section may turn out to have.
func newDigest() *Digest {
	return &Digest{sums: map[string]hash.Hash{"sha-256": sha256.New(), "sha-512": sha512.New()}}
}

// Write implements io.Writer. It does not fail.
func (d *Digest) Write(p []byte) (int, error) {
	for _, h := range d.sums {
		h.Write(p)
	}
	return len(p), nil
}

// Check compares the digests with the content that was written. The error is [ErrAltered].
func (d *Digest) Check() error {
	for name, want := range d.want {
		if !bytes.Equal(d.sums[name].Sum(nil), want) {
			return fail(ErrAltered, "the content's %s is another", name)
		}
	}
	return nil
}

func size(lines []string) int {
	n := 0
	for _, l := range lines {
		n += len(l) + len(", ")
	}
	return n
}

// dictionary reads a field of which labels must be unique (RFC 9421, section 4): a parser that takes the first of
// two would verify another signature than one that takes the last.
func dictionary(field string, lines []string) (*httpsfv.Dictionary, error) {
	if size(lines) > maxField {
		return nil, fail(ErrMalformed, "a %s of %d bytes", field, size(lines))
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return nil, fail(ErrMalformed, "%s: %v", field, err)
	}
	joined := strings.Join(lines, ", ")
	for _, label := range dict.Names() {
		if n := labels(joined, label); n > 1 {
			return nil, fail(ErrMalformed, "%s: the label %q %d times", field, label, n)
		}
	}
	return dict, nil
}

// labels counts where label may begin a member of a dictionary. In a quoted string it may find too many.
func labels(s, label string) int {
	n := 0
	for i := 0; ; {
		at := strings.Index(s[i:], label)
		if at < 0 {
			return n
		}
		at += i
		i = at + len(label)
		before := strings.TrimRight(s[:at], " \t")
		if after := s[i:]; (before == "" || before[len(before)-1] == ',') && (after == "" || strings.ContainsRune("=;, \t", rune(after[0]))) {
			n++
		}
	}
}

package httpsig

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"vitrine/internal/pki"
)

// maxComponents is how many things a signature may cover. It stops a proxy from making a client build bases for long.
const maxComponents = 128

// A Signature is that of one response. It is not for several goroutines.
type Signature struct {
	Params Params

	// Fresh says that the signature answers the nonce of this very request. [Signature.Check] sets it.
	Fresh bool

	// ReplayableUntil is, for a signature that is not fresh, when it expires: until then a proxy can show this
	// response to whoever asks for the same. [Signature.Check] sets it; it is zero for a fresh one.
	ReplayableUntil time.Time

	label      string
	algorithm  string // of its alg, "" without
	components []component
	lines      map[string][]string // what a caller may see of the covered fields, by their names in lower case
	params     string              // @signature-params
	trailing   bool
	content    bool          // the response may have content
	public     time.Duration // how long caches may keep the response; 0 where they may not
	signature  []byte        // nil until the trailer section has come

	leaf   *x509.Certificate // of Check
	digest *Digest
}

// Read finds the signature of a response and looks at what it covers. req is the request as the client sent it, h
// the response's header section, which it does not change. The error is an [*Error] of the kinds [ErrUnsigned],
// [ErrMalformed] and [ErrUncovered].
func Read(req *Request, status int, h http.Header) (*Signature, error) {
	inputs := h.Values(SignatureInput)
	if len(inputs) == 0 {
		return nil, &Error{Kind: ErrUnsigned}
	}
	dict, err := dictionary("signature-input", inputs)
	if err != nil {
		return nil, err
	}
	s := &Signature{content: hasContent(req.Method, status)}
	var input httpsfv.InnerList
	for _, label := range dict.Names() {
		member, _ := dict.Get(label)
		list, ok := member.(httpsfv.InnerList)
		if !ok {
			continue
		}
		if tag, _ := list.Params.Get("tag"); tag != Tag {
			continue
		}
		if s.label != "" {
			return nil, fail(ErrMalformed, "more than one signature with the tag %q", Tag)
		}
		s.label, input = label, list
	}
	if s.label == "" {
		return nil, &Error{Kind: ErrUnsigned}
	}
	if err := s.readParams(input); err != nil {
		return nil, err
	}
	if err := s.readComponents(input.Items, req, status, h); err != nil {
		return nil, err
	}
	if err := s.required(req, h); err != nil {
		return nil, err
	}
	s.public, _ = Cacheable(req, status, s.lines["cache-control"], h.Values("Vary"), len(h.Values("Set-Cookie")) > 0)
	return s, s.readDigest(h)
}

// readParams reads the parameters, each of which must be there and of its type.
func (s *Signature) readParams(input httpsfv.InnerList) error {
	var err error
	if s.params, err = httpsfv.Marshal(input); err != nil {
		return fail(ErrMalformed, "signature-input: %v", err)
	}
	var created, expires int64
	var keyID string
	for _, name := range input.Params.Names() {
		value, _ := input.Params.Get(name)
		ok := true
		switch name {
		case "created":
			created, ok = value.(int64)
		case "expires":
			expires, ok = value.(int64)
		case "keyid":
			keyID, ok = value.(string)
		case "alg":
			s.algorithm, ok = value.(string)
		case "nonce":
			var text string
			if text, ok = value.(string); ok {
				s.Params.Nonce, err = base64.StdEncoding.Strict().DecodeString(text)
				ok = err == nil && len(s.Params.Nonce) == 32
			}
		case "tag":
		default:
			ok = false
		}
		if !ok {
			return fail(ErrMalformed, "the parameter %q", name)
		}
	}
	id, err := hex.DecodeString(keyID)
	if err != nil || len(id) != len(s.Params.KeyID) || keyID != strings.ToLower(keyID) {
		return fail(ErrMalformed, "keyid %q is no SHA-256 in lower-case hex", keyID)
	}
	if created <= 0 || expires <= created {
		return fail(ErrMalformed, "created %d and expires %d", created, expires)
	}
	s.Params.KeyID = [32]byte(id)
	s.Params.Created, s.Params.Expires = time.Unix(created, 0).UTC(), time.Unix(expires, 0).UTC()
	return nil
}

// readComponents reads what is covered, and takes the values.
func (s *Signature) readComponents(items []httpsfv.Item, req *Request, status int, h http.Header) error {
	if len(items) > maxComponents {
		return fail(ErrMalformed, "%d components, at most %d", len(items), maxComponents)
	}
	s.lines = map[string][]string{}
	for _, item := range items {
		c, err := parseComponent(item)
		if err != nil {
			return err
		}
		if _, ok := s.find(c.name, c.req); ok {
			return fail(ErrMalformed, "%s twice", c.id)
		}
		if c.value, err = s.value(c, req, status, h); err != nil {
			return err
		}
		s.components = append(s.components, c)
	}
	return nil
}

// value is what stands in the base for c, and refuses what this profile does not cover.
func (s *Signature) value(c component, req *Request, status int, h http.Header) (string, error) {
	switch {
	case c.req:
		known := c.name == "@method" || c.name == "@target-uri" || slices.Contains(requestFields(), c.name)
		if !known || c.bs || c.tr {
			return "", fail(ErrMalformed, "the component %s", c.id)
		}
		value, present, err := req.requestValue(c.name)
		if err == nil && !present {
			err = fail(ErrUncovered, "%s, which was not sent", c.id)
		}
		return value, err
	case c.tr:
		if c.name != "content-digest" || c.bs {
			return "", fail(ErrMalformed, "the component %s", c.id)
		}
		s.trailing = true
		return "", nil // Finish gives it
	case c.name == "@status" && !c.bs:
		return strconv.Itoa(status), nil
	case strings.HasPrefix(c.name, "@") || c.name == "content-digest" && c.bs || c.name == "set-cookie" && !c.bs:
		return "", fail(ErrMalformed, "the component %s", c.id)
	}
	lines := h.Values(c.name)
	if len(lines) == 0 {
		return "", fail(ErrUncovered, "%s, which is not there", c.id)
	}
	value, err := fieldValue(lines, c.bs)
	if c.bs {
		s.lines[c.name] = slices.Clone(lines)
	} else {
		s.lines[c.name] = []string{value} // one line: the base does not say where another began
	}
	return value, err
}

// required checks that nothing is left out.
func (s *Signature) required(req *Request, h http.Header) error {
	need := func(name string, ofRequest bool) error {
		if _, ok := s.find(name, ofRequest); !ok {
			return fail(ErrUncovered, "%s is left out", newComponent(name, map[bool][]string{true: {"req"}}[ofRequest]...).id)
		}
		return nil
	}
	for _, name := range []string{"@status", "content-digest"} {
		if err := need(name, false); err != nil {
			return err
		}
	}
	for _, name := range responseFields() {
		if len(h.Values(name)) > 0 {
			if err := need(name, false); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"@method", "@target-uri"} {
		if err := need(name, true); err != nil {
			return err
		}
	}
	for _, name := range requestFields() {
		_, covered := s.find(name, true)
		switch sent := len(req.Header.Values(name)) > 0; {
		case s.Params.Nonce == nil && covered:
			return fail(ErrMalformed, "%s without a nonce", name)
		case s.Params.Nonce != nil && sent:
			if err := need(name, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Signature) find(name string, req bool) (component, bool) {
	i := slices.IndexFunc(s.components, func(c component) bool { return c.name == name && c.req == req })
	if i < 0 {
		return component{}, false
	}
	return s.components[i], true
}

// readDigest takes the signature and the digest where the header section has them.
func (s *Signature) readDigest(h http.Header) error {
	if s.trailing {
		s.digest = newDigest()
		return nil
	}
	var err error
	if s.digest, err = ParseDigest(h.Values(ContentDigest)); err != nil {
		return err
	}
	return s.readSignature(h)
}

func (s *Signature) readSignature(h http.Header) error {
	dict, err := dictionary("signature", h.Values(SignatureHeader))
	if err != nil {
		return err
	}
	member, _ := dict.Get(s.label)
	item, _ := member.(httpsfv.Item)
	sig, ok := item.Value.([]byte)
	if !ok || len(sig) == 0 {
		return fail(ErrMalformed, "no signature with the label %q", s.label)
	}
	s.signature = sig
	return nil
}

// Check verifies the signature where the header section has it, and else what can be known before the content: leaf
// is that of the verified evidence, nonce that of the request. The error is an [*Error].
func (s *Signature) Check(leaf *x509.Certificate, nonce [32]byte, now time.Time) error {
	if err := CheckLeaf(leaf); err != nil {
		return err
	}
	if s.Params.KeyID != pki.SPKIHash(leaf) {
		return fail(ErrForeign, "made with another key than the evidence's")
	}
	if algorithm, _ := Algorithm(leaf.PublicKey); s.algorithm != "" && s.algorithm != algorithm {
		return fail(ErrMalformed, "alg is %q and the key signs with %s", s.algorithm, algorithm)
	}
	switch {
	case s.Params.Nonce == nil && s.public == 0:
		return fail(ErrForeign, "no nonce, on a response that is not for everybody")
	case s.Params.Nonce != nil && [32]byte(s.Params.Nonce) != nonce:
		return fail(ErrForeign, "it answers another nonce: a replay")
	}
	if life, most := s.Params.Expires.Sub(s.Params.Created), max(MaxLifetime, s.public); life > most {
		return fail(ErrMalformed, "it holds for %v, at most %v", life, most)
	}
	switch {
	case now.After(s.Params.Expires):
		return fail(ErrStale, "it expired at %v", s.Params.Expires)
	case s.Params.Created.After(now.Add(maxSkew)):
		return fail(ErrStale, "it was made at %v, which is to come", s.Params.Created)
	}
	if !s.trailing {
		if err := verify(leaf.PublicKey, s.base(""), s.signature); err != nil {
			return err
		}
	}
	s.leaf = leaf
	if s.Fresh = s.Params.Nonce != nil; !s.Fresh {
		s.ReplayableUntil = s.Params.Expires
	}
	return nil
}

// Verified reports whether the signature itself has been verified: by Check, or for one that comes behind the content
// by Finish.
func (s *Signature) Verified() bool { return s.leaf != nil && (!s.trailing || s.signature != nil) }

// Covered lists what the signature covers, as it says it (RFC 9421, section 2).
func (s *Signature) Covered() []string {
	out := make([]string, len(s.components))
	for i, c := range s.components {
		out[i] = c.id
	}
	return out
}

// Strip removes from the response's header section what the signature does not cover, and what is about the
// signature. What frames the message, or proxies say about themselves, stays. A field that is covered as one value
// becomes one line.
func (s *Signature) Strip(h http.Header) {
	for name := range h {
		lower := strings.ToLower(name)
		lines, covered := s.lines[lower]
		switch {
		case covered:
			h[name] = slices.Clone(lines)
		case !kept(lower) || lower == "content-length" && !s.content:
			delete(h, name)
		}
	}
}

// StripTrailer is [Signature.Strip] for the trailer section, once it is complete.
func (s *Signature) StripTrailer(h http.Header) {
	for name := range h {
		if !s.trailing || !strings.EqualFold(name, ContentDigest) {
			delete(h, name)
		}
	}
}

// Body takes the content as it arrives, with the content coding that it arrives with. It does not fail.
func (s *Signature) Body() io.Writer { return s.digest }

// Finish is called when the content is complete, with the trailer section that came, or nil. Before it returns nil
// nothing says that what came is all that the origin sent, nor, where the signature comes behind the content, that
// any of it is the origin's. It is an error without a Check that succeeded. The error is an [*Error].
func (s *Signature) Finish(trailer http.Header) error {
	if s.leaf == nil {
		return fail(ErrAltered, "it was not checked")
	}
	if s.trailing {
		if err := s.finishTrailer(trailer); err != nil {
			return err
		}
	}
	return s.digest.Check()
}

// base is what was signed. trailing is the value of the digest in the trailer section.
func (s *Signature) base(trailing string) []byte {
	return base(behind(s.components, trailing), s.params)
}

func (s *Signature) finishTrailer(trailer http.Header) error {
	lines := trailer.Values(ContentDigest)
	if len(lines) == 0 {
		return fail(ErrUncovered, "the trailer section has no content-digest")
	}
	d, err := ParseDigest(lines)
	if err != nil {
		return err
	}
	d.sums, s.digest = s.digest.sums, d
	value, err := fieldValue(lines, false)
	if err != nil {
		return err
	}
	if err := s.readSignature(trailer); err != nil {
		return err
	}
	if err := verify(s.leaf.PublicKey, s.base(value), s.signature); err != nil {
		s.signature = nil
		return err
	}
	return nil
}

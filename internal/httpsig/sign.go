package httpsig

import (
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/dunglas/httpsfv"
)

// Label is what our signatures are called. Any other would do.
const Label = "vitrine"

// Sign signs a response whose header section h is complete, with its Content-Digest, and adds Signature-Input and
// Signature to h. It covers every field of h but those that are per hop. The error is an [*Error], or the key's.
func Sign(key crypto.Signer, p Params, req *Request, status int, h http.Header) error {
	if len(h.Values(ContentDigest)) == 0 {
		return fail(ErrUncovered, "the response has no content-digest")
	}
	d, err := newDraft(key, p, req, status, h, newComponent("content-digest"))
	if err != nil {
		return err
	}
	sig, err := sign(key, base(d.components, d.params))
	if err != nil {
		return err
	}
	h.Add(SignatureInput, Label+"="+d.params)
	h.Add(SignatureHeader, Label+"=:"+base64.StdEncoding.EncodeToString(sig)+":")
	return nil
}

// A Pending is a signature that will come behind the content.
type Pending struct {
	key        crypto.Signer
	components []component
	params     string
}

// Begin is [Sign] for a response whose content streams: it adds Signature-Input to h, and the rest follows in the
// trailer section, for which [Pending.Trailers] is to be announced.
func Begin(key crypto.Signer, p Params, req *Request, status int, h http.Header) (*Pending, error) {
	if len(h.Values(SignatureHeader)) > 0 {
		return nil, fail(ErrMalformed, "the response has a signature in its head, and a field is in one section alone")
	}
	d, err := newDraft(key, p, req, status, h, newComponent("content-digest", "tr"))
	if err != nil {
		return nil, err
	}
	h.Add(SignatureInput, Label+"="+d.params)
	return d, nil
}

// Trailers are the names of the fields that [Pending.Finish] sets.
func (*Pending) Trailers() []string { return []string{ContentDigest, SignatureHeader} }

// Finish signs content with this SHA-256 and sets the fields of the trailer section.
func (d *Pending) Finish(sha256Sum [32]byte, trailer http.Header) error {
	digest := FormatDigest(sha256Sum)
	sig, err := sign(d.key, base(behind(d.components, digest), d.params))
	if err != nil {
		return err
	}
	trailer.Set(ContentDigest, digest)
	trailer.Set(SignatureHeader, Label+"=:"+base64.StdEncoding.EncodeToString(sig)+":")
	return nil
}

func newDraft(key crypto.Signer, p Params, req *Request, status int, h http.Header, digest component) (*Pending, error) {
	if _, err := Algorithm(key.Public()); err != nil {
		return nil, err
	}
	if taken, err := hasLabel(h); taken || err != nil {
		return nil, fail(ErrMalformed, "the response is signed with the tag or label %q already, or its signature-input is no dictionary", Label)
	}
	d := &Pending{key: key}
	add := func(c component, value string) {
		c.value = value
		d.components = append(d.components, c)
	}
	add(newComponent("@status"), strconv.Itoa(status))
	value, err := fieldValue(h.Values(ContentDigest), false)
	if err != nil {
		return nil, err
	}
	if digest.tr {
		value = ""
	}
	add(digest, value)
	for _, name := range coverable(req.Method, status, h) {
		lines := h.Values(name)
		c := newComponent(name)
		if _, err := fieldValue(lines, false); err != nil || name == "set-cookie" {
			c = newComponent(name, "bs") // several cookies are not one list, and other values are not ASCII
		}
		value, err := fieldValue(lines, c.bs)
		if err != nil {
			return nil, err
		}
		add(c, value)
	}
	names := []string{"@method", "@target-uri"}
	if p.Nonce != nil {
		names = append(names, requestFields()...)
	}
	for _, name := range names {
		value, present, err := req.requestValue(name)
		if err != nil {
			return nil, err
		}
		if present {
			add(newComponent(name, "req"), value)
		}
	}
	if len(d.components) > maxComponents {
		return nil, fail(ErrMalformed, "%d components, at most %d", len(d.components), maxComponents)
	}
	d.params, err = signatureParams(d.components, p)
	return d, err
}

// coverable lists the fields of h that a signature covers, the required ones first, in lower case.
func coverable(method string, status int, h http.Header) []string {
	var out []string
	// What Connection names is removed by whoever forwards the response (RFC 9110, section 7.6.1).
	options := strings.FieldsFunc(strings.ToLower(strings.Join(h.Values("Connection"), ",")), func(r rune) bool { return strings.ContainsRune(", \t", r) })
	for name, lines := range h {
		name = strings.ToLower(name)
		if len(lines) == 0 || !isName(name) || slices.Contains(out, name) || slices.Contains(options, name) {
			continue
		}
		// Where there is no content nothing else shows whether content-length is true.
		if !perHop(name) || name == "content-length" && !hasContent(method, status) {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return out
}

func rank(name string) int {
	if i := slices.Index(responseFields(), name); i >= 0 {
		return i
	}
	return len(responseFields())
}

// hasLabel reports whether h has a signature of our label or tag.
func hasLabel(h http.Header) (bool, error) {
	for _, field := range []string{SignatureInput, SignatureHeader} {
		dict, err := dictionary(field, h.Values(field))
		if err != nil {
			return false, err
		}
		for _, label := range dict.Names() {
			member, _ := dict.Get(label)
			list, ok := member.(httpsfv.InnerList)
			if label == Label {
				return true, nil
			}
			if !ok {
				continue
			}
			if tag, _ := list.Params.Get("tag"); tag == Tag {
				return true, nil
			}
		}
	}
	return false, nil
}

// signatureParams is the value of @signature-params.
func signatureParams(components []component, p Params) (string, error) {
	params := httpsfv.NewParams()
	params.Add("created", p.Created.Unix())
	params.Add("expires", p.Expires.Unix())
	if p.Nonce != nil {
		params.Add("nonce", base64.StdEncoding.EncodeToString(p.Nonce))
	}
	params.Add("keyid", hex.EncodeToString(p.KeyID[:]))
	params.Add("tag", Tag)
	suffix, err := httpsfv.Marshal(httpsfv.InnerList{Params: params})
	if err != nil {
		return "", fail(ErrMalformed, "parameters: %v", err)
	}
	ids := make([]string, len(components))
	for i, c := range components {
		ids[i] = c.id
	}
	return "(" + strings.Join(ids, " ") + strings.TrimPrefix(suffix, "("), nil
}

package httpsig

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// A component is one thing that a signature covers (RFC 9421, section 2).
type component struct {
	name string // of a field in lower case, or with an @
	bs   bool   // its lines as byte sequences
	req  bool   // of the request
	tr   bool   // of the trailer section

	id    string // as it is serialised
	value string // of its line in the base
}

// newComponent gives its parameters in the order that is ours.
func newComponent(name string, flags ...string) component {
	c := component{name: name}
	item := httpsfv.NewItem(name)
	for _, f := range flags {
		item.Params.Add(f, true)
		c.set(f)
	}
	id, err := httpsfv.Marshal(item)
	if err != nil {
		panic(err) // names come from constants, and from fields that are tokens
	}
	c.id = id
	return c
}

func (c *component) set(flag string) bool {
	switch flag {
	case "bs":
		c.bs = true
	case "req":
		c.req = true
	case "tr":
		c.tr = true
	default:
		return false
	}
	return true
}

// parseComponent reads one identifier of a Signature-Input. Parameters that this profile does not use are errors:
// they give values another form.
func parseComponent(item httpsfv.Item) (component, error) {
	name, ok := item.Value.(string)
	if !ok || name == "" {
		return component{}, fail(ErrMalformed, "a component that is no string")
	}
	c := component{name: name}
	for _, p := range item.Params.Names() {
		if v, _ := item.Params.Get(p); v != true || !c.set(p) {
			return component{}, fail(ErrMalformed, "component %q has the parameter %q", name, p)
		}
	}
	if !isName(strings.TrimPrefix(name, "@")) {
		return component{}, fail(ErrMalformed, "component %q", name)
	}
	id, err := httpsfv.Marshal(item)
	if err != nil {
		return component{}, fail(ErrMalformed, "component %q: %v", name, err)
	}
	c.id = id
	return c, nil
}

// isName reports whether s is a token in lower case.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z') && !('0' <= c && c <= '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// fieldValue is the value of a field's lines (RFC 9421, sections 2.1 and 2.1.3).
func fieldValue(lines []string, bs bool) (string, error) {
	out := make([]string, len(lines))
	for i, line := range lines {
		line = strings.Trim(line, " \t")
		if bs {
			line = ":" + base64.StdEncoding.EncodeToString([]byte(line)) + ":"
		} else if !printable(line) {
			return "", fail(ErrMalformed, "a value that is not ASCII")
		}
		out[i] = line
	}
	return strings.Join(out, ", "), nil
}

// printable reports whether a value can stand in a signature base as it is. A newline would end its line there.
func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 0x20 && c != '\t') || c > 0x7e {
			return false
		}
	}
	return true
}

// requestValue is the value of a component of the request. More than one line of a field is an error: a handler that
// reads the first would have seen another request than one that reads them all.
func (r *Request) requestValue(name string) (value string, present bool, err error) {
	switch name {
	case "@method":
		value, present = r.Method, true
	case "@target-uri":
		value, present = r.TargetURI, true
	default:
		lines := r.Header.Values(name)
		if len(lines) == 0 {
			return "", false, nil
		}
		if name == "cookie" {
			// HTTP/2 may send it in pieces (RFC 9113, section 8.2.3); outside it is one line.
			lines = []string{strings.Join(lines, "; ")}
		}
		if len(lines) > 1 {
			return "", true, fail(ErrMalformed, "%d lines of %s in the request", len(lines), name)
		}
		value, present = strings.Trim(lines[0], " \t"), true
	}
	if !printable(value) {
		return "", true, fail(ErrMalformed, "%s of the request is not ASCII", name)
	}
	return value, present, nil
}

// credentials reports whether the request carries what makes its response somebody's own.
func (r *Request) credentials() bool {
	return len(r.Header.Values("Authorization")) > 0 || len(r.Header.Values("Cookie")) > 0
}

// base is the signature base (RFC 9421, section 2.5). params is the value of @signature-params.
func base(components []component, params string) []byte {
	var b []byte
	for _, c := range components {
		b = append(b, c.id...)
		b = append(b, ": "...)
		b = append(b, c.value...)
		b = append(b, '\n')
	}
	return append(append(b, `"@signature-params": `...), params...)
}

// behind returns components with the value of the one that stands in the trailer section, if there is one.
func behind(components []component, value string) []component {
	out := slices.Clone(components)
	for i := range out {
		if out[i].tr {
			out[i].value = value
		}
	}
	return out
}

// requestFields are the fields of a request that its response's signature covers where they were sent.
func requestFields() []string {
	return []string{"content-digest", "authorization", "cookie", "evidence-request"}
}

// responseFields are those of the response that it covers where they are there.
func responseFields() []string {
	return []string{"content-type", "content-encoding", "location", "set-cookie"}
}

// perHop says of a field that it is not the origin's alone, or frames the message: no signature of ours covers it.
func perHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
		"via", "age", "warning", "evidence-id", "inspection-options", "alt-svc", "signature", "signature-input", "content-digest":
		return true
	}
	return strings.HasPrefix(name, "proxy-")
}

// kept says of a field that no signature covers that a client keeps it: it frames the message, or a proxy says it.
func kept(name string) bool {
	switch name {
	case "content-length", "transfer-encoding", "trailer", "via", "proxy-status", "evidence-id":
		return true
	}
	return false
}

// hasContent reports whether a response to method may have content.
func hasContent(method string, status int) bool {
	return method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

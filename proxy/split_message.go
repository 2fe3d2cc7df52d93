package proxy

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// The messages of split mode, in three forms: as they came, as they are sent on, and as HTTP/1.1 for the
// reader.

// connectionFields are those that RFC 9110, section 7.6.1, and its ancestors give to one connection, and those
// that are for a proxy.
func connectionFields() []string {
	return []string{
		"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info", "Http2-Settings",
	}
}

// endToEnd is a copy of h without what is for this hop alone.
func endToEnd(h http.Header) http.Header {
	out := h.Clone()
	if out == nil {
		out = make(http.Header)
	}
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			out.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range connectionFields() {
		delete(out, name)
	}
	out.Del(fields.EvidenceID)
	for _, values := range out {
		for i, v := range values {
			values[i] = strings.Trim(v, " \t") // which is no part of a value
		}
	}
	return out
}

// requestHeader is what the origin gets of a request's fields.
func (s *session) requestHeader(req *hop.Request) http.Header {
	h := endToEnd(req.Header)
	if len(req.Header["Te"]) > 0 { // which says trailers and nothing else; so do we
		h.Set("Te", "trailers")
	}
	if cookies := h["Cookie"]; len(cookies) > 1 { // RFC 9113, section 8.2.3
		h["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	if left, given, err := fields.MaxForwards(req.Method, h); err == nil && given && left > 0 {
		h.Set(fields.MaxForwardsName, strconv.Itoa(left-1))
	}
	fields.AppendVia(h, s.version, s.front.via)
	return h
}

// checkRequest refuses what could not be sent on as it is.
func checkRequest(req *hop.Request) error {
	switch agents, sent := req.Header["User-Agent"]; {
	case !sent:
	case len(agents) != 1 || agents[0] == "":
		return badRequest("user-agent must be there once, or not at all", nil)
	}
	for i := range len(req.Path) {
		if c := req.Path[i]; c <= ' ' || c == 0x7f {
			return badRequest("a control character or space in :path", nil)
		}
	}
	if err := checkFields(req.Header); err != nil {
		return badRequest("a field that HTTP does not have", err)
	}
	if _, _, err := fields.MaxForwards(req.Method, req.Header); err != nil {
		return badRequest("max-forwards is malformed", err)
	}
	if u := targetURL(req); u.RequestURI() != req.Path {
		return badRequest(":path cannot be sent on as it is", nil)
	}
	return nil
}

func checkFields(h http.Header) error {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("the name %q", name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("the value of %s", name)
			}
		}
	}
	return nil
}

// targetURL is req's target as net/http writes it down again without a change. Opaque is what it leaves alone,
// unless that begins with two slashes.
func targetURL(req *hop.Request) *url.URL {
	u := &url.URL{Scheme: "https", Host: req.Authority}
	path, query, found := strings.Cut(req.Path, "?")
	u.RawQuery, u.ForceQuery = query, found
	if !strings.HasPrefix(path, "//") {
		u.Opaque = path
		return u
	}
	u.RawPath = path
	var err error
	if u.Path, err = url.PathUnescape(path); err != nil {
		u.Path = path
	}
	return u
}

// declared is the length that h says, -1 for none.
func declared(h http.Header) int64 {
	if v := h["Content-Length"]; len(v) == 1 {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil {
			return n
		}
	}
	return -1
}

// writeRequest writes down a request's head. With content, chunks follow.
func writeRequest(authority string, req *hop.Request, h http.Header, content bool) []byte {
	b := make([]byte, 0, 512)
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, req.Path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, authority...)
	b = append(b, "\r\n"...)
	return writeFields(b, h, content)
}

// writeResponse writes down a response's head.
func writeResponse(status int, h http.Header, content bool) []byte {
	b := make([]byte, 0, 512)
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, " \r\n"...)
	return writeFields(b, h, content)
}

func writeFields(b []byte, h http.Header, content bool) []byte {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	if content {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(b, "\r\n"...)
}

// writeEnd writes down the end of content, with its trailers.
func writeEnd(trailer http.Header) []byte { return writeFields([]byte("0\r\n"), trailer, false) }

// A chunk is a buffer for content and for what is written around it.
type chunk struct {
	bytes []byte
}

const (
	chunkHead = len("3ff7\r\n")
	chunkTail = len("\r\n")
)

func newChunk() chunk { return chunk{make([]byte, chunkHead+hop.MaxChunk+chunkTail)} }

// space is where content goes.
func (c chunk) space() []byte { return c.bytes[chunkHead : chunkHead+hop.MaxChunk] }

// written is the chunk with n bytes of content as the reader has it, and content what is sent on.
func (c chunk) written(n int) (written, content []byte) {
	head := strconv.AppendInt(make([]byte, 0, chunkHead), int64(n), 16)
	head = append(head, "\r\n"...)
	from := chunkHead - len(head)
	copy(c.bytes[from:], head)
	to := chunkHead + n
	copy(c.bytes[to:], "\r\n")
	return c.bytes[from : to+chunkTail], c.bytes[chunkHead:to]
}

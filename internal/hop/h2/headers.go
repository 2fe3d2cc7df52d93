package h2

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/internal/hop"
)

// A head is a request's or response's HEADERS, with the EVIDENCE around them, as it waits for the writer.
type head struct {
	fields  []hpack.HeaderField
	interim bool   // another one follows
	end     bool   // END_STREAM
	before  []byte // evidence in the first place
	after   []byte // evidence in the alternative place of a refusal or an ordinary response
	blank   bool   // an empty DATA frame follows at once: it ends the alternative place, which is empty
	empty   bool   // defined to have no content (RFC 9110 section 6.4.1)
	exact   bool   // content has length bytes
	length  int64
}

// writeHead writes c's head, which is nil where the stream has died.
func (w *writer) writeHead(fr *http2.Framer, c *control) error {
	h := c.head
	if h == nil {
		return nil
	}
	if err := writeEvidence(fr, c.id, h.before); err != nil {
		return err
	}
	if err := w.writeBlock(fr, c.id, h.fields, h.end); err != nil {
		return err
	}
	if h.end {
		c.st.half(sendHalf)
	}
	if h.blank {
		return fr.WriteData(c.id, false, nil)
	}
	return writeEvidence(fr, c.id, h.after)
}

// writeBlock writes one header list.
func (w *writer) writeBlock(fr *http2.Framer, id uint32, fields []hpack.HeaderField, end bool) error {
	w.out.block.Reset()
	for _, f := range fields {
		if err := w.out.enc.WriteField(f); err != nil {
			return err
		}
	}
	block := w.out.block.Bytes()
	n := min(len(block), maxFrame)
	err := fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: block[:n], EndStream: end, EndHeaders: n == len(block),
	})
	for block = block[n:]; len(block) > 0 && err == nil; block = block[n:] {
		n = min(len(block), maxFrame)
		err = fr.WriteContinuation(id, n == len(block), block[:n])
	}
	return err
}

// sensitive fields are never indexed: a secret, or a value that does not come back, has no business in
// the dynamic table.
var sensitive = map[string]bool{
	"authorization": true, "proxy-authorization": true, "cookie": true, "set-cookie": true, fieldEvidenceRequest: true,
}

const (
	fieldEvidenceRequest = "evidence-request"
	fieldEvidenceID      = "evidence-id"
)

// connectionFields belong to HTTP/1 and make an HTTP/2 message malformed (RFC 9113 section 8.2.2).
var connectionFields = map[string]bool{
	"connection": true, "proxy-connection": true, "keep-alive": true, "transfer-encoding": true, "upgrade": true,
}

// appendFields appends h in order of names. What could not be received by a strict peer is an error.
func appendFields(fields []hpack.HeaderField, h http.Header) ([]hpack.HeaderField, error) {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		lower := strings.ToLower(name)
		if !httpguts.ValidHeaderFieldName(lower) || connectionFields[lower] || lower == "host" {
			return nil, fmt.Errorf("h2: field %q cannot be sent", name)
		}
		for _, v := range h[name] {
			if err := checkValue(lower, v); err != nil || !httpguts.ValidHeaderFieldValue(v) {
				return nil, fmt.Errorf("h2: the value of field %q cannot be sent", name)
			}
			fields = append(fields, hpack.HeaderField{Name: lower, Value: v, Sensitive: sensitive[lower]})
		}
	}
	return fields, nil
}

// requestFields is what sends r, and its content-length, -1 where there is none.
func requestFields(r *hop.Request) ([]hpack.HeaderField, int64, error) {
	method := r.Method
	if method == "" {
		method = http.MethodConnect
	}
	path := r.Path
	if path == "" {
		path = "/"
	}
	connect := method == http.MethodConnect
	fields := make([]hpack.HeaderField, 0, 5+len(r.Header))
	add := func(name, value string) { fields = append(fields, hpack.HeaderField{Name: name, Value: value}) }
	add(":method", method)
	if r.Protocol != "" {
		if !connect {
			return nil, 0, fmt.Errorf("h2: method %s with a protocol", method)
		}
		add(":protocol", r.Protocol)
	}
	if !connect || r.Protocol != "" {
		scheme := r.Scheme
		if scheme == "" {
			scheme = "https"
		}
		add(":scheme", scheme)
		add(":path", path)
	}
	add(":authority", r.Authority)
	fields, err := appendFields(fields, r.Header)
	if err != nil {
		return nil, 0, err
	}
	_, declared, err := parseRequest(fields)
	if err != nil {
		return nil, 0, fmt.Errorf("h2: request cannot be sent: %w", err)
	}
	return fields, declared, nil
}

func responseFields(r *hop.Response, tunnel bool) ([]hpack.HeaderField, error) {
	if r.Status < 200 || r.Status > 999 {
		return nil, fmt.Errorf("h2: %d is not the status of a final response", r.Status)
	}
	if tunnel && r.Header.Get("Content-Length") != "" {
		return nil, errors.New("h2: content-length in the answer to a CONNECT (RFC 9110 section 9.3.6)")
	}
	return appendFields([]hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(r.Status)}}, r.Header)
}

// checkPeerLimit compares fields with the peer's SETTINGS_MAX_HEADER_LIST_SIZE.
func (s *session) checkPeerLimit(fields []hpack.HeaderField) error {
	limit := s.w.maxHeaderList.Load()
	if limit == 0 {
		return nil
	}
	if n := listSize(fields); n > int(limit) {
		return fmt.Errorf("h2: a header list of %d bytes is over the peer's limit of %d", n, limit)
	}
	return nil
}

func listSize(fields []hpack.HeaderField) (n int) {
	for _, f := range fields {
		n += int(f.Size())
	}
	return n
}

// A tooLarge error is a header list over a limit of ours; anything else is malformed.
type tooLarge string

func (e tooLarge) Error() string { return string(e) }

// checkList applies the limits that a header list has before anyone looks at it.
func (s *session) checkList(mh *http2.MetaHeadersFrame) error {
	if mh.Truncated {
		return tooLarge(fmt.Sprintf("header list over %d bytes", s.lim.HeaderBytes))
	}
	if n := len(mh.Fields); n > s.lim.HeaderFields {
		return tooLarge(fmt.Sprintf("%d header fields, at most %d", n, s.lim.HeaderFields))
	}
	return nil
}

// parseFields takes a header list apart. The Framer has checked that names are lower-case tokens, that
// values hold no control characters, and that pseudo-header fields come first, once each, and are not of
// both kinds; here is the rest of RFC 9113 sections 8.2 and 8.3.
func parseFields(fields []hpack.HeaderField) (pseudo map[string]string, h http.Header, err error) {
	pseudo = make(map[string]string, 5)
	h = make(http.Header, len(fields))
	for _, f := range fields {
		if f.IsPseudo() {
			pseudo[f.Name] = f.Value
			continue
		}
		if connectionFields[f.Name] {
			return nil, nil, fmt.Errorf("connection-specific field %q", f.Name)
		}
		if err := checkValue(f.Name, f.Value); err != nil {
			return nil, nil, err
		}
		key := http.CanonicalHeaderKey(f.Name)
		h[key] = append(h[key], f.Value)
	}
	return pseudo, h, nil
}

func checkValue(name, value string) error {
	if name == "te" && value != "trailers" {
		return errors.New("te says more than trailers")
	}
	if value != strings.Trim(value, " \t") {
		return fmt.Errorf("white space around the value of %q", name)
	}
	return nil
}

// parseRequest checks a request and returns it with its content-length, -1 where there is none.
func parseRequest(fields []hpack.HeaderField) (*hop.Request, int64, error) {
	pseudo, h, err := parseFields(fields)
	if err != nil {
		return nil, 0, err
	}
	r := &hop.Request{Method: pseudo[":method"], Authority: pseudo[":authority"], Path: pseudo[":path"], Header: h}
	protocol, extended := pseudo[":protocol"]
	_, authority := pseudo[":authority"]
	_, path := pseudo[":path"]
	scheme, hasScheme := pseudo[":scheme"]
	if _, ok := pseudo[":status"]; ok {
		return nil, 0, errors.New(":status in a request")
	}
	if !token(r.Method) {
		return nil, 0, errors.New("no valid :method")
	}
	switch connect := r.Method == http.MethodConnect; {
	case extended && !connect:
		return nil, 0, errors.New(":protocol without CONNECT")
	case extended && !token(protocol):
		return nil, 0, errors.New("no valid :protocol")
	case connect && !extended && (path || hasScheme):
		return nil, 0, errors.New("CONNECT with :path or :scheme")
	case connect && !authority:
		return nil, 0, errors.New("CONNECT without :authority")
	case (!connect || extended) && (!validScheme(scheme) || !validPath(r.Method, r.Path)):
		return nil, 0, errors.New("no valid :scheme and :path")
	}
	r.Protocol = protocol
	if scheme = strings.ToLower(scheme); scheme != "https" {
		r.Scheme = scheme
	}
	if err := checkAuthority(r, authority); err != nil {
		return nil, 0, err
	}
	declared, err := contentLength(h)
	if err != nil {
		return nil, 0, err
	}
	if r.Method == http.MethodConnect && declared >= 0 {
		return nil, 0, errors.New("CONNECT with content-length")
	}
	return r, declared, nil
}

// checkAuthority makes :authority and host agree, and moves host out of the fields.
func checkAuthority(r *hop.Request, present bool) error {
	hosts := r.Header["Host"]
	switch {
	case len(hosts) > 1:
		return errors.New("more than one host")
	case len(hosts) == 1 && present && !strings.EqualFold(hosts[0], r.Authority):
		return errors.New("host and :authority differ")
	case len(hosts) == 1:
		r.Authority, present = hosts[0], true
	}
	delete(r.Header, "Host")
	if present && !validAuthority(r.Authority) {
		return errors.New("no valid :authority")
	}
	return nil
}

// contentLength is -1 where there is none.
func contentLength(h http.Header) (int64, error) { return parseLength(h["Content-Length"]) }

func declaredLength(fields []hpack.HeaderField) (int64, error) {
	var v []string
	for _, f := range fields {
		if f.Name == "content-length" {
			v = append(v, f.Value)
		}
	}
	return parseLength(v)
}

func parseLength(v []string) (int64, error) {
	if len(v) == 0 {
		return -1, nil
	}
	n, err := strconv.ParseUint(v[0], 10, 63)
	if len(v) > 1 || err != nil || v[0][0] == '+' {
		return 0, errors.New("no valid content-length")
	}
	return int64(n), nil
}

// parseStatus checks a response's head.
func parseStatus(fields []hpack.HeaderField) (*hop.Response, error) {
	pseudo, h, err := parseFields(fields)
	if err != nil {
		return nil, err
	}
	v := pseudo[":status"]
	status, err := strconv.Atoi(v)
	if len(pseudo) != 1 || len(v) != 3 || err != nil || status < 100 {
		return nil, errors.New("no valid :status")
	}
	return &hop.Response{Status: status, Header: h}, nil
}

func token(s string) bool { return httpguts.ValidHeaderFieldName(s) }

func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !('0' <= s[i] && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.')) {
			return false
		}
	}
	return s != ""
}

func validPath(method, s string) bool {
	if s == "*" {
		return method == http.MethodOptions
	}
	return strings.HasPrefix(s, "/") && printable(s) && !strings.Contains(s, "#")
}

func validAuthority(s string) bool {
	return s != "" && len(s) <= 512 && printable(s) && !strings.ContainsAny(s, `/\?#@"<>`)
}

// printable is visible ASCII without spaces.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

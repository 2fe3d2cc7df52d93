package inspect

import (
	"bytes"
	"net/http"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
)

// maxLengthDigits keeps Content-Length below 10^18: well inside 63 bits, which some parsers overflow.
const maxLengthDigits = 18

// framing is what the fields of a header section say about where the message and the connection end.
type framing struct {
	http10  bool
	length  int64 // -1 when not declared
	chunked bool
	host    []byte
	hasHost bool
	close   bool
	expect  bool
	plain   bool // Config.Plain
}

// read goes through the fields of a header section.
func (f *framing) read(fs fields, request bool) (rule string) {
	f.length = -1
	for {
		name, value, rule, ok := fs.next()
		if rule != "" {
			return rule
		}
		if !ok {
			break
		}
		if rule := f.field(name, value, request); rule != "" {
			return rule
		}
	}
	switch {
	case f.chunked && f.length >= 0 && !f.plain:
		return RuleLengthAndChunked
	case f.chunked && f.http10:
		return RuleChunked10
	}
	return ""
}

func (f *framing) field(name, value []byte, request bool) (rule string) {
	if bytes.IndexByte(name, '_') >= 0 && framesMessage(bytes.ReplaceAll(name, []byte("_"), []byte("-"))) {
		// Gateways that turn names into variables take "_" for "-".
		return RuleFieldName
	}
	switch {
	case is(name, "content-length"):
		n, ok := parseLength(value)
		if !ok || f.length >= 0 {
			return RuleContentLength
		}
		f.length = n
	case is(name, "transfer-encoding"):
		if f.chunked || !is(value, "chunked") {
			return RuleTransferEncoding
		}
		f.chunked = true
	case is(name, "host") && request:
		if f.hasHost {
			return RuleDuplicateHost
		}
		f.hasHost, f.host = true, value
	case is(name, "connection"):
		return f.connection(value)
	case is(name, "expect") && request:
		if f.expect || !is(value, "100-continue") {
			return RuleExpect
		}
		f.expect = true
	case is(name, "trailer"):
		for name := range bytes.SplitSeq(value, []byte(",")) {
			name = bytes.Trim(name, " \t")
			if len(name) > 0 && !isToken(name) || framesMessage(name) {
				return RuleTrailer
			}
		}
	}
	return ""
}

// connection reads a Connection field: a gateway removes what it names, so it may name nothing that
// says where a message ends or whose it is.
func (f *framing) connection(value []byte) (rule string) {
	for option := range bytes.SplitSeq(value, []byte(",")) {
		option = bytes.Trim(option, " \t")
		switch {
		case len(option) == 0:
		case !isToken(option), framesMessage(option):
			return RuleConnection
		case is(option, "close"):
			f.close = true
		}
	}
	return ""
}

// framesMessage names the fields that decide where a message ends and whose it is.
func framesMessage(name []byte) bool {
	return is(name, "content-length") || is(name, "transfer-encoding") || is(name, "host") ||
		is(name, "trailer") || is(name, "connection")
}

// is compares without regard to ASCII case; lower is in lower case.
func is(p []byte, lower string) bool {
	if len(p) != len(lower) {
		return false
	}
	for i := range p {
		c := p[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// parseLength takes digits alone: no sign, no list, and no leading zero, which some read as octal.
func parseLength(p []byte) (int64, bool) {
	if len(p) == 0 || len(p) > maxLengthDigits || p[0] == '0' && len(p) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// parseVersion reads an HTTP version of 1.
func parseVersion(p []byte) (http10, ok bool) {
	switch string(p) {
	case "HTTP/1.1":
		return false, true
	case "HTTP/1.0":
		return true, true
	}
	return false, false
}

// A requestLine is RFC 9112, section 3, with exactly one space between its parts.
type requestLine struct {
	method      string
	path, query string
	authority   []byte // of an absolute target, else nil
	http10      bool
}

func parseRequestLine(line []byte) (r requestLine, rule string) {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return r, RuleRequestLine
	}
	target, version, ok := bytes.Cut(rest, []byte(" "))
	if !ok || len(target) == 0 || bytes.IndexByte(version, ' ') >= 0 {
		return r, RuleRequestLine
	}
	if r.http10, ok = parseVersion(version); !ok {
		return r, RuleVersionHTTP
	}
	if !isToken(method) {
		return r, RuleMethod
	}
	r.method = string(method)
	switch {
	case r.method == http.MethodConnect:
		return r, RuleConnect
	case is(method, "connect"), is(method, "head") && r.method != http.MethodHead:
		// Whoever compares without regard to case frames these as the methods with that name.
		return r, RuleMethod
	}
	if len(target) == 1 && target[0] == '*' {
		if r.method != http.MethodOptions {
			return r, RuleTarget
		}
		r.path = "*"
		return r, ""
	}
	if target[0] != '/' {
		const scheme = "https://"
		if len(target) < len(scheme) || !is(target[:len(scheme)], scheme) {
			return r, RuleTarget
		}
		target = target[len(scheme):]
		i := bytes.IndexByte(target, '/')
		if i <= 0 {
			return r, RuleTarget
		}
		r.authority, target = target[:i], target[i:]
	}
	path, query, _ := bytes.Cut(target, []byte("?"))
	if !validPath(path) || !validQuery(query) {
		return r, RuleTarget
	}
	r.path, r.query = string(path), string(query)
	return r, ""
}

// validPath takes the characters of RFC 3986, section 3.3, and those that browsers leave as they are. No
// backslash: some take it for a slash.
func validPath(p []byte) bool {
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '%':
			if i+2 >= len(p) || !isHex(p[i+1]) || !isHex(p[i+2]) {
				return false
			}
		case strings.IndexByte("/-._~!$&'()*+,;=:@|[]", c) < 0:
			return false
		}
	}
	return true
}

// validQuery takes what is visible and no delimiter of a URI in text.
func validQuery(p []byte) bool {
	for _, c := range p {
		if c <= ' ' || c >= 0x7f || c == '#' || c == '"' || c == '<' || c == '>' {
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// parseStatusLine reads RFC 9112, section 4. The space behind the code is not optional.
func parseStatusLine(line []byte) (status int, http10 bool, rule string) {
	version, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return 0, false, RuleStatusLine
	}
	if http10, ok = parseVersion(version); !ok {
		return 0, false, RuleVersionHTTP
	}
	if len(rest) < 4 || rest[3] != ' ' {
		return 0, false, RuleStatusLine
	}
	for _, c := range rest[:3] {
		if c < '0' || c > '9' {
			return 0, false, RuleStatusLine
		}
		status = status*10 + int(c-'0')
	}
	for _, c := range rest[4:] {
		if c < ' ' && c != '\t' || c == 0x7f {
			return 0, false, RuleStatusLine
		}
	}
	if status < 100 {
		return 0, false, RuleStatusLine
	}
	return status, http10, ""
}

// agrees says whether p, of Host or of an absolute target, is the tunnel's authority. A port that is
// absent is 443.
func (t *Tunnel) agrees(p []byte) bool {
	host, port := string(p), "443"
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], host[i+1:]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || int(n) != t.port || strconv.Itoa(t.port) != port {
		return false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return false
		}
		addr, err := netip.ParseAddr(inner)
		return err == nil && addr.Is6() && t.ip.Is6() && addr == t.ip
	}
	return is([]byte(host), t.host) && !t.ip.Is6()
}

// header is a section as a map.
func header(fs fields) http.Header {
	h := make(http.Header)
	for {
		name, value, _, ok := fs.next()
		if !ok {
			return h
		}
		key := textproto.CanonicalMIMEHeaderKey(string(name))
		h[key] = append(h[key], string(value))
	}
}

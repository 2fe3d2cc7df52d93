package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"vitrine/internal/hop"
)

// badRequest is a request that is answered by the carrier itself.
type badRequest struct {
	status int
	reason string
}

func (e *badRequest) Error() string { return "h1: " + e.reason }

func bad(status int, format string, args ...any) error {
	return &badRequest{status: status, reason: fmt.Sprintf(format, args...)}
}

// readRequest reads one request header from r, at most maxBytes of it, and returns what was read
// behind it. A malformed header is a *badRequest.
func readRequest(r io.Reader, maxBytes, maxFields int) (req *hop.Request, early []byte, err error) {
	var buf []byte
	for seen := 0; ; {
		if i := bytes.Index(buf[seen:], []byte("\n\r\n")); i >= 0 {
			end := seen + i + 3
			if end > maxBytes {
				return nil, nil, bad(http.StatusRequestHeaderFieldsTooLarge, "the request header is larger than %d bytes", maxBytes)
			}
			req, err = parseRequest(buf[:end], maxFields)
			return req, bytes.Clone(buf[end:]), err
		}
		// A bare LF LF would be the end of the header to a lenient parser.
		if err := checkLines(buf[seen:]); err != nil {
			return nil, nil, err
		}
		seen = max(0, len(buf)-2)
		if len(buf) >= maxBytes {
			return nil, nil, bad(http.StatusRequestHeaderFieldsTooLarge, "the request header is larger than %d bytes", maxBytes)
		}
		n := len(buf)
		buf = append(buf, make([]byte, 2<<10)...)
		m, err := r.Read(buf[n:])
		buf = buf[:n+m]
		if m == 0 && err != nil {
			return nil, nil, err
		}
	}
}

// checkLines refuses bytes that two parsers could cut into lines in two ways.
func checkLines(p []byte) error {
	for i, c := range p {
		switch {
		case c == '\n' && i > 0 && p[i-1] != '\r':
			return bad(http.StatusBadRequest, "a line of the request header ends without CR")
		case c == '\r' && i+1 < len(p) && p[i+1] != '\n':
			return bad(http.StatusBadRequest, "a CR stands alone in the request header")
		case c == 0:
			return bad(http.StatusBadRequest, "a NUL stands in the request header")
		}
	}
	return nil
}

// parseRequest reads a complete header, empty line included.
func parseRequest(head []byte, maxFields int) (*hop.Request, error) {
	if err := checkLines(head); err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	if len(lines)-1 > maxFields {
		return nil, bad(http.StatusRequestHeaderFieldsTooLarge, "the request has more than %d fields", maxFields)
	}
	if err := checkRequestLine(lines[0]); err != nil {
		return nil, err
	}
	hosts := 0
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !token(name) {
			return nil, bad(http.StatusBadRequest, "a line of the request header is not a field")
		}
		if strings.EqualFold(name, "host") {
			hosts++
			if !hostValue(strings.Trim(value, " \t")) {
				return nil, bad(http.StatusBadRequest, "malformed Host")
			}
		}
	}
	if hosts != 1 {
		return nil, bad(http.StatusBadRequest, "the request has %d Host fields", hosts)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return nil, bad(http.StatusBadRequest, "malformed request")
	}
	r.Body.Close()
	if r.Method != http.MethodConnect {
		return &hop.Request{Method: r.Method, Authority: r.Host, Path: r.URL.RequestURI(), Header: r.Header}, nil
	}
	if len(r.TransferEncoding) > 0 || r.ContentLength != 0 {
		return nil, bad(http.StatusBadRequest, "a CONNECT has no content")
	}
	if !authorityForm(r.RequestURI) {
		return nil, bad(http.StatusBadRequest, "the target of a CONNECT is host:port")
	}
	return &hop.Request{Method: http.MethodConnect, Authority: r.RequestURI, Header: r.Header}, nil
}

// checkRequestLine wants exactly METHOD SP TARGET SP HTTP/1.1 (RFC 9112, section 3).
func checkRequestLine(line string) error {
	part := strings.Split(line, " ")
	if len(part) != 3 || !token(part[0]) || part[1] == "" {
		return bad(http.StatusBadRequest, "malformed request line")
	}
	for _, c := range []byte(part[1]) {
		if c <= ' ' || c >= 0x7f {
			return bad(http.StatusBadRequest, "malformed request target")
		}
	}
	if part[2] != "HTTP/1.1" {
		return bad(http.StatusHTTPVersionNotSupported, "this port speaks HTTP/1.1 and HTTP/2")
	}
	return nil
}

// hostValue takes what can be uri-host and port (RFC 9110, section 7.2), and an empty value.
func hostValue(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"/<>?@\^`+"`{|}#", c) >= 0 {
			return false
		}
	}
	return true
}

// token is RFC 9110, section 5.6.2.
func token(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// authorityForm is RFC 9112, section 3.2.3, without user information.
func authorityForm(target string) bool {
	host, port, err := net.SplitHostPort(target)
	if err != nil || host == "" || strings.ContainsAny(host, "@/?#") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

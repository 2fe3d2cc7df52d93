package fields

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"
)

// Error types of RFC 9209 section 2.3 that a Vitrine proxy uses.
const (
	ErrorDNSTimeout                    = "dns_timeout"
	ErrorDNSError                      = "dns_error"
	ErrorDestinationNotFound           = "destination_not_found"
	ErrorDestinationUnavailable        = "destination_unavailable"
	ErrorDestinationIPProhibited       = "destination_ip_prohibited"
	ErrorDestinationUnroutable         = "destination_ip_unroutable"
	ErrorConnectionRefused             = "connection_refused"
	ErrorConnectionTerminated          = "connection_terminated"
	ErrorConnectionTimeout             = "connection_timeout"
	ErrorConnectionReadTimeout         = "connection_read_timeout"
	ErrorConnectionLimitReached        = "connection_limit_reached"
	ErrorTLSProtocol                   = "tls_protocol_error"
	ErrorTLSCertificate                = "tls_certificate_error"
	ErrorTLSAlertReceived              = "tls_alert_received"
	ErrorHTTPRequest                   = "http_request_error"
	ErrorHTTPRequestDenied             = "http_request_denied"
	ErrorHTTPResponseTimeout           = "http_response_timeout"
	ErrorHTTPProtocol                  = "http_protocol_error"
	ErrorHTTPResponseHeaderSectionSize = "http_response_header_section_size"
	ErrorHTTPUpgradeFailed             = "http_upgrade_failed"
	ErrorProxyInternalResponse         = "proxy_internal_response"
	ErrorProxyInternal                 = "proxy_internal_error"
	ErrorProxyConfiguration            = "proxy_configuration_error"
	ErrorProxyLoopDetected             = "proxy_loop_detected"
)

const (
	// maxProxyStatus and maxProxyStatusSize bound what a client parses, keeps and shows of a field that
	// every proxy on the way may add to.
	maxProxyStatus     = 16
	maxProxyStatusSize = 8 << 10
	// maxDetails bounds the details that we write, in bytes.
	maxDetails = 512
)

// ProxyStatus is one member of Proxy-Status (RFC 9209): how one proxy handled the request. Empty and zero
// fields are left out.
type ProxyStatus struct {
	Proxy          string // who says so; visible ASCII and spaces
	Error          string // a registered error type; see the constants
	NextHop        string // the origin or proxy that it chose
	NextProtocol   string // ALPN protocol id of the next hop
	ReceivedStatus int    // status code that came from the next hop, 100 to 999
	Details        string // one line for a person
}

// String is the member as it goes on the wire. What its type cannot hold does not get there: characters
// outside of visible ASCII and space become "?", details are cut at 512 bytes, an error type that is no
// token and a status that has not three digits are left out.
func (s ProxyStatus) String() string {
	var b strings.Builder
	b.WriteString(tokenOrString(s.Proxy))
	if isToken(s.Error) {
		b.WriteString("; error=" + s.Error)
	}
	if s.NextHop != "" {
		b.WriteString("; next-hop=" + tokenOrString(s.NextHop))
	}
	if s.NextProtocol != "" {
		b.WriteString("; next-protocol=" + tokenOrBytes(s.NextProtocol))
	}
	if statusCode(int64(s.ReceivedStatus)) {
		fmt.Fprintf(&b, "; received-status=%d", s.ReceivedStatus)
	}
	if s.Details != "" {
		b.WriteString("; details=" + quote(s.Details[:min(len(s.Details), maxDetails)]))
	}
	return b.String()
}

// ParseProxyStatus reads the members of Proxy-Status, the nearest to the origin first. An absent field is
// an empty list. Parameters that RFC 9209 does not define are skipped; a known one of the wrong type, more
// than 16 members and more than 8 KiB are errors.
func ParseProxyStatus(values []string) ([]ProxyStatus, error) {
	fail := func(kind error, format string, args ...any) ([]ProxyStatus, error) {
		return nil, &Error{Field: ProxyStatusName, Kind: kind, Why: fmt.Sprintf(format, args...)}
	}
	if n := total(values); n > maxProxyStatusSize {
		return fail(ErrTooLarge, "%d bytes, at most %d", n, maxProxyStatusSize)
	}
	list, err := httpsfv.UnmarshalList(values)
	if err != nil {
		return fail(ErrMalformed, "%v", err)
	}
	if len(list) > maxProxyStatus {
		return fail(ErrTooLarge, "%d members, at most %d", len(list), maxProxyStatus)
	}
	var out []ProxyStatus
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			return fail(ErrMalformed, "an inner list")
		}
		var s ProxyStatus
		if s.Proxy, ok = stringOrToken(item.Value); !ok {
			return fail(ErrMalformed, "a proxy that is neither string nor token")
		}
		for _, name := range item.Params.Names() {
			value, _ := item.Params.Get(name)
			if !s.set(name, value) {
				return fail(ErrMalformed, "%s has the wrong type", name)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// set takes one parameter; it reports false when the type is not the one of RFC 9209 section 2.1.
func (s *ProxyStatus) set(name string, value any) (ok bool) {
	switch name {
	case "error":
		var t httpsfv.Token
		t, ok = value.(httpsfv.Token)
		s.Error = string(t)
	case "next-hop":
		s.NextHop, ok = stringOrToken(value)
	case "next-protocol":
		switch v := value.(type) {
		case httpsfv.Token:
			s.NextProtocol, ok = string(v), true
		case []byte:
			s.NextProtocol, ok = string(v), true
		}
	case "received-status":
		var n int64
		n, ok = value.(int64)
		ok = ok && statusCode(n)
		s.ReceivedStatus = int(n)
	case "details":
		s.Details, ok = value.(string)
	default:
		ok = true
	}
	return ok
}

func statusCode(n int64) bool { return n >= 100 && n <= 999 }

func stringOrToken(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case httpsfv.Token:
		return string(v), true
	}
	return "", false
}

func tokenOrString(s string) string {
	if isToken(s) {
		return s
	}
	return quote(s)
}

// tokenOrBytes follows RFC 9209 section 2.1.3: a protocol id that can be a token must be one.
func tokenOrBytes(s string) string {
	if isToken(s) {
		return s
	}
	return ":" + base64.StdEncoding.EncodeToString([]byte(s)) + ":"
}

// isToken follows RFC 9651 section 3.3.4.
func isToken(s string) bool {
	if s == "" || s[0] != '*' && !letter(s[0]) {
		return false
	}
	for i := range len(s) {
		if !letter(s[i]) && !digit(s[i]) && !strings.ContainsRune("!#$%&'*+-.^_`|~:/", rune(s[i])) {
			return false
		}
	}
	return true
}

// quote writes a string of RFC 9651 section 3.3.3.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r > 0x7e:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }

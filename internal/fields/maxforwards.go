package fields

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// MaxForwardsName is the field that bounds how many hops a request goes (RFC 9110, section 7.6.2), as [http.Header] has it.
const MaxForwardsName = "Max-Forwards"

// MaxForwards reads Max-Forwards of a request with this method. given is false where there is none, and for methods
// other than TRACE and OPTIONS, for which it means nothing. What is above the largest int32 counts as that.
func MaxForwards(method string, h http.Header) (left int, given bool, err error) {
	values := h.Values(MaxForwardsName)
	if len(values) == 0 || method != http.MethodTrace && method != http.MethodOptions {
		return 0, false, nil
	}
	s := values[0]
	if len(values) > 1 || s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false, &Error{Field: MaxForwardsName, Kind: ErrMalformed, Why: "not one number"}
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil { // digits, and too many
		n = math.MaxInt32
	}
	return int(n), true, nil
}

// maxTrace bounds what a TRACE gets back, in bytes: as much as any client of ours takes of a refusal.
const maxTrace = 4 << 10

// Trace is a request as the content of the answer to a TRACE (message/http; RFC 9110, section 9.3.8): its fields as far as
// 4 KiB reach, and none that is a secret.
func Trace(method, target, host string, h http.Header) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, host)
	names := make([]string, 0, len(h))
	for name := range h {
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Authorization", "Proxy-Authorization", "Cookie":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			if line := name + ": " + value + "\r\n"; b.Len()+len(line) <= maxTrace-len("\r\n") {
				b.WriteString(line)
			}
		}
	}
	if b.Len() > maxTrace-len("\r\n") { // by its target
		return []byte(b.String()[:maxTrace])
	}
	return []byte(b.String() + "\r\n")
}

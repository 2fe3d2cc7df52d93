package httpsig

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Cacheable reports whether a response may be kept by any cache and shown to anybody, for how long (RFC 9111,
// sections 4.2.1 and 5.2.2), and so whether its signature may do without a nonce. It asks for more than a cache
// does: "public", an explicit time, a GET or HEAD without credentials, and no cookie. cacheControl and vary are
// the lines of these fields.
func Cacheable(req *Request, status int, cacheControl, vary []string, setsCookie bool) (time.Duration, bool) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead || req.credentials() || setsCookie || !keepable(status) {
		return 0, false
	}
	if len(req.Header.Values(ContentDigest)) > 0 || strings.Contains(strings.Join(vary, ","), "*") {
		return 0, false
	}
	public, seconds, shared := false, int64(-1), int64(-1)
	for _, directive := range strings.Split(strings.Join(cacheControl, ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.Trim(directive, " \t")), "=")
		switch name {
		case "public":
			public = true
		case "no-store", "private", "no-cache":
			return 0, false
		case "max-age":
			seconds = age(value)
		case "s-maxage":
			shared = age(value)
		}
	}
	if shared >= 0 {
		seconds = shared
	}
	if !public || seconds <= 0 {
		return 0, false
	}
	return min(time.Duration(seconds)*time.Second, MaxPublicLifetime), true
}

// age reads delta-seconds; 0 where it is none. It is bounded so that no sum of it overflows.
func age(value string) int64 {
	n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
	if err != nil {
		return 0
	}
	return int64(n)
}

// keepable says which responses caches keep (RFC 9110, section 15.1). A part is left out: no signature covers the
// range that was asked for.
func keepable(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

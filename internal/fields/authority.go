package fields

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

const (
	maxAuthority = 255
	maxHost      = 253
	maxLabel     = 63
)

// CanonicalAuthority gives the one spelling of an authority that Vitrine's parties compare, sign and send:
// "host:port" with the port always, where host is a lower-case A-label name (IDNA, UTS #46 for lookup), an
// IPv4 address, or an IPv6 address of RFC 5952 in brackets. host may have its brackets or not. A zone, a
// trailing dot, an IPv4 address in IPv6 or in any form but four decimal numbers, and more than 255 bytes
// are errors.
func CanonicalAuthority(host string, port int) (string, error) {
	if port < 1 || port > 65535 {
		return "", authorityError(ErrMalformed, "port %d", port)
	}
	canonical, err := canonicalHost(host)
	if err != nil {
		return "", err
	}
	authority := net.JoinHostPort(canonical, strconv.Itoa(port))
	if len(authority) > maxAuthority {
		return "", authorityError(ErrTooLarge, "%d bytes, at most %d", len(authority), maxAuthority)
	}
	return authority, nil
}

// ParseAuthority reads an authority that a peer sent. It accepts the spelling of [CanonicalAuthority] and
// no other: two that differ in bytes then differ in meaning. host comes without brackets.
func ParseAuthority(s string) (host string, port int, err error) {
	if len(s) > maxAuthority {
		return "", 0, authorityError(ErrTooLarge, "%d bytes, at most %d", len(s), maxAuthority)
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, authorityError(ErrMalformed, "%q is not host:port", s)
	}
	port, err = strconv.Atoi(digits)
	if err != nil {
		return "", 0, authorityError(ErrMalformed, "port %q", digits)
	}
	canonical, err := CanonicalAuthority(host, port)
	if err != nil {
		return "", 0, err
	}
	if canonical != s {
		return "", 0, authorityError(ErrMalformed, "%q must be written %q", s, canonical)
	}
	return host, port, nil
}

// canonicalHost returns the host without brackets.
func canonicalHost(host string) (string, error) {
	// A label of more bytes than this cannot become one of 63; it keeps IDNA from working on megabytes.
	if len(host) > 4*maxHost {
		return "", authorityError(ErrTooLarge, "host of %d bytes", len(host))
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(inner, ":") {
			return "", authorityError(ErrMalformed, "brackets in %q", host)
		}
		host = inner
	}
	if strings.Contains(host, ":") {
		return canonicalIPv6(host)
	}
	return canonicalName(host)
}

func canonicalIPv6(host string) (string, error) {
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "", authorityError(ErrMalformed, "%q is no IPv6 address", host)
	case addr.Zone() != "":
		return "", authorityError(ErrMalformed, "zone in %q", host)
	case addr.Is4In6():
		// Else a filter that knows 127.0.0.1 would have to know ::ffff:127.0.0.1 as well.
		return "", authorityError(ErrMalformed, "IPv4 address in IPv6 %q", host)
	}
	return addr.String(), nil
}

func canonicalName(host string) (string, error) {
	name := strings.ToLower(host)
	if !ascii(host) {
		var err error
		if name, err = idna.Lookup.ToASCII(host); err != nil {
			return "", authorityError(ErrMalformed, "%q: %v", host, err)
		}
	}
	if name == "" || len(name) > maxHost {
		return "", authorityError(ErrMalformed, "host of %d bytes, must be 1 to %d", len(name), maxHost)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if err := checkLabel(label, host); err != nil {
			return "", err
		}
	}
	if !numeric(labels[len(labels)-1]) {
		return name, nil
	}
	// Resolvers read 127.1 and 0x7f000001 as addresses (inet_aton), past a filter that read names.
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return "", authorityError(ErrMalformed, "%q is neither a name nor an IPv4 address", host)
	}
	return addr.String(), nil
}

// checkLabel takes letters, digits, hyphens inside, and the underscores that some origins do have.
func checkLabel(label, host string) error {
	if label == "" || len(label) > maxLabel {
		return authorityError(ErrMalformed, "empty label, label over %d bytes or trailing dot in %q", maxLabel, host)
	}
	for i := range len(label) {
		c := label[i]
		inside := i > 0 && i < len(label)-1
		if !('a' <= c && c <= 'z') && !digit(c) && c != '_' && !(c == '-' && inside) {
			return authorityError(ErrMalformed, "character %q in %q", c, host)
		}
	}
	if !strings.HasPrefix(label, "xn--") {
		return nil
	}
	if again, err := idna.Lookup.ToASCII(label); err != nil || again != label {
		return authorityError(ErrMalformed, "label %q of %q is no A-label", label, host)
	}
	return nil
}

// numeric follows the "ends in a number" check of the URL standard.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func authorityError(kind error, format string, args ...any) error {
	return &Error{Field: "authority", Kind: kind, Why: fmt.Sprintf(format, args...)}
}

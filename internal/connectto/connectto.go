// Package connectto is curl's --connect-to: rules that send a connection elsewhere than its
// authority says, while names, certificates and Host stay those of the authority.
//
// Call [ParseRules] and, before dialling, [Rules.Lookup].
package connectto

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxRule bounds a rule: two host names of 255 bytes, two ports, separators.
const maxRule = 540

// A Rule is one HOST:PORT:ADDR:PORT. The first pair says what it matches and the second where the
// connection goes instead. An empty part of the first matches anything; an empty part of the second
// changes nothing. IPv6 literals stand in brackets.
type Rule struct {
	Host string // lower case, without brackets; "" matches any
	Port int    // 0 matches any
	Addr string // without brackets; "" keeps the host
	To   int    // 0 keeps the port
}

// Parse reads one rule.
func Parse(s string) (Rule, error) {
	bad := func(why string) (Rule, error) {
		return Rule{}, fmt.Errorf("connect-to %q: %s; want HOST:PORT:ADDR:PORT", s, why)
	}
	if len(s) > maxRule {
		return Rule{}, fmt.Errorf("connect-to: a rule of %d bytes is too long", len(s))
	}
	var parts [4]string
	rest := s
	for i := range parts {
		var err error
		parts[i], rest, err = next(rest, i < 3)
		if err != nil {
			return bad(err.Error())
		}
	}
	host, err := parseHost(parts[0])
	if err != nil {
		return bad(err.Error())
	}
	port, err := parsePort(parts[1])
	if err != nil {
		return bad(err.Error())
	}
	addr, err := parseHost(parts[2])
	if err != nil {
		return bad(err.Error())
	}
	to, err := parsePort(parts[3])
	if err != nil {
		return bad(err.Error())
	}
	return Rule{Host: host, Port: port, Addr: addr, To: to}, nil
}

// next cuts the first part off s, and the colon behind it when more parts follow.
func next(s string, more bool) (part, rest string, err error) {
	end := strings.IndexByte(s, ':')
	if strings.HasPrefix(s, "[") {
		end = strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", fmt.Errorf("a bracket is not closed")
		}
		end++
		if end < len(s) && s[end] != ':' {
			return "", "", fmt.Errorf("text behind a bracket")
		}
		if end == len(s) {
			end = -1
		}
	}
	if !more {
		if end >= 0 {
			return "", "", fmt.Errorf("more than four parts")
		}
		return s, "", nil
	}
	if end < 0 {
		return "", "", fmt.Errorf("fewer than four parts")
	}
	return s[:end], s[end+1:], nil
}

func parseHost(s string) (string, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", fmt.Errorf("%s is not an IPv6 literal", s)
		}
		return ip.String(), nil
	}
	if strings.ContainsAny(s, "/@[] \t\r\n") {
		return "", fmt.Errorf("%q is not a host", s)
	}
	return strings.ToLower(s), nil
}

func parsePort(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return int(n), nil
}

// String is the rule as [Parse] reads it.
func (r Rule) String() string {
	return bracket(r.Host) + ":" + number(r.Port) + ":" + bracket(r.Addr) + ":" + number(r.To)
}

func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func number(port int) string {
	if port == 0 {
		return ""
	}
	return strconv.Itoa(port)
}

// Rules are tried in order; the first that matches decides, as in curl.
type Rules []Rule

// ParseRules reads rules in their order.
func ParseRules(rules ...string) (Rules, error) {
	var list Rules
	for _, s := range rules {
		r, err := Parse(s)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// Lookup says where a connection to host and port goes. host has no brackets and is compared without
// regard to case. ok is false when no rule matches; addr and to are then host and port.
func (rs Rules) Lookup(host string, port int) (addr string, to int, ok bool) {
	name := strings.ToLower(host)
	if ip, err := netip.ParseAddr(host); err == nil {
		name = ip.String()
	}
	for _, r := range rs {
		if r.Host != "" && r.Host != name || r.Port != 0 && r.Port != port {
			continue
		}
		addr, to = host, port
		if r.Addr != "" {
			addr = r.Addr
		}
		if r.To != 0 {
			to = r.To
		}
		return addr, to, true
	}
	return host, port, false
}

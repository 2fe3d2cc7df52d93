package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"

	"vitrine/internal/fields"
	"vitrine/internal/hosts"
)

const (
	maxID     = 64  // what a verdict carries of a rule
	maxReason = 256 // and of its reason
	// maxWhen bounds the work of compiling an expression, whose parser is recursive.
	maxWhen = 4 << 10
)

// Parse reads a policy; name is what errors call the file. An error is an [*Errors], which has every
// problem that was found.
func Parse(name string, text []byte) (*Policy, error) {
	ps := &problems{file: name}
	if len(text) > maxFile {
		ps.list = append(ps.list, &Error{File: name, Message: "more than 1 MiB, which is no policy"})
		return nil, ps.err()
	}
	if at := invalidUTF8(text); at >= 0 {
		ps.lines = linesOf(text)
		ps.add(at, "not UTF-8")
		return nil, ps.err()
	}
	ps.lines = linesOf(text)
	root := readDocument(text, ps)
	if root == nil {
		return nil, ps.err()
	}
	r := reader{problems: ps, policy: &Policy{scan: defaultScan}}
	r.document(root)
	if err := ps.err(); err != nil {
		return nil, err
	}
	r.policy.check(ps)
	r.policy.warnings = ps.warnings
	return r.policy, nil
}

func invalidUTF8(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// A reader makes a policy of a document.
type reader struct {
	*problems
	policy     *Policy
	lang       *language // made for the first rule
	everything bool      // a host so far matches every name
}

func (r *reader) document(root *node) {
	r.known(root, "scan_bytes", "targets", "host", "rule")
	if n := root.keys["scan_bytes"]; n != nil {
		if v, ok := r.integer(n, "scan_bytes"); ok && (v < 1 || v > maxScan) {
			r.add(n.at, "scan_bytes is %d; it is 1 to %d", v, maxScan)
		} else if ok {
			r.policy.scan = v
		}
	}
	if n := root.keys["targets"]; n != nil {
		r.targets(n)
	}
	for i, n := range r.tables(root.keys["host"], "host") {
		if i == maxHosts {
			r.add(n.at, "more than %d [[host]] tables", maxHosts)
			break
		}
		r.host(n)
	}
	ids := make(map[string]bool)
	for i, n := range r.tables(root.keys["rule"], "rule") {
		if i == maxRules {
			r.add(n.at, "more than %d [[rule]] tables", maxRules)
			break
		}
		r.rule(n, ids)
	}
}

func (r *reader) targets(n *node) {
	if n.kind != unstable.InlineTable {
		r.add(n.at, "targets is a table: [targets]")
		return
	}
	r.known(n, "ports", "private")
	if list := n.keys["ports"]; list != nil {
		for _, item := range r.list(list, "ports", 1<<16) {
			port, ok := r.integer(item, "a port")
			switch {
			case !ok:
			case port < 1 || port > 65535:
				r.add(item.at, "port %d; ports are 1 to 65535", port)
			default:
				r.policy.ports = append(r.policy.ports, port)
			}
		}
		if list.kind == unstable.Array && len(list.items) == 0 {
			r.add(list.at, "ports is empty: nothing could be dialled; leave it out for 443")
		}
	}
	if list := n.keys["private"]; list != nil {
		for _, item := range r.list(list, "private", maxPatterns) {
			if prefix, ok := r.prefix(item); ok {
				r.policy.private = append(r.policy.private, prefix)
			}
		}
	}
}

// prefix reads a range of addresses, or one.
func (r *reader) prefix(n *node) (netip.Prefix, bool) {
	s, ok := r.str(n, "a range of addresses")
	if !ok {
		return netip.Prefix{}, false
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		r.add(n.at, "%s is neither an address nor a range like 10.0.0.0/8", quote(s))
	case prefix.Addr().Is4In6():
		r.add(n.at, "%s: write the range of IPv4 addresses as such", quote(s))
	case prefix != prefix.Masked():
		r.add(n.at, "%s has bits behind its length; did you mean %s?", quote(s), prefix.Masked())
	default:
		return prefix, true
	}
	return netip.Prefix{}, false
}

func (r *reader) host(n *node) {
	r.known(n, "match", "modes")
	h := host{modes: []fields.Mode{}}
	if match := r.required(n, "match", "[[host]]"); match != nil {
		patterns := []*node{match}
		if match.kind == unstable.Array {
			patterns = r.list(match, "match", maxPatterns)
			if len(match.items) == 0 {
				r.add(match.at, "match is empty: it matches nothing")
			}
		}
		for _, item := range patterns {
			s, ok := r.str(item, "match")
			if !ok {
				continue
			}
			pattern, err := hosts.Parse(s)
			if err != nil {
				r.add(item.at, "%v", err)
				continue
			}
			h.match = append(h.match, pattern)
		}
	}
	if modes := r.required(n, "modes", "[[host]]"); modes != nil {
		for _, item := range r.list(modes, "modes", 8) {
			s, ok := r.str(item, "a mode")
			m := fields.Mode(s)
			switch {
			case !ok:
			case m != fields.Intact && m != fields.Split && m != fields.Blind:
				r.add(item.at, "%s is no mode; the modes are intact, split and blind", quote(s))
			case slices.Contains(h.modes, m):
				r.add(item.at, "%s is there twice", s)
			default:
				h.modes = append(h.modes, m)
			}
		}
	}
	if r.everything {
		r.warn(n.at, "", "this [[host]] is never reached: one before it matches every host")
	}
	r.everything = r.everything || slices.ContainsFunc(h.match, func(p hosts.Pattern) bool { return p.String() == "*" })
	r.policy.hosts = append(r.policy.hosts, h)
}

func (r *reader) rule(n *node, ids map[string]bool) {
	r.known(n, "id", "when", "action", "reason", "description")
	made := &rule{at: n.at}
	if id := r.required(n, "id", "[[rule]]"); id != nil {
		if s, ok := r.str(id, "id"); ok {
			made.id = s
			switch {
			case !isID(s):
				r.add(id.at, "%s is no id: 1 to %d of a-z, 0-9, \".\", \"_\" and \"-\"", quote(s), maxID)
			case s == RuleError || s == RuleUnreadable:
				r.add(id.at, "%s is what the proxy says of rules that fail; choose another id", s)
			case ids[s]:
				r.add(id.at, "the id %s is there twice", s)
			}
			ids[s] = true
		}
	}
	if action := r.required(n, "action", "[[rule]]"); action != nil {
		if s, ok := r.str(action, "action"); ok {
			if made.kill = s == "kill"; !made.kill && s != "allow" {
				r.add(action.at, "%s is no action; the actions are kill and allow", quote(s))
			}
		}
	}
	if reason := n.keys["reason"]; reason != nil {
		s, ok := r.str(reason, "reason")
		switch {
		case !ok:
		case len(s) > maxReason:
			r.add(reason.at, "reason has %d bytes, at most %d", len(s), maxReason)
		case strings.ContainsFunc(s, func(c rune) bool { return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }):
			// A verdict that has one is refused: both ends show it on a terminal.
			r.add(reason.at, "reason is one line for a person: it has a character that controls the display")
		case !made.kill && n.keys["action"] != nil && n.keys["action"].text == "allow":
			r.add(reason.at, "reason is what a kill says; for an allow rule there is description")
		}
		made.reason = s
	}
	if description := n.keys["description"]; description != nil {
		r.str(description, "description")
	}
	if when := r.required(n, "when", "[[rule]]"); when != nil {
		made.at = when.at
		if _, ok := r.str(when, "when"); ok {
			if len(when.text) > maxWhen {
				r.add(when.at, "when has %d bytes, at most %d", len(when.text), maxWhen)
			} else {
				r.compile(made, when)
			}
		}
	}
	r.policy.rules = append(r.policy.rules, made)
}

func isID(s string) bool {
	return len(s) >= 1 && len(s) <= maxID && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-'
	})
}

// known reports the keys of n that are none of names.
func (r *reader) known(n *node, names ...string) {
	for _, k := range n.names {
		if !slices.Contains(names, k.name) {
			r.add(k.at, "unknown key %s; there are %s", quote(k.name), strings.Join(names, ", "))
		}
	}
}

// tables are the items of n, an array of tables.
func (r *reader) tables(n *node, name string) []*node {
	if n == nil {
		return nil
	}
	var list []*node
	if n.kind == unstable.Array {
		for _, item := range n.items {
			if item.kind == unstable.InlineTable {
				list = append(list, item)
			}
		}
	}
	if n.kind != unstable.Array || len(list) < len(n.items) {
		r.add(n.at, "%s is a list of tables: write [[%s]]", name, name)
		return nil
	}
	return list
}

func (r *reader) required(n *node, name, in string) *node {
	v := n.keys[name]
	if v == nil {
		r.add(n.at, "%s has no %s", in, name)
	}
	return v
}

// list is the items of n, at most limit.
func (r *reader) list(n *node, name string, limit int) []*node {
	switch {
	case n.kind != unstable.Array:
		r.add(n.at, "%s is a list", name)
		return nil
	case len(n.items) > limit:
		r.add(n.at, "%s has %d items, at most %d", name, len(n.items), limit)
		return nil
	}
	return n.items
}

func (r *reader) str(n *node, name string) (string, bool) {
	if n.kind != unstable.String {
		r.add(n.at, "%s is a string", name)
		return "", false
	}
	return n.text, true
}

func (r *reader) integer(n *node, name string) (int, bool) {
	if n.kind != unstable.Integer {
		r.add(n.at, "%s is a whole number", name)
		return 0, false
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 0, 32)
	if err != nil {
		r.add(n.at, "%s is too large", name)
		return 0, false
	}
	return int(v), true
}

// quote shows what stands in the file, cut where it is long.
func quote(s string) string {
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return strconv.Quote(s)
}

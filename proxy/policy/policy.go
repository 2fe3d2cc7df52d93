// Package policy reads the file in which an operator says which hosts a proxy lets in, in which modes, and
// what it kills: TOML, with rules in CEL (https://cel.dev).
//
// Call [Load] and put what it returns into a proxy.Proxy: [Policy.Modes] says what a host may get,
// [Policy.Ports] and [Policy.Private] what may be dialled, and [Policy.Inspector] judges exchanges by the
// rules. A file that has a problem is no policy at all: [Errors] has all of them, with their places.
//
//	scan_bytes = 65536             # of a body's text that rules can see
//
//	[targets]
//	ports   = [443]
//	private = ["10.0.0.0/8"]       # may be dialled although not public
//
//	[[host]]                       # the first that matches says what a host gets
//	match = "*.example"
//	modes = ["intact", "split"]    # and blind; [] refuses; a host that nothing matches gets intact
//
//	[[rule]]                       # the first that matches decides
//	id     = "no-macros"
//	when   = 'response.status == 200 && response.body.contains("MACRO")'
//	action = "kill"                # or "allow"
//	reason = "documents with macros are not let in"
//
// # Rules
//
// A rule sees request.host (the name, without a port), method, path, query, headers, body and size, and
// response.status, headers, body and size. path and query are as on the wire: /%61 is not /a, for a rule, and
// most origins think it is. headers is a map of lower-case names, without Host; several values of a name are
// joined with ", ". request.header("x") is the first value of a field, in any case, or "". Trailers are not
// seen. body is text, as its bytes are, with gzip and deflate undone, cut at scan_bytes. Most origins do not
// undo them, and so a request's body in one of them is two texts: a kill rule kills by either, and an allow
// rule allows by both. A response's is what a client decodes; one that asked for no coding may read the bytes
// as they are, which request.header("accept-encoding") == "" && response.header("content-encoding") != ""
// tells. size is the number of the body's bytes on the wire: what Content-Length says, else what was seen, of
// a body whose text was cut scan_bytes. Rules judge final responses; interim ones (1xx) pass.
// Every exchange is judged by itself: who gets a document in ranges shows no rule the whole of it.
//
// Every rule is asked when the request's head is there, when its body is known (at its end, or at
// scan_bytes), when the response's head is there, and when that body is known, until what is known decides
// it. A request is held while a rule that could still matter needs its body or its size; one that was let go
// is not held again. A response is held until every rule that could matter is decided. So a rule that looks
// at the response cannot keep the request from the origin. A client that waits for 100 (Continue) gets none
// while its request is held: it sends the body when it has waited enough, or the time for holding ends it.
//
// What goes wrong ends on the safe side. A kill rule that cannot be evaluated kills, with the rule
// [RuleError], and one that needs a body in a content coding that is not undone kills with
// [RuleUnreadable]; an allow rule then does not match.
package policy

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"cel.dev/cel-go/cel"

	"vitrine/internal/fields"
	"vitrine/internal/hosts"
	"vitrine/proxy/inspect"
)

// The rules of kills that no rule of the file asked for. A file cannot use them as ids.
const (
	RuleError      = "rule-error" // a kill rule that could not be evaluated; the reason names it
	RuleUnreadable = "unreadable" // a kill rule that needs a body which cannot be read
)

const (
	// maxFile stops a policy from being a way to fill memory: a name that leads to a device, or a log.
	maxFile = 1 << 20
	// maxHosts and maxPatterns bound what a CONNECT is compared with, and maxRules what an exchange is:
	// anyone who may connect makes the proxy do that work.
	maxHosts    = 1000
	maxPatterns = 1000
	maxRules    = 256

	defaultScan = 64 << 10
	// maxScan bounds each text that is kept of a body, and that rules go through: twice it is less than
	// what a tunnel may hold back at all.
	maxScan = 512 << 10
)

// A Policy is what a file says. It does not change and is safe for concurrent use.
type Policy struct {
	scan     int
	ports    []int
	private  []netip.Prefix
	hosts    []host
	rules    []*rule
	patterns [allNeeds + 1][]*cel.AttributePatternType // by what is unknown
	warnings []Warning
}

// host is a [[host]].
type host struct {
	match []hosts.Pattern
	modes []fields.Mode
}

// A Warning is about a rule that does what it says, but perhaps not what was meant.
type Warning struct {
	Line, Column int    // of the rule
	Rule         string // its id; empty where a [[host]] is meant
	Message      string
}

// Load reads the policy in the file at path, of at most 1 MiB. An error about what is in it is an [*Errors].
func Load(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return Parse(path, text)
}

// Modes are those that the authority of a CONNECT ("host:port", canonical) may get, of intact, split and blind. It
// is empty, and not nil, where the host is refused.
func (p *Policy) Modes(authority string) []fields.Mode {
	for _, h := range p.hosts {
		if hosts.MatchAny(h.match, authority) {
			return slices.Clone(h.modes)
		}
	}
	return []fields.Mode{fields.Intact}
}

// Allows says whether an entry of the file has m among its modes.
func (p *Policy) Allows(m fields.Mode) bool {
	return slices.ContainsFunc(p.hosts, func(h host) bool { return slices.Contains(h.modes, m) })
}

// Ports are those that may be dialled; nil where the file does not say.
func (p *Policy) Ports() []int { return slices.Clone(p.ports) }

// Private are the addresses that may be dialled although they are not public.
func (p *Policy) Private() []netip.Prefix { return slices.Clone(p.private) }

// Hosts is how many [[host]] entries there are.
func (p *Policy) Hosts() int { return len(p.hosts) }

// Rules are the ids of the rules, in their order.
func (p *Policy) Rules() []string {
	ids := make([]string, len(p.rules))
	for i, r := range p.rules {
		ids[i] = r.id
	}
	return ids
}

// Warnings are about what is allowed and may still surprise, in the order of the file.
func (p *Policy) Warnings() []Warning { return slices.Clone(p.warnings) }

// Inspector judges exchanges by the rules. It is nil where there is none.
func (p *Policy) Inspector() inspect.Inspector {
	if len(p.rules) == 0 {
		return nil
	}
	return inspector{p}
}

package policy

import (
	"net"
	"net/http"
	"strings"

	"cel.dev/cel-go/cel"

	"vitrine/proxy/inspect"
)

// facts are what is known of an exchange at one moment. They do not change, so that rules can be evaluated
// on another goroutine. They are an activation of CEL's.
type facts struct {
	request  *request
	raw      *request // as who does not undo its content coding reads it; nil where there is none to undo
	response *response
	unknown  need
	lost     need // of unknown: a body that cannot be read
	patterns []*cel.AttributePatternType
	text     int // bytes that a rule may have to go through
}

// ResolveName implements cel.Activation.
func (f *facts) ResolveName(name string) (any, bool) {
	switch name {
	case nameRequest:
		return f.request, true
	case nameResponse:
		return f.response, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (f *facts) Parent() cel.Activation { return nil }

// unknownPatterns are the names of what is unknown.
func unknownPatterns(unknown need) []*cel.AttributePatternType {
	var list []*cel.AttributePatternType
	add := func(n need, name string, fields ...string) {
		if unknown&n == 0 {
			return
		}
		p := cel.AttributePattern(name)
		for _, f := range fields {
			p.QualString(f)
		}
		list = append(list, p)
	}
	if add(wholeRequest, nameRequest); unknown&wholeRequest == 0 {
		add(requestBody, nameRequest, "body")
		add(requestSize, nameRequest, "size")
	}
	if add(responseHead, nameResponse); unknown&responseHead == 0 {
		add(responseBody, nameResponse, "body")
		add(responseSize, nameResponse, "size")
	}
	return list
}

// A message is a request or a response that arrives.
type message struct {
	begun    bool // its final head is there
	known    bool // its body is: it ended, or scan bytes of it were seen
	opaque   bool
	coded    bool
	declared int64 // -1 when the head does not say
	seen     int   // bytes of text
	wire     int64 // bytes on the wire
	text     strings.Builder
	// Of a request, the first of coded bytes count as a text of their own: most origins read those.
	both bool
	raw  strings.Builder
	read int // bytes of that
}

// begin is called with the size that the head declares.
func (m *message) begin(declared int64) { m.begun, m.declared = true, declared }

// add reads the body of a part, and says whether that tells something new. It keeps text of at most scan
// bytes, and only if keep is set; what comes behind them changes nothing, so that it does not matter how a
// body is cut into parts.
func (m *message) add(p *inspect.Part, scan int, keep bool) (news bool) {
	if m.known {
		return false
	}
	news = p.Head != nil || p.Opaque && !m.opaque
	m.opaque = m.opaque || p.Opaque
	m.coded = m.coded || p.Coded.Len() > 0
	if m.coded {
		m.wire += int64(p.Coded.Len())
	} else {
		m.wire += int64(p.Body.Len())
	}
	if n := min(p.Coded.Len(), scan-m.read); m.both && n > 0 {
		m.read += n
		if keep {
			m.raw.WriteString(p.Coded.Slice(0, n).String())
		}
	}
	if n := min(p.Body.Len(), scan-m.seen); n > 0 {
		m.seen += n
		if keep && !m.opaque {
			m.text.WriteString(p.Body.Slice(0, n).String())
		}
	}
	m.known = p.End || m.seen == scan && (m.read == scan || !m.both || !m.coded)
	if m.seen == scan && m.declared < 0 {
		m.wire = int64(scan)
	}
	return news || m.known
}

// size is what rules are told; it is valid where the head says it or the body is known.
func (m *message) size() int64 {
	if m.declared >= 0 {
		return m.declared
	}
	return m.wire
}

// missing is what of body and size is not known, and what of that never will be.
func (m *message) missing(body, size need) (unknown, lost need) {
	if !m.known || m.opaque {
		unknown |= body
	}
	if m.opaque {
		lost |= body
	}
	if !m.known && m.declared < 0 {
		unknown |= size
	}
	return unknown, lost
}

// headers are the two maps that rules see, and how much text there is in them.
func headers(h http.Header) (joined, first map[string]string, size int) {
	joined, first = make(map[string]string, len(h)), make(map[string]string, len(h))
	for name, values := range h {
		name = strings.ToLower(name)
		joined[name], first[name] = strings.Join(values, ", "), values[0]
		size += fieldWork + len(name) + len(joined[name])
	}
	return joined, first, size
}

// hostOf is the name in an authority.
func hostOf(authority string) string {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		return authority
	}
	return strings.ToLower(host)
}

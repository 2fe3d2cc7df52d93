package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// A refusal is a 470 (Inspection Required).
type refusal struct {
	options []fields.Mode
	// justified says that evidence shows the origin itself to have picked no itls token although it
	// was offered them all.
	justified bool
	// claim says that the evidence is the proxy's word about the origin.
	claim bool
	// served says that it was no 470: the tunnel opened, and the user accepts none.
	served bool
	why    string

	// What was verified, and when; nil where there was nothing to verify.
	result *evidence.Result
	raw    []byte
	at     time.Time
}

func (r *refusal) offers(m fields.Mode) bool { return slices.Contains(r.options, m) }

// level is what an exchange with a proxy that could change it is at; "" where there can be none.
func (r *refusal) level() Level {
	switch {
	case !r.offers(fields.Split):
		return ""
	case r.claim:
		return Claimed
	case r.justified:
		return Attested
	}
	return ""
}

// levelError names what is on offer, and what to accept for it. Who accepts intact gets less besides only
// where that is justified; else the lower level has to be asked for alone.
func (r *refusal) levelError(a *attempt, why string, besides bool) *LevelError {
	e := &LevelError{Authority: a.authority, Accepted: a.levels, Why: why}
	for _, o := range r.options {
		e.Offered = append(e.Offered, string(o))
	}
	option := Level("")
	below := r.level()
	switch {
	case !a.accepts(Intact) && r.offers(fields.Intact) && !r.justified && !r.claim:
		option = Intact
	case r.offers(fields.Blind) && !(besides && a.accepts(Blind)):
		option = Blind
	case a.split && below != "" && !(besides && a.accepts(below)):
		option = below
	default:
		return e
	}
	e.Option = string(option)
	if besides {
		e.Option = join(append(slices.Clone(a.levels), option), ",")
	}
	return e
}

// refusalOf reads an answer to a CONNECT that opened no tunnel: a refusal for a 470, an error for all
// else. check verifies the evidence that came with it, at the time now; nil where none was asked for.
func refusalOf(resp *hop.Response, authority string, now time.Time, check func() (*evidence.Result, error)) (*refusal, error) {
	if resp.Status != frames.StatusInspectionRequired {
		return nil, statusError(resp, authority)
	}
	options, err := fields.ParseOptions(resp.Header.Values(fields.InspectionOptions))
	if err != nil {
		return nil, &UnreachableError{Party: PartyProxy, Status: resp.Status, Err: err}
	}
	r := &refusal{options: options, why: "the proxy does not carry it readable"}
	if check == nil {
		return r, nil
	}
	if len(resp.Evidence) == 0 {
		r.why = "the proxy refuses it and shows no evidence that this is the origin's doing"
		return r, nil
	}
	result, err := check()
	if err != nil {
		return nil, err
	}
	r.result, r.raw, r.at = result, resp.Evidence, now
	switch {
	case result.Kind == evidence.Claim:
		r.claim = true
		r.why = "the proxy refuses it, and that it is the origin's doing is the proxy's word alone"
	case !result.OfferedTokens:
		r.why = "the proxy refuses it, and the evidence shows that it did not offer the origin an inner session"
	case !result.PickedNone:
		r.why = "the proxy refuses it, although the evidence shows that the origin would take an inner session"
	default:
		r.justified, r.why = true, "the origin does not speak inner sessions, as its signature shows"
	}
	return r, nil
}

// statusError maps an answer to a CONNECT. What the proxy could not do because of the origin is the
// origin's; what it would not do, whoever asked, is the proxy's.
func statusError(resp *hop.Response, authority string) error {
	last := lastStatus(resp.Header)
	text := fmt.Sprintf("the proxy answered %d %s", resp.Status, http.StatusText(resp.Status))
	text = strings.TrimSpace(text)
	if last.Error != "" {
		text += ": " + printable(last.Error)
	}
	if last.Details != "" {
		text += ": " + printable(last.Details)
	}
	cause := errors.New(text)
	switch {
	case last.Error == fields.ErrorTLSCertificate:
		return &TrustError{Party: PartyOrigin, Err: fmt.Errorf("%s, says the proxy: %w", authority, cause)}
	case resp.Status == http.StatusProxyAuthRequired:
		return &TrustError{Party: PartyClient, Err: cause}
	}
	u := &UnreachableError{Party: blame(last.Error, resp.Status), Status: resp.Status, ProxyError: last.Error, Err: cause}
	if aboutNext(last, authority) {
		u.Party, u.From, u.NextProxy = PartyProxy, printable(last.Proxy), printable(last.NextHop)
		return u
	}
	u.Reached = u.Party == PartyOrigin && reached(last.Error)
	return u
}

// aboutNext says that the error of s is about the next hop, and that this is not the origin.
func aboutNext(s fields.ProxyStatus, authority string) bool {
	origin, _, _ := fields.ParseAuthority(authority)
	if s.NextHop == "" || s.NextHop == authority || s.NextHop == origin {
		return false
	}
	if host, _, err := net.SplitHostPort(s.NextHop); err == nil && host == origin {
		return false
	}
	if _, err := netip.ParseAddr(s.NextHop); err == nil { // a name for the origin that other software gives it; we name proxies
		return false
	}
	// A refusal of the proxy's own names where it would have gone, too.
	return s.Error == fields.ErrorProxyConfiguration || blame(s.Error, http.StatusBadGateway) == PartyOrigin
}

// reached says that a proxy whose error has this type had an answer of the one that it dialled, or a connection to it.
func reached(proxyError string) bool {
	switch proxyError {
	case fields.ErrorHTTPProtocol, fields.ErrorHTTPResponseHeaderSectionSize, fields.ErrorHTTPResponseTimeout,
		fields.ErrorConnectionTerminated, fields.ErrorConnectionReadTimeout, fields.ErrorDestinationUnavailable, fields.ErrorTLSAlertReceived:
		return true
	}
	return false
}

// lastStatus is the member of proxy-status that is nearest to the origin and names an error, or the nearest
// when none does. A field that does not parse says nothing.
func lastStatus(h http.Header) fields.ProxyStatus {
	members, err := fields.ParseProxyStatus(h.Values(fields.ProxyStatusName))
	if err != nil || len(members) == 0 {
		return fields.ProxyStatus{}
	}
	for _, m := range members {
		if m.Error != "" {
			return m
		}
	}
	return members[0]
}

// blame follows the groups of RFC 9209, section 2.3.
func blame(proxyError string, status int) Party {
	switch proxyError {
	case fields.ErrorDestinationIPProhibited, fields.ErrorHTTPRequestDenied, fields.ErrorHTTPRequest,
		fields.ErrorProxyInternal, fields.ErrorProxyInternalResponse, fields.ErrorProxyConfiguration, fields.ErrorProxyLoopDetected:
		return PartyProxy
	case "":
		if status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
			return PartyOrigin
		}
		return PartyProxy
	}
	return PartyOrigin
}

// printable keeps a stranger's text on one line of a terminal, and short.
func printable(s string) string {
	const limit = 256
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

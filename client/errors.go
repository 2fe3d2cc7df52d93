package client

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Party is whom a [TrustError] or an [UnreachableError] is about.
type Party string

const (
	PartyProxy       Party = "proxy"
	PartyOrigin      Party = "origin"
	PartyConsent     Party = "consent"     // the user's, which is missing
	PartyCredentials Party = "credentials" // which the user did not allow a reader to see
	PartyClient      Party = "client"      // whom the proxy does not let in
)

// ErrClosed is what a [Dialer] and a [Transport] return after Close.
var ErrClosed = errors.New("client: closed")

// ErrNoSignature is wrapped by the [IntegrityError] of a response whose signature was announced to follow it, and did not
// come: its origin could not make it, or somebody took it away.
var ErrNoSignature = errors.New("the signature that was announced did not come")

// A KilledError says that the proxy killed the tunnel. Where no valid VERDICT came with the reset, only
// hop 1 says that it was the proxy, and Rule and Reason are empty.
type KilledError struct {
	Rule   string // stable id of the rule
	Reason string // one line for a person
	Proxy  string // the name that the proxy was verified by
	// SignatureVerified says that the proxy's key signed rule and reason for this tunnel.
	SignatureVerified bool
	Time              time.Time // of the kill, as signed
	Report            *Report
	Err               error // the reset, and why the verdict does not count
}

func (e *KilledError) Error() string {
	if !e.SignatureVerified {
		return fmt.Sprintf("killed by the proxy %s, which gave no valid verdict", e.Proxy)
	}
	s := fmt.Sprintf("killed by the proxy %s: %s", e.Proxy, e.Rule)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

func (e *KilledError) Unwrap() error { return e.Err }

// TunnelReport returns e.Report.
func (e *KilledError) TunnelReport() *Report { return e.Report }

// A LevelError says that no level that the user accepts could be had.
type LevelError struct {
	Authority string
	Accepted  []Level
	// Offered are the modes that the proxy would allow; empty when it named none.
	Offered []string
	Why     string // one line
	// Option is the value of --level, a list, that would accept what is on offer; "" when none would.
	Option string
	Report *Report
	Err    error
}

func (e *LevelError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is not to be had at level %s", e.Authority, join(e.Accepted, " or "))
	if e.Why != "" {
		b.WriteString(": " + e.Why)
	}
	if len(e.Offered) > 0 {
		b.WriteString("; on offer, the proxy allows: " + strings.Join(e.Offered, ", "))
	}
	if e.Option != "" {
		b.WriteString("; to accept that: --level " + e.Option)
	}
	return b.String()
}

func (e *LevelError) Unwrap() error { return e.Err }

// TunnelReport returns e.Report.
func (e *LevelError) TunnelReport() *Report { return e.Report }

// An IntegrityError says that bytes or evidence were altered, replayed, borrowed or cut.
type IntegrityError struct {
	What   string // one line
	Report *Report
	Err    error
}

func (e *IntegrityError) Error() string { return withCause("integrity: "+e.What, e.Err) }

func (e *IntegrityError) Unwrap() error { return e.Err }

// TunnelReport returns e.Report.
func (e *IntegrityError) TunnelReport() *Report { return e.Report }

// A TrustError says that a party is not trusted, that the user did not agree, or that the proxy does not
// trust this client.
type TrustError struct {
	Party Party
	// Field is the credential that was kept back, for PartyCredentials.
	Field  string
	Report *Report
	Err    error
}

func (e *TrustError) Error() string {
	switch e.Party {
	case PartyConsent:
		return withCause("no consent", e.Err)
	case PartyCredentials:
		return withCause(fmt.Sprintf("%s would be readable by the proxy, and could be used elsewhere by whoever reads it", e.Field), e.Err)
	case PartyClient:
		return withCause("the proxy does not let this client in", e.Err)
	}
	return withCause(fmt.Sprintf("the %s is not trusted", e.Party), e.Err)
}

func (e *TrustError) Unwrap() error { return e.Err }

// TunnelReport returns e.Report.
func (e *TrustError) TunnelReport() *Report { return e.Report }

// An UnreachableError says that a party could not be reached, or refused.
type UnreachableError struct {
	Party Party
	// Status is that of the proxy's answer to the CONNECT; 0 when there was none.
	Status int
	// ProxyError is the error type of its proxy-status (RFC 9209, section 2.3); "" when there was none.
	ProxyError string
	// NextProxy is the proxy that the proxy From could not go on to, as From says it; Party is then PartyProxy. Both are
	// "" where it is about any other.
	From, NextProxy string
	// Reached says that the party was there, and failed in another way: an address that is wrong is not the cause.
	Reached bool
	Report  *Report
	Err     error
}

func (e *UnreachableError) Error() string {
	switch {
	case e.NextProxy != "":
		return withCause(fmt.Sprintf("the proxy %s does not get through to the next one, %s", e.From, e.NextProxy), e.Err)
	case e.Party == PartyProxy && e.Status/100 == 2: // to a request with Max-Forwards
		return withCause("no answer of the origin", e.Err)
	case e.Party == PartyProxy && e.Status != 0:
		return withCause("the proxy refuses", e.Err)
	case e.Reached:
		return withCause(fmt.Sprintf("the %s was reached and failed", e.Party), e.Err)
	}
	return withCause(fmt.Sprintf("the %s is unreachable", e.Party), e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// TunnelReport returns e.Report.
func (e *UnreachableError) TunnelReport() *Report { return e.Report }

// A reportedError gives a report to an error that is none of the typed ones.
type reportedError struct {
	report *Report
	err    error
}

func (e *reportedError) Error() string         { return e.err.Error() }
func (e *reportedError) Unwrap() error         { return e.err }
func (e *reportedError) TunnelReport() *Report { return e.report }

// ReportOfError returns the report that an error of this package carries, and nil for any other.
func ReportOfError(err error) *Report {
	var e interface{ TunnelReport() *Report }
	if errors.As(err, &e) {
		return e.TunnelReport()
	}
	return nil
}

// reported puts the report into err, and err into the report. What err wraps is not ours to change: the
// cause of a context may be the error of another request.
func reported(err error, r *Report) error {
	if err == nil {
		return nil
	}
	r.Error = err.Error()
	switch e := err.(type) {
	case *KilledError:
		e.Report = r
		r.Killed = &KilledReport{Rule: e.Rule, Reason: e.Reason, Proxy: e.Proxy, SignatureVerified: e.SignatureVerified}
	case *IntegrityError:
		e.Report = r
	case *TrustError:
		e.Report = r
	case *LevelError:
		e.Report = r
	case *UnreachableError:
		e.Report = r
	default:
		return &reportedError{report: r, err: err}
	}
	return err
}

func withCause(s string, err error) string {
	if err == nil {
		return s
	}
	return s + ": " + err.Error()
}

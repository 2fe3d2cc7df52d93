package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
)

// An answer is what the proxy says itself, without a tunnel. It is an error, so that whatever finds a
// reason to refuse can return it.
type answer struct {
	status   int
	reason   string // error type of RFC 9209, "" for none
	details  string // one line for a person; goes to the client
	received int    // the status that the origin answered with
	protocol string // the ALPN protocol of hop 2
	evidence []byte
	options  []fields.Mode // of a 470
	next     string        // the next proxy, where the target was to be reached through it
	above    http.Header   // what the proxies behind this one say of themselves
	body     string        // default: details
	media    string        // its type; default: lines of text, of which body is one
	cause    error         // goes to the log alone
}

func (a *answer) Error() string {
	if a.cause == nil {
		return a.details
	}
	return a.details + ": " + a.cause.Error()
}

func (a *answer) Unwrap() error { return a.cause }

// response is a as it goes on the wire. version is hop 1's HTTP version, target the authority.
func (a *answer) response(f *front, version, target string) *hop.Response {
	h := a.above.Clone()
	if h == nil {
		h = make(http.Header)
	}
	if a.next != "" {
		target = a.next
	}
	fields.AppendVia(h, version, f.via)
	if a.reason != "" || a.received != 0 {
		h.Add(fields.ProxyStatusName, fields.ProxyStatus{
			Proxy:          f.name,
			Error:          a.reason,
			NextHop:        target,
			NextProtocol:   a.protocol,
			ReceivedStatus: a.received,
			Details:        a.details,
		}.String())
	} else {
		h.Set(fields.ProxyStatusName, fields.ProxyStatus{Proxy: f.name, Details: a.details}.String())
	}
	if a.status == frames.StatusInspectionRequired {
		h.Set(fields.InspectionOptions, fields.FormatOptions(a.options))
	}
	body := a.body
	if body == "" {
		body = a.details
	}
	if a.media != "" {
		h.Set("Content-Type", a.media)
		return &hop.Response{Status: a.status, Header: h, Evidence: a.evidence, Body: []byte(body)}
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	return &hop.Response{Status: a.status, Header: h, Evidence: a.evidence, Body: []byte(body + "\n")}
}

// refuse makes the answer to a request that HTTP/1.1's carrier could not read.
func (f *front) refuse(status int, reason string) *hop.Response {
	a := &answer{status: status, reason: fields.ErrorHTTPRequest, details: reason}
	if status >= http.StatusInternalServerError {
		a.reason = fields.ErrorProxyInternalResponse // http_request_error is for 4xx
	}
	return a.response(f, "1.1", "")
}

func badRequest(details string, cause error) *answer {
	return &answer{status: http.StatusBadRequest, reason: fields.ErrorHTTPRequest, details: details, cause: cause}
}

// answerTo says what a client is told about err. Each function of the list knows one kind of error; the
// first that does decides. Types and statuses are those of RFC 9209, section 2.3. None tells an address that the
// client did not name: answers are not a map of the network behind the proxy.
func answerTo(err error) *answer {
	for _, f := range []func(error) *answer{
		aNextProxy, aMissingEvidence, anAnswer, aProhibition, aFullTable, anEvidence, aName, aSilence, aCertificate, anAlert, aTLSProtocol,
		aSocket, aCarrier,
	} {
		if a := f(err); a != nil {
			if a.cause == nil && !errors.As(err, new(*answer)) {
				a.cause = err
			}
			return a
		}
	}
	return &answer{
		status: http.StatusInternalServerError, reason: fields.ErrorProxyInternal,
		details: "the proxy failed", cause: err,
	}
}

func anAnswer(err error) *answer {
	var a *answer
	if errors.As(err, &a) {
		c := *a
		return &c
	}
	return nil
}

func aProhibition(err error) *answer {
	var p *ProhibitedError
	switch {
	case !errors.As(err, &p):
		return nil
	case p.Port != 0:
		return &answer{status: http.StatusForbidden, reason: fields.ErrorHTTPRequestDenied, details: "this port may not be dialled"}
	}
	return &answer{status: http.StatusBadGateway, reason: fields.ErrorDestinationIPProhibited, details: "the target's address may not be dialled"}
}

func aFullTable(err error) *answer {
	if errors.Is(err, errDialsBusy) || errors.Is(err, errUpstreamsFull) {
		return &answer{status: http.StatusServiceUnavailable, reason: fields.ErrorConnectionLimitReached, details: "too many connections"}
	}
	if errors.Is(err, errPoolClosed) {
		return &answer{status: http.StatusServiceUnavailable, reason: fields.ErrorProxyInternalResponse, details: "the proxy is closing"}
	}
	return nil
}

func aName(err error) *answer {
	var d *net.DNSError
	switch {
	case !errors.As(err, &d):
		return nil
	case d.IsTimeout:
		return &answer{status: http.StatusGatewayTimeout, reason: fields.ErrorDNSTimeout, details: "the name's resolution timed out"}
	case d.IsNotFound:
		return &answer{status: http.StatusBadGateway, reason: fields.ErrorDNSError, details: "the name has no address"}
	}
	return &answer{status: http.StatusBadGateway, reason: fields.ErrorDNSError, details: "the name could not be resolved"}
}

func aSilence(err error) *answer {
	if unanswered := (*unansweredError)(nil); errors.As(err, &unanswered) {
		return &answer{status: http.StatusGatewayTimeout, reason: fields.ErrorHTTPResponseTimeout, details: "the origin did not answer the CONNECT in time"}
	}
	if ended := (*hop.SessionError)(nil); errors.Is(err, errNoSettings) || errors.As(err, &ended) && !ended.Remote && ended.Code == settingsTimeout {
		return &answer{status: http.StatusGatewayTimeout, reason: fields.ErrorConnectionReadTimeout, details: "the origin sent no SETTINGS in time"}
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return &answer{status: http.StatusGatewayTimeout, reason: fields.ErrorConnectionTimeout, details: "the origin did not answer in time"}
	}
	return nil
}

// unansweredError says that the origin left a CONNECT unanswered.
type unansweredError struct{ err error }

func (e *unansweredError) Error() string { return "CONNECT to the origin: " + e.err.Error() }

func (e *unansweredError) Unwrap() error { return e.err }

// errNoSettings is wrapped by the error of a dial whose origin sent no SETTINGS.
var errNoSettings = errors.New("the origin's SETTINGS")

func aCertificate(err error) *answer {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	details := ""
	switch {
	case errors.Is(err, pki.ErrProxyAsOrigin):
		details = "the origin showed the certificate of a proxy"
	case errors.As(err, &unknown):
		details = "the origin's certificate was issued by an unknown authority"
	case errors.As(err, &name):
		details = "the origin's certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		details = "the origin's certificate is not valid at this time"
	case errors.As(err, &invalid), errors.As(err, &verification):
		details = "the origin's certificate is not valid"
	default:
		return nil
	}
	return &answer{status: http.StatusBadGateway, reason: fields.ErrorTLSCertificate, details: details}
}

// anAlert knows what crypto/tls makes of an alert that came in: a net.OpError with this Op.
func anAlert(err error) *answer {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return &answer{
			status: http.StatusBadGateway, reason: fields.ErrorTLSAlertReceived,
			details: "the origin ended the handshake: " + op.Err.Error(),
		}
	}
	return nil
}

// aTLSProtocol knows what else a TLS handshake can fail with, but for the connection itself.
func aTLSProtocol(err error) *answer {
	var h *handshakeError
	if !errors.As(err, &h) {
		return nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return &answer{status: http.StatusBadGateway, reason: fields.ErrorTLSProtocol, details: "the origin's TLS handshake failed"}
}

func aSocket(err error) *answer {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &answer{status: http.StatusBadGateway, reason: fields.ErrorConnectionRefused, details: "the origin refused the connection"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
		return &answer{status: http.StatusBadGateway, reason: fields.ErrorDestinationUnroutable, details: "there is no way to the origin's address"}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		// It is the system's limit that was reached, and not one for the next hop.
		return &answer{status: http.StatusServiceUnavailable, reason: fields.ErrorProxyInternal, details: "too many open files"}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &answer{status: http.StatusBadGateway, reason: fields.ErrorConnectionTerminated, details: "the origin closed the connection"}
	}
	return nil
}

// settingsTimeout is RFC 9113's SETTINGS_TIMEOUT, with which a carrier gives up on a silent origin.
const settingsTimeout hop.ErrorCode = 0x4

// aCarrier knows how a finished hop can still give no tunnel.
func aCarrier(err error) *answer {
	var retry *hop.RetryError
	var reset *hop.ResetError
	var ended *hop.SessionError
	switch {
	case errors.Is(err, errNoConnect):
		return &answer{status: http.StatusBadGateway, reason: fields.ErrorHTTPProtocol, details: "the origin takes no tunnels"}
	case errors.As(err, &retry):
		return &answer{status: http.StatusServiceUnavailable, reason: fields.ErrorDestinationUnavailable, details: "the origin takes no more tunnels now"}
	case errors.As(err, &ended) && !ended.Remote && ended.Code != hop.NoError:
		return &answer{status: http.StatusBadGateway, reason: fields.ErrorHTTPProtocol, details: "the origin broke its protocol"}
	case errors.As(err, &reset), errors.As(err, &ended), errors.Is(err, net.ErrClosed):
		return &answer{status: http.StatusBadGateway, reason: fields.ErrorConnectionTerminated, details: "the origin ended the tunnel"}
	}
	return nil
}

func anEvidence(err error) *answer {
	var e *evidence.Error
	if errors.As(err, &e) {
		return &answer{status: http.StatusBadGateway, reason: fields.ErrorTLSProtocol, details: "the origin's evidence does not hold"}
	}
	return nil
}

// oneLine keeps what peers said from being more than a line in the log.
func oneLine(s string) string {
	return strings.TrimSpace(frames.CleanText(s, 1024))
}

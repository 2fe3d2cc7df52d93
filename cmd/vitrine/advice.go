package main

import (
	"errors"

	"vitrine/client"
	"vitrine/internal/fields"
)

// advice says what the user can do about err, as the end of its line; "" where err says that itself.
func advice(err error) string {
	var (
		usage       *usageError
		killed      *client.KilledError
		integrity   *client.IntegrityError
		trust       *client.TrustError
		level       *client.LevelError
		unreachable *client.UnreachableError
	)
	switch {
	case errors.As(err, &usage):
	case errors.As(err, &killed):
		return "; the proxy's operator knows its rules"
	case errors.As(err, &integrity) && errors.Is(err, client.ErrNoSignature):
		return "; nothing vouches for what arrived; if it is always so, the origin's log says why it did not sign, and --report FILE keeps the particulars"
	case errors.As(err, &integrity) && changeable(integrity.Report):
		return "; do not use what arrived, if anything did: it may be altered, and --report FILE keeps the particulars"
	case errors.As(err, &integrity):
		return "; what arrived is at most a beginning of what was sent, and --report FILE keeps the particulars"
	case errors.As(err, &trust):
		return trustAdvice[trust.Party]
	case errors.As(err, &level) && level.Option == "":
		return "; the levels are intact, signed, attested, claimed, blind, direct"
	case errors.As(err, &unreachable):
		return reachAdvice(unreachable)
	}
	return ""
}

// reachAdvice is advice for a party that could not be reached, or was and failed.
func reachAdvice(e *client.UnreachableError) string {
	switch {
	case e.NextProxy != "":
		return "; the operator of " + e.From + " has to mend that: it is neither the origin's fault nor yours"
	case e.Party == client.PartyOrigin && e.Reached:
		return failureAdvice[e.ProxyError]
	case e.Party == client.PartyOrigin && e.ProxyError == fields.ErrorTLSProtocol:
		return "; check its name and port, at which something does not speak TLS as the proxy does: no version or cipher suite in common, or none at all"
	case e.Party == client.PartyOrigin:
		return "; check its name and port, and remember that with a proxy it is the proxy that dials"
	case e.Status/100 == 2:
		return ""
	case e.Status != 0:
		return "; the proxy's operator decides what it carries"
	}
	return "; check --proxy, or name its address with --connect-to"
}

// failureAdvice is advice for an origin that the proxy reached, by the error type of the proxy's answer. Where there was
// no proxy the error says itself what is wrong.
var failureAdvice = map[string]string{
	fields.ErrorHTTPProtocol:                  "; its operator has to mend that: what it speaks there is not HTTP as the proxy can pass it on",
	fields.ErrorHTTPResponseHeaderSectionSize: "; its operator has to mend that: it has to send less in its header fields",
	fields.ErrorHTTPResponseTimeout:           "; it may be busy: try again later",
	fields.ErrorConnectionReadTimeout:         "; it may be busy: try again later",
	fields.ErrorConnectionTerminated:          "; the request may have had its effect there: see before you try again",
	fields.ErrorDestinationUnavailable:        "; it may be busy: try again later",
	fields.ErrorTLSAlertReceived:              "; it may have no TLS version or cipher suite in common with the proxy, or want a client certificate of another kind",
}

// changeable says that the proxy could change the exchange that r is about.
func changeable(r *client.Report) bool {
	return r != nil && (r.Level == client.Signed || r.Level == client.Attested || r.Level == client.Claimed || r.Signature != nil)
}

// trustAdvice is advice for those whom nobody vouches for. The errors about the others say it themselves.
var trustAdvice = map[client.Party]string{
	client.PartyProxy:  "; if this is your proxy, --proxy-roots has to name the roots that vouch for it",
	client.PartyOrigin: "; if this is your origin, --roots has to name the roots that vouch for it, here and at the proxy",
}

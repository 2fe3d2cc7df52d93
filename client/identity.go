package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
)

// identity is what a proxy wanted to know of this client on hop 1.
type identity struct {
	asked bool // for a certificate
	shown bool // it was shown one
}

// refused returns the error for a proxy that does not let this client in, nil when err says something
// else. In TLS 1.3 a client's handshake is over before the server has looked at its certificate; the
// server's alert then comes in the place of SETTINGS, and gets lost when we write into the closed
// connection: ended says that hop 1 ended there.
func (id *identity) refused(err error, ended bool) func() error {
	alert := clientAlert(err)
	switch {
	case alert != nil && id.shown:
		err = fmt.Errorf("it does not take the certificate that it was shown: %w", alert)
	case alert != nil:
		err = fmt.Errorf("%w: %w", errIdentity, alert)
	case ended && id.asked && !id.shown:
		err = fmt.Errorf("%w, and it hung up", errIdentity)
	default:
		return nil
	}
	return func() error { return &TrustError{Party: PartyClient, Err: err} }
}

var errIdentity = errors.New("it wants a client certificate that it knows: --client-cert and --client-key, or ClientCertificate in a program")

// clientAlert returns the alert in err if it is one of those by which a TLS server judges a client's
// certificate (RFC 8446, section 6.2). The type that crypto/tls has for alerts of TCP connections is its
// own; it prints what tls.AlertError does.
func clientAlert(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return nil
	}
	const badCertificate, unsupportedCertificate, certificateRevoked, certificateExpired, certificateUnknown,
		unknownCA, accessDenied, certificateRequired = 42, 43, 44, 45, 46, 48, 49, 116
	if slices.ContainsFunc([]tls.AlertError{
		badCertificate, unsupportedCertificate, certificateRevoked, certificateExpired, certificateUnknown,
		unknownCA, accessDenied, certificateRequired,
	}, func(a tls.AlertError) bool { return a.Error() == op.Err.Error() }) {
		return op
	}
	return nil
}

package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"
	"strings"

	"vitrine/internal/itls"
)

// An Inspection says who reads an exchange, as far as the origin can know. What it holds has three
// sources of different weight; see [Source] and [Inspection.Facts].
//
// It cannot tell of readers that nobody names: a proxy that splits the connection in two looks like
// any client, and its requests have no Inspection.
type Inspection struct {
	// Proxies are the proxies that read, by SHA-256 of their leaf certificates, the client's side
	// first. The client says so in the inner session ([BySession]).
	Proxies [][32]byte

	// Authority is the "host:port" that the client asked for ([BySession]).
	Authority string

	// Nonce is the client's, for this tunnel ([BySession]).
	Nonce [32]byte

	// ProxyCertificate is the leaf that hop 2's peer proved to own, the last of Proxies; nil when it
	// showed none ([ByHop]).
	ProxyCertificate *x509.Certificate

	// ProxyVerified says that Config.ProxyRoots vouch for ProxyCertificate ([ByHop]).
	ProxyVerified bool

	// Hop is hop 2's TLS connection: version, suite, group, ALPN ([ByHop]).
	Hop tls.ConnectionState

	// HopID names hop 2; the client compares it with its evidence ([ByHop]).
	HopID [32]byte

	// RemoteAddr is the address of hop 2's peer ([ByHop]).
	RemoteAddr net.Addr

	// Via are the via fields of the tunnel's CONNECT: the proxy's word for who came before it
	// ([ByProxy]).
	Via []string

	conn *itls.Conn
}

// A Source says how an origin knows something about an inspection.
type Source string

const (
	// BySession: the client said it in the inner handshake, and nobody between could change it.
	BySession Source = "session"
	// ByHop: the handshake of hop 2 proves it.
	ByHop Source = "hop"
	// ByProxy: the proxy says so. Hearsay.
	ByProxy Source = "proxy"
)

// A Fact is one thing that an origin knows about an inspection, as text, and how it knows.
type Fact struct {
	Name, Value string
	Source      Source
}

// Facts lists what i holds, for logs and pages that show it.
func (i *Inspection) Facts() []Fact {
	var f []Fact
	for _, p := range i.Proxies {
		f = append(f, Fact{"proxy", hex.EncodeToString(p[:]), BySession})
	}
	f = append(f, Fact{"authority", i.Authority, BySession})
	if c := i.ProxyCertificate; c != nil {
		f = append(f, Fact{"proxy-subject", c.Subject.String(), ByHop})
		verified := "no"
		if i.ProxyVerified {
			verified = "yes"
		}
		f = append(f, Fact{"proxy-verified", verified, ByHop})
	}
	f = append(
		f,
		Fact{"hop-version", tls.VersionName(i.Hop.Version), ByHop},
		Fact{"hop-suite", tls.CipherSuiteName(i.Hop.CipherSuite), ByHop},
		Fact{"hop-id", hex.EncodeToString(i.HopID[:]), ByHop},
		Fact{"hop-peer", i.RemoteAddr.String(), ByHop},
	)
	if len(i.Via) > 0 {
		f = append(f, Fact{"via", strings.Join(i.Via, ", "), ByProxy})
	}
	return f
}

// ExportKeyingMaterial exports from the inner session (RFC 8446, section 7.5), for tokens that are
// bound to it: a proxy that reads such a token cannot use it elsewhere. Request.TLS cannot do this.
func (i *Inspection) ExportKeyingMaterial(label string, exporterContext []byte, length int) ([]byte, error) {
	return i.conn.ExportKeyingMaterial(label, exporterContext, length)
}

type inspectionKey struct{}

// InspectionOf says who reads the exchange whose request has the context ctx. It is false for
// requests that did not come through a tunnel.
func InspectionOf(ctx context.Context) (*Inspection, bool) {
	i, ok := ctx.Value(inspectionKey{}).(*Inspection)
	return i, ok
}

// connContext adds the Inspection to the context of a tunnel's connection, before and, where it
// returned a context of its own, behind the user's hook.
func connContext(user func(context.Context, net.Conn) context.Context) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		ic, ok := c.(*conn)
		if ok {
			ctx = context.WithValue(ctx, inspectionKey{}, ic.inspection)
		}
		if user == nil {
			return ctx
		}
		ctx = user(ctx, c)
		if ok && ctx != nil && ctx.Value(inspectionKey{}) == nil {
			ctx = context.WithValue(ctx, inspectionKey{}, ic.inspection)
		}
		return ctx
	}
}

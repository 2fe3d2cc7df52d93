package origin

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// hopConfig is what the server listens with: the user's, and for proxies that offer the hop token a
// copy of its own.
func (o *server) hopConfig() *tls.Config {
	c := o.user.Clone()
	// The stock protocols stand here for users who make their own tls.Listener of it: a list that has
	// only the token refuses everyone else.
	c.NextProtos = append([]string{frames.ALPNH2}, o.withoutToken(o.user).NextProtos...)
	user := o.user.GetConfigForClient
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		var base *tls.Config
		if user != nil {
			var err error
			if base, err = user(hello); err != nil {
				return nil, err
			}
		}
		if !slices.Contains(hello.SupportedProtos, frames.ALPNH2) {
			return base, nil
		}
		if base == nil {
			base = o.user
		}
		if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) ||
			base.MaxVersion != 0 && base.MaxVersion < tls.VersionTLS13 {
			return o.withoutToken(base), nil
		}
		return o.forProxies(base), nil
	}
	return c
}

// withoutToken is for a peer that offers the token and cannot do TLS 1.3: a hop is TLS 1.3 or is none.
func (o *server) withoutToken(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.GetConfigForClient = nil
	c.NextProtos = without(c.NextProtos, frames.ALPNH2)
	add := func(proto string, on bool) {
		if on && !slices.Contains(c.NextProtos, proto) {
			c.NextProtos = append(c.NextProtos, proto)
		}
	}
	add("h2", o.srv.Protocols.HTTP2())
	add("http/1.1", o.srv.Protocols.HTTP1())
	return c
}

// forProxies is base for hop 2, whose peer is a proxy.
func (o *server) forProxies(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.GetConfigForClient = nil
	c.NextProtos = []string{frames.ALPNH2}
	c.MinVersion = tls.VersionTLS13
	// The client's certificate is asked for in the inner session. The proxy's is asked for here, and
	// judged for each tunnel: a refusal there can say why.
	c.ClientAuth = tls.RequestClientCert
	c.ClientCAs = o.cfg.ProxyRoots
	c.VerifyPeerCertificate = nil
	c.VerifyConnection = nil
	// A resumed hop shows no certificate.
	c.SessionTicketsDisabled = true
	// Records of full size from the start keep the carrier's frames and the records aligned.
	c.DynamicRecordSizingDisabled = true
	return c
}

// innerConfig is the user's config for the inner session of one tunnel, which shows cert, and whose
// server name must be that of host.
func (o *server) innerConfig(host string, cert *tls.Certificate) *tls.Config {
	user := o.user.GetConfigForClient
	c := inner(o.user, cert)
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if want := sni(host); hello.ServerName != want {
			return nil, &itls.AlertError{
				Alert: tlsmsg.AlertIllegalParameter,
				Err:   fmt.Errorf("origin: the tunnel is for %q and the session in it for %q", want, hello.ServerName),
			}
		}
		if user == nil {
			return nil, nil
		}
		own, err := user(hello)
		if own == nil || err != nil {
			return nil, err
		}
		return inner(own, cert), nil
	}
	return c
}

// inner returns base for an inner session that shows cert, as the evidence did. What concerns TLS
// clients, or hides the name from the reader, has no meaning there.
func inner(base *tls.Config, cert *tls.Certificate) *tls.Config {
	c := base.Clone()
	c.GetConfigForClient = nil
	c.Certificates = []tls.Certificate{*cert}
	c.GetCertificate = nil
	c.NextProtos = []string{"http/1.1"}
	c.InsecureSkipVerify = false
	c.Renegotiation = tls.RenegotiateNever
	c.EncryptedClientHelloConfigList = nil
	c.EncryptedClientHelloKeys = nil
	c.GetEncryptedClientHelloKeys = nil
	return c
}

// sni is what server_name says for host: nothing for an IP literal.
func sni(host string) string {
	if net.ParseIP(host) != nil {
		return ""
	}
	return host
}

var errNotServed = errors.New("origin: no certificate for this name")

// certificate finds the certificate that an inner session for the request's authority would show. It
// is what says which authorities this server serves.
func (o *server) certificate(conn net.Conn, req *evidence.Request) (*tls.Certificate, error) {
	host, _, err := fields.ParseAuthority(req.Offer.Authority)
	if err != nil {
		return nil, err
	}
	hello := &tls.ClientHelloInfo{
		CipherSuites:      []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384},
		ServerName:        sni(host),
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256},
		SignatureSchemes:  req.Schemes,
		SupportedProtos:   []string{"http/1.1"},
		SupportedVersions: []uint16{tls.VersionTLS13},
		Conn:              conn,
	}
	c := o.user
	if c.GetConfigForClient != nil {
		own, err := c.GetConfigForClient(hello)
		if err != nil {
			return nil, err
		}
		if own != nil {
			c = own
		}
	}
	var certs []*tls.Certificate
	if c.GetCertificate != nil && (len(c.Certificates) == 0 || hello.ServerName != "") {
		cert, err := c.GetCertificate(hello)
		if err != nil {
			return nil, err
		}
		if cert != nil {
			certs = append(certs, cert)
		}
	}
	if len(certs) == 0 {
		for i := range c.Certificates {
			certs = append(certs, &c.Certificates[i])
		}
	}
	for _, cert := range certs {
		leaf, err := pki.Leaf(cert)
		if err != nil || leaf.VerifyHostname(host) != nil {
			continue
		}
		if _, err := tlsmsg.PickScheme(leaf.PublicKey, req.Schemes); err == nil {
			return cert, nil
		}
	}
	return nil, errNotServed
}

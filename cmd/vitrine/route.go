package main

import (
	"errors"
	"io"
	"net/url"

	"github.com/urfave/cli/v2"

	"vitrine/client"
	"vitrine/internal/pki"
)

// routeFlags are the flags of the commands whose requests go through a proxy. what is all that a consent given
// with a flag is for, and more says how far that reaches.
func routeFlags(what, more string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "proxy", Usage: "the proxy, as https://HOST:PORT (a `URL`)", EnvVars: []string{"VITRINE_PROXY"}},
		&cli.StringFlag{Name: "proxy-roots", Usage: "verify the proxy by the roots in PEM `FILE`; these never verify an origin", EnvVars: []string{"VITRINE_PROXY_ROOTS"}},
		&cli.StringFlag{Name: "roots", Usage: "verify origins by the roots in PEM `FILE` (default: the system's)"},
		&cli.StringFlag{Name: "consent", Value: "stored", Usage: "`HOW` you agree that the proxy reads " + what + ", " + more + ": stored, ask or once"},
		storeFlag(),
		&cli.StringFlag{Name: "level", Value: string(client.Intact), Usage: "the levels that you accept, a list `L[,L...]` of intact, signed, attested, claimed, blind, direct; ask in it has you asked where none of them can be had"},
		&cli.StringFlag{Name: "client-cert", Usage: "show the proxy, when it asks, the certificate in PEM `FILE`"},
		&cli.StringFlag{Name: "client-key", Usage: "its private key, PEM `FILE`"},
		&cli.BoolFlag{Name: "allow-credentials", Usage: "with --consent once: let Authorization, Cookie and the like leave where the proxy reads them"},
		&cli.StringSliceFlag{Name: "connect-to", Usage: "dial ADDR:PORT for HOST:PORT, given as `HOST:PORT:ADDR:PORT` (repeatable): the proxy's address, or the origin's where you go direct"},
		&cli.StringFlag{Name: "keylog", Usage: "append the TLS secrets of hop 1 and the inner session to `FILE` (NSS format): whoever has it can read the one and forge the other"},
	}
}

// A route is what routeFlags say: how requests get to origins, and under whose consent.
type route struct {
	transport *client.Transport
	consent   *consenter // nil where no proxy is used
	keylog    io.WriteCloser
}

// newRoute reads routeFlags. Every error is about the command line, or a file that it names.
func newRoute(c *cli.Context) (_ *route, err error) {
	t := &client.Transport{SkipDigest: true, Proxy: c.String("proxy")}
	r := &route{transport: t}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if t.Levels, _, err = parseLevels(c.String("level")); err != nil {
		return nil, err
	}
	direct := len(t.Levels) == 1 && t.Levels[0] == client.Direct
	if !direct {
		if err := need(c, "proxy", "proxy-roots"); err != nil {
			return nil, err
		}
		// What was given is not repeated: it may hold a password.
		if u, err := url.Parse(t.Proxy); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			return nil, usagef("--proxy must be https://HOST or https://HOST:PORT, and nothing else")
		}
	}
	if err := loadTrust(c, t); err != nil {
		return nil, err
	}
	how, err := consentFlags(c)
	if err != nil {
		return nil, err
	}
	if !direct {
		if r.consent, err = newConsenter(c, how); err != nil {
			return nil, err
		}
		r.consent.use(t)
	}
	if t.ConnectTo, err = parseConnectTo(c.StringSlice("connect-to")); err != nil {
		return nil, err
	}
	if r.keylog, err = openKeyLog(c.String("keylog")); err != nil {
		return nil, err
	}
	if r.keylog != nil {
		t.KeyLog = r.keylog
	}
	return r, nil
}

// close ends what is open on the route. Consent is closed behind the transport, whose tunnels it would end.
func (r *route) close() error {
	err := r.transport.Close()
	if r.consent != nil {
		err = errors.Join(err, r.consent.Close())
	}
	if r.keylog != nil {
		err = errors.Join(err, r.keylog.Close())
	}
	return err
}

// loadTrust reads roots and the client certificate.
func loadTrust(c *cli.Context, t *client.Transport) error {
	var proxies, origins *pki.Pool
	var err error
	if file := c.String("proxy-roots"); file != "" {
		if proxies, err = pki.LoadPool(file); err != nil {
			return usagef("--proxy-roots: %v", err)
		}
		t.ProxyRoots = proxies.CertPool
	}
	if file := c.String("roots"); file != "" {
		if origins, err = pki.LoadPool(file); err != nil {
			return usagef("--roots: %v", err)
		}
		t.Roots = origins.CertPool
	}
	if proxies != nil {
		// Without --roots the origins' roots are the system's, and no proxy's may be among those either.
		if err := pki.CheckDisjoint(proxies, origins); err != nil {
			return usagef("%v", err)
		}
	}
	cert, key := c.String("client-cert"), c.String("client-key")
	if (cert == "") != (key == "") {
		return usagef("--client-cert and --client-key go together")
	}
	if cert != "" {
		pair, err := pki.LoadKeyPair(cert, key)
		if err != nil {
			return usagef("%v", err)
		}
		t.ClientCertificate = &pair
	}
	return nil
}

package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/pki"
	"vitrine/proxy"
)

func proxyCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "proxy",
		Usage: "run the proxy",
		UsageText: "vitrine proxy --listen ADDR --cert F --key F [--roots F] [--client-roots F]\n" +
			"              [--connect-to HOST:PORT:ADDR:PORT]... [--modes M[,M...]] [--drain D] [--keylog F]",
		Description: "It reads what passes and logs a line for each exchange; it holds no key that could change a byte.\n" +
			"It dials port 443 of public addresses, and what --connect-to names. Beyond loopback it listens only with\n" +
			"--client-roots. SIGTERM drains for --drain, then cuts off what is left.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDR` to listen on, e.g. 127.0.0.1:8444; port 0 picks one"},
			&cli.StringFlag{Name: "cert", Usage: "certificate chain with proxyAuthentication, PEM `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "private key, PEM `FILE`"},
			&cli.StringFlag{Name: "roots", Usage: "verify origins by the roots in PEM `FILE` (default: the system's)"},
			&cli.StringFlag{Name: "client-roots", Usage: "clients show a certificate that the roots in PEM `FILE` verify (default: none is asked)"},
			&cli.StringSliceFlag{Name: "connect-to", Usage: "dial ADDR:PORT for HOST:PORT, given as `HOST:PORT:ADDR:PORT` (repeatable; an empty HOST or PORT matches any)"},
			&cli.StringFlag{Name: "modes", Value: string(fields.Intact), Usage: "what this proxy allows, a list `M[,M...]` of intact and blind"},
			&cli.DurationFlag{Name: "drain", Value: drainDefault, Usage: "after SIGTERM, wait this `DURATION` for open tunnels"},
			&cli.StringFlag{Name: "keylog", Usage: "append the hops' TLS secrets to `FILE` (NSS format): whoever has it reads them"},
		},
		Action: func(c *cli.Context) error { return serveProxy(c, std) },
	}
}

func serveProxy(c *cli.Context, std stdio) (err error) {
	if err := errors.Join(noArguments(c), need(c, "listen", "cert", "key")); err != nil {
		return err
	}
	p := &proxy.Proxy{Log: slog.New(slog.NewTextHandler(std.err, nil))}
	if p.Certificate, err = pki.LoadKeyPair(c.String("cert"), c.String("key")); err != nil {
		return usagef("%v", err)
	}
	if p.Policy.Modes, err = parseModes(c.String("modes")); err != nil {
		return err
	}
	if p.ConnectTo, err = parseConnectTo(c.StringSlice("connect-to")); err != nil {
		return err
	}
	if c.Duration("drain") < 0 {
		return usagef("--drain must not be negative")
	}
	if file := c.String("roots"); file != "" {
		pool, err := pki.LoadPool(file)
		if err != nil {
			return usagef("--roots: %v", err)
		}
		p.Roots = pool.CertPool
	}
	if file := c.String("client-roots"); file != "" {
		pool, err := pki.LoadPool(file)
		if err != nil {
			return usagef("--client-roots: %v", err)
		}
		p.ClientCAs = pool.CertPool
	}
	keylog, err := openKeyLog(c.String("keylog"))
	if err != nil {
		return err
	}
	if keylog != nil {
		defer func() { err = errors.Join(err, keylog.Close()) }()
		p.KeyLog = keylog
	}
	if err := pki.CheckProxyCertificate(p.Certificate, time.Now()); err != nil {
		return usagef("--cert: %v", err)
	}
	ln, err := listen(c, std)
	if err != nil {
		return err
	}
	err = serveUntil(c.Context, c.Duration("drain"), p.Shutdown, p.Close, func() error { return p.Serve(ln) })
	if errors.Is(err, proxy.ErrOpenProxy) {
		return usagef("beyond loopback the proxy needs --client-roots, and clients that show a certificate")
	}
	return err
}

func parseModes(s string) ([]fields.Mode, error) {
	var modes []fields.Mode
	for word := range strings.SplitSeq(s, ",") {
		switch m := fields.Mode(strings.TrimSpace(word)); m {
		case fields.Intact, fields.Blind:
			modes = append(modes, m)
		case fields.Split:
			return nil, usagef("--modes: split is not available in this version; choose from intact, blind")
		default:
			return nil, usagef("--modes: %q is none of intact, blind", word)
		}
	}
	return modes, nil
}

func parseConnectTo(values []string) (connectto.Rules, error) {
	rules, err := connectto.ParseRules(values...)
	if err != nil {
		return nil, usagef("--connect-to: %v", err)
	}
	return rules, nil
}

// openKeyLog opens the file for appending, readable by its owner alone; nil where none is named.
func openKeyLog(file string) (io.WriteCloser, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, usagef("--keylog: %v", err)
	}
	return f, nil
}

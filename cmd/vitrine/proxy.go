package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/hostile"
	"vitrine/internal/pki"
	"vitrine/proxy"
	"vitrine/proxy/policy"
)

func proxyCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "proxy",
		Usage: "run the proxy",
		UsageText: "vitrine proxy --listen ADDR --cert F --key F [--roots F] [--client-roots F]\n" +
			"              [--upstream URL --upstream-roots F] [--config F | --modes M[,M...]]\n" +
			"              [--connect-to HOST:PORT:ADDR:PORT]...\n" +
			"              [--drain D] [--keylog F] [--hostile MODE]",
		Description: "It reads what passes and logs a line for each exchange; it holds no key that could change a byte.\n" +
			"It dials port 443 of public addresses, what --config adds, and what --connect-to names. Beyond loopback it\n" +
			"listens only with --client-roots. With --upstream everything goes through another proxy, which has to know\n" +
			"this one's root by its own --client-roots. SIGHUP reads the files of --config, --cert, --key, --roots,\n" +
			"--client-roots and --upstream-roots again: no tunnel ends for it, and if one of them cannot be used, nothing\n" +
			"changes. SIGTERM drains for --drain, then cuts off what is left. \"vitrine policy check --help\" shows a policy\n" +
			"file.\n" +
			"\n" +
			"--hostile makes it lie, so that one can see that its clients notice:\n" + hostileModes(),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDR` to listen on, e.g. 127.0.0.1:8444; port 0 picks one"},
			&cli.StringFlag{Name: "cert", Usage: "certificate chain with proxyAuthentication, PEM `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "private key, PEM `FILE`"},
			&cli.StringFlag{Name: "roots", Usage: "verify origins by the roots in PEM `FILE` (default: the system's)"},
			&cli.StringFlag{Name: "client-roots", Usage: "clients show a certificate that the roots in PEM `FILE` verify (default: none is asked)"},
			&cli.StringFlag{Name: "upstream", Usage: "go through the proxy at `URL`, https://name[:port], which reads too; clients are told of it"},
			&cli.StringFlag{Name: "upstream-roots", Usage: "verify that proxy by the roots in PEM `FILE`"},
			&cli.StringFlag{Name: "config", Usage: "policy `FILE`: which hosts get what, what may be dialled, and what is killed"},
			&cli.StringFlag{Name: "modes", Value: string(fields.Intact), Usage: "without --config: what this proxy allows, a list `M[,M...]` of intact, split and blind"},
			&cli.StringSliceFlag{Name: "connect-to", Usage: "dial ADDR:PORT for HOST:PORT, given as `HOST:PORT:ADDR:PORT` (repeatable; an empty HOST or PORT matches any)"},
			&cli.DurationFlag{Name: "drain", Value: drainDefault, Usage: "after SIGTERM, wait this `DURATION` for open tunnels"},
			&cli.StringFlag{Name: "keylog", Usage: "append the hops' TLS secrets to `FILE` (NSS format): whoever has it reads them"},
			&cli.StringFlag{Name: "hostile", Usage: "lie in the way that `MODE` names; on loopback only"},
		},
		Action: func(c *cli.Context) error { return serveProxy(c, std) },
	}
}

// hostileModes explains the values of --hostile.
func hostileModes() string {
	var b strings.Builder
	for _, m := range hostile.Modes() {
		fmt.Fprintf(&b, "   %-22s  it %s\n", m, m.About())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func serveProxy(c *cli.Context, std stdio) (err error) {
	if err := errors.Join(noArguments(c), need(c, "listen", "cert", "key")); err != nil {
		return err
	}
	if c.Duration("drain") < 0 {
		return usagef("--drain must not be negative")
	}
	lies := c.IsSet("hostile")
	if lies {
		if _, err := hostile.ParseMode(c.String("hostile")); err != nil {
			return usagef("--hostile: %v", err)
		}
	}
	p, warnings, err := readProxy(c)
	if err != nil {
		return err
	}
	p.Log = slog.New(slog.NewTextHandler(std.err, nil))
	keylog, err := openKeyLog(c.String("keylog"))
	if err != nil {
		return err
	}
	if keylog != nil {
		defer func() { err = errors.Join(err, keylog.Close()) }()
		p.KeyLog = keylog
	}
	log := p.Log
	if lies {
		log = log.With("hostile", c.String("hostile"))
	}
	warn(log, warnings)
	// From here on SIGHUP reloads; without a reader of it, it would end the process.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ln, err := listen(c, std)
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	ln = &announced{Listener: ln, say: sync.OnceFunc(func() { close(ready) })}
	defer reloading(c, p, log, ready, hangups)()
	if lies {
		return serveHostile(c, std, p, ln, c.String("hostile"))
	}
	err = serveUntil(c.Context, c.Duration("drain"), p.Shutdown, p.Close, func() error { return p.Serve(ln) })
	if errors.Is(err, proxy.ErrOpenProxy) {
		return usagef("beyond loopback the proxy needs --client-roots, and clients that show a certificate")
	}
	return err
}

// readProxy makes a proxy of what the flags name, which may be read again on SIGHUP, and returns the warnings
// about its policy.
func readProxy(c *cli.Context) (_ *proxy.Proxy, warnings []string, err error) {
	p := &proxy.Proxy{}
	if p.Certificate, err = pki.LoadKeyPair(c.String("cert"), c.String("key")); err != nil {
		return nil, nil, usagef("%v", err)
	}
	if err := pki.CheckProxyCertificate(p.Certificate, time.Now()); err != nil {
		return nil, nil, usagef("--cert: %v", err)
	}
	if p.ConnectTo, err = parseConnectTo(c.StringSlice("connect-to")); err != nil {
		return nil, nil, err
	}
	for _, pool := range []struct {
		flag string
		to   **x509.CertPool
	}{{"roots", &p.Roots}, {"client-roots", &p.ClientCAs}} {
		if file := c.String(pool.flag); file != "" {
			loaded, err := pki.LoadPool(file)
			if err != nil {
				return nil, nil, usagef("--%s: %v", pool.flag, err)
			}
			*pool.to = loaded.CertPool
		}
	}
	if err := readUpstream(c, p); err != nil {
		return nil, nil, err
	}
	if c.IsSet("config") {
		warnings, err = readPolicy(c, p)
	} else {
		p.Policy.Modes, err = parseModes(c.String("modes"))
	}
	return p, warnings, err
}

// readUpstream applies --upstream and --upstream-roots to p.
func readUpstream(c *cli.Context, p *proxy.Proxy) error {
	url, file := c.String("upstream"), c.String("upstream-roots")
	switch {
	case url == "" && file == "":
		return nil
	case url == "" || file == "":
		return usagef("--upstream and --upstream-roots go together: nothing but those roots vouches for the next proxy")
	}
	pool, err := pki.LoadPool(file)
	if err != nil {
		return usagef("--upstream-roots: %v", err)
	}
	p.Upstream = &proxy.UpstreamProxy{URL: url, Roots: pool.CertPool}
	if err := p.Upstream.Check(); err != nil {
		return usagef("--upstream: %v", err)
	}
	if modes, err := parseModes(c.String("modes")); err == nil && slices.Contains(modes, fields.Split) {
		return usagef("--modes: split does not go through --upstream in this version")
	}
	return nil
}

// readPolicy applies --config to p.
func readPolicy(c *cli.Context, p *proxy.Proxy) (warnings []string, err error) {
	file := c.String("config")
	if c.IsSet("modes") {
		return nil, usagef("--modes and --config exclude each other: write [[host]] match = \"*\" with modes into %s", file)
	}
	pol, err := policy.Load(file)
	var bad *policy.Errors
	switch {
	case errors.As(err, &bad):
		return nil, usagef("%v; see \"vitrine policy check\"", bad)
	case err != nil:
		return nil, usagef("--config: %v", err)
	}
	p.Policy.HostModes = pol.Modes
	p.Targets.Ports, p.Targets.Allow = pol.Ports(), pol.Private()
	if in := pol.Inspector(); in != nil {
		p.Inspectors = []proxy.Inspector{in}
	}
	for _, w := range pol.Warnings() {
		m := policyMessage{Line: w.Line, Column: w.Column, Rule: w.Rule, Message: w.Message}
		warnings = append(warnings, m.warning(file))
	}
	if p.Upstream != nil && pol.Allows(fields.Split) {
		warnings = append(warnings, file+": warning: mode split does not go through --upstream in this version: hosts that it is for get what else is listed for them")
	}
	return warnings, nil
}

func parseModes(s string) ([]fields.Mode, error) {
	var modes []fields.Mode
	for word := range strings.SplitSeq(s, ",") {
		switch m := fields.Mode(strings.TrimSpace(word)); m {
		case fields.Intact, fields.Split, fields.Blind:
			modes = append(modes, m)
		default:
			return nil, usagef("--modes: %q is none of intact, split, blind", word)
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

package main

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/urfave/cli/v2"

	"vitrine/internal/fields"
	"vitrine/internal/hostile"
	"vitrine/proxy"
)

// serveHostile serves ln with p, lying in the way that mode names. The flags have been read; p must not have
// been used.
func serveHostile(c *cli.Context, std stdio, p *proxy.Proxy, ln net.Listener, mode string) error {
	m, err := hostile.ParseMode(mode)
	if err != nil {
		return errors.Join(usagef("--hostile: %v", err), ln.Close())
	}
	l := &hostile.Liar{Proxy: p, Mode: m}
	if m.Split() && p.Policy.HostModes == nil && !slices.Contains(p.Policy.Modes, fields.Split) {
		return errors.Join(usagef("--hostile %s lies in split mode, which this proxy does not allow; give it --modes intact,split", m), ln.Close())
	}
	if addr, ok := ln.Addr().(*net.TCPAddr); !ok || !addr.IP.IsLoopback() {
		return errors.Join(usagef("--hostile listens on loopback only: %v", hostile.ErrBeyondLoopback), ln.Close())
	}
	where := "tunnel"
	if m.Split() {
		where = "exchange in split mode"
	}
	if _, err := fmt.Fprintf(std.err, hostileBanner, m, where, m.About(), hostile.NamePrefix, m); err != nil {
		return errors.Join(err, ln.Close())
	}
	return serveUntil(c.Context, c.Duration("drain"), l.Shutdown, l.Close, func() error { return l.Serve(ln) })
}

const hostileBanner = `*** HOSTILE PROXY: %s ***
*** In every %s it %s.
*** It lies on purpose, so that one can see that its clients notice. It serves this machine only, and for tests only.
*** It calls itself %sNAME in via and proxy-status, and each line of its log says hostile=%s.
`

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/urfave/cli/v2"

	"vitrine/internal/itls"
)

func innerClientCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "client",
		Usage:     "send standard input to a server, and write what it sends to standard output",
		UsageText: "vitrine inner client --connect ADDR [--server-name N] [--roots F] [flags]",
		Description: "At the end of standard input it sends close_notify, and reads on until the server's; then it exits with 0. Where\n" +
			"standard input is a terminal it also ends when the server does. Ctrl-C cuts the session, without close_notify.\n\n" + exitCodesHelp,
		Flags: innerFlags(
			&cli.StringFlag{Name: "connect", Usage: "the server's `ADDR`, HOST:PORT"},
			&cli.StringFlag{Name: "server-name", Usage: "the `NAME` that its certificate has to have (default: the host of --connect)"},
			&cli.StringFlag{Name: "roots", Usage: "verify the server by the roots in PEM `FILE` (default: the system's)"},
			&cli.StringFlag{Name: "cert", Usage: "show the server, when it asks, the certificate in PEM `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "its private key, PEM `FILE`"},
			&cli.StringFlag{Name: "session-in", Usage: "resume the session in `FILE`, if it is for the same name, certificate and protocols"},
			&cli.StringFlag{Name: "session-out", Usage: "keep a session that can be resumed in `FILE`, readable by its owner alone: whoever has it can forge it"},
			&cli.BoolFlag{Name: "key-update", Usage: "behind the handshake, change the keys of both directions; OpenSSL's cannot"},
		),
		Action: func(c *cli.Context) error { return innerClient(c, std) },
	}
}

func innerClient(c *cli.Context, std stdio) (err error) {
	if err := errors.Join(noArguments(c), need(c, "connect")); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(c.String("connect"))
	if err != nil || host == "" || port == "" {
		return usagef("--connect: %q is not HOST:PORT", c.String("connect"))
	}
	setup, err := newInnerSetup(c, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, setup.close()) }()
	if setup.config.TLS.ServerName = c.String("server-name"); setup.config.TLS.ServerName == "" {
		setup.config.TLS.ServerName = host
	}
	if name := setup.config.TLS.ServerName; len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return usagef("--server-name: %q is no host name in ASCII", name[:min(len(name), 255)])
	}
	cache := new(itls.SessionCache)
	if c.IsSet("session-in") {
		session, err := readSession(c.String("session-in"))
		if err != nil {
			return err
		}
		cache.Add(session)
		setup.config.Sessions = cache
	}
	var keep *sessionFile
	if c.IsSet("session-out") {
		if keep, err = newSessionFile(c.String("session-out")); err != nil {
			return err
		}
		defer keep.close()
		setup.config.Sessions = cache
	}
	io.WriteString(std.err, innerWarning)
	carrier, err := dialInner(c.Context, net.JoinHostPort(host, port))
	if err != nil {
		s := newInnerSession(setup, "client", nil)
		s.report.Peer = c.String("connect")
		s.end(err)
		return err
	}
	s := newInnerSession(setup, "client", itls.Client(carrier, setup.config))
	defer func() { s.end(err) }()
	if err := s.handshake(c.Context, innerPatience); err != nil {
		return err
	}
	if c.IsSet("session-in") && !s.report.Resumed {
		s.say("the session in %s was not resumed", c.String("session-in"))
		cache.Take() // no ticket has been read yet: this is it, if it was of no use
	}
	err = s.converse(c, readStandardInput(std.in))
	s.report.Tickets = cache.Len()
	if keep != nil {
		if session := cache.Take(); session != nil {
			err = errors.Join(err, keep.write(session))
		} else {
			s.say("there is no session to keep: the server sent none")
		}
	}
	return err
}

// converse is what happens behind the handshake.
func (s *innerSession) converse(c *cli.Context, in *standardInput) error {
	if c.Bool("key-update") {
		if err := s.conn.UpdateKeys(); err != nil {
			s.cut()
			return fmt.Errorf("inner: --key-update: %w", err)
		}
	}
	return s.pass(c.Context, in, s.setup.std.out)
}

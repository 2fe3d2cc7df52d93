package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"vitrine/internal/pki"
)

func pkiCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "pki",
		Usage: "make a test PKI: two roots, origin certificates, proxy certificates",
		UsageText: "vitrine pki init DIR\n" +
			"vitrine pki origin DIR NAME...\n" +
			"vitrine pki proxy DIR NAME",
		Description: "For tests and demos: the roots' private keys stay in DIR. Origins are verified by DIR/root.pem, the\n" +
			"proxy by DIR/proxy-root.pem, and neither root can stand in for the other. A NAME is a DNS name or\n" +
			"an IP address; the first one names the files DIR/NAME.pem and DIR/NAME.key. No file is overwritten.",
		Action: func(c *cli.Context) error {
			return usagef("pki needs one of init, origin, proxy; see \"vitrine pki --help\"")
		},
		Subcommands: []*cli.Command{
			{
				Name: "init", Usage: "create DIR with an origin root and a proxy root", UsageText: "vitrine pki init DIR",
				Action: func(c *cli.Context) error {
					if c.NArg() != 1 {
						return usagef("pki init needs exactly one DIR")
					}
					dir := c.Args().First()
					if err := pki.Init(dir); err != nil {
						return usagef("%v", err)
					}
					return wrote(std.out, dir, "root.pem", "root.key", "proxy-root.pem", "proxy-root.key")
				},
			},
			{
				Name: "origin", Usage: "issue a certificate for an origin", UsageText: "vitrine pki origin DIR NAME...",
				Action: func(c *cli.Context) error {
					if c.NArg() < 2 {
						return usagef("pki origin needs a DIR and at least one NAME")
					}
					dir, names := c.Args().First(), c.Args().Tail()
					if err := pki.IssueOrigin(dir, names...); err != nil {
						return usagef("%v", err)
					}
					return wrote(std.out, dir, names[0]+".pem", names[0]+".key")
				},
			},
			{
				Name: "proxy", Usage: "issue a certificate with proxyAuthentication, valid for 30 days", UsageText: "vitrine pki proxy DIR NAME",
				Action: func(c *cli.Context) error {
					if c.NArg() != 2 {
						return usagef("pki proxy needs a DIR and exactly one NAME")
					}
					dir, name := c.Args().First(), c.Args().Get(1)
					if err := pki.IssueProxy(dir, name); err != nil {
						return usagef("%v", err)
					}
					return wrote(std.out, dir, name+".pem", name+".key")
				},
			},
		},
	}
}

// wrote prints the files that were made, a line each.
func wrote(w io.Writer, dir string, names ...string) error {
	for _, name := range names {
		if _, err := fmt.Fprintln(w, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

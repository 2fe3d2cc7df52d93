// Vitrine is one binary for the three roles of an inspecting proxy that can read and kill and
// cannot change: start with "vitrine demo", which runs all of them on loopback and checks what
// each one saw.
//
// There is one file for each command; [run] is the entry point that main and the tests share. What
// a command does is in the packages client, proxy and origin; here are only flags, files and words.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	// net/http prints what an origin sends unasked, up to 4 KB of it, through the standard logger.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args, stdio{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// stdio is what a command reads from and writes to.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// run executes one command line and returns the exit status. When ctx ends, the command cleans up
// and returns.
func run(ctx context.Context, args []string, std stdio) int {
	app := newApp(std)
	arranged, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, arranged)
	} else if len(args) > 1 && args[1] == "fetch" {
		err = new(report).write(reportFlag(args[2:]), err)
	}
	if err != nil {
		fmt.Fprintf(std.err, "vitrine: %s\n", oneLine(err.Error()+advice(err)))
	}
	return exitCode(err)
}

func newApp(std stdio) *cli.App {
	app := &cli.App{
		Name:      "vitrine",
		Usage:     "an inspecting HTTPS proxy that can read and can kill, and cannot change",
		UsageText: "vitrine COMMAND [flags] [arguments]",
		Description: "Start with \"vitrine demo\". It needs no network and no files.\n\n" +
			exitCodesHelp,
		Commands: []*cli.Command{
			demoCommand(std),
			pkiCommand(std),
			originCommand(std),
			proxyCommand(std),
			policyCommand(std),
			fetchCommand(std),
			gatewayCommand(std),
			consentCommand(std),
			evidenceCommand(std),
			innerCommand(std),
			completionCommand(std),
			versionCommand(std),
		},
		HideVersion:               true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		Reader:                    std.in,
		Writer:                    std.out,
		ErrWriter:                 std.err,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageFromLibrary,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("unknown command %q; see \"vitrine --help\"", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	prepare(app.Commands)
	return app
}

// prepare sets what every command has in common.
func prepare(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand = true
		c.OnUsageError = usageFromLibrary
		prepare(c.Subcommands)
	}
}

func usageFromLibrary(_ *cli.Context, err error, _ bool) error {
	return &usageError{err.Error()}
}

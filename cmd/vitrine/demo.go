package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// demoTimeout bounds the demo: what has not happened by then will not.
const demoTimeout = 60 * time.Second

func demoCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Usage:     "run client, proxy and origin on loopback, and check what each one saw",
		UsageText: "vitrine demo [--chain N] [--json]",
		Description: "Every step asserts what it prints. A step that fails makes the exit status 1.\n" +
			"--chain shows a chain of proxies instead: who reads, in what order, who killed, and what is refused.\n" +
			"--json prints one object for each step: step, ok, detail.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "chain", Usage: "show a chain of `N` proxies, 2 to 5", DefaultText: "no chain"},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object for each step"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			steps := demoSteps()
			if c.IsSet("chain") {
				if err := chainLength(c.Int("chain")); err != nil {
					return err
				}
				steps = chainSteps(c.Int("chain"))
			}
			return demo(c.Context, std, c.Bool("json"), steps)
		},
	}
}

// A demoStep is one thing that the demo shows. run returns what each party saw, and an error when
// anything was not as it has to be.
type demoStep struct {
	name  string
	title string
	lie   bool // one of many of its kind, which are printed close together
	run   func(context.Context, *stage) (sights, error)
}

// sights is what the parties saw, a line each.
type sights []string

func (s *sights) add(party, format string, args ...any) {
	*s = append(*s, fmt.Sprintf("%-7s %s", party, fmt.Sprintf(format, args...)))
}

func demo(ctx context.Context, std stdio, asJSON bool, steps []demoStep) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	st, err := newStage(ctx)
	if err != nil {
		return fmt.Errorf("demo: setting the stage: %w", err)
	}
	failed := 0
	for i, step := range steps {
		saw, err := step.run(ctx, st)
		if err != nil {
			failed++
		}
		if asJSON {
			err = printStepJSON(std, step, saw, err)
		} else {
			err = printStep(std, i+1, step, saw, err)
		}
		if err != nil {
			return errors.Join(err, st.close())
		}
	}
	if err := st.close(); err != nil {
		return fmt.Errorf("demo: clearing the stage: %w", err)
	}
	if failed > 0 {
		return fmt.Errorf("demo: %d of %d steps failed", failed, len(steps))
	}
	return nil
}

func printStep(std stdio, n int, step demoStep, saw sights, failure error) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d. %s\n", n, step.title)
	for _, line := range saw {
		if step.lie && failure == nil {
			line = "ok  " + line
		}
		fmt.Fprintf(&b, "   %s\n", line)
	}
	switch {
	case failure != nil:
		fmt.Fprintf(&b, "   FAILED  %s\n\n", oneLine(failure.Error()))
	case !step.lie:
		b.WriteString("   ok\n\n")
	}
	_, err := io.WriteString(std.out, b.String())
	return err
}

func printStepJSON(std stdio, step demoStep, saw sights, failure error) error {
	lines := make([]string, len(saw))
	for i, line := range saw {
		party, words, _ := strings.Cut(line, " ")
		lines[i] = party + ": " + strings.TrimSpace(words)
	}
	if failure != nil {
		lines = append(lines, "failed: "+oneLine(failure.Error()))
	}
	return writeJSON(std.out, struct {
		Step   string `json:"step"`
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
	}{step.name, failure == nil, strings.Join(lines, "; ")})
}

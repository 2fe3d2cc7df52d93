package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"vitrine/proxy/policy"
)

func policyCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "policy",
		Usage: "check the file that says what a proxy lets in",
		Subcommands: []*cli.Command{{
			Name:      "check",
			Usage:     "read a policy file as the proxy would",
			UsageText: "vitrine policy check [--json] FILE",
			Description: "It prints every problem, as FILE:LINE:COLUMN: message, and ends with 2; or what a policy says that may\n" +
				"not be meant. The file is TOML:\n" +
				"\n" +
				"   scan_bytes = 65536           # of a body's text that rules see\n" +
				"   [targets]\n" +
				"   ports   = [443]\n" +
				"   private = [\"10.0.0.0/8\"]     # may be dialled although not public\n" +
				"   [[host]]                     # the first that matches; without one, intact\n" +
				"   match = \"*.example\"          # or a list; * is every host\n" +
				"   modes = [\"intact\", \"split\"]  # split: where it cannot be intact, the proxy could change it; also blind; [] refuses\n" +
				"   [[rule]]                     # the first that matches\n" +
				"   id     = \"no-macros\"\n" +
				"   when   = 'response.status == 200 && response.body.contains(\"MACRO\")'\n" +
				"   action = \"kill\"              # or allow\n" +
				"   reason = \"documents with macros are not let in\"\n" +
				"\n" +
				"when is CEL (https://cel.dev) over request.host, method, path, query, headers, body, size and\n" +
				"response.status, headers, body, size. request.header(\"x\") and response.header(\"x\") are a field's first\n" +
				"value or \"\". What cannot be evaluated or read kills, where the rule would.",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
			},
			Action: func(c *cli.Context) error { return checkPolicy(c, std) },
		}},
		Action: func(c *cli.Context) error {
			return usagef("policy needs a command; see \"%s --help\"", c.Command.HelpName)
		},
	}
}

// policyReport is what "policy check --json" prints.
type policyReport struct {
	File     string          `json:"file"`
	OK       bool            `json:"ok"`
	Hosts    int             `json:"hosts"`
	Rules    []string        `json:"rules"`
	Problems []policyMessage `json:"problems"`
	Warnings []policyMessage `json:"warnings"`
}

type policyMessage struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Rule    string `json:"rule,omitempty"`
	Message string `json:"message"`
}

func checkPolicy(c *cli.Context, std stdio) error {
	if c.NArg() != 1 {
		return usagef("policy check needs one FILE; see \"%s --help\"", c.Command.HelpName)
	}
	r := policyReport{File: c.Args().First(), Rules: []string{}, Problems: []policyMessage{}, Warnings: []policyMessage{}}
	p, err := policy.Load(r.File)
	var bad *policy.Errors
	switch {
	case errors.As(err, &bad):
		for _, e := range bad.List {
			r.Problems = append(r.Problems, policyMessage{Line: e.Line, Column: e.Column, Message: e.Message})
		}
	case err != nil:
		return usagef("%v", err)
	default:
		r.OK, r.Hosts, r.Rules = true, p.Hosts(), p.Rules()
		for _, w := range p.Warnings() {
			r.Warnings = append(r.Warnings, policyMessage{Line: w.Line, Column: w.Column, Rule: w.Rule, Message: w.Message})
		}
	}
	if c.Bool("json") {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err = encoder.Encode(&r); err == nil {
			_, err = std.out.Write(printableJSON(text.Bytes()))
		}
	} else {
		err = r.print(std.out, bad)
	}
	switch {
	case err != nil:
		return err
	case !r.OK:
		return usagef("%s: %s", r.File, count(len(r.Problems), "problem"))
	}
	return nil
}

func (r *policyReport) print(out io.Writer, bad *policy.Errors) (err error) {
	say := func(format string, args ...any) {
		_, e := fmt.Fprintln(out, oneLine(fmt.Sprintf(format, args...)))
		err = errors.Join(err, e)
	}
	if bad != nil {
		for _, e := range bad.List {
			say("%v", e)
		}
		return err
	}
	say("%s: ok, %s, %s", r.File, count(r.Hosts, "host"), count(len(r.Rules), "rule"))
	for _, w := range r.Warnings {
		say("%s", w.warning(r.File))
	}
	return err
}

// warning is a line about a file that can be used.
func (m *policyMessage) warning(file string) string {
	s := fmt.Sprintf("%s:%d:%d: warning: ", file, m.Line, m.Column)
	if m.Rule != "" {
		s += "rule " + m.Rule + " "
	}
	return s + m.Message
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

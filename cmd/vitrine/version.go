package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is what "vitrine version --json" prints.
type version struct {
	Version string `json:"version"` // of the module; "devel" where it was built from a checkout
	Commit  string `json:"commit"`  // "" where the build did not record it
	Date    string `json:"date"`    // of the commit, RFC 3339; "" likewise
	Dirty   bool   `json:"dirty"`   // the checkout had changes
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func versionCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "print the version, and the commit where the build recorded it",
		UsageText: "vitrine version [--json]",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print one JSON object"}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			v := readVersion()
			if c.Bool("json") {
				return writeJSON(std.out, v)
			}
			line := "vitrine " + v.Version
			if v.Commit != "" {
				line += " (" + v.Commit[:min(12, len(v.Commit))] + ", " + v.Date
				if v.Dirty {
					line += ", with changes"
				}
				line += ")"
			}
			_, err := fmt.Fprintf(std.out, "%s %s %s/%s\n", line, v.Go, v.OS, v.Arch)
			return err
		},
	}
}

func readVersion() version {
	v := version{Version: "devel", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			v.Dirty = s.Value == "true"
		}
	}
	return v
}

// noArguments refuses arguments where a command has none: ignoring them would hide a mistake.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no argument %q; see \"%s --help\"", c.Command.Name, c.Args().First(), c.Command.HelpName)
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/client/consent"
	"vitrine/internal/fields"
)

func consentForgetCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name: "forget", Usage: "forget what hosts were reached at: less than that is then no loss",
		UsageText: "vitrine consent forget HOST... [--json]\nvitrine consent forget --all [--json]",
		Description: "Where a host was reached at intact, or with signed responses, a proxy that then offers less is not believed:\n" +
			"it may be the proxy that wants less. A HOST that gave it up for good, as NAME or NAME:PORT, is forgotten with\n" +
			"this command. What is remembered is what \"vitrine consent list\" prints; it lies beside the grants. --all\n" +
			"forgets also what cannot be read.",
		Flags: []cli.Flag{
			storeFlag(),
			&cli.BoolFlag{Name: "all", Usage: "forget every host"},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
		},
		Action: func(c *cli.Context) error { return consentForget(c, std) },
	}
}

// openMemory opens the file beside the one that --store names, or the user's.
func openMemory(c *cli.Context) (*consent.Memory, error) {
	path, err := storePath(c)
	if err != nil {
		return nil, err
	}
	m, err := consent.OpenMemory(consent.MemoryPath(path))
	if err != nil {
		return m, usagef("%v; \"vitrine consent forget --all\" begins anew, and --store names another file", err)
	}
	return m, nil
}

// A reachedView is what is remembered of a host, as --json prints it.
type reachedView struct {
	Authority string    `json:"authority"`
	Level     string    `json:"level"`
	At        time.Time `json:"at"` // the last time, give or take a day
}

func viewReached(list ...consent.Reached) []reachedView {
	views := make([]reachedView, 0, len(list)) // [] and not null
	for _, r := range list {
		views = append(views, reachedView{Authority: r.Authority, Level: string(r.Level), At: r.At.UTC()})
	}
	return views
}

// printReached prints a line for each host. What stands in it came from a file.
func printReached(w io.Writer, views []reachedView) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REACHED\tAT\tLAST")
	for _, v := range views {
		fmt.Fprintf(t, "%s\t%s\t%s\n", oneLine(v.Authority), oneLine(v.Level), v.At.Local().Format(minutes))
	}
	return t.Flush()
}

func consentForget(c *cli.Context, std stdio) error {
	hosts := c.Args().Slice()
	switch {
	case c.Bool("all") && len(hosts) > 0:
		return usagef("consent forget takes HOSTs or --all, and not both")
	case !c.Bool("all") && len(hosts) == 0:
		return usagef("consent forget needs a HOST, which \"vitrine consent list\" prints, or --all")
	}
	for i, host := range hosts {
		authority, err := hostAuthority(host)
		if err != nil {
			return usagef("%q is no HOST: write NAME or NAME:PORT", oneLine(host))
		}
		hosts[i] = authority
	}
	m, err := openMemory(c)
	if m == nil || err != nil && !c.Bool("all") {
		return err
	}
	var gone []consent.Reached
	if c.Bool("all") {
		gone, _ = m.List() // of a file that cannot be read nobody knows
		err = m.RemoveAll()
	} else {
		gone, err = m.Remove(hosts...)
	}
	if errors.Is(err, consent.ErrNotRemembered) {
		return usagef("%v, and none was forgotten; \"vitrine consent list\" prints those that there are", err)
	}
	if err != nil {
		return usagef("%v", err)
	}
	views := viewReached(gone...)
	if c.Bool("json") {
		return writeJSON(std.out, map[string][]reachedView{"forgotten": views})
	}
	for _, v := range views {
		if _, err := fmt.Fprintln(std.out, oneLine(fmt.Sprintf("forgot that %s was reached at %s", v.Authority, v.Level))); err != nil {
			return err
		}
	}
	return nil
}

// hostAuthority is a host as a user writes it, in the spelling that is remembered.
func hostAuthority(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), "443"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", err
	}
	return fields.CanonicalAuthority(host, int(n))
}

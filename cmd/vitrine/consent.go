package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/client/consent"
)

func consentCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "consent",
		Usage: "say which proxy may read what, and take it back",
		UsageText: "vitrine consent list [--json]\n" +
			"vitrine consent grant --proxy NAME --proxy-roots F --scope PATTERN [flags]\n" +
			"vitrine consent revoke ID... | --all [--json]\n" +
			"vitrine consent forget HOST... | --all [--json]",
		Description: "Without consent \"vitrine fetch\" and \"vitrine gateway\" send nothing through a proxy. A grant is for a\n" +
			"proxy's name under one root, for the hosts in its scope, until a time. Every fetch and gateway of this user\n" +
			"sees it; revoking it ends what is under way through them.",
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("unknown command \"consent %s\"; it is one of list, grant, revoke, forget", c.Args().First())
			}
			return usagef("consent needs one of list, grant, revoke, forget; see \"vitrine consent --help\"")
		},
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "print what is granted, and what hosts were reached at", UsageText: "vitrine consent list [--json]",
				Flags:  []cli.Flag{storeFlag(), &cli.BoolFlag{Name: "json", Usage: "print one JSON object"}},
				Action: func(c *cli.Context) error { return consentList(c, std) },
			},
			consentGrantCommand(std),
			{
				Name: "revoke", Usage: "take grants back: none of them lets a byte through from now on",
				UsageText:   "vitrine consent revoke ID... [--json]\nvitrine consent revoke --all [--json]",
				Description: "IDs are what \"vitrine consent list\" prints. With one that is not there nothing is revoked. Tunnels that\nare open under a revoked grant close within about a second.",
				Flags: []cli.Flag{
					storeFlag(),
					&cli.BoolFlag{Name: "all", Usage: "revoke every grant"},
					&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
				},
				Action: func(c *cli.Context) error { return consentRevoke(c, std) },
			},
			consentForgetCommand(std),
		},
	}
}

// storeFlag names the file of grants, for every command that needs it.
func storeFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "store", EnvVars: []string{"VITRINE_CONSENT"},
		Usage: "the grants are in `FILE` (default: $XDG_STATE_HOME/vitrine/consent.json, else ~/.local/state/vitrine/consent.json)",
	}
}

// storePath is the file that --store names, or the user's.
func storePath(c *cli.Context) (string, error) {
	if path := c.String("store"); path != "" {
		return path, nil
	}
	path, err := consent.Path()
	if err != nil {
		return "", usagef("there is no place for the grants: %v; name a file with --store", err)
	}
	return path, nil
}

// openStore opens the file that --store names, or the user's. The caller closes it.
func openStore(c *cli.Context) (*consent.Store, error) {
	path, err := storePath(c)
	if err != nil {
		return nil, err
	}
	s, err := consent.Open(path)
	if err != nil {
		return nil, usagef("%v; --store names another file", err)
	}
	return s, nil
}

// A grantView is a grant as --json prints it.
type grantView struct {
	ID            string    `json:"id"`
	Proxy         string    `json:"proxy"`         // the name that hop 1 verifies
	ProxySubject  string    `json:"proxy_subject"` // to show; decides nothing
	ProxyRootSPKI string    `json:"proxy_root_spki_sha256"`
	Scope         []string  `json:"scope"`
	Granted       time.Time `json:"granted"`
	Until         time.Time `json:"until"`
	Credentials   bool      `json:"credentials"`
	Levels        []string  `json:"levels"` // that the hosts may be reached at
}

func viewGrants(grants ...consent.Grant) []grantView {
	views := make([]grantView, 0, len(grants)) // [] and not null
	for _, g := range grants {
		v := grantView{
			ID: g.ID, Proxy: g.ProxyName, ProxySubject: g.ProxySubject, ProxyRootSPKI: hex.EncodeToString(g.ProxyRootSPKI[:]),
			Granted: g.Granted.UTC(), Until: g.Until.UTC(), Credentials: g.Credentials,
		}
		for _, p := range g.Scope {
			v.Scope = append(v.Scope, p.String())
		}
		for _, l := range g.Levels {
			v.Levels = append(v.Levels, string(l))
		}
		views = append(views, v)
	}
	return views
}

// minutes is how people read a time.
const minutes = "2006-01-02 15:04 MST"

// ends is the end of a grant as people read it.
func (v *grantView) ends() string {
	return v.Until.Local().Format(minutes)
}

func (v *grantView) credentials() string {
	if v.Credentials {
		return "readable too"
	}
	return "kept back"
}

func consentList(c *cli.Context, std stdio) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	s, err := openStore(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	grants, err := s.Grants()
	if err != nil {
		return usagef("%v", err)
	}
	m, err := openMemory(c)
	if err != nil {
		return err
	}
	known, err := m.List()
	if err != nil {
		return usagef("%v", err)
	}
	views, reached := viewGrants(grants...), viewReached(known...)
	if c.Bool("json") {
		return writeJSON(std.out, struct {
			Grants  []grantView   `json:"grants"`
			Reached []reachedView `json:"reached"`
		}{views, reached})
	}
	if len(views) == 0 {
		_, err = fmt.Fprintln(std.out, "nothing is granted")
	} else {
		err = printGrants(std.out, views)
	}
	if err != nil || len(reached) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(std.out); err != nil {
		return err
	}
	return printReached(std.out, reached)
}

// printGrants prints a line for each grant. What stands in it came from a file.
func printGrants(w io.Writer, views []grantView) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tPROXY\tROOT\tSCOPE\tLEVELS\tUNTIL\tCREDENTIALS")
	for _, v := range views {
		cells := []string{v.ID, v.Proxy, v.ProxyRootSPKI[:16], strings.Join(v.Scope, " "), strings.Join(v.Levels, " "), v.ends(), v.credentials()}
		for i := range cells {
			cells[i] = oneLine(cells[i])
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

func consentRevoke(c *cli.Context, std stdio) (err error) {
	ids := c.Args().Slice()
	switch {
	case c.Bool("all") && len(ids) > 0:
		return usagef("consent revoke takes IDs or --all, and not both")
	case !c.Bool("all") && len(ids) == 0:
		return usagef("consent revoke needs an ID, which \"vitrine consent list\" prints, or --all")
	}
	s, err := openStore(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var revoked []consent.Grant
	if c.Bool("all") {
		revoked, err = s.RevokeAll()
	} else {
		revoked, err = s.Revoke(ids...)
	}
	if errors.Is(err, consent.ErrUnknownID) {
		return usagef("%v, and none was revoked; \"vitrine consent list\" prints those that there are", err)
	}
	if err != nil {
		return usagef("%v", err)
	}
	views := viewGrants(revoked...)
	if c.Bool("json") {
		return writeJSON(std.out, map[string][]grantView{"revoked": views})
	}
	for _, v := range views {
		line := oneLine(fmt.Sprintf("revoked %s: the proxy %s may no longer %s what you and %s say to each other", v.ID, v.Proxy, v.verb(), inWords(v.Scope)))
		if _, err := fmt.Fprintln(std.out, line); err != nil {
			return err
		}
	}
	return nil
}

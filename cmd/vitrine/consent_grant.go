package main

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/client"
	"vitrine/client/consent"
	"vitrine/internal/fields"
	"vitrine/internal/hosts"
	"vitrine/internal/pki"
)

// grantDefault is how long a grant lasts that does not say.
const grantDefault = 30 * 24 * time.Hour

func consentGrantCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name: "grant", Usage: "let a proxy read what you say to some hosts, until a time",
		UsageText: "vitrine consent grant --proxy NAME --proxy-roots F --scope PATTERN [--scope PATTERN]...\n" +
			"                      [--for 30d | --until DATE] [--level L[,L...]] [--credentials] [--root HEX] [--json]",
		Description: "The proxy named so, and whoever it lets in, may then read everything that you and the hosts in scope say to\n" +
			"each other. It cannot change any of it unnoticed, unless --level names a level at which it can: signed,\n" +
			"attested or claimed. \"vitrine fetch --level ask\" takes the levels that are named here without asking.\n\n" +
			"A PATTERN is shop.example (this host), *.example (every host below example), an address, or '*' (every\n" +
			"host), each with a :PORT or for every port.",
		Flags: []cli.Flag{
			storeFlag(),
			&cli.StringFlag{Name: "proxy", Usage: "the proxy, by its `NAME` or as https://NAME:PORT", EnvVars: []string{"VITRINE_PROXY"}},
			&cli.StringFlag{Name: "proxy-roots", Usage: "the root that vouches for the proxy, in PEM `FILE`", EnvVars: []string{"VITRINE_PROXY_ROOTS"}},
			&cli.StringFlag{Name: "root", Usage: "where FILE holds several roots, the one whose key has this SHA-256, in `HEX`"},
			&cli.StringSliceFlag{Name: "scope", Usage: "the hosts that it is for, a `PATTERN` (repeatable)"},
			&cli.StringFlag{Name: "for", Usage: "how long it lasts, a `DURATION` such as 30d, 12h or 45m, at most 366d (default: 30d)"},
			&cli.StringFlag{Name: "until", Usage: "when it ends: a `DATE`, as 2027-01-31 for the moment that this day begins here, or as 2027-01-31T18:00:00Z"},
			&cli.StringFlag{Name: "level", Value: string(client.Intact), Usage: "the levels that the hosts may be reached at through the proxy, a list `L[,L...]` of intact, signed, attested, claimed, blind"},
			&cli.BoolFlag{Name: "credentials", Usage: "let the proxy read passwords, cookies and tokens too, which a reader can use elsewhere"},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
		},
		Action: func(c *cli.Context) error { return consentGrant(c, std) },
	}
}

func consentGrant(c *cli.Context, std stdio) (err error) {
	if err := errors.Join(noArguments(c), need(c, "proxy", "proxy-roots")); err != nil {
		return err
	}
	if len(c.StringSlice("scope")) == 0 {
		return usagef("--scope is needed: the hosts that the proxy may read, as --scope shop.example; --scope '*' is every host")
	}
	now := time.Now()
	g := consent.Grant{Granted: now, Credentials: c.Bool("credentials")}
	if g.ProxyName, err = proxyName(c.String("proxy")); err != nil {
		return err
	}
	root, err := chooseRoot(c.String("proxy-roots"), c.String("root"))
	if err != nil {
		return err
	}
	g.ProxyRootSPKI = pki.SPKIHash(root)
	for _, word := range c.StringSlice("scope") {
		p, err := hosts.Parse(word)
		if err != nil {
			return usagef("--scope: %v", err)
		}
		g.Scope = append(g.Scope, p)
	}
	if g.Levels, err = grantLevels(c.String("level")); err != nil {
		return err
	}
	if g.Until, err = grantEnd(c, now); err != nil {
		return err
	}
	s, err := openStore(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if g, err = s.Add(g); err != nil {
		return usagef("%v", err)
	}
	v := viewGrants(g)[0]
	if c.Bool("json") {
		return writeJSON(std.out, v)
	}
	_, err = fmt.Fprintf(std.out, "granted %s until %s: %s\ntake it back with: vitrine consent revoke %s\n", v.ID, v.ends(), v.words(), v.ID)
	return err
}

// words say what a grant allows.
func (v *grantView) words() string {
	s := fmt.Sprintf("the proxy %s (root %s) may %s everything that you and %s say to each other", v.Proxy, v.ProxyRootSPKI[:16], v.verb(), inWords(v.Scope))
	switch {
	case v.allows(client.Claimed):
		s += ", with nothing to show that it speaks with them"
	case v.allows(client.Attested):
		s += ", and you would not notice what it changes"
	case v.allows(client.Signed):
		s += ", and change what you send"
	case v.verb() == "carry":
		return s + ", sealed"
	}
	if v.Credentials {
		return s + ", passwords, cookies and tokens included, which a reader can use elsewhere"
	}
	return s + "; requests with passwords, cookies or tokens do not leave where it reads them"
}

func (v *grantView) allows(l client.Level) bool { return slices.Contains(v.Levels, string(l)) }

// verb is what the proxy may do with what is said.
func (v *grantView) verb() string {
	switch {
	case v.allows(client.Attested), v.allows(client.Claimed):
		return "read and change"
	case v.allows(client.Intact), v.allows(client.Signed):
		return "read"
	}
	return "carry"
}

// grantLevels reads --level of a grant.
func grantLevels(list string) (levels []client.Level, err error) {
	for word := range strings.SplitSeq(list, ",") {
		l, err := client.ParseLevel(strings.TrimSpace(word))
		if err != nil {
			return nil, usagef("--level: %v", err)
		}
		if l == client.Direct {
			return nil, usagef("--level: at direct no proxy is used, and nothing has to be granted")
		}
		levels = append(levels, l)
	}
	return levels, nil
}

// inWords says which hosts a scope is.
func inWords(scope []string) string {
	words := make([]string, len(scope))
	for i, p := range scope {
		switch name, port, _ := strings.Cut(p, ":"); {
		case name == "*" && port == "":
			words[i] = "every host"
		case name == "*":
			words[i] = "every host on port " + port
		case strings.HasPrefix(p, "*."):
			words[i] = "every host below " + p[2:]
		default:
			words[i] = p
		}
	}
	return strings.Join(words, ", ")
}

// proxyName is the name that consent is tied to, as the client verifies it. What was given is not repeated:
// it may hold a password.
func proxyName(s string) (string, error) {
	host := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
			return "", usagef("--proxy must be NAME, https://NAME or https://NAME:PORT, and nothing else")
		}
		host = u.Hostname()
	}
	authority, err := fields.CanonicalAuthority(host, 443)
	if err == nil {
		host, _, err = fields.ParseAuthority(authority)
	}
	if err != nil {
		return "", usagef("--proxy must be NAME, https://NAME or https://NAME:PORT; consent is to the name, whatever the port")
	}
	return host, nil
}

// chooseRoot returns the one root in file, or the one whose key has the hash that --root gives.
func chooseRoot(file, wanted string) (*x509.Certificate, error) {
	pool, err := pki.LoadPool(file)
	if err != nil {
		return nil, usagef("--proxy-roots: %v", err)
	}
	// A root that was issued again with its old key is the same root.
	var roots []*x509.Certificate
	seen := map[[32]byte]bool{}
	for _, c := range pool.Certs {
		if hash := pki.SPKIHash(c); !seen[hash] {
			seen[hash] = true
			roots = append(roots, c)
		}
	}
	if wanted == "" {
		if len(roots) > 1 {
			return nil, usagef("--proxy-roots: %s holds %d roots and consent is to one of them; choose with --root: %s", file, len(roots), listRoots(roots))
		}
		return roots[0], nil
	}
	want, err := hex.DecodeString(wanted)
	if err != nil || len(want) != 32 {
		return nil, usagef("--root: %q is not the SHA-256 of a key in 64 hexadecimal digits", wanted)
	}
	for _, c := range roots {
		if pki.SPKIHash(c) == [32]byte(want) {
			return c, nil
		}
	}
	return nil, usagef("--root: %s has no root with this key; there is: %s", file, listRoots(roots))
}

// listRoots names some of the roots, in one line that a person can still read.
func listRoots(roots []*x509.Certificate) string {
	const most = 4
	var words []string
	for _, c := range roots[:min(most, len(roots))] {
		words = append(words, fmt.Sprintf("%s (%s)", spkiHex(c), c.Subject))
	}
	if len(roots) > most {
		words = append(words, fmt.Sprintf("and %d more", len(roots)-most))
	}
	return strings.Join(words, ", ")
}

// grantEnd is the moment that --for or --until gives.
func grantEnd(c *cli.Context, now time.Time) (time.Time, error) {
	end := now.Add(grantDefault)
	switch {
	case c.IsSet("for") && c.IsSet("until"):
		return end, usagef("--for and --until say the same thing: choose one of them")
	case c.IsSet("for"):
		d, err := parseDays(c.String("for"))
		if err != nil {
			return end, err
		}
		end = now.Add(d)
	case c.IsSet("until"):
		var err error
		if end, err = time.ParseInLocation(time.DateOnly, c.String("until"), now.Location()); err != nil {
			end, err = time.Parse(time.RFC3339, c.String("until"))
		}
		if err != nil {
			return end, usagef("--until: %q is no date; write 2027-01-31 or 2027-01-31T18:00:00Z", c.String("until"))
		}
		if !end.After(now) {
			return end, usagef("--until: %s is over", end.Local().Format(minutes))
		}
	}
	if end.Sub(now) > consent.MaxTime {
		return end, usagef("a grant lasts at most 366d")
	}
	return end, nil
}

// parseDays reads whole days, as "30d", and what [time.ParseDuration] reads.
func parseDays(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 16); err == nil {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || d <= 0 {
		return 0, usagef("--for: %q is no duration; write 30d, 12h or 45m", s)
	}
	return d, nil
}

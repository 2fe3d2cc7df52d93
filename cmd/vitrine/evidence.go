package main

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

func evidenceCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "evidence",
		Usage:     "explain saved evidence, and verify it again",
		UsageText: "vitrine evidence show [flags] FILE",
		Action: func(*cli.Context) error {
			return usagef("evidence needs show; see \"vitrine evidence --help\"")
		},
		Subcommands: []*cli.Command{{
			Name:  "show",
			Usage: "say what evidence that \"vitrine fetch --evidence\" saved proves, and what it does not",
			UsageText: "vitrine evidence show FILE\n" +
				"vitrine evidence show FILE --report REPORT.json [--roots F]\n" +
				"vitrine evidence show FILE --nonce HEX --proxy HEX|cert.pem [--roots F]",
			Description: "Evidence answers a nonce that one client made for one CONNECT through one proxy, so to verify it takes\n" +
				"these two; a report of \"vitrine fetch --report\" has both. It is then verified as of its own time: that\n" +
				"it is fresh, only the client could see. The request of that client is made again as this program\n" +
				"makes it; an authenticator that answers another program's request does not verify.\n\n" + exitCodesHelp,
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
				&cli.StringFlag{Name: "roots", Usage: "verify the origin by the roots in PEM `FILE` (default: the system's)"},
				&cli.StringFlag{Name: "nonce", Usage: "the nonce of the CONNECT, 64 `HEX` digits; needs --proxy"},
				&cli.StringFlag{Name: "proxy", Usage: "the proxy's certificate: a PEM `FILE`, or its SHA-256 in hex; needs --nonce"},
				&cli.StringFlag{Name: "report", Usage: "take nonce and proxy from the report of that fetch, a JSON `FILE`"},
			},
			Action: func(c *cli.Context) error { return showEvidence(c, std) },
		}},
	}
}

// showEvidence explains the file whether or not it holds: who is to judge a proxy wants to see what it said.
func showEvidence(c *cli.Context, std stdio) error {
	if c.NArg() != 1 {
		return usagef("evidence show needs exactly one FILE and got %d; see \"vitrine evidence show --help\"", c.NArg())
	}
	s := &shownEvidence{}
	var err error
	if s.offer, err = offerOf(c); err != nil {
		return err
	}
	var roots *x509.CertPool
	if file := c.String("roots"); file != "" {
		pool, err := pki.LoadPool(file)
		if err != nil {
			return usagef("--roots: %v", err)
		}
		roots, s.roots = pool.CertPool, file
	}
	file := c.Args().First()
	raw, err := readBounded(file, frames.MaxEvidence)
	if err != nil {
		return usagef("%v", err)
	}
	if s.e, err = evidence.Parse(raw); err != nil {
		return usagef("%s is not evidence: %v", file, err)
	}
	s.size, s.age, s.whole = len(raw), time.Since(s.e.Time), s.e
	s.links, s.e, s.err = s.whole.End()
	s.err = s.check(roots, s.err)
	if c.Bool("json") {
		err = writeJSON(std.out, s.json())
	} else {
		_, err = io.WriteString(std.out, s.words())
	}
	return errors.Join(s.err, err)
}

// A shownEvidence is one evidence and what came of looking at it.
type shownEvidence struct {
	whole *evidence.Evidence   // as it came
	links []*evidence.Evidence // of it, to the proxies behind the first
	e     *evidence.Evidence   // what it leads to: about the origin, or a link to a proxy that is to be added
	size  int
	age   time.Duration
	offer *tlsmsg.InspectionOffer // nil: nobody said what it should answer
	roots string                  // the file; "" for the system's

	x        *evidence.Explanation
	verified bool // all of it, chain included
	chain    bool // the chain by itself was verified
	err      error
}

// check verifies what there is enough to verify. Only roots that the user names judge a chain that answers
// nobody: the system's say nothing about evidence from a laboratory.
//
// broken is why a chain does not lead to its end.
func (s *shownEvidence) check(roots *x509.CertPool, broken error) error {
	var err error
	if s.x, err = evidence.Explain(s.e); broken != nil || err != nil {
		return judged(cmp.Or(broken, err))
	}
	if s.offer != nil {
		if s.offer.Authority == "" {
			s.offer.Authority = s.e.Authority
		}
		_, err := evidence.Recheck(s.whole, s.offer, roots)
		s.verified = err == nil
		return judged(err)
	}
	if roots == nil || s.e.Kind == evidence.Chain {
		return nil
	}
	err = evidence.VerifyChain(s.e, s.x.Chain, roots)
	s.chain = err == nil
	return judged(err)
}

// judged gives an error of the verifier the class that the client would give it.
func judged(err error) error {
	var cert *evidence.CertificateError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &cert):
		return &client.TrustError{Party: client.PartyOrigin, Err: cert.Err}
	}
	return &client.IntegrityError{What: "the evidence does not hold", Err: err}
}

// offerOf is what the user says that the evidence should answer; nil when nothing. Its authority is "" where
// only the evidence names it.
func offerOf(c *cli.Context) (*tlsmsg.InspectionOffer, error) {
	nonce, proxy, report := c.String("nonce"), c.String("proxy"), c.String("report")
	switch {
	case report != "" && (nonce != "" || proxy != ""):
		return nil, usagef("--report has nonce and proxy in it: give it alone, or --nonce and --proxy")
	case report != "":
		return offerOfReport(report)
	case nonce == "" && proxy == "":
		return nil, nil
	case nonce == "" || proxy == "":
		return nil, usagef("evidence is verified with --nonce and --proxy together; the --report of its fetch has both")
	}
	o := &tlsmsg.InspectionOffer{Proxies: make([][32]byte, 1)}
	if err := decodeHash(&o.Nonce, nonce); err != nil {
		return nil, usagef("--nonce: %v", err)
	}
	if decodeHash(&o.Proxies[0], proxy) == nil {
		return o, nil
	}
	pool, err := pki.LoadPool(proxy)
	if err != nil {
		return nil, usagef("--proxy is neither 64 hex digits nor a certificate: %v", err)
	}
	o.Proxies[0] = pki.LeafHash(pool.Certs[0])
	return o, nil
}

// maxReport bounds what is read of a report: /dev/zero is a name too. A report is a few kilobytes.
const maxReport = 1 << 20

func offerOfReport(file string) (*tlsmsg.InspectionOffer, error) {
	text, err := readBounded(file, maxReport)
	if err != nil {
		return nil, usagef("--report: %v", err)
	}
	var r struct {
		Proxies  []client.ProxyReport
		Evidence *client.EvidenceReport
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, usagef("--report: %s is not a report: %v", file, err)
	}
	if r.Evidence == nil || len(r.Proxies) == 0 || len(r.Proxies) > tlsmsg.MaxProxies {
		return nil, usagef("--report: %s is not of a fetch that was shown evidence", file)
	}
	o := &tlsmsg.InspectionOffer{Authority: r.Evidence.Authority, Proxies: make([][32]byte, len(r.Proxies))}
	err = decodeHash(&o.Nonce, r.Evidence.Nonce)
	for i, p := range r.Proxies {
		err = errors.Join(err, decodeHash(&o.Proxies[i], p.Leaf))
	}
	if err != nil {
		return nil, usagef("--report: %s has no nonce or no proxy: %v", file, err)
	}
	return o, nil
}

func decodeHash(to *[32]byte, text string) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(to) {
		return fmt.Errorf("%q is not %d hex digits", text, 2*len(to))
	}
	*to = [32]byte(b)
	return nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(file string, limit int) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(f, int64(limit)+1)); err != nil {
		return nil, err
	}
	if b.Len() > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, limit)
	}
	return b.Bytes(), nil
}

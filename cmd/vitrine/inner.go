package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

const innerWarning = "warning: inner TLS on bare TCP hides nothing: everyone on the path reads what it carries; it is for trying stacks against each other\n"

func innerCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "inner",
		Usage: "speak the inner TLS by itself, on bare TCP, to try it against other stacks",
		UsageText: "vitrine inner client --connect ADDR [flags]\n" +
			"vitrine inner server --listen ADDR --cert F --key F [flags]",
		Description: "TLS 1.3 with the suites of RFC 9150, which authenticate everything and hide nothing. In tunnels it runs inside\n" +
			"encrypted hops; here it does not, so use it for tests only.",
		Action: func(*cli.Context) error {
			return usagef("inner needs one of client, server; see \"vitrine inner --help\"")
		},
		Subcommands: []*cli.Command{innerClientCommand(std), innerServerCommand(std)},
	}
}

// innerFlags are those that both ends have, behind their own.
func innerFlags(own ...cli.Flag) []cli.Flag {
	return append(
		own,
		&cli.StringFlag{Name: "suite", Usage: "the cipher suites, best first, a list `S[,S...]` of " + strings.Join(innerSuites(), ", ") + " (default: both)"},
		&cli.StringFlag{Name: "groups", Usage: "the key exchange groups, best first, a list `G[,G...]` of " + strings.Join(names(innerGroups...), ", ") + " (default: all but the last)"},
		&cli.StringFlag{Name: "alpn", Usage: "the application protocols, best first, a list `P[,P...]` (default: none)"},
		&cli.StringFlag{Name: "export", Usage: "say what the exporter gives for a label without a context, as `LABEL:LEN`, LEN in bytes"},
		&cli.StringFlag{Name: "keylog", Usage: "append the secrets to `FILE` (NSS format): whoever has it can forge the session"},
		&cli.BoolFlag{Name: "json", Usage: "say on standard error, in one line of JSON, what each session was, at its end"},
	)
}

// An innerGroup is a key exchange group under the name of its standard.
type innerGroup string

var innerGroups = []innerGroup{"X25519", "P-256", "P-384", "X25519MLKEM768"}

// id returns 0 for what is none of innerGroups.
func (g innerGroup) id() tls.CurveID {
	switch g {
	case "X25519":
		return tls.X25519
	case "P-256":
		return tls.CurveP256
	case "P-384":
		return tls.CurveP384
	case "X25519MLKEM768":
		return tls.X25519MLKEM768
	}
	return 0
}

func groupName(id tls.CurveID) string {
	for _, g := range innerGroups {
		if g.id() == id {
			return string(g)
		}
	}
	return id.String()
}

func innerSuites() []string {
	return []string{tlsmsg.SuiteName(tlsmsg.SuiteSHA256), tlsmsg.SuiteName(tlsmsg.SuiteSHA384)}
}

func parseInnerSuites(list string) (ids []uint16, err error) {
	for word := range strings.SplitSeq(list, ",") {
		switch word = strings.TrimSpace(word); word {
		case tlsmsg.SuiteName(tlsmsg.SuiteSHA256):
			ids = append(ids, tlsmsg.SuiteSHA256)
		case tlsmsg.SuiteName(tlsmsg.SuiteSHA384):
			ids = append(ids, tlsmsg.SuiteSHA384)
		default:
			return nil, usagef("--suite: %q is none of %s", word, strings.Join(innerSuites(), ", "))
		}
	}
	return ids, nil
}

func parseInnerGroups(list string) (ids []tls.CurveID, err error) {
	for word := range strings.SplitSeq(list, ",") {
		id := innerGroup(strings.TrimSpace(word)).id()
		if id == 0 {
			return nil, usagef("--groups: %q is none of %s", word, strings.Join(names(innerGroups...), ", "))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// maxProtocols bounds the list of protocols, each behind its length: a ClientHello with it is one that any
// end takes, whatever else is in it.
const maxProtocols = 32 << 10

func parseInnerProtocols(list string) (protocols []string, err error) {
	total := 0
	for p := range strings.SplitSeq(list, ",") {
		if p == "" || len(p) > 255 {
			return nil, usagef("--alpn: a protocol has 1 to 255 bytes, and one of these has %d", len(p))
		}
		protocols = append(protocols, p)
		if total += 1 + len(p); total > maxProtocols {
			return nil, usagef("--alpn: the list is longer than %d bytes", maxProtocols)
		}
	}
	return protocols, nil
}

// An innerExport is what --export asks for. The zero value asks for nothing.
type innerExport struct {
	label  string
	length int
}

// maxExport is what the exporter can give with either suite, 255 times the shorter hash (RFC 5869,
// section 2.3).
const maxExport = 255 * 32

func parseInnerExport(s string) (innerExport, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 1 || i > 249 {
		return innerExport{}, usagef("--export must be LABEL:LEN, with a label of 1 to 249 bytes")
	}
	n, err := strconv.Atoi(s[i+1:])
	if err != nil || n < 1 || n > maxExport {
		return innerExport{}, usagef("--export: %q is not a length from 1 to %d", s[i+1:], maxExport)
	}
	return innerExport{s[:i], n}, nil
}

// An innerSetup is what the flags of both ends say.
type innerSetup struct {
	std    stdio
	config *itls.Config
	export innerExport
	json   bool
	keylog io.Closer // nil where there is none
}

func (s *innerSetup) close() error {
	if s.keylog == nil {
		return nil
	}
	return s.keylog.Close()
}

// newInnerSetup reads the flags. The key log is opened last: who gets an error has nothing to close.
func newInnerSetup(c *cli.Context, std stdio) (*innerSetup, error) {
	s := &innerSetup{std: std, json: c.Bool("json"), config: &itls.Config{TLS: &tls.Config{}, UnprotectedForTests: true}}
	t := s.config.TLS
	var err error
	if c.IsSet("suite") {
		if s.config.Suites, err = parseInnerSuites(c.String("suite")); err != nil {
			return nil, err
		}
	}
	if c.IsSet("groups") {
		if s.config.Groups, err = parseInnerGroups(c.String("groups")); err != nil {
			return nil, err
		}
	}
	if c.IsSet("alpn") {
		if t.NextProtos, err = parseInnerProtocols(c.String("alpn")); err != nil {
			return nil, err
		}
	}
	if c.IsSet("export") {
		if s.export, err = parseInnerExport(c.String("export")); err != nil {
			return nil, err
		}
	}
	cert, key := c.String("cert"), c.String("key")
	if (cert == "") != (key == "") {
		return nil, usagef("--cert and --key go together")
	}
	if cert != "" {
		pair, err := pki.LoadKeyPair(cert, key)
		if err != nil {
			return nil, usagef("%v", err)
		}
		if err := itls.CheckChain(&pair); err != nil {
			return nil, usagef("--cert: %s: %v", cert, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	for _, name := range []string{"roots", "client-roots"} {
		file := c.String(name)
		if file == "" {
			continue
		}
		pool, err := pki.LoadPool(file)
		if err != nil {
			return nil, usagef("--%s: %v", name, err)
		}
		if name == "roots" {
			t.RootCAs = pool.CertPool
		} else {
			t.ClientCAs, t.ClientAuth = pool.CertPool, tls.RequireAndVerifyClientCert
		}
	}
	keylog, err := openKeyLog(c.String("keylog"))
	if err != nil {
		return nil, err
	}
	if keylog != nil {
		s.keylog, t.KeyLogWriter = keylog, keylog
	}
	return s, nil
}

// maxSessionFile bounds what --session-in reads into memory. No session is as large.
const maxSessionFile = 1 << 20

func readSession(file string) (*itls.Session, error) {
	data, err := readBounded(file, maxSessionFile)
	if err != nil {
		return nil, usagef("--session-in: %v", err)
	}
	s := new(itls.Session)
	if err := s.UnmarshalBinary(data); err != nil {
		return nil, usagef("--session-in: %s: %v", file, err)
	}
	return s, nil
}

// A sessionFile is where --session-out goes. It shows whole or not at all, and to its owner alone; what
// is in the way of it shows before anything is sent.
type sessionFile struct {
	path string
	tmp  *os.File
}

func newSessionFile(path string) (*sessionFile, error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, usagef("--session-out: %s is there and is no file", path)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".vitrine-session-*") // 0600
	if err != nil {
		return nil, usagef("--session-out: %v", err)
	}
	return &sessionFile{path, tmp}, nil
}

// write takes the place of what was there.
func (f *sessionFile) write(s *itls.Session) error {
	data, err := s.MarshalBinary()
	if err == nil {
		_, err = f.tmp.Write(data)
	}
	if err == nil {
		err = os.Rename(f.tmp.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("--session-out: %w", err)
	}
	return nil
}

// close removes what was not written.
func (f *sessionFile) close() {
	_ = f.tmp.Close()
	_ = os.Remove(f.tmp.Name()) // write has renamed it
}

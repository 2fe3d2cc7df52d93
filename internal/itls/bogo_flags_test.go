package itls

import (
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"vitrine/internal/tlsmsg"
)

//go:embed bogo/config.json
var bogoConfigJSON []byte

// A bogoConfig is bogo/config.json. Flags is ours: the runner does not look at it.
type bogoConfig struct {
	// Flags are what the shim does not do, by the beginning of a flag's name, each with the reason.
	Flags map[string]string
	// DisabledTests are patterns of tests that the runner leaves out, each with the reason.
	DisabledTests map[string]string
	// ErrorMap is what our errors are for each of BoringSSL's.
	ErrorMap map[string][]string
}

func readBogoConfig() (*bogoConfig, error) {
	cfg := new(bogoConfig)
	return cfg, json.Unmarshal(bogoConfigJSON, cfg)
}

// errBogo says that a test wants what the shim does not do.
var errBogo = errors.New("unimplemented")

func unimplemented(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errBogo, fmt.Sprintf(format, args...))
}

// bogoOptions is what a test asks of one connection.
type bogoOptions struct {
	port, shimID string
	ipv6         bool
	server       bool
	resumeCount  int
	probe        bool // -is-handshaker-supported

	credentials []*bogoCredential // the first is the default one; nil where there is none
	roots       *x509.CertPool
	clientAuth  tls.ClientAuthType
	verifyPeer  bool

	groups       []tls.CurveID
	hostName     string
	alpn         []string // to advertise
	selectALPN   *string
	declineALPN  bool
	rejectALPN   bool
	noTicket     bool
	delay        int // seconds until the next connection
	failHello    bool
	failLater    bool
	failCert     bool
	slow         bool
	twice        bool
	writesFirst  bool
	initialWrite string
	shutsDown    bool
	checkClose   bool
	recordSizes  bool
	readSize     int
	exportLabel  string
	exportData   string
	exportLen    int
	exportOften  bool
	exportSecret bool
	update       bool // keys, after each Read
	updateFirst  bool // keys, before each Read
	mustMatch    bool // the names of a request's issuers

	expect bogoExpectations
}

// bogoExpectations are what a session must be like.
type bogoExpectations struct {
	never        bool // no handshake may succeed
	miss         bool
	noSession    bool
	version      uint16
	cipher       uint16
	curve        tls.CurveID
	scheme       tls.SignatureScheme
	alpn         string
	advertised   *string
	hrr, noHRR   bool
	serverName   string
	noServerName bool
	ocsp, scts   []byte
	peer         []*x509.Certificate
	noPeer       bool
	credential   *int
	offered      []tls.SignatureScheme // by the peer
}

// A bogoCredential is a certificate that the shim can show.
type bogoCredential struct {
	certFile, keyFile string
	ocsp, scts        []byte
	schemes           []tls.SignatureScheme
}

// load reads the certificate, or returns nil where the flags name none.
func (c *bogoCredential) load() (*tls.Certificate, error) {
	if c == nil || c.certFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, unimplemented("a certificate that crypto/x509 does not read: %v", err)
	}
	cert.OCSPStaple = c.ocsp
	if cert.SignedCertificateTimestamps, err = splitSCTs(c.scts); err != nil {
		return nil, err
	}
	cert.SupportedSignatureAlgorithms = c.schemes
	return &cert, nil
}

// splitSCTs cuts a SignedCertificateTimestampList.
func splitSCTs(list []byte) (scts [][]byte, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	s := cryptobyte.String(list)
	var all cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&all) || !s.Empty() {
		return nil, errors.New("malformed list of SCTs")
	}
	for !all.Empty() {
		var sct cryptobyte.String
		if !all.ReadUint16LengthPrefixed(&sct) {
			return nil, errors.New("malformed list of SCTs")
		}
		scts = append(scts, sct)
	}
	return scts, nil
}

// joinSCTs is what splitSCTs cuts.
func joinSCTs(scts [][]byte) []byte {
	if len(scts) == 0 {
		return nil
	}
	var x tlsmsg.ExtensionBuilder
	x.SCTs(scts)
	list, err := x.Extensions()
	if err != nil {
		return nil
	}
	return list[0].Data
}

// A bogoFlag takes a flag's value, which is "" for a flag without one.
type bogoFlag struct {
	value bool
	set   func(o *bogoOptions, v string) error
}

func boolFlag(set func(o *bogoOptions)) bogoFlag {
	return bogoFlag{false, func(o *bogoOptions, _ string) error { set(o); return nil }}
}

func stringFlag(set func(o *bogoOptions, v string)) bogoFlag {
	return bogoFlag{true, func(o *bogoOptions, v string) error { set(o, v); return nil }}
}

func numberFlag(set func(o *bogoOptions, n int) error) bogoFlag {
	return bogoFlag{true, func(o *bogoOptions, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return err
		}
		return set(o, n)
	}}
}

func bytesFlag(set func(o *bogoOptions, v []byte)) bogoFlag {
	return bogoFlag{true, func(o *bogoOptions, v string) error {
		b, err := base64.StdEncoding.DecodeString(v)
		if err != nil {
			return err
		}
		set(o, b)
		return nil
	}}
}

func (o *bogoOptions) credential() *bogoCredential {
	if len(o.credentials) == 0 {
		o.credentials = []*bogoCredential{{}}
	}
	return o.credentials[len(o.credentials)-1]
}

// bogoFlags are the flags that the shim honours, without the prefix of a connection.
func bogoFlags() map[string]bogoFlag {
	nothing := boolFlag(func(*bogoOptions) {})
	return map[string]bogoFlag{
		"port":                         stringFlag(func(o *bogoOptions, v string) { o.port = v }),
		"shim-id":                      stringFlag(func(o *bogoOptions, v string) { o.shimID = v }),
		"ipv6":                         boolFlag(func(o *bogoOptions) { o.ipv6 = true }),
		"server":                       boolFlag(func(o *bogoOptions) { o.server = true }),
		"is-handshaker-supported":      boolFlag(func(o *bogoOptions) { o.probe = true }),
		"resume-count":                 numberFlag(func(o *bogoOptions, n int) error { o.resumeCount = n; return nil }),
		"cert-file":                    stringFlag(func(o *bogoOptions, v string) { o.credential().certFile = v }),
		"key-file":                     stringFlag(func(o *bogoOptions, v string) { o.credential().keyFile = v }),
		"ocsp-response":                bytesFlag(func(o *bogoOptions, v []byte) { o.credential().ocsp = v }),
		"signed-cert-timestamps":       bytesFlag(func(o *bogoOptions, v []byte) { o.credential().scts = v }),
		"signing-prefs":                numberFlag(setSigningPref),
		"new-x509-credential":          boolFlag(newBogoCredential),
		"trust-cert":                   {true, setRoots},
		"verify-peer":                  boolFlag(func(o *bogoOptions) { o.verifyPeer = true }),
		"host-name":                    stringFlag(func(o *bogoOptions, v string) { o.hostName = v }),
		"advertise-alpn":               {true, setALPN},
		"select-alpn":                  stringFlag(func(o *bogoOptions, v string) { o.selectALPN = &v }),
		"decline-alpn":                 boolFlag(func(o *bogoOptions) { o.declineALPN = true }),
		"reject-alpn":                  boolFlag(func(o *bogoOptions) { o.rejectALPN = true }),
		"no-ticket":                    boolFlag(func(o *bogoOptions) { o.noTicket = true }),
		"resumption-delay":             numberFlag(func(o *bogoOptions, n int) error { o.delay = n; return nil }),
		"fail-early-callback":          boolFlag(func(o *bogoOptions) { o.failHello = true }),
		"fail-cert-callback":           boolFlag(func(o *bogoOptions) { o.failCert = true }),
		"async":                        boolFlag(func(o *bogoOptions) { o.slow = true }),
		"handshake-twice":              boolFlag(func(o *bogoOptions) { o.twice = true }),
		"no-op-extra-handshake":        boolFlag(func(o *bogoOptions) { o.twice = true }),
		"shim-writes-first":            boolFlag(func(o *bogoOptions) { o.writesFirst = true }),
		"shim-initial-write":           stringFlag(func(o *bogoOptions, v string) { o.initialWrite = v }),
		"shim-shuts-down":              boolFlag(func(o *bogoOptions) { o.shutsDown = true }),
		"check-close-notify":           boolFlag(func(o *bogoOptions) { o.checkClose = true }),
		"export-label":                 stringFlag(func(o *bogoOptions, v string) { o.exportLabel = v }),
		"export-context":               stringFlag(func(o *bogoOptions, v string) { o.exportData = v }),
		"export-keying-material":       numberFlag(func(o *bogoOptions, n int) error { o.exportLen = n; return nil }),
		"use-exporter-between-reads":   boolFlag(func(o *bogoOptions) { o.exportOften = true }),
		"export-traffic-secrets":       boolFlag(func(o *bogoOptions) { o.exportSecret = true }),
		"read-size":                    numberFlag(func(o *bogoOptions, n int) error { o.readSize = n; return nil }),
		"write-different-record-sizes": boolFlag(func(o *bogoOptions) { o.recordSizes = true }),
		"require-any-client-certificate": boolFlag(func(o *bogoOptions) {
			o.clientAuth = tls.RequireAnyClientCert
		}),
		"curves": numberFlag(func(o *bogoOptions, n int) error {
			if !knownGroup(tls.CurveID(n)) {
				return unimplemented("group %d", n)
			}
			o.groups = append(o.groups, tls.CurveID(n))
			return nil
		}),
		"verify-prefs": numberFlag(func(_ *bogoOptions, n int) error {
			if !slices.Contains(tlsmsg.Schemes(), tls.SignatureScheme(n)) {
				return unimplemented("scheme %x", n)
			}
			return nil // it is taken anyhow
		}),
		"must-match-issuer":      boolFlag(func(o *bogoOptions) { o.mustMatch = true }),
		"key-update":             boolFlag(func(o *bogoOptions) { o.update = true }),
		"key-update-before-read": boolFlag(func(o *bogoOptions) { o.updateFirst = true }),
		"install-ddos-callback":  nothing,
		"fail-ddos-callback":     boolFlag(func(o *bogoOptions) { o.failLater = true }),
		"max-version": numberFlag(func(_ *bogoOptions, n int) error {
			if n < tls.VersionTLS13 {
				return unimplemented("a version before TLS 1.3")
			}
			return nil
		}),
		"min-version": numberFlag(func(*bogoOptions, int) error { return nil }),
		"no-tls12":    nothing,
		"no-tls11":    nothing,
		"no-tls1":     nothing,

		"handshake-never-done":  boolFlag(func(o *bogoOptions) { o.expect.never = true }),
		"expect-session-miss":   boolFlag(func(o *bogoOptions) { o.expect.miss = true }),
		"expect-no-session":     boolFlag(func(o *bogoOptions) { o.expect.noSession = true }),
		"expect-hrr":            boolFlag(func(o *bogoOptions) { o.expect.hrr = true }),
		"expect-no-hrr":         boolFlag(func(o *bogoOptions) { o.expect.noHRR = true }),
		"expect-no-server-name": boolFlag(func(o *bogoOptions) { o.expect.noServerName = true }),
		"expect-no-peer-cert":   boolFlag(func(o *bogoOptions) { o.expect.noPeer = true }),
		"expect-server-name":    stringFlag(func(o *bogoOptions, v string) { o.expect.serverName = v }),
		"expect-alpn":           stringFlag(func(o *bogoOptions, v string) { o.expect.alpn = v }),
		"expect-advertised-alpn": stringFlag(func(o *bogoOptions, v string) {
			o.expect.advertised = &v
		}),
		"expect-ocsp-response":          bytesFlag(func(o *bogoOptions, v []byte) { o.expect.ocsp = v }),
		"expect-signed-cert-timestamps": bytesFlag(func(o *bogoOptions, v []byte) { o.expect.scts = v }),
		"expect-peer-cert-file":         {true, setPeer},
		"expect-version": numberFlag(func(o *bogoOptions, n int) error {
			o.expect.version = uint16(n)
			return nil
		}),
		"expect-cipher": numberFlag(func(o *bogoOptions, n int) error {
			o.expect.cipher = uint16(n)
			return nil
		}),
		"expect-curve-id": numberFlag(func(o *bogoOptions, n int) error {
			o.expect.curve = tls.CurveID(n)
			return nil
		}),
		"expect-peer-signature-algorithm": numberFlag(func(o *bogoOptions, n int) error {
			o.expect.scheme = tls.SignatureScheme(n)
			return nil
		}),
		"expect-peer-verify-pref": numberFlag(func(o *bogoOptions, n int) error {
			o.expect.offered = append(o.expect.offered, tls.SignatureScheme(n))
			return nil
		}),
		"expect-selected-credential": numberFlag(func(o *bogoOptions, n int) error {
			o.expect.credential = &n
			return nil
		}),

		// What these ask for, the session does anyhow, or cannot be seen to do.
		"implicit-handshake":            nothing, // Read begins the handshake
		"use-custom-verify-callback":    nothing,
		"use-early-callback":            nothing,
		"use-old-client-cert-callback":  nothing,
		"use-export-context":            nothing, // none is the same as an empty one
		"enable-ocsp-stapling":          nothing,
		"enable-signed-cert-timestamps": nothing,
		"expect-verify-result":          nothing, // chains verify, or the handshake fails
		"reverify-on-resume":            nothing,
		"partial-write":                 nothing,
		"server-preference":             nothing,
	}
}

func setSigningPref(o *bogoOptions, n int) error {
	c := o.credential()
	c.schemes = append(c.schemes, tls.SignatureScheme(n))
	return nil
}

func newBogoCredential(o *bogoOptions) {
	if len(o.credentials) == 0 {
		o.credentials = []*bogoCredential{nil}
	}
	o.credentials = append(o.credentials, new(bogoCredential))
}

func setRoots(o *bogoOptions, file string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	o.roots = x509.NewCertPool()
	o.roots.AppendCertsFromPEM(text)
	return nil
}

func setPeer(o *bogoOptions, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		o.expect.peer = append(o.expect.peer, cert)
	}
	return nil
}

func setALPN(o *bogoOptions, list string) error {
	for s := cryptobyte.String(list); !s.Empty(); {
		var p cryptobyte.String
		if !s.ReadUint8LengthPrefixed(&p) {
			return errors.New("malformed list of protocols")
		}
		o.alpn = append(o.alpn, string(p))
	}
	return nil
}

// parseBogo reads the command line for the first connection and for those that resume it. A flag that
// nobody thought of is an error of its own, not a test that is skipped.
func parseBogo(args []string) (first, resumed *bogoOptions, err error) {
	cfg, err := readBogoConfig()
	if err != nil {
		return nil, nil, err
	}
	first = &bogoOptions{initialWrite: "hello", readSize: 512}
	resumed = &bogoOptions{initialWrite: "hello", readSize: 512}
	flags := bogoFlags()
	var refused error
	for len(args) > 0 {
		name := strings.TrimPrefix(args[0], "-")
		args = args[1:]
		targets := []*bogoOptions{first, resumed}
		bare := name
		if rest, ok := strings.CutPrefix(name, "on-initial-"); ok {
			targets, bare = targets[:1], rest
		} else if rest, ok := strings.CutPrefix(name, "on-resume-"); ok {
			targets, bare = targets[1:], rest
		}
		flag, ok := flags[bare]
		if !ok {
			if !cfg.excuses(name) && !cfg.excuses(bare) {
				return nil, nil, fmt.Errorf("-%s is neither implemented nor listed in bogo/config.json", name)
			}
			return nil, nil, unimplemented("-%s", name)
		}
		value := ""
		if flag.value {
			if len(args) == 0 {
				return nil, nil, fmt.Errorf("-%s without a value", name)
			}
			value, args = args[0], args[1:]
		}
		for _, o := range targets {
			if err := flag.set(o, value); errors.Is(err, errBogo) {
				refused = err // unless a later flag is one that nobody thought of
			} else if err != nil {
				return nil, nil, fmt.Errorf("-%s: %w", name, err)
			}
		}
	}
	return first, resumed, refused
}

// excuses says whether a flag is listed.
func (c *bogoConfig) excuses(name string) bool {
	if _, ok := c.Flags[name]; ok {
		return true
	}
	for pattern := range c.Flags {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func sameCertificates(a, b []*x509.Certificate) bool {
	return slices.EqualFunc(a, b, (*x509.Certificate).Equal)
}

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func testPKI(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new", "pki")
	if err := Init(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTestPKI(t *testing.T) {
	dir := testPKI(t)
	if err := IssueOrigin(dir, "localhost", "127.0.0.1", "::1", "bücher.example"); err != nil {
		t.Fatal(err)
	}
	if err := IssueProxy(dir, "proxy.example"); err != nil {
		t.Fatal(err)
	}
	if err := IssueProxy(dir, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	roots, err := LoadPool(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	proxyRoots, err := LoadPool(filepath.Join(dir, "proxy-root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckDisjoint(proxyRoots, roots); err != nil {
		t.Error(err)
	}
	origin, err := LoadKeyPair(filepath.Join(dir, "localhost.pem"), filepath.Join(dir, "localhost.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "xn--bcher-kva.example"} {
		if _, err := origin.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots.CertPool}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"proxy.example", "127.0.0.1"} {
		proxy, err := LoadKeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckProxyCertificate(proxy, time.Now()); err != nil {
			t.Error(err)
		}
		if _, err := VerifyProxy([]*x509.Certificate{proxy.Leaf}, ProxyOptions{Roots: proxyRoots.CertPool, Name: name}); err != nil {
			t.Error(err)
		}
	}
	keys, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil || len(keys) != 5 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, k := range keys {
		fi, err := os.Stat(k)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", k, fi.Mode())
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := testPKI(t)
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := IssueOrigin(dir, "a.example"); err != nil {
		t.Fatal(err)
	}
	names := []string{"root.pem", "root.key", "proxy-root.pem", "proxy-root.key", "a.example.pem", "a.example.key"}
	before := map[string]string{}
	for _, n := range names {
		before[n] = read(n)
	}
	for what, err := range map[string]error{
		"init":           Init(dir),
		"origin":         IssueOrigin(dir, "a.example"),
		"proxy":          IssueProxy(dir, "a.example"),
		"a root's name":  IssueOrigin(dir, "root"),
		"another root's": IssueProxy(dir, "proxy-root"),
	} {
		if err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	for _, n := range names {
		if read(n) != before[n] {
			t.Errorf("%s changed", n)
		}
	}
	// A key alone is kept too: its certificate may be elsewhere.
	if err := os.Remove(filepath.Join(dir, "a.example.pem")); err != nil {
		t.Fatal(err)
	}
	if err := IssueOrigin(dir, "a.example"); err == nil {
		t.Error("a key was overwritten")
	}
	if read("a.example.key") != before["a.example.key"] {
		t.Error("the key changed")
	}
	if _, err := os.Stat(filepath.Join(dir, "a.example.pem")); err == nil {
		t.Error("a certificate for another key was left")
	}
}

// One file in the way leaves no half of a PKI beside it.
func TestInitIsAllOrNothing(t *testing.T) {
	for _, name := range []string{"root.pem", "root.key", "proxy-root.pem", "proxy-root.key"} {
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Init(dir); err == nil || !strings.Contains(err.Error(), name+": exists already") {
			t.Errorf("%s: got %v", name, err)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
			t.Errorf("%s: left %v, %v", name, list, err)
		}
		os.Remove(file)
		if err := Init(dir); err != nil {
			t.Errorf("%s: then %v", name, err)
		}
	}
}

func TestUnusableNames(t *testing.T) {
	dir := testPKI(t)
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"", ".", "..", "../a", "a/b", `a\b`, "/etc/passwd", "https://a.example", "a.example:443", "[::1]", "fe80::1%eth0",
		"*.example", "a.example.", "a b", "127.1", "-a.example", "xn--\x00", "a..example", strings.Repeat("a", 64) + ".example",
		strings.Repeat("a.", 127) + "toolong", "a\nb",
	} {
		for what, err := range map[string]error{"origin": IssueOrigin(dir, name), "proxy": IssueProxy(dir, name), "second": IssueOrigin(dir, "good.example", name)} {
			if err == nil {
				t.Errorf("%s: %q is taken", what, name)
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: more than one line: %q", name, err)
			}
		}
	}
	if err := IssueOrigin(dir); err == nil {
		t.Error("a certificate without a name")
	}
	after, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Errorf("%d files, %d before", len(after), len(before))
	}
}

func TestLongNameIsOnlyInSubjectAltName(t *testing.T) {
	a := authority(t, "root")
	name := strings.Repeat("a", 60) + ".example"
	cert, err := a.Origin(name)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Leaf.Subject.CommonName != "" || cert.Leaf.VerifyHostname(name) != nil {
		t.Errorf("subject %v", cert.Leaf.Subject)
	}
}

func TestIssuingWithoutAPKI(t *testing.T) {
	dir := t.TempDir()
	err := IssueOrigin(dir, "a.example")
	if err == nil || !strings.Contains(err.Error(), "pki init") {
		t.Errorf("got %v", err)
	}
	good := testPKI(t)
	// A leaf is no authority, though it has a key.
	if err := IssueOrigin(good, "a.example"); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"a.example.pem": "root.pem", "a.example.key": "root.key"} {
		b, err := os.ReadFile(filepath.Join(good, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := IssueOrigin(dir, "b.example"); err == nil || !strings.Contains(err.Error(), "no certificate authority") {
		t.Errorf("got %v", err)
	}
	if err := Init(filepath.Join(good, "root.pem")); err == nil {
		t.Error("a PKI inside a file")
	}
}

func TestExpiredAuthorityIssuesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := testPKI(t)
		time.Sleep(rootLifetime + time.Second)
		if err := IssueOrigin(dir, "a.example"); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("got %v", err)
		}
	})
}

func TestRefusedFiles(t *testing.T) {
	dir := testPKI(t)
	if err := IssueOrigin(dir, "a.example"); err != nil {
		t.Fatal(err)
	}
	if err := IssueOrigin(dir, "b.example"); err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, parts ...string) string {
		var all []byte
		for _, p := range parts {
			if b, err := os.ReadFile(path(p)); err == nil {
				p = string(b)
			}
			all = append(all, p...)
		}
		if err := os.WriteFile(path(name), all, 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	garbled := strings.Replace(string(must(os.ReadFile(path("root.pem")))), "MII", "!!!", 1)
	cut := string(must(os.ReadFile(path("root.pem"))))[:200]

	pool := func(file string) error {
		_, err := LoadPool(file)
		return err
	}
	pair := func(cert, key string) error {
		_, err := LoadKeyPair(cert, key)
		return err
	}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"pool, missing":            {pool(path("none.pem")), "none.pem: no such file"},
		"pool, a directory":        {pool(dir), "is a directory"},
		"pool, empty":              {pool(write("empty", "")), "no PEM certificate"},
		"pool, text":               {pool(write("text", "hello\n")), "no PEM certificate"},
		"pool, a key":              {pool(path("a.example.key")), "certificates only"},
		"pool, a key behind":       {pool(write("both", "root.pem", "root.key")), "certificates only"},
		"pool, cut":                {pool(write("cut", "root.pem", cut)), "cut or damaged"},
		"pool, garbled":            {pool(write("garbled", garbled)), "cut or damaged"},
		"pool, not DER":            {pool(write("der", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), "certificate 1"},
		"pair, no certificate":     {pair(path("none.pem"), path("a.example.key")), "none.pem: no such file"},
		"pair, no key":             {pair(path("a.example.pem"), path("none.key")), "none.key: no such file"},
		"pair, another key":        {pair(path("a.example.pem"), path("b.example.key")), "is not the key of"},
		"pair, swapped":            {pair(path("a.example.key"), path("a.example.pem")), "no PEM certificate"},
		"pair, certificate twice":  {pair(path("a.example.pem"), path("a.example.pem")), "no PEM private key"},
		"pair, garbage":            {pair(write("g1", "garbage"), write("g2", "garbage")), "no PEM certificate"},
		"pair, key that is no key": {pair(path("a.example.pem"), write("nokey", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), "is not the key of"},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, tt.err, tt.want)
		} else if strings.Contains(tt.err.Error(), "\n") || strings.Contains(tt.err.Error(), "open ") {
			t.Errorf("%s: not one clear line: %v", name, tt.err)
		}
	}
	if runtime.GOOS == "linux" {
		if err := pool("/dev/zero"); err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("/dev/zero: %v", err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPoolWithTextBetween(t *testing.T) {
	dir := testPKI(t)
	var all []byte
	for _, f := range []string{"root.pem", "proxy-root.pem"} {
		all = append(all, "# the root in "+f+"\n\n"...)
		all = append(all, must(os.ReadFile(filepath.Join(dir, f)))...)
	}
	file := filepath.Join(dir, "bundle")
	if err := os.WriteFile(file, append(all, "\n# the end\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPool(file)
	if err != nil || len(p.Certs) != 2 {
		t.Fatalf("got %v", err)
	}
}

func TestChainAndKeyInOneFile(t *testing.T) {
	dir := testPKI(t)
	if err := IssueOrigin(dir, "a.example"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "both")
	both := append(must(os.ReadFile(filepath.Join(dir, "a.example.key"))), must(os.ReadFile(filepath.Join(dir, "a.example.pem")))...)
	if err := os.WriteFile(file, append(both, must(os.ReadFile(filepath.Join(dir, "root.pem")))...), 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := LoadKeyPair(file, file)
	if err != nil || len(pair.Certificate) != 2 || pair.Leaf.DNSNames[0] != "a.example" {
		t.Fatalf("got %d certificates, %v", len(pair.Certificate), err)
	}
}

// spec: PKI-7
func TestARootInBothPools(t *testing.T) {
	a, b, c := authority(t, "a"), authority(t, "b"), authority(t, "the common one")
	// The same key under another name: whoever holds it is in both pools all the same.
	again, err := c.Issue(&x509.Certificate{BasicConstraintsValid: true, IsCA: true}, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckDisjoint(NewPool(a.Root), NewPool(b.Root)); err != nil {
		t.Error(err)
	}
	for _, origins := range []*Pool{NewPool(b.Root, c.Root), NewPool(again.Leaf, b.Root)} {
		err := CheckDisjoint(NewPool(a.Root, c.Root), origins)
		if err == nil || !strings.Contains(err.Error(), "the common one") {
			t.Errorf("got %v", err)
		}
	}
	if err := CheckDisjoint(NewPool(a.Root), nil); err != nil {
		t.Errorf("against the system's roots: %v", err)
	}
}

// A root of this system, where it has any, must not be a proxy root.
// spec: PKI-7
func TestARootOfTheSystem(t *testing.T) {
	for _, file := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"} {
		p, err := LoadPool(file)
		if err != nil {
			continue
		}
		if err := CheckDisjoint(NewPool(p.Certs[0]), nil); err == nil {
			t.Errorf("%v passes for a proxy root", p.Certs[0].Subject)
		}
		return
	}
	t.Skip("no list of this system's roots is where it usually is")
}

func TestAuthorityIssuesForEachRole(t *testing.T) {
	a := authority(t, "root")
	client, err := a.Client("somebody")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool().CertPool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if _, err := client.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool().CertPool}); err == nil {
		t.Error("a client's certificate is good for a server")
	}
	for _, issue := range []func(...string) (tls.Certificate, error){a.Origin, a.Proxy} {
		if _, err := issue(); err == nil {
			t.Error("a certificate without a name")
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"vitrine/internal/evidence"
	"vitrine/internal/tlsmsg"
	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

// shownAs runs "vitrine evidence show" on a vector of verified-evidence as the client of it would.
func shownAs(t *testing.T, v vectors.Vector, flags ...string) (code int, out, errs string) {
	t.Helper()
	dir := t.TempDir()
	file, roots := filepath.Join(dir, "evidence.bin"), filepath.Join(dir, "root.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: vectorstest.Hex(t, v, "root")}
	for name, data := range map[string][]byte{file: v.Bytes, roots: pem.EncodeToMemory(block)} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	args := append([]string{"vitrine", "evidence", "show", "--roots", roots, file}, flags...)
	code = run(context.Background(), args, stdio{strings.NewReader(""), &stdout, &stderr})
	return code, stdout.String(), stderr.String()
}

func knowing(t *testing.T, v vectors.Vector) []string {
	t.Helper()
	req, err := evidence.ParseRequest(vectorstest.Hex(t, v, "request"))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--nonce", hex.EncodeToString(req.Nonce[:]), "--proxy", hex.EncodeToString(req.Offer.Proxies[0][:])}
}

// Evidence of every kind is judged as the client judges it, except that what was saved does not get stale, and is
// explained all the same.
// spec: EVD-32
func TestEvidenceShowJudgesEveryVector(t *testing.T) {
	list, err := vectors.Load("verified-evidence")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		t.Run(v.Name, func(t *testing.T) {
			want := exitIntegrity
			switch v.Expect {
			case vectors.Success, vectors.Stale:
				want = exitOK
			case vectors.Untrusted:
				want = exitOriginTrust
			}
			code, out, errs := shownAs(t, v, append(knowing(t, v), "--json")...)
			if code != want {
				t.Fatalf("%s: exit status %d, want %d: %s", v.Comment, code, want, errs)
			}
			var j shownJSON
			if err := json.Unmarshal([]byte(out), &j); err != nil {
				t.Fatalf("%v in %q", err, out)
			}
			if j.Exit != want || j.Verified != (want == exitOK) || (j.Error == nil) != (want == exitOK) || len(j.ProvesNot) == 0 {
				t.Errorf("%+v", j)
			}
			if v.Expect == vectors.Success {
				strength := v.Inputs["proves"]
				if v.Inputs["answer"] == "none" {
					strength = "transcript"
				}
				if j.CountsAs != strength {
					t.Errorf("counts as %q, want %q", j.CountsAs, strength)
				}
			}
			code, out, _ = shownAs(t, v, knowing(t, v)...)
			if code != want || !strings.Contains(out, "\nverified again:\n") || strings.Contains(out, "\nit proves:\n") != (want == exitOK) {
				t.Errorf("in words, exit status %d:\n%s", code, out)
			}
		})
	}
}

// Names in evidence are a peer's words; on a terminal they must be nothing else.
func TestEvidenceShowPrintsNoControlCharacters(t *testing.T) {
	list, err := vectors.Load("evidence")
	if err != nil {
		t.Fatal(err)
	}
	root, err := vectors.Load("verified-evidence")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, v := range list {
		if v.Expect != vectors.Success {
			continue
		}
		ran++
		v.Inputs["root"] = root[0].Inputs["root"]
		at := bytes.Index(v.Bytes, []byte("http/1.1"))
		if at >= 0 {
			copy(v.Bytes[at:], "\x1b[2J\r\x00\x85")
		}
		// The certificates of these are no certificates: 22, with as much as can be said.
		code, out, errs := shownAs(t, v)
		if code != exitIntegrity || !strings.Contains(out, "it would prove, if it held") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit status %d, %q, %q", v.Name, code, out, errs)
		}
		if i := strings.IndexFunc(strings.ReplaceAll(out, "\n", ""), unicode.IsControl); i >= 0 {
			t.Errorf("%s: a control character in %q", v.Name, out)
		}
	}
	if ran < 5 {
		t.Errorf("ran %d vectors", ran)
	}
}

// A report may name as many proxies as an offer has room for.
func TestProxiesOfAReportAreBounded(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	for n, ok := range map[int]bool{0: false, 1: true, tlsmsg.MaxProxies: true, tlsmsg.MaxProxies + 1: false} {
		proxies := strings.TrimSuffix(strings.Repeat(`{"leaf_sha256":"`+hash+`"},`, n), ",")
		file := filepath.Join(t.TempDir(), "report.json")
		if err := os.WriteFile(file, []byte(`{"proxies":[`+proxies+`],"evidence":{"authority":"shop.example:443","nonce":"`+hash+`"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if o, err := offerOfReport(file); (err == nil) != ok || ok && len(o.Proxies) != n {
			t.Errorf("%d proxies: %v", n, err)
		}
	}
}

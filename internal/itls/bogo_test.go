package itls

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// bogoMust are tests that have to pass, one of each kind, so that a run in which everything is left out
// fails.
var bogoMust = []string{
	"AppDataBeforeTLS13KeyChange",
	"BadFinished-Client-TLS13",
	"BadFinished-Server-TLS13",
	"CurveTest-Client-P-384-TLS13",
	"CurveTest-Server-X25519MLKEM768-TLS13",
	"ECDSAKeyUsage-Client-TLS13",
	"ExportKeyingMaterial-TLS-TLS13",
	"InvalidPSKIdentity-TLS13",
	"KeyUpdate-Requested",
	"LargePlaintext-TLS13-Padded-8192-8192",
	"OCSPStapling-Client-TLS13-TLS-Sync-SplitHandshakeRecords",
	"OCSPStapling-Server-TLS13-TLS-Sync",
	"PartialSecondClientHelloAfterFirst",
	"RequireAnyClientCertificate-TLS13",
	"Resume-Client-PRFMismatch-TLS13",
	"Resume-Server-InvalidPSKBinder-SecondBinder",
	"Resume-Server-TLS13-TLS13-TLS",
	"SecondHelloRetryRequest-TLS13",
	"ServerBogusVersion",
	"Shutdown-Shim-KeyUpdate-TLS-Sync",
	"TLS13-HelloRetryRequest-Client-TLS-Async",
	"TLS13-HelloRetryRequest-Server-TLS-Async",
	"TrailingMessageData-TLS13-EncryptedExtensions-TLS",
	"UnnecessaryHelloRetryRequest-TLS13",
	"WrongMessageType-TLS13-ClientFinished-TLS",
}

// bogoTimeout is for all of the runner, which takes half a minute on two cores.
const bogoTimeout = 15 * time.Minute

// TestBoGo runs BoringSSL's runner against this package, with this test binary as its shim. BOGO_RUNNER is
// the folder ssl/test/runner of a checkout, or the checkout, and without it the test is skipped;
// BOGO_TEST may hold patterns of tests, separated by semicolons.
func TestBoGo(t *testing.T) {
	runner := os.Getenv("BOGO_RUNNER")
	if runner == "" {
		t.Skip("BOGO_RUNNER does not name the folder ssl/test/runner of BoringSSL")
	}
	if below := filepath.Join(runner, "ssl", "test", "runner"); isFolder(below) {
		runner = below
	}
	shim, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("bogo/config.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, report := filepath.Join(dir, "runner"), filepath.Join(dir, "report.json")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, ".")
	build.Dir = runner
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the runner does not build: %v\n%s", err, out)
	}
	args := []string{
		"-test.timeout=" + bogoTimeout.String(), "-pipe", "-allow-unimplemented", "-shim-extra-flags=" + bogoMode,
		"-shim-path=" + shim, "-shim-config=" + config, "-json-output=" + report,
	}
	only := os.Getenv("BOGO_TEST")
	if only != "" {
		args = append(args, "-test="+only)
	}
	run := exec.CommandContext(t.Context(), program, args...)
	run.Dir = runner // it reads its keys there
	out, err := run.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	checkBogo(t, report, out, only == "")
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// checkBogo reads what the runner reports, and counts.
func checkBogo(t *testing.T, report string, out []byte, whole bool) {
	t.Helper()
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("the runner reports nothing: %v\n%s", err, out)
	}
	var results struct {
		Tests map[string]struct{ Actual, Error string }
	}
	if err := json.Unmarshal(text, &results); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(results.Tests)) {
		r := results.Tests[name]
		count[r.Actual]++
		if r.Actual != "PASS" && r.Actual != "SKIP" {
			t.Errorf("%s: %s %s", name, r.Actual, r.Error)
		}
	}
	if whole {
		for _, name := range bogoMust {
			if got := results.Tests[name].Actual; got != "PASS" {
				t.Errorf("%s has to pass: %q", name, got)
			}
		}
	}
	cfg, err := readBogoConfig()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d passed, %d failed, %d need what the shim does not do; the rest is left out, by %d patterns",
		count["PASS"], len(results.Tests)-count["PASS"]-count["SKIP"], count["SKIP"], len(cfg.DisabledTests))
}

func TestBogoConfigHasAReasonForEverything(t *testing.T) {
	cfg, err := readBogoConfig()
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Flags) == 0 || len(cfg.DisabledTests) == 0 || len(cfg.ErrorMap) == 0 {
		t.Fatal("the config is empty")
	}
	for _, list := range []map[string]string{cfg.Flags, cfg.DisabledTests} {
		for name, reason := range list {
			if len(reason) < 10 || !strings.HasSuffix(reason, ".") {
				t.Errorf("%s: %q is no reason", name, reason)
			}
		}
	}
	for pattern := range cfg.DisabledTests {
		if _, err := filepath.Match(pattern, "x"); err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	flags := bogoFlags()
	for name := range flags {
		if cfg.excuses(name) {
			t.Errorf("-%s is implemented, and listed as not implemented", name)
		}
	}
	for canonical, ours := range cfg.ErrorMap {
		if len(ours) == 0 || slices.Contains(ours, "") {
			t.Errorf("%s: any error would do", canonical)
		}
	}
}

func TestBogoFlags(t *testing.T) {
	port := []string{bogoMode, "-port", "1", "-shim-id", "7"}
	for _, c := range []struct {
		name   string
		args   []string
		want   int
		stderr string
	}{
		{"is it split over processes", []string{bogoMode, "-is-handshaker-supported"}, 0, ""},
		{"what is listed", append(slices.Clone(port), "-dtls"), bogoUnimplemented, ""},
		{"what is listed by its beginning", append(slices.Clone(port), "-quic-anything"), bogoUnimplemented, ""},
		{"what is listed, for later connections", append(slices.Clone(port), "-on-resume-enable-early-data"), bogoUnimplemented, ""},
		{"a group that is not implemented", append(slices.Clone(port), "-curves", "25"), bogoUnimplemented, ""},
		{"a version that is not implemented", append(slices.Clone(port), "-max-version", fmt.Sprint(0x0303)), bogoUnimplemented, ""},
		{"what nobody thought of", append(slices.Clone(port), "-brand-new"), 1, "neither implemented nor listed"},
		{"a flag without its value", append(slices.Clone(port), "-curves"), 1, "without a value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			if code := runBogoShim(c.args, &stdout, &stderr); code != c.want || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("code %d, %q, %q", code, stdout.String(), stderr.String())
			}
		})
	}
}

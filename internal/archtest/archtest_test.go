package archtest_test

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vitrine/internal/archtest"
)

func TestTheModuleKeepsItsWalls(t *testing.T) {
	watch(t, "../..")
	pkgs, err := archtest.Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	// A list that misses the module would keep every wall.
	for _, path := range []string{"vitrine/frames", "vitrine/internal/archtest", "golang.org/x/net/idna", "strings"} {
		if !slices.ContainsFunc(pkgs, func(p archtest.Package) bool { return p.Path == path }) {
			t.Fatalf("%s is not among the %d packages listed", path, len(pkgs))
		}
	}
	for _, broken := range archtest.Check(pkgs) {
		t.Error(broken)
	}
}

// watch reads the folders of the module, so that go test, which cannot see what go list reads, does not
// answer from its cache when there is a new package.
func watch(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// pkg is a package in order but for its imports.
func pkg(path string, imports ...string) archtest.Package {
	return archtest.Package{Path: path, Imports: imports, Files: []archtest.File{{Name: "x.go", Lines: 10, Doc: "Package x is x."}}}
}

// std are the packages outside of the module that the graphs below need.
var std = []archtest.Package{
	{Path: "strings", Standard: true},
	{Path: "golang.org/x/net/http2", Imports: []string{"strings"}},
	{Path: "golang.org/x/crypto/cryptobyte", Imports: []string{"strings"}},
	{Path: "example.org/other"},
}

func TestEachRuleCanFail(t *testing.T) {
	for _, c := range []struct {
		name string
		pkgs []archtest.Package
		want string // begins the only line that Check returns; "" for none
	}{
		{"nothing", nil, ""},
		{"client to proxy", []archtest.Package{pkg("vitrine/client", "vitrine/proxy"), pkg("vitrine/proxy")}, "vitrine/client -> vitrine/proxy:"},
		{"client to below proxy", []archtest.Package{pkg("vitrine/client", "vitrine/proxy/inspect"), pkg("vitrine/proxy/inspect")}, "vitrine/client -> vitrine/proxy/inspect:"},
		{"client to origin", []archtest.Package{pkg("vitrine/client", "vitrine/origin"), pkg("vitrine/origin")}, "vitrine/client -> vitrine/origin:"},
		{"proxy to client", []archtest.Package{pkg("vitrine/proxy", "vitrine/client"), pkg("vitrine/client")}, "vitrine/proxy -> vitrine/client:"},
		{"proxy to origin", []archtest.Package{pkg("vitrine/proxy", "vitrine/origin"), pkg("vitrine/origin")}, "vitrine/proxy -> vitrine/origin:"},
		{"origin to client", []archtest.Package{pkg("vitrine/origin", "vitrine/client"), pkg("vitrine/client")}, "vitrine/origin -> vitrine/client:"},
		{"origin to proxy", []archtest.Package{pkg("vitrine/origin", "vitrine/proxy"), pkg("vitrine/proxy")}, "vitrine/origin -> vitrine/proxy:"},
		{"proxy to itls", []archtest.Package{pkg("vitrine/proxy", "vitrine/internal/itls"), pkg("vitrine/internal/itls")}, "vitrine/proxy -> vitrine/internal/itls:"},
		{"below proxy to itls", []archtest.Package{pkg("vitrine/proxy/inspect", "vitrine/internal/itls"), pkg("vitrine/internal/itls")}, "vitrine/proxy/inspect -> vitrine/internal/itls:"},
		{
			"proxy to itls through two others",
			[]archtest.Package{
				pkg("vitrine/proxy", "vitrine/internal/a"), pkg("vitrine/internal/a", "strings", "vitrine/internal/b"),
				pkg("vitrine/internal/b", "vitrine/internal/itls"), pkg("vitrine/internal/itls"),
			},
			"vitrine/proxy -> vitrine/internal/a -> vitrine/internal/b -> vitrine/internal/itls:",
		},
		{"itls to hop", []archtest.Package{pkg("vitrine/internal/itls", "vitrine/internal/hop"), pkg("vitrine/internal/hop")}, "vitrine/internal/itls -> vitrine/internal/hop:"},
		{"itls to a carrier", []archtest.Package{pkg("vitrine/internal/itls", "vitrine/internal/hop/h2"), pkg("vitrine/internal/hop/h2")}, "vitrine/internal/itls -> vitrine/internal/hop/h2:"},
		{"hop to evidence", []archtest.Package{pkg("vitrine/internal/hop", "vitrine/internal/evidence"), pkg("vitrine/internal/evidence")}, "vitrine/internal/hop -> vitrine/internal/evidence:"},
		{"a carrier to itls", []archtest.Package{pkg("vitrine/internal/hop/h2", "vitrine/internal/itls"), pkg("vitrine/internal/itls")}, "vitrine/internal/hop/h2 -> vitrine/internal/itls:"},
		{"evidence to hop", []archtest.Package{pkg("vitrine/internal/evidence", "vitrine/internal/hop"), pkg("vitrine/internal/hop")}, "vitrine/internal/evidence -> vitrine/internal/hop:"},
		{"evidence to itls", []archtest.Package{pkg("vitrine/internal/evidence", "vitrine/internal/itls"), pkg("vitrine/internal/itls")}, "vitrine/internal/evidence -> vitrine/internal/itls:"},
		{"verdict to hop", []archtest.Package{pkg("vitrine/internal/verdict", "vitrine/internal/hop"), pkg("vitrine/internal/hop")}, "vitrine/internal/verdict -> vitrine/internal/hop:"},
		{"verdict to itls", []archtest.Package{pkg("vitrine/internal/verdict", "vitrine/internal/itls"), pkg("vitrine/internal/itls")}, "vitrine/internal/verdict -> vitrine/internal/itls:"},
		{"internal to a role", []archtest.Package{pkg("vitrine/internal/pki", "vitrine/client"), pkg("vitrine/client")}, "vitrine/internal/pki -> vitrine/client:"},
		{"frames to fields", []archtest.Package{pkg("vitrine/frames", "vitrine/internal/fields"), pkg("vitrine/internal/fields")}, "vitrine/frames -> vitrine/internal/fields:"},
		{"frames to others", []archtest.Package{pkg("vitrine/frames", "example.org/other")}, "vitrine/frames -> example.org/other:"},
		{"tlsmsg to x/net", []archtest.Package{pkg("vitrine/internal/tlsmsg", "golang.org/x/net/http2")}, "vitrine/internal/tlsmsg -> golang.org/x/net/http2:"},
		{"tlsmsg to frames", []archtest.Package{pkg("vitrine/internal/tlsmsg", "vitrine/frames"), pkg("vitrine/frames")}, "vitrine/internal/tlsmsg -> vitrine/frames:"},
		{"vectors to others", []archtest.Package{pkg("vitrine/spec/vectors", "example.org/other")}, "vitrine/spec/vectors -> example.org/other:"},
		{"library to command", []archtest.Package{pkg("vitrine/client", "vitrine/cmd/vitrine"), pkg("vitrine/cmd/vitrine")}, "vitrine/client -> vitrine/cmd/vitrine:"},
		{"proxy to signatures", []archtest.Package{pkg("vitrine/proxy", "vitrine/internal/httpsig"), pkg("vitrine/internal/httpsig")}, "vitrine/proxy -> vitrine/internal/httpsig:"},
		{"below proxy to signatures", []archtest.Package{pkg("vitrine/proxy/policy", "vitrine/internal/httpsig"), pkg("vitrine/internal/httpsig")}, "vitrine/proxy/policy -> vitrine/internal/httpsig:"},
		{"evidence to signatures", []archtest.Package{pkg("vitrine/internal/evidence", "vitrine/internal/httpsig"), pkg("vitrine/internal/httpsig")}, "vitrine/internal/evidence -> vitrine/internal/httpsig:"},
		{"a carrier to signatures", []archtest.Package{pkg("vitrine/internal/hop/h2", "vitrine/internal/httpsig"), pkg("vitrine/internal/httpsig")}, "vitrine/internal/hop/h2 -> vitrine/internal/httpsig:"},
		{"client to its gateway", []archtest.Package{pkg("vitrine/client", "vitrine/client/gateway"), pkg("vitrine/client/gateway")}, "vitrine/client -> vitrine/client/gateway:"},
		{"consent to the gateway", []archtest.Package{pkg("vitrine/client/consent", "vitrine/client/gateway"), pkg("vitrine/client/gateway")}, "vitrine/client/consent -> vitrine/client/gateway:"},
		{"proxy to hostile", []archtest.Package{pkg("vitrine/proxy", "vitrine/internal/hostile"), pkg("vitrine/internal/hostile")}, "vitrine/proxy -> vitrine/internal/hostile:"},
		{"another command to hostile", []archtest.Package{pkg("vitrine/cmd/other", "vitrine/internal/hostile"), pkg("vitrine/internal/hostile")}, "vitrine/cmd/other -> vitrine/internal/hostile:"},
		{"the module's root to hostile", []archtest.Package{pkg("vitrine", "vitrine/internal/hostile"), pkg("vitrine/internal/hostile")}, "vitrine -> vitrine/internal/hostile:"},
		{"long file", []archtest.Package{{Path: "vitrine/client", Files: []archtest.File{{Name: "a.go", Lines: 601, Doc: "Package client."}}}}, "vitrine/client/a.go: 601 lines"},
		{"no package comment", []archtest.Package{{Path: "vitrine/client", Files: []archtest.File{{Name: "a.go", Lines: 1}}}}, "vitrine/client: no package comment"},

		{"command to all", []archtest.Package{
			pkg("vitrine/cmd/vitrine", "vitrine/client", "vitrine/proxy", "vitrine/origin", "vitrine/internal/hostile"),
			pkg("vitrine/client", "vitrine/internal/itls", "vitrine/internal/hop"), pkg("vitrine/proxy", "vitrine/proxy/inspect", "vitrine/internal/hop/h2"),
			pkg("vitrine/proxy/inspect", "vitrine/internal/tlsmsg"), pkg("vitrine/origin", "vitrine/internal/itls"), pkg("vitrine/internal/hostile", "vitrine/internal/hop"),
			pkg("vitrine/internal/hop/h2", "vitrine/internal/hop", "vitrine/frames", "golang.org/x/net/http2"), pkg("vitrine/internal/hop"),
			pkg("vitrine/internal/itls", "vitrine/internal/tlsmsg"), pkg("vitrine/internal/tlsmsg", "golang.org/x/crypto/cryptobyte"), pkg("vitrine/frames", "strings"),
		}, ""},
		{"testnet to all", []archtest.Package{
			pkg("vitrine/internal/testnet", "vitrine/client", "vitrine/proxy", "vitrine/internal/hostile"), pkg("vitrine/client"), pkg("vitrine/proxy"), pkg("vitrine/internal/hostile"),
		}, ""},
		{"signatures to the two that they are for", []archtest.Package{
			pkg("vitrine/cmd/vitrine", "vitrine/client/gateway", "vitrine/origin"), pkg("vitrine/client/gateway", "vitrine/client"),
			pkg("vitrine/client", "vitrine/internal/httpsig"), pkg("vitrine/origin", "vitrine/internal/httpsig"), pkg("vitrine/internal/httpsig"),
		}, ""},
		{"a name that begins alike", []archtest.Package{pkg("vitrine/client", "vitrine/proxyproto"), pkg("vitrine/proxyproto")}, ""},
		{"longest file", []archtest.Package{{Path: "vitrine/client", Files: []archtest.File{{Name: "a.go", Lines: 600}, {Name: "b.go", Doc: "Package client."}}}}, ""},
		{"tests only", []archtest.Package{{Path: "vitrine/e2e"}}, ""},
		{"others' own business", []archtest.Package{{Path: "example.org/x", Imports: []string{"vitrine/cmd/vitrine"}, Files: []archtest.File{{Name: "x.go", Lines: 9999}}}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := archtest.Check(slices.Concat(c.pkgs, std))
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("broken: %q", got)
			case c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)):
				t.Errorf("broken: %q, want one line that begins %q", got, c.want)
			}
		})
	}
}

// The files of this package are the sample: their comment is in one of them, and they have lines.
func TestLoadSeesComments(t *testing.T) {
	pkgs, err := archtest.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(pkgs, func(p archtest.Package) bool { return p.Path == "vitrine/internal/archtest" })
	if i < 0 || len(pkgs[i].Files) != 1 {
		t.Fatalf("package %d of %d", i, len(pkgs))
	}
	f := pkgs[i].Files[0]
	if f.Name != "archtest.go" || f.Lines < 100 || f.Lines > archtest.MaxLines || !strings.HasPrefix(f.Doc, "Package archtest holds the walls") {
		t.Errorf("%+v", f)
	}
	if !slices.Contains(pkgs[i].Imports, "go/parser") {
		t.Errorf("imports %q", pkgs[i].Imports)
	}
	if _, err := archtest.Load(t.TempDir()); err == nil {
		t.Error("a folder without a module was loaded")
	}
}

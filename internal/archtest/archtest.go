// Package archtest holds the walls between the packages: who may import whom, how long a file may be, and
// that every package says what it is. Its test loads the module with [Load] and expects nothing from
// [Check].
//
// The walls carry weight. That the proxy cannot compute a MAC of an inner session is not a promise of its
// code: it is the fact that no path of imports leads from it to internal/itls.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Module is the path of the module that the rules are about.
const Module = "vitrine"

// MaxLines bounds a file that is no test.
const MaxLines = 600

// A Package is what the rules look at.
type Package struct {
	Path     string
	Standard bool
	Imports  []string
	Files    []File // of packages of the module only
}

// A File is one that is built into the package, on any system.
type File struct {
	Name  string
	Lines int
	Doc   string // the package comment, if it is here
}

// A wall keeps packages from others, whether they import them directly or through packages between.
// Patterns are relative to the module; "x/..." is x and everything below it.
type wall struct {
	from  []string
	never []string
	but   []string // of from: these may
	why   string
}

// A diet lists all that packages may import.
type diet struct {
	of   []string
	only []string // beside the standard library; import paths
}

// joiners bring the three roles together and lie on their behalf; everything else internal lies below the roles.
var joiners = []string{"internal/testnet/...", "internal/demo/...", "internal/hostile/...", "internal/prove/...", "internal/bench/..."}

var walls = []wall{
	{from: []string{"client/..."}, never: []string{"proxy/...", "origin/..."}, why: "the roles meet on the wire"},
	{from: []string{"proxy/..."}, never: []string{"client/...", "origin/..."}, why: "the roles meet on the wire"},
	{from: []string{"origin/..."}, never: []string{"client/...", "proxy/..."}, why: "the roles meet on the wire"},
	{from: []string{"proxy/..."}, never: []string{"internal/itls/..."}, why: "the proxy cannot compute a MAC"},
	{from: []string{"internal/itls/..."}, never: []string{"internal/hop/..."}, why: "the inner session does not know what carries it"},
	{from: []string{"internal/hop/..."}, never: []string{"internal/evidence/...", "internal/itls/...", "internal/verdict/..."}, why: "a carrier carries bytes, it does not judge them"},
	{
		from: []string{"internal/evidence/...", "internal/verdict/..."}, never: []string{"internal/hop/...", "internal/itls/..."},
		why: "what is signed does not depend on how it travels",
	},
	{
		from: []string{"internal/..."}, but: joiners, never: []string{"client/...", "proxy/...", "origin/..."},
		why: "imports point down from the roles",
	},
	{from: []string{"proxy/..."}, never: []string{"internal/httpsig/..."}, why: "what an origin signs is not the proxy's to make or to judge"},
	{
		from: []string{"internal/hop/...", "internal/evidence/...", "internal/verdict/..."}, never: []string{"internal/httpsig/..."},
		why: "signed responses are between an origin and a client",
	},
	{from: []string{"..."}, but: []string{"cmd/..."}, never: []string{"cmd/..."}, why: "a command has no logic to lend"},
	{
		from: []string{"..."}, but: []string{"cmd/..."}, never: []string{"client/gateway/..."},
		why: "what fetches for whoever asks on this machine is for a program that its user has started",
	},
	{
		from: []string{"..."}, but: []string{"cmd/vitrine/...", "internal/testnet/...", "internal/hostile/..."}, never: []string{"internal/hostile/..."},
		why: "code that changes bytes is for demonstrations and tests",
	},
}

var diets = []diet{
	{of: []string{"frames/..."}, only: []string{"golang.org/x/net/..."}},
	{of: []string{"internal/tlsmsg/..."}, only: []string{"golang.org/x/crypto/..."}},
	{of: []string{"spec/..."}},
}

// Load lists the module at root with everything that it imports. Tests are left out: they may reach over
// every wall.
func Load(root string) ([]Package, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Dir,GoFiles,CgoFiles,IgnoredGoFiles", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.Bytes())
	}
	var pkgs []Package
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var listed struct {
			ImportPath, Dir                   string
			Standard                          bool
			Imports                           []string
			GoFiles, CgoFiles, IgnoredGoFiles []string
		}
		switch err := decoder.Decode(&listed); {
		case errors.Is(err, io.EOF):
			return pkgs, nil
		case err != nil:
			return nil, err
		}
		p := Package{Path: listed.ImportPath, Standard: listed.Standard, Imports: listed.Imports}
		if _, ours := relative(p.Path); ours {
			for _, name := range slices.Concat(listed.GoFiles, listed.CgoFiles, listed.IgnoredGoFiles) {
				if strings.HasSuffix(name, "_test.go") {
					continue
				}
				f, err := loadFile(filepath.Join(listed.Dir, name))
				if err != nil {
					return nil, err
				}
				p.Files = append(p.Files, f)
			}
		}
		pkgs = append(pkgs, p)
	}
}

func loadFile(path string) (File, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	syntax, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		return File{}, err
	}
	f := File{Name: filepath.Base(path), Lines: bytes.Count(source, []byte("\n"))}
	if doc := syntax.Doc; doc != nil && !isDirective(doc) {
		f.Doc = doc.Text()
	}
	return f, nil
}

// isDirective: a comment group of nothing but //go: lines has no text.
func isDirective(doc *ast.CommentGroup) bool { return strings.TrimSpace(doc.Text()) == "" }

// Check returns one line for each rule that pkgs break, in the order of the packages.
func Check(pkgs []Package) []string {
	byPath := map[string]Package{}
	for _, p := range pkgs {
		byPath[p.Path] = p
	}
	var broken []string
	for _, p := range pkgs {
		rel, ours := relative(p.Path)
		if !ours {
			continue
		}
		for _, w := range walls {
			if matchAny(w.from, rel) && !matchAny(w.but, rel) {
				broken = append(broken, w.check(p.Path, byPath)...)
			}
		}
		for _, d := range diets {
			if matchAny(d.of, rel) {
				broken = append(broken, d.check(p, byPath)...)
			}
		}
		broken = append(broken, checkFiles(p)...)
	}
	return broken
}

// check walks all imports of start; it reports the first path to each forbidden package.
func (w wall) check(start string, byPath map[string]Package) []string {
	var broken []string
	seen := map[string]bool{start: true}
	queue := [][]string{{start}}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		for _, next := range byPath[path[len(path)-1]].Imports {
			rel, ours := relative(next)
			if !ours || seen[next] {
				continue
			}
			seen[next] = true
			longer := append(slices.Clone(path), next)
			if matchAny(w.never, rel) && !within(w.never, start) {
				broken = append(broken, fmt.Sprintf("%s: %s", strings.Join(longer, " -> "), w.why))
				continue
			}
			queue = append(queue, longer)
		}
	}
	return broken
}

// within: a package below a forbidden pattern may import its neighbours there.
func within(patterns []string, path string) bool {
	rel, ours := relative(path)
	return ours && matchAny(patterns, rel)
}

func (d diet) check(p Package, byPath map[string]Package) []string {
	var broken []string
	for _, next := range p.Imports {
		allowed := byPath[next].Standard || next == "C" || slices.ContainsFunc(d.only, func(pattern string) bool { return match(pattern, next) })
		// Packages of one folder may share code.
		if rel, ours := relative(next); ours && matchAny(d.of, rel) {
			allowed = true
		}
		if !allowed {
			broken = append(broken, fmt.Sprintf("%s -> %s: it may import the standard library and %q only", p.Path, next, d.only))
		}
	}
	return broken
}

func checkFiles(p Package) []string {
	var broken []string
	documented := len(p.Files) == 0 // nothing but tests
	for _, f := range p.Files {
		documented = documented || f.Doc != ""
		if f.Lines > MaxLines {
			broken = append(broken, fmt.Sprintf("%s/%s: %d lines, at most %d", p.Path, f.Name, f.Lines, MaxLines))
		}
	}
	if !documented {
		broken = append(broken, fmt.Sprintf("%s: no package comment", p.Path))
	}
	return broken
}

func relative(path string) (rel string, ours bool) {
	if path == Module {
		return "", true
	}
	return strings.CutPrefix(path, Module+"/")
}

func matchAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, path) })
}

func match(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == dir || strings.HasPrefix(path, dir+"/")
	}
	return path == pattern
}

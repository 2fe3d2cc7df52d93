package spec

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryRuleIsTested(t *testing.T) {
	text, err := os.ReadFile("vitrine.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, broken := parseRules(string(text))
	if len(rules) == 0 {
		t.Error("vitrine.md has no rules")
	}
	var mentions []mention
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found, wrong, err := parseMentions(filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator))), source)
		mentions, broken = append(mentions, found...), append(broken, wrong...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range append(broken, compare(rules, mentions)...) {
		t.Error(line)
	}
	t.Logf("%d rules", len(rules))
}

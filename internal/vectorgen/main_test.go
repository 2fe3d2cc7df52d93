package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A vector that was changed by hand, or whose generator was, is found here.
func TestCommittedVectorsAreTheGenerated(t *testing.T) {
	fresh := t.TempDir()
	if err := write(fresh); err != nil {
		t.Fatal(err)
	}
	want, got := readTree(t, fresh), readTree(t, "../../spec/vectors/testdata")
	for name, data := range want {
		if !bytes.Equal(got[name], data) {
			t.Errorf("%s is not what the generator writes: run go generate ./spec/vectors", name)
		}
	}
	for kind := range kinds() {
		for name := range got {
			if filepath.Dir(name) == kind && want[name] == nil {
				t.Errorf("%s has no generator", name)
			}
		}
	}
}

func TestNamesAreDistinct(t *testing.T) {
	for kind, list := range kinds() {
		seen := map[string]bool{}
		for _, v := range list {
			if v.Name == "" || seen[v.Name] {
				t.Errorf("%s: name %q", kind, v.Name)
			}
			seen[v.Name] = true
		}
	}
}

func readTree(t *testing.T, root string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		files[name] = data
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

package vectors_test

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vitrine/spec/vectors"
)

func TestEveryKindAcceptsAndRejects(t *testing.T) {
	kinds, err := vectors.Kinds()
	if err != nil {
		t.Fatal(err)
	}
	if len(kinds) == 0 {
		t.Fatal("no kinds")
	}
	for _, kind := range kinds {
		list, err := vectors.Load(kind)
		if err != nil {
			t.Error(err)
			continue
		}
		accepted, rejected := 0, 0
		for _, v := range list {
			if v.Expect == vectors.Success {
				accepted++
			} else {
				rejected++
			}
		}
		// What is computed from any bytes has nothing to reject.
		computed := slices.Contains([]string{"hop-binding", "hop-id", "transcript-random", "via"}, kind)
		if accepted == 0 || rejected == 0 && !computed {
			t.Errorf("%s: %d vectors accept, %d reject", kind, accepted, rejected)
		}
	}
	if _, err := vectors.Load("no-such-kind"); err == nil {
		t.Error("loaded a kind that does not exist")
	}
}

// TestEveryKindIsDescribed holds the README and appendix B of the specification to the folders.
func TestEveryKindIsDescribed(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../vitrine.md")
	if err != nil {
		t.Fatal(err)
	}
	_, appendix, _ := strings.Cut(string(text), "\n## Appendix B. Test vectors\n")
	kinds, err := vectors.Kinds()
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)`( \\*)? \\| [0-9]")
	var described []string
	for _, m := range row.FindAllStringSubmatch(string(readme), -1) {
		described = append(described, m[1])
	}
	slices.Sort(described)
	if !slices.Equal(described, kinds) {
		t.Errorf("README.md describes %q, there are %q", described, kinds)
	}
	for _, kind := range kinds {
		if !strings.Contains(appendix, "`"+kind+"`") {
			t.Errorf("appendix B does not name %s", kind)
		}
	}
}

func TestParseRefusesWhatIsNoVector(t *testing.T) {
	for name, file := range map[string]string{
		"empty":            "",
		"no empty line":    "expect: success\ncomment: c\n",
		"no comment":       "expect: success\n\n",
		"empty comment":    "expect: success\ncomment: \n\n",
		"wrong order":      "comment: c\nexpect: success\n\n",
		"unknown expect":   "expect: maybe\ncomment: c\n\n",
		"expect twice":     "expect: success\ncomment: c\nexpect: success\n\n",
		"comment twice":    "expect: success\ncomment: c\ncomment: d\n\n",
		"input twice":      "expect: success\ncomment: c\nk: 1\nk: 1\n\n",
		"no value":         "expect: success\ncomment: c\nkey\n\n",
		"no key":           "expect: success\ncomment: c\n: v\n\n",
		"bytes for header": "\x00\x01\n\n",
	} {
		if v, err := vectors.Parse([]byte(file)); !errors.Is(err, vectors.ErrFormat) {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestAppendRefusesSeparators(t *testing.T) {
	good := vectors.Vector{Expect: vectors.Success, Comment: "c", Inputs: map[string]string{"k": "v"}, Bytes: []byte("\n\nb")}
	if _, err := good.Append(nil); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*vectors.Vector){
		"line break in the comment": func(v *vectors.Vector) { v.Comment = "c\nd: e" },
		"line break in a value":     func(v *vectors.Vector) { v.Inputs = map[string]string{"k": "v\nl: w"} },
		"empty line in a value":     func(v *vectors.Vector) { v.Inputs = map[string]string{"k": "v\n\nw"} },
		"colon in a key":            func(v *vectors.Vector) { v.Inputs = map[string]string{"k: l": "v"} },
		"key that is taken":         func(v *vectors.Vector) { v.Inputs = map[string]string{"expect": "v"} },
		"empty key":                 func(v *vectors.Vector) { v.Inputs = map[string]string{"": "v"} },
		"unknown expect":            func(v *vectors.Vector) { v.Expect = "maybe" },
	} {
		v := good
		change(&v)
		if b, err := v.Append(nil); !errors.Is(err, vectors.ErrFormat) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("expect: success\ncomment: c\nkey: value\n\nbytes"))
	f.Add([]byte("expect: too large\ncomment: c\n\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		v, err := vectors.Parse(file)
		if err != nil {
			return
		}
		b, err := v.Append(nil)
		if err != nil {
			t.Fatalf("%+v: %v", v, err)
		}
		again, err := vectors.Parse(b)
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Fatalf("%+v, %v, was %+v", again, err, v)
		}
		if !bytes.HasSuffix(file, v.Bytes) {
			t.Fatalf("bytes %q are not the end of %q", v.Bytes, file)
		}
	})
}

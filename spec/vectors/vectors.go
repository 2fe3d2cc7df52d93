// Package vectors is the test vectors of the Vitrine specification, one file each, embedded so that other
// implementations can import them. README.md beside this file describes the format. Call [Load] with one
// of [Kinds].
package vectors

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:generate go run vitrine/internal/vectorgen testdata

//go:embed testdata
var files embed.FS

// What who reads a vector has to answer: Success, or the class of the error.
const (
	Success   = "success"
	Malformed = "malformed" // the bytes break the format
	Truncated = "truncated" // the bytes end inside a field, or before the thing is complete
	TooLarge  = "too large" // a limit is exceeded

	// What only somebody who verifies can answer.
	Altered   = "altered"   // a signature or a MAC fails, or a claim differs from what was signed
	Foreign   = "foreign"   // made for another nonce, proxy, authority or hop
	Stale     = "stale"     // too old, or from the future
	Downgrade = "downgrade" // the origin's own signature says that it was asked for less than it speaks
	Refused   = "refused"   // an authentic refusal
	Untrusted = "untrusted" // it holds, and the certificate is not good for what it is shown for
)

func outcomes() []string {
	return []string{Success, Malformed, Truncated, TooLarge, Altered, Foreign, Stale, Downgrade, Refused, Untrusted}
}

// A Vector is one file: a text header, an empty line, and bytes.
type Vector struct {
	Name    string            // of the file; Parse leaves it empty
	Expect  string            // see the constants
	Comment string            // one line: what the vector is about
	Inputs  map[string]string // what the parser is given beside the bytes, and what it has to find in them
	Bytes   []byte            // to the end of the file
}

// ErrFormat is wrapped by every error of [Parse] and [Vector.Append].
var ErrFormat = errors.New("not a vector")

// Kinds lists the kinds of vectors, which are the folders of testdata.
func Kinds() ([]string, error) {
	entries, err := files.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	var kinds []string
	for _, e := range entries {
		if e.IsDir() {
			kinds = append(kinds, e.Name())
		}
	}
	return kinds, nil
}

// Load returns the vectors of one kind in the order of their names. It is an error if there are none.
func Load(kind string) ([]Vector, error) {
	dir := path.Join("testdata", kind)
	entries, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Vector
	for _, e := range entries {
		data, err := files.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		v, err := Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", kind, e.Name(), err)
		}
		v.Name = e.Name()
		out = append(out, v)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no vectors of kind %q", kind)
	}
	return out, nil
}

// Parse reads one file: "expect: " and "comment: " lines, then the inputs, each key once, then an empty
// line and the bytes, which it copies.
func Parse(b []byte) (Vector, error) {
	header, rest, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return Vector{}, fmt.Errorf("%w: no empty line", ErrFormat)
	}
	v := Vector{Inputs: map[string]string{}, Bytes: bytes.Clone(rest)}
	for i, line := range strings.Split(string(header), "\n") {
		key, value, ok := strings.Cut(line, ": ")
		if !ok || key == "" {
			return Vector{}, fmt.Errorf("%w: line %d is not \"key: value\"", ErrFormat, i+1)
		}
		switch _, twice := v.Inputs[key]; {
		case i == 0 && key == "expect":
			v.Expect = value
		case i == 1 && key == "comment":
			v.Comment = value
		case i < 2 || key == "expect" || key == "comment" || twice:
			return Vector{}, fmt.Errorf("%w: %q at line %d", ErrFormat, key, i+1)
		default:
			v.Inputs[key] = value
		}
	}
	if v.Comment == "" || !slices.Contains(outcomes(), v.Expect) {
		return Vector{}, fmt.Errorf("%w: expect %q, comment %q", ErrFormat, v.Expect, v.Comment)
	}
	return v, nil
}

// Append appends the file of v to b, its inputs in the order of their keys.
func (v Vector) Append(b []byte) ([]byte, error) {
	start := len(b)
	b = fmt.Appendf(b, "expect: %s\ncomment: %s\n", v.Expect, v.Comment)
	keys := make([]string, 0, len(v.Inputs))
	for key := range v.Inputs {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		b = fmt.Appendf(b, "%s: %s\n", key, v.Inputs[key])
	}
	b = append(b, '\n')
	b = append(b, v.Bytes...)
	// A key or value that holds a separator would be read back as something else.
	again, err := Parse(b[start:])
	if err != nil {
		return nil, err
	}
	if again.Comment != v.Comment || len(again.Inputs) != len(v.Inputs) || !bytes.Equal(again.Bytes, v.Bytes) {
		return nil, fmt.Errorf("%w: a key or value holds a separator", ErrFormat)
	}
	for _, key := range keys {
		if again.Inputs[key] != v.Inputs[key] {
			return nil, fmt.Errorf("%w: input %q holds a separator", ErrFormat, key)
		}
	}
	return b, nil
}

// Package vectorstest runs the vectors of the specification against an entry point of an implementation. Call
// [Run] from a test, once for each entry point of the kind.
package vectorstest

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"testing"

	"vitrine/spec/vectors"
)

// An Entry gives a vector to one entry point. found is what it found in the bytes, as the inputs of the vector
// name it; again is what encoding that gives, nil where there is no encoder. The class of err is the vector's
// expectation.
type Entry func(t *testing.T, v vectors.Vector) (found map[string]string, again []byte, err error)

// Run calls entry with every vector of the kind, each in a test of its own. class names the expectation that an
// error meets, [vectors.Success] for nil.
func Run(t *testing.T, kind string, class func(error) string, entry Entry) {
	t.Helper()
	list, err := vectors.Load(kind)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		t.Run(v.Name, func(t *testing.T) {
			found, again, err := entry(t, v)
			if got := class(err); got != v.Expect {
				t.Fatalf("%s: got %q (%v), want %q", v.Comment, got, err, v.Expect)
			}
			if err != nil {
				return
			}
			for key, value := range found {
				if want, ok := v.Inputs[key]; !ok || value != want {
					t.Errorf("%s is %q, want %q", key, value, want)
				}
			}
			if again != nil && !bytes.Equal(again, v.Bytes) {
				t.Errorf("encodes to %x, want %x", again, v.Bytes)
			}
		})
	}
}

// Hex is an input that holds bytes.
func Hex(t testing.TB, v vectors.Vector, key string) []byte {
	t.Helper()
	value, ok := v.Inputs[key]
	b, err := hex.DecodeString(value)
	if err != nil || !ok {
		t.Fatalf("input %q is %q: %v", key, value, err)
	}
	return b
}

// Int is an input that holds a decimal number; 0 where it is absent.
func Int(t testing.TB, v vectors.Vector, key string) int64 {
	t.Helper()
	value, ok := v.Inputs[key]
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		t.Fatalf("input %q is %q: %v", key, value, err)
	}
	return n
}

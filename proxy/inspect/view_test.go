package inspect

import (
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// bytesOf says whether a value of type t could share memory with the bytes of a View: a slice, array
// pointer or the like of bytes, or an interface behind which one could be.
func sharesBytes(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer, reflect.UnsafePointer, reflect.Interface, reflect.Func, reflect.Chan, reflect.Map:
		return true
	case reflect.Struct:
		return true
	}
	return false
}

// No method of View or Reader hands out the bytes, nor hands them to code that is not ours. The allowed
// results are copies, numbers and the two types themselves; []byte comes out of Append alone, which a
// second test watches.
//
// spec: RDR-24
func TestViewHandsOutNoSlice(t *testing.T) {
	view, reader := reflect.TypeFor[View](), reflect.TypeFor[*Reader]()
	errorType := reflect.TypeFor[error]()
	for _, typ := range []reflect.Type{view, reflect.PointerTo(view), reader} {
		for i := range typ.NumMethod() {
			m := typ.Method(i)
			for j := range m.Type.NumOut() {
				out := m.Type.Out(j)
				if out == view || out == reader || out == errorType || !sharesBytes(out) {
					continue
				}
				if m.Name == "Append" {
					continue
				}
				t.Errorf("%v.%s returns a %v", typ, m.Name, out)
			}
			for j := 1; j < m.Type.NumIn(); j++ {
				// A writer or a function given to a method could be given the bytes.
				if in := m.Type.In(j); in.Kind() == reflect.Interface || in.Kind() == reflect.Func {
					t.Errorf("%v.%s takes a %v", typ, m.Name, in)
				}
			}
		}
		for _, p := range []reflect.Type{reflect.TypeFor[io.WriterTo](), reflect.TypeFor[interface{ Bytes() []byte }]()} {
			if typ.Implements(p) {
				t.Errorf("%v implements %v", typ, p)
			}
		}
	}
	for i := range view.NumField() {
		if view.Field(i).IsExported() {
			t.Errorf("View.%s is exported", view.Field(i).Name)
		}
	}
	for i := range reader.Elem().NumField() {
		if reader.Elem().Field(i).IsExported() {
			t.Errorf("Reader.%s is exported", reader.Elem().Field(i).Name)
		}
	}
}

func TestWhatAViewReturnsIsACopy(t *testing.T) {
	wire := []byte("the bytes of the wire")
	v := View{wire}
	spoil := func(p []byte) {
		for i := range p {
			p[i] = '!'
		}
	}
	spoil(v.Append(nil))
	spoil(v.Append([]byte("x")))
	spoil(v.Slice(4, 9).Append(nil))
	p := make([]byte, 100)
	spoil(p[:v.CopyTo(p)])
	got, err := io.ReadAll(v.Reader())
	if err != nil || string(got) != "the bytes of the wire" {
		t.Fatalf("%q, %v", got, err)
	}
	spoil(got)
	if string(wire) != "the bytes of the wire" {
		t.Fatalf("the wire says %q", wire)
	}
	if sub := v.Slice(4, 9); sub.String() != "bytes" || sub.Len() != 5 || sub.At(0) != 'b' {
		t.Fatalf("%q", sub.String())
	}
}

func TestViewReader(t *testing.T) {
	text := "caf\xc3\xa9 \xff end"
	v := ViewOf([]byte(text))
	if err := iotest.TestReader(v.Reader(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`café . end$`).MatchReader(v.Reader()) {
		t.Fatal("no match")
	}
	r := v.Reader()
	for i := 0; ; {
		c, n, err := r.ReadRune()
		if err == io.EOF {
			break
		}
		want, wantN := utf8.DecodeRuneInString(text[i:])
		if c != want || n != wantN {
			t.Fatalf("at %d: %q, %d", i, c, n)
		}
		i += n
	}
	var b strings.Builder
	r = v.Reader()
	for {
		c, err := r.ReadByte()
		if err == io.EOF {
			break
		}
		b.WriteByte(c)
	}
	if b.String() != text {
		t.Fatalf("%q", b.String())
	}
	var zero View
	if zero.Len() != 0 || zero.String() != "" {
		t.Fatal("the zero View is not empty")
	}
}

package client

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

func TestABodyIsHadAgainFromItsBeginning(t *testing.T) {
	text := strings.Repeat("all of it ", 1000)
	for name, src := range map[string]io.Reader{
		"whole":                 strings.NewReader(text),
		"byte by byte":          iotest.OneByteReader(strings.NewReader(text)),
		"its end with the data": iotest.DataErrReader(strings.NewReader(text)),
	} {
		r := newReplay(io.NopCloser(src))
		for _, n := range []int{0, 1, 100, len(text)} {
			part := make([]byte, n)
			if _, err := io.ReadFull(r.open(), part); err != nil || string(part) != text[:n] || !r.whole() {
				t.Fatalf("%s, %d bytes: %v", name, n, err)
			}
		}
		for range 2 {
			if got, err := io.ReadAll(r.open()); err != nil || string(got) != text {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	}
}

func TestABodyThatFailsFailsAgain(t *testing.T) {
	broken := errors.New("broken")
	r := newReplay(io.NopCloser(io.MultiReader(strings.NewReader("some"), iotest.ErrReader(broken))))
	for range 2 {
		if got, err := io.ReadAll(r.open()); !errors.Is(err, broken) || string(got) != "some" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// spec: CLI-39
// An upload without end fills no memory, and is not sent again in part.
func TestALongBodyIsNotKept(t *testing.T) {
	text := bytes.Repeat([]byte{'x'}, maxReplay+1)
	r := newReplay(io.NopCloser(bytes.NewReader(text)))
	b := r.open()
	if _, err := io.ReadFull(b, make([]byte, maxReplay)); err != nil || !r.whole() {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(b); err != nil || len(rest) != 1 || r.whole() || r.kept != nil {
		t.Errorf("%d bytes, %v; kept %d", len(rest), err, len(r.kept))
	}
	if got, err := io.ReadAll(r.open()); !errors.Is(err, errSpent) || len(got) != 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A Read of the first send that returns when the second one reads already takes nothing away from it.
func TestALateReadOfTheFirstSendLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		r := newReplay(pr)
		go r.open().Read(make([]byte, 100))
		synctest.Wait()
		got := make(chan string)
		go func() {
			p, _ := io.ReadAll(r.open())
			got <- string(p)
		}()
		synctest.Wait()
		io.WriteString(pw, "one ")
		io.WriteString(pw, "two")
		pw.Close()
		if s := <-got; s != "one two" {
			t.Errorf("%q", s)
		}
	})
}

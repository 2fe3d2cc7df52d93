package hop

import (
	"bytes"
	"errors"
	"net"
	"testing"
)

// recorder keeps each write.
type recorder struct {
	net.Conn
	writes [][]byte
	err    error
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	r.writes = append(r.writes, bytes.Clone(p))
	return len(p), nil
}

func TestBatchConnPassesThroughUntilItIsTold(t *testing.T) {
	r := new(recorder)
	c := NewBatchConn(r)
	c.Write([]byte("a"))
	c.Write([]byte("b"))
	if len(r.writes) != 2 {
		t.Fatalf("%q", r.writes)
	}
	c.SetBatching(true)
	c.Write([]byte("c"))
	c.Write([]byte("d"))
	if len(r.writes) != 2 {
		t.Fatalf("%q", r.writes)
	}
	if err := c.Flush(); err != nil || len(r.writes) != 3 || string(r.writes[2]) != "cd" {
		t.Fatalf("%q, %v", r.writes, err)
	}
	if c.Flush(); len(r.writes) != 3 {
		t.Error("an empty flush wrote")
	}
	c.Write([]byte("e"))
	if err := c.SetBatching(false); err != nil || len(r.writes) != 4 {
		t.Fatal("switching off did not flush")
	}
	c.Write([]byte("f"))
	if len(r.writes) != 5 || c.buf != nil {
		t.Error("it still collects, or keeps memory")
	}
}

func TestBatchConnKeepsOrderAndBounds(t *testing.T) {
	r := new(recorder)
	c := NewBatchConn(r)
	c.SetBatching(true)
	var want []byte
	for i := range 200 {
		p := bytes.Repeat([]byte{byte(i)}, i*37)
		want = append(want, p...)
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	c.Flush()
	if got := bytes.Join(r.writes, nil); !bytes.Equal(got, want) {
		t.Error("the bytes changed")
	}
	for _, w := range r.writes[:len(r.writes)-1] {
		if len(w) != batchSize {
			t.Errorf("a batch of %d bytes", len(w))
		}
	}
}

func TestBatchConnReportsALostBatch(t *testing.T) {
	broken := errors.New("broken")
	r := &recorder{err: broken}
	c := NewBatchConn(r)
	c.SetBatching(true)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := c.Write([]byte("y")); !errors.Is(err, broken) {
		t.Error("a write after a lost batch:", err)
	}
	if err := c.SetBatching(false); !errors.Is(err, broken) {
		t.Error(err)
	}
}

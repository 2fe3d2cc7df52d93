package hostile

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"io"
	"net/http"

	"vitrine/internal/hop"
	"vitrine/internal/tlsmsg"
)

// A responseAttack is a [Mangler] of what goes to the client. It lets the handshake pass, strikes at the first
// record of application data, once, and lets the rest pass.
type responseAttack struct {
	// strike is given that record, whole, and returns what is sent in its place.
	strike func(a *responseAttack, record []byte) [][]byte
	report func(record, offset int, what string)

	in      []byte // of a record that is not complete
	n       int    // of the record that is being looked at
	tag     int    // length of the suite's, from ServerHello on
	last    []byte // the record before, while nothing was struck
	kept    []byte // by reorder
	done    bool   // the rest passes
	end     bool
	verdict []byte // to kill the stream with
}

func newResponseAttack(report func(record, offset int, what string)) *responseAttack {
	return &responseAttack{report: report, tag: sha256.Size}
}

// Mangle implements [Mangler]. What passes after the strike keeps its credit: a client that does not read must
// not make a Liar keep what the origin sends.
func (a *responseAttack) Mangle(b *hop.Buffer) []*hop.Buffer {
	if a.done {
		return []*hop.Buffer{b}
	}
	a.in = append(a.in, b.Bytes()...)
	b.Release()
	var out []byte
	for !a.done {
		h, err := tlsmsg.ParseRecordHeader(a.in)
		if err != nil || len(a.in) < tlsmsg.RecordHeaderLen+h.Length {
			break
		}
		record := bytes.Clone(a.in[:tlsmsg.RecordHeaderLen+h.Length])
		a.in = a.in[len(record):]
		out = append(out, bytes.Join(a.record(h, record), nil)...)
		a.n++
	}
	if a.done && !a.end {
		out = append(out, a.in...)
	}
	if a.done {
		a.in, a.last = nil, nil
	}
	return Buffers(out)
}

func (a *responseAttack) record(h tlsmsg.RecordHeader, record []byte) [][]byte {
	switch {
	case a.kept != nil:
		first := a.kept
		a.kept, a.done = nil, true
		a.report(a.n-1, 0, "two records of the response swapped")
		return [][]byte{record, first}
	case h.Type == tlsmsg.TypeHandshake:
		a.tag = tagOf(record)
	case a.inner(record) == tlsmsg.TypeApplicationData:
		a.done = true
		return a.strike(a, record)
	}
	a.last = record
	return [][]byte{record}
}

// inner is the inner type of a protected record, 0 for any other. Nothing is encrypted, so it is there to
// be read.
func (a *responseAttack) inner(record []byte) tlsmsg.ContentType {
	if record[0] != byte(tlsmsg.TypeApplicationData) {
		return 0
	}
	_, rest := a.parts(record)
	rest = bytes.TrimRight(rest[:len(rest)-a.tag], "\x00")
	if len(rest) == 0 {
		return 0
	}
	return tlsmsg.ContentType(rest[len(rest)-1])
}

// parts are the content of a protected record, with its header in front, and what is behind it: the inner type,
// padding and the tag.
func (a *responseAttack) parts(record []byte) (content, rest []byte) {
	if len(record) < tlsmsg.RecordHeaderLen+a.tag {
		return nil, make([]byte, a.tag)
	}
	inner := bytes.TrimRight(record[:len(record)-a.tag], "\x00")
	end := max(len(inner)-1, tlsmsg.RecordHeaderLen)
	return record[:end], record[end:]
}

// Ended implements [Cutter].
func (a *responseAttack) Ended() bool { return a.end }

// Verdict implements [Killer].
func (a *responseAttack) Verdict() []byte { return a.verdict }

// Flush implements [Holder].
func (a *responseAttack) Flush() []*hop.Buffer {
	out := append(a.kept, a.in...)
	a.kept, a.in, a.done = nil, nil, true
	return Buffers(out)
}

// tagOf is the length of the tags that follow a record with a ServerHello.
func tagOf(record []byte) int {
	hello, err := tlsmsg.ParseServerHello(record[tlsmsg.RecordHeaderLen:])
	if err == nil && hello.CipherSuite == tlsmsg.SuiteSHA384 {
		return sha512.Size384
	}
	return sha256.Size
}

// goesOn says whether a response that begins with this record has more of its body in records to come. It is
// false where the record alone does not tell: then a reader may wait for ever behind it.
func (a *responseAttack) goesOn(record []byte) bool {
	content, _ := a.parts(record)
	if len(content) < tlsmsg.RecordHeaderLen {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(content[tlsmsg.RecordHeaderLen:])), nil)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	return n > 0 && err != nil
}

func flipResponse(a *responseAttack, record []byte) [][]byte {
	content, _ := a.parts(record)
	i := (tlsmsg.RecordHeaderLen + len(content)) / 2
	record[i] ^= 1
	a.report(a.n, i, "one bit of the response changed")
	return [][]byte{record}
}

// dropResponse ends the stream behind a record that was the last: who leaves out all that there is deceives
// nobody, and a client would wait until its own patience ends.
func dropResponse(a *responseAttack, record []byte) [][]byte {
	a.end = !a.goesOn(record)
	what := "a record of the response left out"
	if a.end {
		what = "the only record of the response left out, and the tunnel ended in its place"
	}
	a.report(a.n, 0, what)
	return nil
}

// forgedPage is what a Liar would have a client believe.
const (
	forgedText = "This page was written by the proxy.\n"
	forgedPage = "HTTP/1.1 200 OK\r\nContent-Length: 36\r\nConnection: close\r\n\r\n" + forgedText
)

// insertResponse forges a record as well as it can be done without the key.
func insertResponse(a *responseAttack, record []byte) [][]byte {
	h := tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: tlsmsg.VersionTLS12, Length: len(forgedPage) + 1 + a.tag}
	forged := append(h.Append(nil), forgedPage...)
	forged = append(forged, byte(tlsmsg.TypeApplicationData))
	tag := make([]byte, a.tag)
	rand.Read(tag) // it never fails
	a.report(a.n, 0, "a record of the proxy's own put in front of the response")
	return [][]byte{forged, tag, record}
}

func reorderResponse(a *responseAttack, record []byte) [][]byte {
	if a.goesOn(record) {
		a.kept, a.done = record, false
		return nil
	}
	content, rest := a.parts(record)
	header, data := content[:tlsmsg.RecordHeaderLen], content[tlsmsg.RecordHeaderLen:]
	first, second := data[:len(data)/2], data[len(data)/2:]
	a.report(a.n, tlsmsg.RecordHeaderLen, "the halves of the only record of the response swapped")
	return [][]byte{header, second, first, rest}
}

// replayResponse repeats the response where the client reads on behind it; else what came before it, since a
// client that has its response may never look at what follows.
func replayResponse(a *responseAttack, record []byte) [][]byte {
	if a.goesOn(record) {
		a.report(a.n+1, 0, "a record of the response sent twice")
		return [][]byte{record, record}
	}
	a.report(a.n, 0, "the record before the response sent again, in front of it")
	return [][]byte{a.last, record}
}

func truncateResponse(a *responseAttack, record []byte) [][]byte {
	a.end = true
	a.report(a.n, len(record)/2, "the tunnel ended inside a record of the response")
	return [][]byte{record[:len(record)/2]}
}

func spliceResponse(foreign []byte) func(*responseAttack, []byte) [][]byte {
	return func(a *responseAttack, _ []byte) [][]byte {
		a.report(a.n, 0, "a record of another tunnel to the same origin in the place of the response's")
		return [][]byte{foreign}
	}
}

func killResponse(verdict []byte) func(*responseAttack, []byte) [][]byte {
	return func(a *responseAttack, _ []byte) [][]byte {
		a.end, a.verdict = true, verdict
		a.report(a.n, 0, "the tunnel killed at the response, with a verdict that the proxy's key did not sign")
		return nil
	}
}

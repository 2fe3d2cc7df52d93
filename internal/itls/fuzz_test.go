package itls

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"vitrine/internal/tlsmsg"
)

// transcriptOf is what each end of an honest session sends, for seeds.
func transcriptOf(f *testing.F) (fromClient, fromServer []byte) {
	f.Helper()
	a, b := newPipe()
	a.onSend = func(p []byte) []byte {
		fromClient = append(fromClient, p...)
		return p
	}
	b.onSend = func(p []byte) []byte {
		fromServer = append(fromServer, p...)
		return p
	}
	client, server := Client(a, clientConfig()), Server(b, serverConfig())
	if clientErr, serverErr := shake(client, server); clientErr != nil || serverErr != nil {
		f.Fatal(clientErr, serverErr)
	}
	client.Write([]byte("request"))
	server.Write([]byte("response"))
	client.Close()
	server.Close()
	return fromClient, fromServer
}

// fuzzEnd feeds an end bytes that no peer of this session made: it must end, with an error that is
// one of ours or a truncation, and give out no data.
func fuzzEnd(t *testing.T, data []byte, end func(p *pipe) *Conn) {
	a, b := newPipe()
	b.inject(data)
	b.CloseWrite()
	c := end(a)
	got, err := io.ReadAll(c)
	_, alert := errors.AsType[*AlertError](err)
	if len(got) > 0 || err == nil || !alert && !errors.Is(err, ErrTruncated) {
		t.Fatalf("read %q, %v", got, err)
	}
	if c.complete.Load() {
		t.Fatal("a handshake with nobody")
	}
	if n := len(c.in.buf); n > maxRecord {
		t.Fatalf("a buffer of %d bytes", n)
	}
}

func FuzzServer(f *testing.F) {
	fromClient, fromServer := transcriptOf(f)
	f.Add(fromClient)
	f.Add(fromServer)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(append(append([]byte{}, fromClient...), plainCCS...))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzEnd(t, data, func(p *pipe) *Conn { return Server(p, serverConfig()) })
	})
}

func FuzzClient(f *testing.F) {
	fromClient, fromServer := transcriptOf(f)
	f.Add(fromServer)
	f.Add(fromClient)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add(append(append([]byte{}, plainCCS...), fromServer...))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzEnd(t, data, func(p *pipe) *Conn { return Client(p, clientConfig()) })
	})
}

// FuzzRecords lets a peer that holds the keys send any content types and contents behind the
// handshake.
func FuzzRecords(f *testing.F) {
	f.Add(byte(23), []byte("data"), byte(22), []byte{24, 0, 0, 1, 1}, byte(21), []byte{1, 0})
	f.Add(byte(22), []byte{4, 0, 0}, byte(22), []byte{0}, byte(23), []byte{})
	f.Add(byte(0), []byte("0\x17"), byte('C'), []byte("0"), byte(23), []byte{})
	f.Fuzz(func(t *testing.T, t1 byte, d1 []byte, t2 byte, d2 []byte, t3 byte, d3 []byte) {
		a, b := newPipe()
		defer a.Close()
		defer b.Close()
		client, server := Client(a, clientConfig()), Server(b, serverConfig())
		if clientErr, serverErr := shake(client, server); clientErr != nil || serverErr != nil {
			t.Fatal(clientErr, serverErr)
		}
		var want []byte
		for _, r := range []struct {
			t byte
			d []byte
		}{{t1, d1}, {t2, d2}, {t3, d3}} {
			d := r.d[:min(len(r.d), 1000)]
			// A peer's type zero is padding, in front of which its real type stands.
			if inner := bytes.TrimRight(append(bytes.Clone(d), r.t), "\x00"); len(inner) > 0 && inner[len(inner)-1] == 23 {
				want = append(want, inner[:len(inner)-1]...)
			}
			if err := server.record(tlsmsg.ContentType(r.t), d); err != nil {
				t.Fatal(err)
			}
		}
		b.CloseWrite()
		got, err := io.ReadAll(client)
		if len(got) > len(want) || string(want[:len(got)]) != string(got) {
			t.Fatalf("read %q of %q", got, want)
		}
		_, alert := errors.AsType[*AlertError](err)
		if err != nil && !alert && !errors.Is(err, ErrTruncated) {
			t.Fatalf("ended with %v", err)
		}
	})
}

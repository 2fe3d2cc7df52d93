package h1

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"vitrine/internal/hop"
)

// However a request is cut into reads, it is the same request; what is accepted could be read in one way
// only, and not a byte behind it is lost.
func FuzzRequestsInPieces(f *testing.F) {
	for _, c := range malformed {
		f.Add([]byte(c.header))
	}
	f.Add([]byte("CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\nVia: 1.1 a\r\n\r\n\x16\x03\x01early"))
	f.Add([]byte("GET http://a/b?c HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		const most, fields = 4 << 10, 20
		req, early, err := readRequest(bytes.NewReader(p), most, fields)
		again, earlier, err2 := readRequest(iotest.OneByteReader(bytes.NewReader(p)), most, fields)
		var bad *badRequest
		if (err == nil) != (err2 == nil) {
			// What is wrong may be seen earlier, and the end of the stream later; never may one way accept
			// what the other refuses.
			t.Fatalf("%v, and byte by byte %v", err, err2)
		}
		if err != nil {
			if !errors.As(err, &bad) && err != io.EOF {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !reflect.DeepEqual(req, again) || len(earlier) != 0 {
			t.Fatalf("%+v, and byte by byte %+v", req, again)
		}
		head, ok := bytes.CutSuffix(p[:min(len(p), most+2<<10)], early)
		if !ok && len(p) <= most {
			t.Fatalf("%q is not what follows the header", early)
		}
		check(t, req, head)
	})
}

func check(t *testing.T, req *hop.Request, head []byte) {
	t.Helper()
	if bytes.ContainsRune(head, 0) || strings.Count(string(head), "\n") != strings.Count(string(head), "\r\n") {
		t.Fatalf("accepted %q", head)
	}
	if strings.ContainsAny(req.Authority+req.Path+req.Method, "\r\n\x00 ") {
		t.Fatalf("request %+v", req)
	}
	for name, values := range req.Header {
		for _, v := range values {
			if strings.ContainsAny(name+v, "\r\n\x00") {
				t.Fatalf("field %q: %q", name, v)
			}
		}
	}
	if req.Method == http.MethodConnect && (!authorityForm(req.Authority) || len(req.Header["Transfer-Encoding"]) > 0) {
		t.Fatalf("CONNECT %+v", req)
	}
}

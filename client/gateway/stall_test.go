package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// An origin that answers before it has the content ends its answer, too, whatever the program then does not send.
func TestAnEarlyAnswerEndsWhileTheProgramWaits(t *testing.T) {
	r := newRig(t, func(req *http.Request) (*http.Response, error) {
		begun := make(chan struct{})
		go func() {
			p := make([]byte, 1)
			io.ReadFull(req.Body, p)
			close(begun)
			io.Copy(io.Discard, req.Body)
		}()
		<-begun
		return answer(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "no")
			w.(http.Flusher).Flush()
		})(req)
	}, nil)
	conn, err := net.Dial("tcp", r.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "POST http://shop.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegin")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := io.ReadAll(resp.Body); err != nil || string(p) != "no" {
		t.Errorf("%q, %v", p, err)
	}
}

// A trailer section that a program announces comes along.
func TestTrailersOfTheProgramComeAlong(t *testing.T) {
	got := make(chan http.Header, 1)
	r := newRig(t, func(req *http.Request) (*http.Response, error) {
		io.Copy(io.Discard, req.Body)
		got <- req.Trailer.Clone()
		return answer(hello)(req)
	}, nil)
	r.ask(r.proxy, "POST http://shop.example/ HTTP/1.1\nHost: x\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n3\nabc\n0\nX-Sum: 3\n\n")
	if h := <-got; h.Get("X-Sum") != "3" {
		t.Errorf("%v", h)
	}
}

// Where a map has gone nothing leads to it.
func TestAMapThatHasGoneIsNone(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	ln := loopback(t)
	done := make(chan error, 1)
	go func() { done <- r.g.ServeMap(ln, "https://shop.example") }()
	if resp, _ := r.ask(ln.Addr().String(), "GET / HTTP/1.1\nHost: "+ln.Addr().String()+"\n\n"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	ln.Close()
	if err := <-done; err == nil {
		t.Fatal("a listener that closed is served")
	}
	if r.g.mapOf("shop.example:443") != nil {
		t.Error("it is led to")
	}
	r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://shop.example") })
}

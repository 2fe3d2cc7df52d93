package client

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"vitrine/internal/fields"
)

func TestHeadsTrailersAndInterimResponsesPass(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	var got *http.Request
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r
		rw.Header().Set("Link", "</s.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Set("Trailer", "X-Sum")
		p, _ := io.ReadAll(r.Body)
		rw.Write(p)
		rw.Header().Set("X-Sum", fmt.Sprint(len(p)))
	})
	var early []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { early = append(early, code); return nil },
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodPut, "https://origin.example:443/a%2Fb?q=%20", io.MultiReader(strings.NewReader("content")))
	req.Trailer = http.Header{"X-After": {"said"}}
	req.Header = http.Header{
		"Accept": {"text/html", "*/*"}, "Connection": {"X-Hop"}, "X-Hop": {"1"}, "X-End": {"2"}, "Te": {"trailers, gzip"},
		"Keep-Alive": {"5"}, "User-Agent": {""}, "Evidence-Id": {"mine"},
	}
	resp, body, err := do(w.transport(accepting(Attested)), req)
	if err != nil {
		t.Fatal(err)
	}
	if string(body) != "content" || resp.Trailer.Get("X-Sum") != "7" || !slices.Equal(early, []int{103}) {
		t.Errorf("body %q, trailer %v, interim %v", body, resp.Trailer, early)
	}
	if got.Host != "origin.example" || got.RequestURI != "/a%2Fb?q=%20" || got.Trailer.Get("X-After") != "said" {
		t.Errorf("host %q, target %q, trailer %v", got.Host, got.RequestURI, got.Trailer)
	}
	if h := got.Header; h.Get("X-Hop") != "" || h.Get("X-End") != "2" || len(h["Accept"]) != 2 || h["User-Agent"] != nil || h.Get(fields.EvidenceID) != "" || h.Get(fields.EvidenceRequest) == "" {
		t.Errorf("%v", h)
	}
}

func TestExpectContinueInSplit(t *testing.T) {
	for _, wants := range []bool{true, false} {
		w := newWorld(t)
		w.split(t, new(tls.Config))
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !wants {
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			io.Copy(rw, r.Body)
		})
		body := &countingReader{r: strings.NewReader("content")}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://origin.example/", body)
		req.Header.Set("Expect", "100-continue")
		resp, got, err := do(w.transport(accepting(Attested)), req)
		if err != nil {
			t.Fatal(err)
		}
		if wants && string(got) != "content" || !wants && (resp.StatusCode != 413 || body.reads.Load() != 0) {
			t.Errorf("wanted %v: %d, %q, %d reads", wants, resp.StatusCode, got, body.reads.Load())
		}
	}
}

type countingReader struct {
	r     io.Reader
	reads atomic.Int32
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.r.Read(p)
}

func TestResponsesWithoutContent(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			rw.WriteHeader(204)
		case "/304":
			rw.WriteHeader(304)
		case "/head":
			rw.Header().Set("Content-Length", "1000")
		case "/zero":
			rw.Header().Set("Content-Length", "0")
		}
	})
	tr := w.transport(accepting(Attested))
	for path, method := range map[string]string{"/204": "GET", "/304": "GET", "/head": "HEAD", "/zero": "POST"} {
		req, _ := http.NewRequestWithContext(t.Context(), method, "https://origin.example"+path, nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(path, err)
		}
		if resp.Body != http.NoBody || ReportOf(resp).Status != resp.StatusCode || path == "/head" && resp.ContentLength != 1000 {
			t.Errorf("%s: %v", path, resp)
		}
	}
	tr.pool.mu.Lock()
	defer tr.pool.mu.Unlock()
	if len(tr.pool.splits) != 0 || tr.pool.slots != 0 {
		t.Errorf("%d exchanges and %d slots are left", len(tr.pool.splits), tr.pool.slots)
	}
}

func TestLargeBodiesStreamBothWays(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.(http.Flusher).Flush()
		io.Copy(rw, r.Body)
	})
	const size = 20 << 20
	sum := sha256.New()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.TeeReader(io.LimitReader(new(counter), size), sum))
	resp, err := w.transport(accepting(Attested)).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size || ReportOf(resp).BodySHA256 != hex.EncodeToString(sum.Sum(nil)) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A counter is an endless stream that does not repeat soon.
type counter struct{ n byte }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		c.n += 7
		p[i] = c.n ^ byte(i>>8)
	}
	return len(p), nil
}

func TestAnEarlyAnswerEndsTheUpload(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { http.Error(rw, "no", http.StatusForbidden) })
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", pr)
	go pw.Write([]byte("some"))
	resp, body, err := do(w.transport(accepting(Attested)), req)
	if err != nil || resp.StatusCode != http.StatusForbidden || string(body) != "no\n" {
		t.Fatalf("%v, %q", err, body)
	}
	if _, err := pw.Write(bytes.Repeat([]byte("x"), 1<<20)); err == nil {
		t.Error("the request's body was not closed")
	}
}

func TestRequestBodiesThatFailOrLieEndTheExchange(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	tr := w.transport(accepting(Attested))
	broken := errors.New("the disk is gone")
	for _, tt := range []struct {
		body   io.Reader
		length int64
		want   string
	}{
		{io.MultiReader(strings.NewReader("some"), errReader{broken}), 0, broken.Error()},
		{io.MultiReader(strings.NewReader("short")), 10, "ContentLength 10"},
		{io.MultiReader(strings.NewReader("rather long")), 3, "ContentLength 3"},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", tt.body)
		req.ContentLength = tt.length
		if _, _, err := do(tr, req); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	get(t, tr, "https://origin.example/")
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

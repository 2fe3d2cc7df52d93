package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/proxy"
)

const originURL = "https://" + OriginHost

// bubble runs f with a clock of its own: what waits for a timeout takes no time, and whatever f leaves
// running is a failure.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// fetch does one exchange and reads all of it. What arrived before a failure is in body.
func fetch(rt http.RoundTripper, req *http.Request) (resp *http.Response, body []byte, err error) {
	resp, err = rt.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	body, err = io.ReadAll(resp.Body)
	if closing := resp.Body.Close(); err == nil {
		err = closing
	}
	return resp, body, err
}

// get fetches path from the origin, with a deadline that only withheld bytes can meet.
func (n *Net) get(path string) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
	defer cancel()
	return fetch(n.Client, n.request(ctx, http.MethodGet, path, nil))
}

func (n *Net) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	n.Helper()
	url := path
	if !strings.HasPrefix(path, "https://") {
		url = originURL + path
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		n.Fatal(err)
	}
	return req
}

// mustGet fetches path, which has to be want.
func (n *Net) mustGet(path, want string) *client.Report {
	n.Helper()
	resp, body, err := n.get(path)
	if err != nil {
		n.Fatalf("%s: %v", path, err)
	}
	if string(body) != want {
		n.Fatalf("%s: %q, want %q", path, body, want)
	}
	return client.ReportOf(resp)
}

// wantError fails the test unless err is an E.
func wantError[E error](t *testing.T, err error) E {
	t.Helper()
	var e E
	if !errors.As(err, &e) {
		t.Fatalf("got %T %v, want %T", err, err, e)
	}
	return e
}

// class names the exit class of an error.
func class(err error) string {
	var (
		killed      *client.KilledError
		level       *client.LevelError
		integrity   *client.IntegrityError
		trust       *client.TrustError
		unreachable *client.UnreachableError
	)
	switch {
	case err == nil:
		return "success"
	case errors.As(err, &killed) && killed.SignatureVerified:
		return "killed"
	case errors.As(err, &killed):
		return "killed without a verdict"
	case errors.As(err, &integrity):
		return "integrity"
	case errors.As(err, &trust):
		return "trust:" + string(trust.Party)
	case errors.As(err, &level):
		return "level"
	case errors.As(err, &unreachable):
		return "unreachable:" + string(unreachable.Party)
	case errors.Is(err, context.DeadlineExceeded):
		return "withheld"
	}
	return fmt.Sprintf("untyped %T: %v", err, err)
}

// A recorder is an inspector that keeps what it reads and judges it with the functions it was given.
type recorder struct {
	request, response func(s *seen, p proxy.Part) proxy.Decision
	forget            bool // bodies

	mu   sync.Mutex
	all  []*seen
	over chan *seen // each exchange, when it has ended
}

// seen is one exchange as the proxy read it.
type seen struct {
	x                    *proxy.Exchange
	head                 proxy.Head // of the request
	status               int
	responseHeader       http.Header
	sent, got            []byte // the bodies
	sentTrailer          http.Header
	gotTrailer           http.Header
	requestEnd, replyEnd bool
	outcome              proxy.Outcome
	rec                  *recorder
}

func newRecorder() *recorder { return &recorder{over: make(chan *seen, 4096)} }

func (r *recorder) Begin(x *proxy.Exchange) proxy.Inspection {
	s := &seen{rec: r, x: x}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, s)
	return s
}

func (s *seen) Request(p proxy.Part) proxy.Decision {
	if p.Head != nil {
		s.head = *p.Head
	}
	if !s.rec.forget {
		s.sent = p.Body.Append(s.sent)
	}
	if p.End {
		s.requestEnd, s.sentTrailer = true, p.Trailer
	}
	if s.rec.request != nil {
		return s.rec.request(s, p)
	}
	return proxy.Decision{}
}

func (s *seen) Response(p proxy.Part) proxy.Decision {
	if p.Head != nil {
		s.status, s.responseHeader = p.Head.Status, p.Head.Header
	}
	if !s.rec.forget {
		s.got = p.Body.Append(s.got)
	}
	if p.End {
		s.replyEnd, s.gotTrailer = true, p.Trailer
	}
	if s.rec.response != nil {
		return s.rec.response(s, p)
	}
	return proxy.Decision{}
}

func (s *seen) Close(o proxy.Outcome) {
	s.outcome = o
	s.rec.over <- s
}

// killBody returns a judge that kills what contains text.
func killBody(rule, text string) func(s *seen, p proxy.Part) proxy.Decision {
	return func(s *seen, _ proxy.Part) proxy.Decision {
		if bytes.Contains(s.got, []byte(text)) {
			return proxy.Decision{Action: proxy.Kill, Rule: rule, Reason: "it says " + text}
		}
		return proxy.Decision{}
	}
}

// pattern is n bytes that differ from place to place.
func pattern(n int) []byte {
	p := make([]byte, n)
	x := uint32(2463534242)
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = 'a' + byte(x%26)
	}
	return p
}

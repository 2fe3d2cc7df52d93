package h2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vitrine/internal/hop"
)

// stockHandler says what it got: method, path, content and trailers.
func stockHandler(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			io.WriteString(w, "too large")
			return
		case "/abort":
			w.Write([]byte("half"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
			return
		case "/hints":
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("%s: %v", r.URL, err)
		}
		w.Header().Set("Trailer", "Sum")
		w.Header().Set("Method", r.Method)
		w.Header().Set("Host-Seen", r.Host)
		w.Write(body)
		w.Header().Set("Sum", strings.TrimSpace(fmt.Sprintf("%x %s", sha256.Sum256(body), r.Trailer.Get("Check"))))
	})
}

// TestRequestsToAStockServer sends what this carrier can to net/http.
func TestRequestsToAStockServer(t *testing.T) {
	c, s := tlsPair(t)
	srv := &http.Server{Handler: stockHandler(t), ErrorLog: log.New(io.Discard, "", 0)}
	ln := newOneListener(s)
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(ln) })
	ours, err := Client(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := ours.(hop.Requester)
	do := func(req *hop.Request, content []byte, trailer http.Header) (*hop.Response, []byte, http.Header, []int, error) {
		t.Helper()
		req.Authority = "origin.example"
		x, err := client.Request(context.Background(), req, content == nil)
		if err != nil {
			t.Fatal(err)
		}
		var sending sync.WaitGroup
		defer sending.Wait()
		conn := hop.NewConn(x)
		if content != nil {
			sending.Go(func() {
				if _, err := conn.Write(content); err == nil {
					x.SendTrailer(trailer)
				}
			})
		}
		var interims []int
		r, err := x.Response(context.Background(), func(status int, h http.Header) { interims = append(interims, status) })
		if err != nil {
			return nil, nil, nil, interims, err
		}
		body, err := io.ReadAll(conn)
		return r, body, x.Trailer(), interims, err
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	r, body, trailer, _, err := do(&hop.Request{Method: "POST", Path: "/", Header: http.Header{"Trailer": {"Check"}}}, content, http.Header{"Check": {"yes"}})
	if err != nil || r.Status != 200 || !bytes.Equal(body, content) || trailer.Get("Sum") != sum+" yes" || r.Header.Get("Host-Seen") != "origin.example" {
		t.Errorf("POST: %+v, %d bytes, %v, %v", r, len(body), trailer, err)
	}
	r, body, _, interims, err := do(&hop.Request{Method: "GET", Path: "/hints"}, nil, nil)
	if err != nil || r.Status != 200 || len(body) != 0 || !reflect.DeepEqual(interims, []int{103, 102}) {
		t.Errorf("hints: %+v, %v, %v", r, interims, err)
	}
	r, body, _, _, err = do(&hop.Request{Method: "HEAD", Path: "/"}, nil, nil)
	if err != nil || r.Header.Get("Method") != "HEAD" || len(body) != 0 {
		t.Errorf("HEAD: %+v, %v", r, err)
	}
	r, body, _, _, err = do(&hop.Request{Method: "GET", Path: "/empty"}, nil, nil)
	if err != nil || r.Status != 204 || len(body) != 0 {
		t.Errorf("204: %+v, %v", r, err)
	}
	r, body, _, _, err = do(&hop.Request{Method: "PUT", Path: "/early"}, content, nil)
	if err != nil || r.Status != 413 || string(body) != "too large" {
		t.Errorf("early: %+v, %q, %v", r, body, err)
	}
	var reset *hop.ResetError
	r, body, _, _, err = do(&hop.Request{Method: "GET", Path: "/abort"}, nil, nil)
	if r == nil || string(body) != "half" || !errors.As(err, &reset) || !reset.Remote {
		t.Errorf("abort: %+v, %q, %v", r, body, err)
	}
	r, body, _, _, err = do(&hop.Request{Method: "EXOTIC", Path: "/?a=b"}, []byte("x"), nil)
	if err != nil || r.Header.Get("Method") != "EXOTIC" || string(body) != "x" {
		t.Errorf("EXOTIC: %+v, %v", r, err)
	}
	settled(t, ours.(*session))
	ours.Close(hop.NoError, "")
	<-ours.Done()
	srv.Close()
	serving.Wait()
}

// A oneListener has one connection.
type oneListener struct {
	conns chan net.Conn
	once  sync.Once
}

func newOneListener(c net.Conn) *oneListener {
	l := &oneListener{conns: make(chan net.Conn, 1)}
	l.conns <- c
	return l
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *oneListener) Close() error { l.once.Do(func() { close(l.conns) }); return nil }

func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

// serveStock makes an ordinary http.Handler's server of s, with as little as can be.
func serveStock(t *testing.T, s *session, h http.Handler) {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	for {
		in, err := s.Accept(context.Background())
		if err != nil {
			return
		}
		or, ok := in.(hop.IncomingRequest)
		if !ok {
			in.Reject(&hop.Response{Status: 403})
			continue
		}
		handlers.Go(func() { answerStock(t, or, h) })
	}
}

func answerStock(t *testing.T, in hop.IncomingRequest, h http.Handler) {
	x, err := in.Answer()
	if err != nil {
		t.Error(err)
		return
	}
	req := in.Request()
	if req.Header.Get("Expect") != "" {
		x.Interim(http.StatusContinue, nil)
	}
	conn := hop.NewConn(x)
	r := httptest.NewRequest(req.Method, "https://"+req.Authority+req.Path, nil)
	r.Header = req.Header
	trailers := make(http.Header)
	r.Trailer = trailers
	r.Body = io.NopCloser(readFunc(func(p []byte) (int, error) {
		n, err := conn.Read(p)
		if err == io.EOF {
			for k, v := range x.Trailer() {
				trailers[k] = v
			}
		}
		return n, err
	}))
	w := &stockWriter{x: x, conn: conn, h: make(http.Header)}
	defer func() {
		if recover() != nil {
			x.Reset(hop.InternalError)
		}
	}()
	h.ServeHTTP(w, r)
	w.head(200)
	sum := http.Header{}
	if v := w.h.Get("Sum"); v != "" {
		sum.Set("Sum", v)
	}
	if x.SendTrailer(sum) != nil {
		x.Reset(hop.InternalError)
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

type stockWriter struct {
	x    hop.Answering
	conn *hop.Conn
	h    http.Header
	done bool
}

func (w *stockWriter) Header() http.Header { return w.h }

func (w *stockWriter) head(status int) {
	if !w.done {
		w.done = true
		w.x.Respond(&hop.Response{Status: status, Header: w.h.Clone()}, false)
	}
}

func (w *stockWriter) WriteHeader(status int) {
	if status < 200 {
		w.x.Interim(status, w.h.Clone())
		return
	}
	w.head(status)
}

func (w *stockWriter) Write(p []byte) (int, error) {
	w.head(200)
	return w.conn.Write(p)
}

func (w *stockWriter) Flush() {}

// TestRequestsOfAStockClient answers what net/http sends.
func TestRequestsOfAStockClient(t *testing.T) {
	c, s := tlsPair(t)
	ours, err := Server(s, &Config{Ordinary: true})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { serveStock(t, ours.(*session), stockHandler(t)) })
	tr := &http.Transport{
		DialTLSContext:        func(context.Context, string, string) (net.Conn, error) { return c, nil },
		ForceAttemptHTTP2:     true,
		ExpectContinueTimeout: time.Minute,
	}
	client, err := tr.NewClientConn(context.Background(), "https", "origin.example:443")
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	for _, c := range []struct {
		method, path string
		content      []byte
		chunked      bool
		expect       bool
		status       int
		body         string
	}{
		{method: "POST", path: "/", content: content, status: 200, body: string(content)},
		{method: "POST", path: "/", content: content, chunked: true, status: 200, body: string(content)},
		{method: "POST", path: "/", content: content, expect: true, status: 200, body: string(content)},
		{method: "GET", path: "/hints", status: 200},
		{method: "HEAD", path: "/", status: 200},
		{method: "GET", path: "/empty", status: 204},
		{method: "PUT", path: "/early", content: content, chunked: true, status: 413, body: "too large"},
	} {
		var body io.Reader
		if c.content != nil {
			body = bytes.NewReader(c.content)
		}
		if c.chunked {
			body = io.MultiReader(body)
		}
		var interims []int
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { interims = append(interims, code); return nil },
		})
		req, err := http.NewRequestWithContext(ctx, c.method, "https://origin.example"+c.path, body)
		if err != nil {
			t.Fatal(err)
		}
		if c.chunked && c.status == 200 {
			req.Trailer = http.Header{"Check": {"yes"}}
		}
		if c.expect {
			req.Header.Set("Expect", "100-continue")
		}
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, c.path, err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || string(got) != c.body {
			t.Errorf("%s %s: %s, %d bytes, %v", c.method, c.path, resp.Status, len(got), err)
		}
		if c.chunked && c.status == 200 && resp.Trailer.Get("Sum") != sum+" yes" {
			t.Errorf("trailer %v", resp.Trailer)
		}
		if c.path == "/hints" && !reflect.DeepEqual(interims, []int{103, 102}) {
			t.Errorf("interim responses %v", interims)
		}
	}
	req, _ := http.NewRequest("GET", "https://origin.example/abort", nil)
	if resp, err := client.RoundTrip(req); err == nil { // a reset may overtake the head
		if got, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("abort: %q", got)
		}
	}
	client.Close()
	<-ours.Done()
	serving.Wait()
	settled(t, ours.(*session))
}

// A party that does not read stops itself alone, whichever it is.
func TestExchangesThatStallStopNobodyElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		for i := range 100 {
			near, far := exchanged(t, client, server, post(), false)
			far.Respond(&hop.Response{Status: 200}, false)
			var from, to hop.Stream = near, far
			if i%2 == 0 {
				from, to = to, from
			}
			sink := newCollector()
			sink.hold = true
			t.Cleanup(sink.release)
			to.Start(sink)
			send(t, from, make([]byte, 1<<20))
		}
		near, far := exchanged(t, client, server, post(), false)
		far.Respond(&hop.Response{Status: 200}, false)
		there, back := hop.NewConn(near), hop.NewConn(far)
		go func() {
			io.Copy(back, back)
			back.CloseWrite()
		}()
		content := bytes.Repeat([]byte("x"), 3<<20)
		go func() {
			there.Write(content)
			there.CloseWrite()
		}()
		if got, err := io.ReadAll(there); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// TestHundredMegabytesBothWays echoes content through two hops, with a reader slower than its sender, and
// looks at the memory meanwhile.
func TestHundredMegabytesBothWays(t *testing.T) {
	size := int64(100 << 20)
	if raceEnabled || testing.Short() {
		size = 10 << 20
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC() // what other tests have left, and
	runtime.GC() // what they had in pools
	before := heap()
	peak := before
	client, inner := sessions(t, nil, &Config{Ordinary: true})
	outer, origin := sessions(t, nil, &Config{Ordinary: true})
	length := strconv.FormatInt(size, 10)
	near, a := exchanged(t, client, inner, post("Content-Length", length), false)
	b, far := exchanged(t, outer, origin, post("Content-Length", length), false)
	a.Start(&joint{to: b})
	head := http.Header{"Content-Length": {length}}
	far.Respond(&hop.Response{Status: 200, Header: head}, false)
	if _, err := b.Response(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	a.Respond(&hop.Response{Status: 200, Header: head}, false)
	b.Start(&joint{to: a})
	there, back := hop.NewConn(near), hop.NewConn(far)
	var all sync.WaitGroup
	all.Go(func() {
		if n, err := io.Copy(back, back); n != size || err != nil {
			t.Errorf("echoed %d, %v", n, err)
		}
		back.CloseWrite()
	})
	hash := func() (io.Writer, func() [32]byte) {
		h := sha256.New()
		return h, func() [32]byte { return [32]byte(h.Sum(nil)) }
	}
	sent, sentSum := hash()
	all.Go(func() {
		chunk := make([]byte, 100_000)
		rng := rand.NewChaCha8([32]byte{1})
		for left := size; left > 0; {
			n := min(left, int64(len(chunk)))
			rng.Read(chunk[:n])
			sent.Write(chunk[:n])
			if _, err := there.Write(chunk[:n]); err != nil {
				t.Error(err)
				return
			}
			left -= n
		}
		there.CloseWrite()
	})
	received, receivedSum := hash()
	var got int64
	chunk := make([]byte, 50_000)
	for i := 0; ; i++ {
		n, err := there.Read(chunk)
		received.Write(chunk[:n])
		got += int64(n)
		if i%200 == 0 {
			peak = max(peak, heap())
		}
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
	}
	all.Wait()
	if got != size || sentSum() != receivedSum() {
		t.Errorf("%d bytes of %d, or others", got, size)
	}
	if peak > before+32<<20 {
		t.Errorf("the heap grew from %d to %d MiB", before>>20, peak>>20)
	}
	t.Logf("%d MiB both ways through two hops, the heap at most %d MiB, before %d MiB", size>>20, peak>>20, before>>20)
	settled(t, client, inner, outer, origin)
}

// TestExchangesAtRandom makes exchanges of random shape over one hop, many at a time, and checks that each side
// sees what the other has sent: heads, content, trailers, ends and resets.
func TestExchangesAtRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type shape struct {
			request, response []int // sizes of writes
			length            bool
			early             bool // the response is complete before the request is read
			trailers          bool
			interims          int
			cut               int // 0: nobody; 1: the client resets; 2: the server does
		}
		shapes := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) shape {
			sizes := rapid.SliceOfN(rapid.IntRange(0, 70_000), 0, 6)
			return shape{
				request: sizes.Draw(rt, "request"), response: sizes.Draw(rt, "response"),
				length: rapid.Bool().Draw(rt, "length"), early: rapid.Bool().Draw(rt, "early"),
				trailers: rapid.Bool().Draw(rt, "trailers"), interims: rapid.IntRange(0, maxInterims).Draw(rt, "interims"),
				cut: rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(rt, "cut"),
			}
		}), 1, 20).Draw(rt, "exchanges")
		limits := hop.Limits{StreamWindow: rapid.SampledFrom([]int{1000, 20_000, 256 << 10}).Draw(rt, "window")}
		late := rapid.Bool().Draw(rt, "late")
		total := func(sizes []int) (n int) {
			for _, s := range sizes {
				n += s
			}
			return n
		}
		synctest.Test(t, func(t *testing.T) {
			client, server := sessions(t, &Config{Late: late, Limits: limits}, &Config{Ordinary: true, Limits: limits})
			write := func(x hop.Exchange, conn *hop.Conn, sizes []int, trailers bool, seed byte) {
				for _, n := range sizes {
					if _, err := conn.Write(bytes.Repeat([]byte{seed}, n)); err != nil {
						return
					}
				}
				if trailers {
					x.SendTrailer(http.Header{"Seed": {strconv.Itoa(int(seed))}})
				} else {
					conn.CloseWrite()
				}
			}
			check := func(who string, i int, x hop.Exchange, got []byte, err error, sizes []int, trailers bool, seed byte) {
				if err != nil {
					t.Errorf("exchange %d, %s: %v", i, who, err)
					return
				}
				if !bytes.Equal(got, bytes.Repeat([]byte{seed}, total(sizes))) {
					t.Errorf("exchange %d, %s: %d bytes, want %d", i, who, len(got), total(sizes))
				}
				if v := x.Trailer().Get("Seed"); (v == strconv.Itoa(int(seed))) != trailers {
					t.Errorf("exchange %d, %s: trailer %q", i, who, v)
				}
			}
			var all sync.WaitGroup
			answer := func(in hop.IncomingRequest) {
				i, _ := strconv.Atoi(in.Request().Header.Get("Number"))
				sh := shapes[i]
				x, err := in.Answer()
				if err != nil {
					t.Error(err)
					return
				}
				conn := hop.NewConn(x)
				if !sh.early {
					got, err := io.ReadAll(conn)
					if sh.cut == 0 {
						check("request", i, x, got, err, sh.request, sh.trailers, byte(i))
					}
				}
				for range sh.interims {
					x.Interim(103, http.Header{"Number": {strconv.Itoa(i)}})
				}
				h := http.Header{"Number": {strconv.Itoa(i)}}
				if sh.length {
					h.Set("Content-Length", strconv.Itoa(total(sh.response)))
				}
				x.Respond(&hop.Response{Status: 200, Header: h}, false)
				if sh.cut == 2 {
					x.Reset(hop.Cancel)
				}
				write(x, conn, sh.response, sh.trailers, byte(i+100))
			}
			for i, sh := range shapes {
				all.Go(func() {
					req := post("Number", strconv.Itoa(i), "Evidence-Request", ":YQ==:")
					if sh.length {
						req.Header.Set("Content-Length", strconv.Itoa(total(sh.request)))
					}
					x, err := client.Request(context.Background(), req, false)
					if err != nil {
						t.Error(err)
						return
					}
					conn := hop.NewConn(x)
					all.Go(func() { write(x, conn, sh.request, sh.trailers, byte(i)) })
					if sh.cut == 1 {
						x.Reset(hop.Cancel)
					}
					n := 0
					r, err := x.Response(context.Background(), func(int, http.Header) { n++ })
					if sh.cut != 0 {
						return
					}
					if err != nil || n != sh.interims || r.Header.Get("Number") != strconv.Itoa(i) {
						t.Errorf("exchange %d: %+v, %v, %d interim responses", i, r, err, n)
						return
					}
					got, err := io.ReadAll(conn)
					check("response", i, x, got, err, sh.response, sh.trailers, byte(i+100))
				})
			}
			ctx, cancel := context.WithCancel(context.Background())
			all.Go(func() {
				for {
					in, err := server.Accept(ctx)
					if err != nil {
						return
					}
					all.Go(func() { answer(in.(hop.IncomingRequest)) })
				}
			})
			synctest.Wait()
			cancel()
			all.Wait()
			synctest.Wait()
			if client.Err() != nil || server.Err() != nil {
				t.Errorf("the hop ended: %v, %v", client.Err(), server.Err())
			}
			settled(t, client, server)
		})
	})
}

// TestExchangesEndInEveryWayAtOnce is for the race detector: each end is caused by several at a time.
func TestExchangesEndInEveryWayAtOnce(t *testing.T) {
	client, server := sessions(t, nil, &Config{Ordinary: true, Limits: hop.Limits{Resets: hop.Rate{PerSecond: 1e6, Burst: 1e6}}})
	var all sync.WaitGroup
	for i := range 300 {
		near, far := exchanged(t, client, server, post(), false)
		content := strings.Repeat("x", 1000*(i%50))
		ways := []func(){
			func() { hop.NewConn(near).Write([]byte(content)) },
			func() { near.SendTrailer(http.Header{"A": {"b"}}) },
			func() { hop.NewConn(far).Write([]byte(content)) },
			func() { far.Interim(103, nil) },
			func() { far.Respond(&hop.Response{Status: 200}, i%3 == 0) },
			func() { far.SendTrailer(http.Header{"A": {"b"}}) },
			func() { far.Kill(signedVerdict) },
			func() { near.Trailer() },
			func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%5)*100*time.Microsecond)
				defer cancel()
				near.Response(ctx, nil)
			},
		}
		if i%4 == 0 {
			ways = append(ways, func() { near.Reset(hop.Cancel) })
		}
		for _, way := range ways {
			all.Go(way)
		}
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := client.Drain(ctx); err != nil {
		t.Error(err)
	}
	<-server.Done()
	settled(t, client, server)
}

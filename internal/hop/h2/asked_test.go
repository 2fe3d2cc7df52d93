package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"vitrine/frames"
	"vitrine/internal/hop"
)

// take accepts the next ordinary request of s.
func take(t testing.TB, s *session) hop.IncomingRequest {
	t.Helper()
	in, err := s.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	or, ok := in.(hop.IncomingRequest)
	if !ok {
		t.Fatalf("%+v is no ordinary request", in.Request())
	}
	return or
}

// exchanged is a request that was sent and taken over, before any answer.
func exchanged(t testing.TB, client, server *session, req *hop.Request, end bool) (hop.Asked, hop.Answering) {
	t.Helper()
	near, err := client.Request(context.Background(), req, end)
	if err != nil {
		t.Fatal(err)
	}
	in := take(t, server)
	if in.End() != end {
		t.Errorf("End is %v", in.End())
	}
	far, err := in.Answer()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

func post(fields ...string) *hop.Request {
	r := &hop.Request{Method: "POST", Authority: "origin.example", Path: "/form", Header: make(http.Header)}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func TestExchangeWithAllItsParts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		near, far := exchanged(t, client, server, post("Content-Length", "5"), false)
		in, out := hop.NewConn(far), hop.NewConn(near)
		io.WriteString(out, "hello")
		if err := near.SendTrailer(http.Header{"Checksum": {"a"}}); err != nil {
			t.Fatal(err)
		}
		if p, err := io.ReadAll(in); err != nil || string(p) != "hello" {
			t.Fatalf("%q, %v", p, err)
		}
		if got := far.Trailer(); !reflect.DeepEqual(got, http.Header{"Checksum": {"a"}}) {
			t.Errorf("trailer %v", got)
		}
		for _, status := range []int{100, 103} {
			if err := far.Interim(status, http.Header{"Link": {"x"}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := far.Respond(&hop.Response{Status: 201, Header: http.Header{"Location": {"/x"}}}, false); err != nil {
			t.Fatal(err)
		}
		var interims []int
		r, err := near.Response(context.Background(), func(status int, h http.Header) {
			interims = append(interims, status)
			if h.Get("Link") != "x" {
				t.Errorf("%d with %v", status, h)
			}
		})
		if err != nil || r.Status != 201 || r.Header.Get("Location") != "/x" || !reflect.DeepEqual(interims, []int{100, 103}) {
			t.Fatalf("%+v, %v after %v", r, err, interims)
		}
		io.WriteString(in, "world")
		if err := far.SendTrailer(http.Header{"Sum": {"b"}}); err != nil {
			t.Fatal(err)
		}
		if p, err := io.ReadAll(out); err != nil || string(p) != "world" {
			t.Fatalf("%q, %v", p, err)
		}
		if got := near.Trailer(); !reflect.DeepEqual(got, http.Header{"Sum": {"b"}}) {
			t.Errorf("trailer %v", got)
		}
		settled(t, client, server)
	})
}

// settled checks that nothing is left of streams that are over.
func settled(t testing.TB, ss ...*session) {
	t.Helper()
	for _, s := range ss {
		s.mu.Lock()
		if n := len(s.streams) + len(s.pending) + s.work + s.headerSize + s.active; n != 0 {
			t.Errorf("left: %d streams, %d pending, %d at work, %d bytes of header lists, %d active (server: %v)",
				len(s.streams), len(s.pending), s.work, s.headerSize, s.active, s.server)
		}
		s.mu.Unlock()
	}
}

func TestExchangeWithoutContent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		near, far := exchanged(t, client, server, &hop.Request{Method: "GET", Authority: "o.example"}, true)
		if err := far.Respond(&hop.Response{Status: 204}, true); err != nil {
			t.Fatal(err)
		}
		r, err := near.Response(context.Background(), nil)
		if err != nil || r.Status != 204 {
			t.Fatal(r, err)
		}
		for _, st := range []hop.Stream{near, far} {
			sink := newCollector()
			st.Start(sink)
			if err := sink.wait(t); err != io.EOF || len(sink.bytes()) > 0 {
				t.Errorf("%q, %v", sink.bytes(), err)
			}
		}
		settled(t, client, server)
	})
}

func TestResponseBeforeTheRequestHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		near, far := exchanged(t, client, server, post(), false)
		far.Respond(&hop.Response{Status: 413}, false)
		send(t, far, []byte("too large"))
		far.CloseSend()
		r, err := near.Response(context.Background(), nil)
		if err != nil || r.Status != 413 {
			t.Fatal(r, err)
		}
		sink := newCollector()
		near.Start(sink)
		if err := sink.wait(t); err != io.EOF || string(sink.bytes()) != "too large" {
			t.Errorf("%q, %v", sink.bytes(), err)
		}
		var reset *hop.ResetError
		for err == nil {
			b := hop.NewBufferSize(1)
			b.Append([]byte("x"))
			err = near.Send(b)
		}
		if !errors.As(err, &reset) || reset.Code != hop.NoError || !reset.Remote {
			t.Error(err)
		}
	})
}

// spec: HOP-31
func TestContentThatDiffersFromItsLength(t *testing.T) {
	for name, content := range map[string]string{"less": "four", "more": "sixsix", "none": ""} {
		for _, end := range []string{"request", "request with trailers", "response", "response with trailers"} {
			t.Run(name+" in a "+end, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					client, server := sessions(t, nil, &Config{Ordinary: true})
					near, far := exchanged(t, client, server, post("Content-Length", "5"), false)
					var from, to hop.Exchange = near, far
					if strings.HasPrefix(end, "response") {
						from, to = to, from
						far.Respond(&hop.Response{Status: 200, Header: http.Header{"Content-Length": {"5"}}}, false)
					}
					sink := newCollector()
					to.Start(sink)
					b := hop.NewBuffer()
					b.Append([]byte(content))
					err := from.Send(b)
					if (name == "more") != errors.Is(err, errContentLength) {
						t.Errorf("Send: %v", err)
					}
					if strings.HasSuffix(end, "trailers") {
						err = errors.Join(err, from.SendTrailer(http.Header{"A": {"b"}}))
					} else {
						err = errors.Join(err, from.CloseSend())
					}
					if !errors.Is(err, errContentLength) {
						t.Error(err)
					}
					var reset *hop.ResetError
					if err := sink.wait(t); !errors.As(err, &reset) || !reset.Remote || reset.Code != hop.InternalError {
						t.Errorf("what is not whole ended with %v", err)
					}
					far.Reset(hop.Cancel)
				})
			})
		}
	}
}

// A local reset throws away what came and was not taken: what is left must not look whole.
func TestResetOfWhatHasEndedAndWasNotRead(t *testing.T) {
	for _, started := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			p := rawServer(t, nil).greet()
			x, err := p.s.Request(context.Background(), post(), false)
			p.must(err)
			p.want(http2.FrameHeaders)
			p.headers(1, false, ":status", "200")
			for range 5 {
				p.must(p.fr.WriteData(1, false, make([]byte, 10_000)))
			}
			p.must(p.fr.WriteData(1, true, nil))
			p.alive()
			sink := &stuck{collector: newCollector(), inside: make(chan struct{}), leave: make(chan struct{})}
			if started {
				go x.Start(sink)
				<-sink.inside
			}
			x.Reset(hop.Cancel) // as the watch does where the request waits too long for a window
			close(sink.leave)
			if !started {
				x.Start(sink)
			}
			var reset *hop.ResetError
			if err := sink.wait(t); !errors.As(err, &reset) {
				t.Errorf("started %v: %d bytes of 50,000, and then %v", started, len(sink.bytes()), err)
			}
		})
	}
}

// A stuck is a Sink that takes its time over its first Buffer.
type stuck struct {
	*collector
	once          sync.Once
	inside, leave chan struct{}
}

func (s *stuck) Data(b *hop.Buffer) {
	s.once.Do(func() { close(s.inside) })
	<-s.leave
	s.collector.Data(b)
}

func TestLargeContentBothWays(t *testing.T) {
	client, server := sessions(t, nil, &Config{Ordinary: true})
	near, far := exchanged(t, client, server, post(), false)
	far.Respond(&hop.Response{Status: 200}, false)
	if _, err := near.Response(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	out, echo := hop.NewConn(near), hop.NewConn(far)
	go func() {
		io.Copy(echo, echo)
		echo.CloseWrite()
	}()
	const size = 8 << 20
	go func() {
		out.Write(bytes.Repeat([]byte("0123456789abcdef"), size/16))
		out.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, out); n != size || err != nil {
		t.Fatal(n, err)
	}
}

// asked sends a request of the session's and returns it; its HEADERS are read.
func (p *rawPeer) asked(req *hop.Request, end bool) (hop.Asked, *collector) {
	p.t.Helper()
	x, err := p.s.Request(context.Background(), req, end)
	p.must(err)
	sink := newCollector()
	x.Start(sink)
	p.want(http2.FrameHeaders)
	return x, sink
}

// spec: HOP-30 HOP-32 HOP-33 HOP-34
func TestResponsesThatAreMalformed(t *testing.T) {
	head := func(p *rawPeer, end bool, more ...string) {
		p.headers(1, end, append([]string{":status", "200"}, more...)...)
	}
	data := func(p *rawPeer, end bool, s string) { p.must(p.fr.WriteData(1, end, []byte(s))) }
	interims := func(p *rawPeer, n, size int) {
		for range n {
			p.headers(1, false, ":status", "103", "a", strings.Repeat("x", size))
		}
	}
	for name, c := range map[string]struct {
		method string
		do     func(p *rawPeer)
		code   http2.ErrCode
	}{
		"more than content-length":    {"GET", func(p *rawPeer) { head(p, false, "content-length", "3"); data(p, false, "four") }, http2.ErrCodeProtocol},
		"less than content-length":    {"GET", func(p *rawPeer) { head(p, false, "content-length", "3"); data(p, true, "ab") }, http2.ErrCodeProtocol},
		"less, then trailers":         {"GET", func(p *rawPeer) { head(p, false, "content-length", "3"); p.headers(1, true, "a", "b") }, http2.ErrCodeProtocol},
		"none of content-length":      {"GET", func(p *rawPeer) { head(p, true, "content-length", "3") }, http2.ErrCodeProtocol},
		"content-length twice":        {"GET", func(p *rawPeer) { head(p, false, "content-length", "3", "content-length", "3") }, http2.ErrCodeProtocol},
		"content-length of letters":   {"HEAD", func(p *rawPeer) { head(p, true, "content-length", "x") }, http2.ErrCodeProtocol},
		"content for HEAD":            {"HEAD", func(p *rawPeer) { head(p, false, "content-length", "3"); data(p, true, "abc") }, http2.ErrCodeProtocol},
		"content of 204":              {"GET", func(p *rawPeer) { p.headers(1, false, ":status", "204"); data(p, true, "abc") }, http2.ErrCodeProtocol},
		"content of 304":              {"GET", func(p *rawPeer) { p.headers(1, false, ":status", "304"); data(p, true, "abc") }, http2.ErrCodeProtocol},
		"DATA before HEADERS":         {"GET", func(p *rawPeer) { data(p, false, "x") }, http2.ErrCodeProtocol},
		"empty DATA before HEADERS":   {"GET", func(p *rawPeer) { data(p, false, "") }, http2.ErrCodeProtocol},
		"DATA behind an interim":      {"GET", func(p *rawPeer) { interims(p, 1, 1); data(p, false, "x") }, http2.ErrCodeProtocol},
		"no status":                   {"GET", func(p *rawPeer) { p.headers(1, false, "a", "b") }, http2.ErrCodeProtocol},
		"101":                         {"GET", func(p *rawPeer) { p.headers(1, false, ":status", "101") }, http2.ErrCodeProtocol},
		"an interim end":              {"GET", func(p *rawPeer) { p.headers(1, true, ":status", "103") }, http2.ErrCodeProtocol},
		"two final heads":             {"GET", func(p *rawPeer) { head(p, false); head(p, false) }, http2.ErrCodeProtocol},
		"an interim behind":           {"GET", func(p *rawPeer) { head(p, false); interims(p, 1, 1) }, http2.ErrCodeProtocol},
		"trailers without END_STREAM": {"GET", func(p *rawPeer) { head(p, false); p.headers(1, false, "a", "b") }, http2.ErrCodeProtocol},
		"trailers with a status":      {"GET", func(p *rawPeer) { head(p, false); p.headers(1, true, ":status", "200") }, http2.ErrCodeProtocol},
		"trailers with content-length": {"GET", func(p *rawPeer) {
			head(p, false)
			p.headers(1, true, "content-length", "0")
		}, http2.ErrCodeProtocol},
		"trailers with evidence-id": {"GET", func(p *rawPeer) { head(p, false); p.headers(1, true, "evidence-id", ":YQ==:") }, http2.ErrCodeProtocol},
		"trailers of many fields":   {"GET", func(p *rawPeer) { head(p, false); p.headers(1, true, manyFields()...) }, http2.ErrCodeEnhanceYourCalm},
		"a head of many bytes":      {"GET", func(p *rawPeer) { head(p, false, manyBytes()...) }, http2.ErrCodeEnhanceYourCalm},
		"nine interims":             {"GET", func(p *rawPeer) { interims(p, 9, 1) }, http2.ErrCodeEnhanceYourCalm},
		"large interims":            {"GET", func(p *rawPeer) { interims(p, 6, 13_000) }, http2.ErrCodeEnhanceYourCalm},
		"DATA after END_STREAM":     {"POST", func(p *rawPeer) { head(p, true); data(p, true, "x") }, http2.ErrCodeStreamClosed},
		"HEADERS after END_STREAM":  {"POST", func(p *rawPeer) { head(p, true); p.headers(1, true, "a", "b") }, http2.ErrCodeStreamClosed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawServer(t, nil).greet()
				x, sink := p.asked(&hop.Request{Method: c.method, Authority: "o.example"}, c.method != "POST")
				c.do(p)
				p.wantReset(1, c.code)
				if err := sink.wait(t); (err == io.EOF) != (c.method == "POST") {
					t.Errorf("the content ended with %v", err)
				}
				x.Response(context.Background(), nil) // does not hang
				p.alive()
				settled(t, p.s)
			})
		})
	}
}

func TestResponsesWithoutContentThatHaveALength(t *testing.T) {
	for _, c := range []struct {
		method, status string
	}{{"HEAD", "200"}, {"GET", "304"}, {"GET", "204"}} {
		for _, alone := range []bool{true, false} {
			bubble(t, func(t *testing.T) {
				p := rawServer(t, nil).greet()
				x, sink := p.asked(&hop.Request{Method: c.method, Authority: "o.example"}, true)
				p.headers(1, alone, ":status", c.status, "content-length", "1000")
				if !alone {
					p.must(p.fr.WriteData(1, true, nil))
				}
				r, err := x.Response(context.Background(), nil)
				if err != nil || r.Header.Get("Content-Length") != "1000" {
					t.Fatal(r, err)
				}
				if err := sink.wait(t); err != io.EOF {
					t.Error(err)
				}
			})
		}
	}
}

// spec: HOP-21
func TestRequestsThatMayBeSentAgain(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(p *rawPeer)
		retry bool
	}{
		"REFUSED_STREAM": {func(p *rawPeer) { p.must(p.fr.WriteRSTStream(1, http2.ErrCodeRefusedStream)) }, true},
		"GOAWAY below":   {func(p *rawPeer) { p.must(p.fr.WriteGoAway(0, http2.ErrCodeNo, nil)) }, true},
		"CANCEL":         {func(p *rawPeer) { p.must(p.fr.WriteRSTStream(1, http2.ErrCodeCancel)) }, false},
		"NO_ERROR":       {func(p *rawPeer) { p.must(p.fr.WriteRSTStream(1, http2.ErrCodeNo)) }, false},
		"REFUSED_STREAM behind interim": {func(p *rawPeer) {
			p.headers(1, false, ":status", "100")
			p.must(p.fr.WriteRSTStream(1, http2.ErrCodeRefusedStream))
		}, false},
		"GOAWAY above, then the end": {func(p *rawPeer) { p.must(p.fr.WriteGoAway(1, http2.ErrCodeNo, nil)); p.conn.NetConn().Close() }, false},
		"the end":                    {func(p *rawPeer) { p.conn.NetConn().Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawServer(t, nil).greet()
				x, sink := p.asked(post(), false)
				c.do(p)
				r, err := x.Response(context.Background(), nil)
				var retry *hop.RetryError
				if r != nil || err == nil || errors.As(err, &retry) != c.retry {
					t.Errorf("%v, %v; may be sent again: %v", r, err, c.retry)
				}
				if err := sink.wait(t); err == io.EOF || errors.As(err, &retry) != c.retry {
					t.Errorf("the content ended with %v", err)
				}
			})
		})
	}
	t.Run("never sent", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rawServer(t, nil).greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			p.asked(post(), false)
			errc := make(chan error)
			for range 2 {
				go func() {
					_, err := p.s.Request(context.Background(), post(), false)
					errc <- err
				}()
			}
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				_, err := p.s.Request(ctx, post(), false)
				errc <- err
			}()
			synctest.Wait()
			cancel()
			if err := <-errc; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			p.must(p.fr.WriteGoAway(1, http2.ErrCodeNo, nil))
			for range 2 {
				var retry *hop.RetryError
				if err := <-errc; !errors.As(err, &retry) {
					t.Error(err)
				}
			}
		})
	})
}

func TestResponseThatNobodyWaitsForAnyMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil).greet()
		x, sink := p.asked(post(), false)
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			p.headers(1, false, ":status", "103")
			synctest.Wait()
			cancel()
		}()
		interims := 0
		if _, err := x.Response(ctx, func(int, http.Header) { interims++ }); !errors.Is(err, context.Canceled) || interims != 1 {
			t.Error(err, interims)
		}
		p.wantReset(1, http2.ErrCodeCancel)
		if err := sink.wait(t); err == io.EOF {
			t.Error(err)
		}
	})
}

// spec: HOP-36
func TestResetWithoutErrorLeavesTheResponseWhole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil).greet()
		x, err := p.s.Request(context.Background(), post(), false)
		p.must(err)
		p.want(http2.FrameHeaders)
		p.headers(1, false, ":status", "413")
		p.must(p.fr.WriteData(1, false, []byte("too ")))
		p.must(p.fr.WriteData(1, false, []byte("large")))
		p.headers(1, true, "sum", "x")
		p.must(p.fr.WriteRSTStream(1, http2.ErrCodeNo))
		p.alive()
		r, err := x.Response(context.Background(), nil)
		if err != nil || r.Status != 413 {
			t.Fatal(r, err)
		}
		if got, err := io.ReadAll(hop.NewConn(x)); err != nil || string(got) != "too large" || x.Trailer().Get("Sum") != "x" {
			t.Errorf("%q, %v, %v", got, err, x.Trailer())
		}
		settled(t, p.s)
	})
}

// A server that stops a request which has just ended costs itself nothing, once.
func TestResetWithoutErrorMayCrossTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, &Config{Limits: hop.Limits{Empty: hop.Rate{PerSecond: 0.001, Burst: 5}}}).greet()
		for id := uint32(1); id < 41; id += 2 {
			x, err := p.s.Request(context.Background(), post(), false)
			p.must(err)
			p.must(x.CloseSend())
			p.want(http2.FrameHeaders)
			p.want(http2.FrameData)
			p.headers(id, true, ":status", "200")
			p.must(p.fr.WriteRSTStream(id, http2.ErrCodeNo))
			p.alive()
		}
		for range 6 {
			p.must(p.fr.WriteRSTStream(1, http2.ErrCodeNo))
		}
		p.wantGoAway(http2.ErrCodeEnhanceYourCalm)
	})
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true, Limits: hop.Limits{HeaderBytes: 1000}})
		for _, c := range []struct {
			req *hop.Request
			end bool
		}{
			{connectRequest(), false},
			{&hop.Request{Method: "CONNECT", Authority: "o.example:443"}, false},
			{&hop.Request{Method: "GET", Protocol: "itls", Authority: "o.example"}, true},
			{&hop.Request{Method: "GET", Authority: "o.example", Early: []byte("x")}, true},
			{&hop.Request{Method: "GET", Authority: "o.example", Path: "x"}, true},
			{&hop.Request{Method: "G T", Authority: "o.example"}, true},
			{&hop.Request{Method: "GET", Authority: "o example"}, true},
			{post("Content-Length", "5"), true},
			{post("Content-Length", "-5"), false},
			{post("Connection", "close"), false},
			{post("Host", "o.example"), false},
			{post("A", strings.Repeat("x", 1000)), false},
		} {
			if _, err := client.Request(context.Background(), c.req, c.end); err == nil {
				t.Errorf("%+v was sent", c.req)
			}
		}
		if _, err := server.Request(context.Background(), post(), true); err == nil {
			t.Error("a server sent a request")
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := client.Request(ctx, post(), true); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if n := open(client); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

// spec: HOP-10 HOP-12 HOP-35
func TestEvidenceOfAnExchange(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, size := range []int{0, 1, 16384, frames.MaxEvidence} {
			for _, body := range []string{"", "end", "content", "trailer"} {
				bubble(t, func(t *testing.T) {
					client, server := sessions(t, &Config{Late: late}, &Config{Ordinary: true})
					evidence := bytes.Repeat([]byte("e"), size)
					near, far := exchanged(t, client, server, post("Evidence-Request", ":YQ==:"), true)
					sink := newCollector()
					near.Start(sink)
					if err := far.Respond(&hop.Response{Status: 470, Evidence: evidence}, body == "end"); err != nil {
						t.Fatal(err)
					}
					r, err := near.Response(context.Background(), nil) // before content, where there is any
					if err != nil || r.Status != 470 || !bytes.Equal(r.Evidence, evidence) {
						t.Fatalf("late %v, %d bytes: %v", late, size, err)
					}
					want := ""
					switch body {
					case "":
						far.CloseSend()
					case "content":
						want = "why"
						send(t, far, []byte(want))
						far.CloseSend()
					case "trailer":
						far.SendTrailer(http.Header{"A": {"b"}})
					}
					if err := sink.wait(t); err != io.EOF || string(sink.bytes()) != want {
						t.Errorf("%q, %v", sink.bytes(), err)
					}
					settled(t, client, server)
				})
			}
		}
	}
}

// The empty DATA of HOP-35 is no frame without effect.
func TestEvidenceThatDoesNotComeCostsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, &Config{Late: true, Limits: hop.Limits{Empty: hop.Rate{PerSecond: 0.001, Burst: 1}}}, &Config{Ordinary: true})
		for range 20 {
			near, far := exchanged(t, client, server, post("Evidence-Request", ":YQ==:"), true)
			far.Respond(&hop.Response{Status: 200}, false)
			if _, err := near.Response(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			far.CloseSend()
		}
	})
}

// spec: HOP-13
func TestEvidenceOfAnExchangeOutOfPlace(t *testing.T) {
	evidence := func(p *rawPeer, more byte) {
		p.must(p.fr.WriteRawFrame(frames.TypeEvidence, 0, 1, append([]byte{more, 0, 0, 1}, 'e')))
	}
	parts, err := frames.FragmentEvidence(make([]byte, 20_000))
	if err != nil {
		t.Fatal(err)
	}
	first := func(p *rawPeer) { p.must(p.fr.WriteRawFrame(frames.TypeEvidence, 0, 1, parts[0].Append(nil))) }
	whole := func(p *rawPeer) {
		for _, part := range parts {
			p.must(p.fr.WriteRawFrame(frames.TypeEvidence, 0, 1, part.Append(nil)))
		}
	}
	head := func(p *rawPeer) { p.headers(1, false, ":status", "470") }
	for name, c := range map[string]struct {
		late, unasked bool
		do            func(p *rawPeer)
	}{
		"unasked":                 {false, true, whole},
		"malformed":               {false, false, func(p *rawPeer) { evidence(p, 0xff) }},
		"behind the head":         {false, false, func(p *rawPeer) { head(p); whole(p) }},
		"twice":                   {false, false, func(p *rawPeer) { whole(p); first(p) }},
		"cut by the head":         {false, false, func(p *rawPeer) { first(p); head(p) }},
		"late, before the head":   {true, false, whole},
		"late, behind DATA":       {true, false, func(p *rawPeer) { head(p); p.must(p.fr.WriteData(1, false, []byte("x"))); whole(p) }},
		"late, behind empty DATA": {true, false, func(p *rawPeer) { head(p); p.must(p.fr.WriteData(1, false, nil)); whole(p) }},
		"late, cut by DATA":       {true, false, func(p *rawPeer) { head(p); first(p); p.must(p.fr.WriteData(1, false, []byte("x"))) }},
		"late, cut by empty DATA": {true, false, func(p *rawPeer) { head(p); first(p); p.must(p.fr.WriteData(1, false, nil)) }},
		"late, cut by trailers":   {true, false, func(p *rawPeer) { head(p); first(p); p.headers(1, true, "a", "b") }},
		"late, cut by the end":    {true, false, func(p *rawPeer) { head(p); first(p); p.must(p.fr.WriteData(1, true, nil)) }},
		"late, twice":             {true, false, func(p *rawPeer) { head(p); whole(p); first(p) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawServer(t, &Config{Late: c.late}).greet()
				req := post("Evidence-Request", ":YQ==:")
				if c.unasked {
					req = post()
				}
				_, sink := p.asked(req, true)
				c.do(p)
				p.wantReset(1, http2.ErrCodeProtocol)
				if err := sink.wait(t); err == io.EOF {
					t.Error(err)
				}
				p.alive()
			})
		})
	}
}

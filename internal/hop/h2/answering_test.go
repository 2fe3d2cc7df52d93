package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"vitrine/internal/hop"
)

var postFields = []string{":method", "POST", ":scheme", "https", ":path", "/", ":authority", "p.example"}

// posted is a request of p's, which is open and taken over.
func (p *rawPeer) posted(id uint32, more ...string) hop.Answering {
	p.t.Helper()
	p.headers(id, false, append(append([]string(nil), postFields...), more...)...)
	x, err := take(p.t, p.s).Answer()
	p.must(err)
	return x
}

// spec: HOP-30 HOP-32
func TestRequestsWhoseContentIsMalformed(t *testing.T) {
	end := func(p *rawPeer, s string) { p.must(p.fr.WriteData(1, true, []byte(s))) }
	part := func(p *rawPeer, s string) { p.must(p.fr.WriteData(1, false, []byte(s))) }
	for name, c := range map[string]struct {
		length string
		do     func(p *rawPeer)
		code   http2.ErrCode
	}{
		"more than content-length":       {"3", func(p *rawPeer) { end(p, "four") }, http2.ErrCodeProtocol},
		"more in parts":                  {"3", func(p *rawPeer) { part(p, "fo"); part(p, "ur") }, http2.ErrCodeProtocol},
		"less than content-length":       {"3", func(p *rawPeer) { end(p, "ab") }, http2.ErrCodeProtocol},
		"none of content-length":         {"3", func(p *rawPeer) { end(p, "") }, http2.ErrCodeProtocol},
		"less, then trailers":            {"3", func(p *rawPeer) { part(p, "ab"); p.headers(1, true, "a", "b") }, http2.ErrCodeProtocol},
		"more than no content":           {"0", func(p *rawPeer) { part(p, "x") }, http2.ErrCodeProtocol},
		"trailers without END_STREAM":    {"", func(p *rawPeer) { p.headers(1, false, "a", "b") }, http2.ErrCodeProtocol},
		"trailers with a pseudo field":   {"", func(p *rawPeer) { p.headers(1, true, ":path", "/") }, http2.ErrCodeProtocol},
		"trailers with a status":         {"", func(p *rawPeer) { p.headers(1, true, ":status", "200") }, http2.ErrCodeProtocol},
		"trailers with content-length":   {"", func(p *rawPeer) { p.headers(1, true, "content-length", "0") }, http2.ErrCodeProtocol},
		"trailers with host":             {"", func(p *rawPeer) { p.headers(1, true, "host", "p.example") }, http2.ErrCodeProtocol},
		"trailers with evidence-id":      {"", func(p *rawPeer) { p.headers(1, true, "evidence-id", ":YQ==:") }, http2.ErrCodeProtocol},
		"trailers with evidence-request": {"", func(p *rawPeer) { p.headers(1, true, "evidence-request", ":YQ==:") }, http2.ErrCodeProtocol},
		"trailers with connection":       {"", func(p *rawPeer) { p.headers(1, true, "connection", "close") }, http2.ErrCodeProtocol},
		"trailers with te":               {"", func(p *rawPeer) { p.headers(1, true, "te", "trailers") }, http2.ErrCodeProtocol},
		"trailers of upper case":         {"", func(p *rawPeer) { p.headers(1, true, "A", "b") }, http2.ErrCodeProtocol},
		"trailers with white space":      {"", func(p *rawPeer) { p.headers(1, true, "a", " b") }, http2.ErrCodeProtocol},
		"trailers of many fields":        {"", func(p *rawPeer) { p.headers(1, true, manyFields()...) }, http2.ErrCodeEnhanceYourCalm},
		"trailers of many bytes":         {"", func(p *rawPeer) { p.headers(1, true, manyBytes()...) }, http2.ErrCodeEnhanceYourCalm},
		"trailers after trailers":        {"", func(p *rawPeer) { p.headers(1, true, "a", "b"); p.headers(1, true, "a", "b") }, http2.ErrCodeStreamClosed},
		"content after trailers":         {"", func(p *rawPeer) { p.headers(1, true, "a", "b"); part(p, "x") }, http2.ErrCodeStreamClosed},
		"content over the window":        {"", func(p *rawPeer) { dataOverWindow(p) }, http2.ErrCodeFlowControl},
	} {
		for _, started := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					p := rawClient(t, &Config{Ordinary: true}).greet()
					var more []string
					if c.length != "" {
						more = []string{"content-length", c.length}
					}
					x := p.posted(1, more...)
					sink := newCollector()
					sink.hold = true
					if started {
						x.Start(sink)
					}
					c.do(p)
					p.wantReset(1, c.code)
					if !started {
						x.Start(sink)
					}
					var reset *hop.ResetError
					if err := sink.wait(t); c.code != http2.ErrCodeStreamClosed && !errors.As(err, &reset) {
						t.Errorf("the content ended with %v", err)
					}
					sink.release()
					if err := x.Respond(&hop.Response{Status: 200}, true); err == nil {
						t.Error("an answer to it was taken")
					}
					p.alive()
					settled(t, p.s)
				})
			})
		}
	}
}

// manyBytes are few fields that are over the limit of a list.
func manyBytes() []string {
	var fields []string
	for range 20 {
		fields = append(fields, "a", strings.Repeat("x", 4000))
	}
	return fields
}

func TestContentThatIsWhatItSays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true}).greet()
		x := p.posted(1, "content-length", "4")
		p.must(p.fr.WriteDataPadded(1, false, []byte("fo"), make([]byte, 9)))
		p.must(p.fr.WriteData(1, false, nil))
		p.must(p.fr.WriteData(1, false, []byte("ur")))
		if x.Trailer() != nil {
			t.Error("a trailer before it came")
		}
		p.headers(1, true, "sum", "x")
		got, err := io.ReadAll(hop.NewConn(x))
		if err != nil || string(got) != "four" || x.Trailer().Get("Sum") != "x" {
			t.Errorf("%q, %v, %v", got, err, x.Trailer())
		}
		p.must(x.Respond(&hop.Response{Status: 200}, true))
		p.alive()
		settled(t, p.s)
	})
}

// CVE-2026-47774, with trailers.
func TestTrailersCountWithTheHeaderListsOfAllStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true, Limits: hop.Limits{HeaderTotal: 20 << 10}}).greet()
		p.posted(1, "x", strings.Repeat("y", 8000)).Start(newCollector())
		second := p.posted(3, "x", strings.Repeat("y", 8000))
		p.headers(3, true, "x", strings.Repeat("y", 8000))
		p.wantReset(3, http2.ErrCodeEnhanceYourCalm)
		second.Reset(hop.Cancel)
		p.must(p.fr.WriteRSTStream(1, http2.ErrCodeCancel))
		p.alive()
	})
}

func TestRequestIsAnsweredOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true}).greet()
		p.connect(1)
		tunnel, err := p.s.Accept(context.Background())
		p.must(err)
		if _, ok := tunnel.(hop.IncomingRequest); ok {
			t.Error("a CONNECT is an ordinary request")
		}
		p.headers(3, true, postFields...)
		in := take(t, p.s)
		if !in.End() {
			t.Error("not at its end")
		}
		if _, err := in.Accept(&hop.Response{Status: 200}); err == nil {
			t.Error("it became a tunnel")
		}
		x, err := in.Answer()
		p.must(err)
		if _, err := in.Answer(); err == nil {
			t.Error("taken over twice")
		}
		if err := in.Reject(&hop.Response{Status: 400}); err == nil {
			t.Error("rejected after it was taken over")
		}
		in.Refuse(hop.RefusedStream) // changes nothing
		for _, r := range []*hop.Response{
			{Status: 103},
			{Status: 1000},
			{Status: 200, Header: http.Header{"Content-Length": {"x"}}},
			{Status: 200, Header: http.Header{"Content-Length": {"1"}}},
			{Status: 200, Header: http.Header{"Connection": {"close"}}},
			{Status: 200, Evidence: []byte("e")},
		} {
			if err := x.Respond(r, true); err == nil {
				t.Errorf("%+v was sent", r)
			}
		}
		b := hop.NewBufferSize(1)
		b.Append([]byte("x"))
		if err := errors.Join(x.Send(b), x.CloseSend(), x.SendTrailer(http.Header{"A": {"b"}})); err == nil {
			t.Error("content before the head")
		}
		for _, status := range []int{99, 101, 200} {
			if err := x.Interim(status, nil); err == nil {
				t.Errorf("%d as an interim response", status)
			}
		}
		p.must(x.Respond(&hop.Response{Status: 204}, true))
		if f := p.fields(p.want(http2.FrameHeaders)); f[":status"] != "204" || len(f) != 1 {
			t.Errorf("%v", f)
		}
		if err := x.Respond(&hop.Response{Status: 200}, true); err == nil {
			t.Error("answered twice")
		}
		if err := x.Interim(103, nil); err == nil {
			t.Error("an interim response after the final one")
		}
	})
}

func TestTrailersThatCannotBeSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true}).greet(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 100})
		x := p.posted(1)
		p.must(x.Respond(&hop.Response{Status: 200}, false))
		for _, h := range []http.Header{
			{"Content-Length": {"3"}},
			{"Host": {"a"}},
			{"Connection": {"close"}},
			{"Trailer": {"A"}},
			{":path": {"/"}},
			{"A b": {"c"}},
			{"A": {"x\r\ny"}},
			{"A": {strings.Repeat("x", 100)}},
		} {
			if err := x.SendTrailer(h); err == nil {
				t.Errorf("%v was sent", h)
			}
		}
		p.must(x.SendTrailer(http.Header{"A": {"b"}}))
		p.want(http2.FrameHeaders)
		f := p.want(http2.FrameHeaders).(*http2.HeadersFrame)
		if got := p.fields(f); got["a"] != "b" || len(got) != 1 || !f.StreamEnded() {
			t.Errorf("%v, %v", f, got)
		}
		if err := x.SendTrailer(nil); err == nil {
			t.Error("the sending side was closed twice")
		}
	})
}

// spec: HOP-34
func TestInterimResponsesAreBoundedAtTheirSender(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true}).greet(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 1000})
		x := p.posted(1)
		for range maxInterims {
			p.must(x.Interim(103, nil))
		}
		if err := x.Interim(103, nil); err == nil {
			t.Error("a ninth")
		}
		y := p.posted(3)
		p.must(y.Interim(103, http.Header{"A": {strings.Repeat("x", 500)}}))
		if err := y.Interim(103, http.Header{"A": {strings.Repeat("x", 500)}}); err == nil {
			t.Error("more bytes than a header list may have")
		}
		for _, x := range []hop.Answering{x, y} {
			p.must(x.Respond(&hop.Response{Status: 200}, true))
		}
	})
}

// A request that nobody has taken over sends what its window admits, and no more.
func TestContentWaitsForWhoeverTakesIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		near, err := client.Request(context.Background(), post(), false)
		if err != nil {
			t.Fatal(err)
		}
		content := bytes.Repeat([]byte("0123456789"), 100_000)
		send(t, near, content)
		near.CloseSend()
		in := take(t, server)
		synctest.Wait()
		window := 256 << 10
		if left := near.Queued(); left != len(content)-window {
			t.Errorf("%d bytes left unsent, want all but the window", left)
		}
		x, err := in.Answer()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if left := near.Queued(); left != len(content)-window {
			t.Errorf("%d bytes left after Answer alone", left)
		}
		got, err := io.ReadAll(hop.NewConn(x))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		x.Respond(&hop.Response{Status: 200}, true)
	})
}

// spec: HOP-36
func TestRejectedRequestThatGoesOn(t *testing.T) {
	rejected := func(t *testing.T, r *hop.Response) *rawPeer {
		p := rawClient(t, &Config{Ordinary: true}).greet()
		p.headers(1, false, postFields...)
		p.must(p.fr.WriteData(1, false, []byte("some")))
		p.must(take(t, p.s).Reject(r))
		p.want(http2.FrameHeaders)
		return p
	}
	t.Run("a little", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rejected(t, &hop.Response{Status: 403})
			p.must(p.fr.WriteData(1, false, make([]byte, 10_000)))
			p.headers(1, true, "sum", "x")
			p.alive()
			if open(p.s) != 0 || p.log.has("stream") {
				t.Errorf("%d streams, %v", open(p.s), p.log.list)
			}
			settled(t, p.s)
		})
	})
	t.Run("a lot", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rejected(t, &hop.Response{Status: 403})
			began := time.Now()
			for window := 256<<10 - 4; window > 0; window -= 16384 {
				p.must(p.fr.WriteData(1, false, make([]byte, min(window, 16384))))
			}
			for {
				f, err := p.next()
				p.must(err)
				if u, ok := f.(*http2.WindowUpdateFrame); ok && u.StreamID == 1 {
					p.must(p.fr.WriteData(1, false, make([]byte, 16384)))
				}
				if f, ok := f.(*http2.RSTStreamFrame); ok {
					if f.ErrCode != http2.ErrCodeNo || time.Since(began) > time.Second {
						t.Errorf("reset with %v after %v", f.ErrCode, time.Since(began))
					}
					break
				}
			}
			p.must(p.fr.WriteData(1, true, nil)) // it crossed the reset
			p.alive()
			if p.log.has("reset") {
				t.Errorf("%v", p.log.list)
			}
		})
	})
	t.Run("for ever", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rejected(t, &hop.Response{Status: 403})
			began := time.Now()
			p.wantReset(1, http2.ErrCodeNo)
			if d := time.Since(began); d < 20*time.Second || d > 26*time.Second {
				t.Errorf("after %v", d)
			}
		})
	})
	t.Run("while its answer waits for a window", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, &Config{Ordinary: true}).greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
			p.headers(1, false, postFields...)
			in := take(t, p.s)
			p.must(in.Reject(&hop.Response{Status: 403, Body: []byte("no")}))
			p.want(http2.FrameHeaders)
			p.want(http2.FrameData)
			sent := 0
			for window := 256 << 10; window > 0; {
				n := min(window, 16384)
				p.must(p.fr.WriteData(1, false, make([]byte, n)))
				sent += n
				window -= n
				window += p.granted(1)
				if sent > 1<<20 {
					t.Fatal("window is given back for ever")
				}
			}
			p.must(p.fr.WriteWindowUpdate(1, 1))
			if f := p.want(http2.FrameData).(*http2.DataFrame); !f.StreamEnded() || string(f.Data()) != "o" {
				t.Error(f)
			}
			p.wantReset(1, http2.ErrCodeNo)
		})
	})
}

// granted is how much window the session gives back on a stream until it has answered a PING.
func (p *rawPeer) granted(id uint32) (n int) {
	p.t.Helper()
	p.must(p.fr.WritePing(false, [8]byte{'g'}))
	for {
		f, err := p.next()
		p.must(err)
		switch f := f.(type) {
		case *http2.WindowUpdateFrame:
			if f.StreamID == id {
				n += int(f.Increment)
			}
		case *http2.PingFrame:
			if f.IsAck() {
				return n
			}
		}
	}
}

func TestContentOfAResponseThatHasNone(t *testing.T) {
	for _, c := range []struct {
		method string
		status int
	}{{"HEAD", 200}, {"GET", 204}, {"GET", 304}} {
		bubble(t, func(t *testing.T) {
			client, server := sessions(t, nil, &Config{Ordinary: true})
			near, far := exchanged(t, client, server, &hop.Request{Method: c.method, Authority: "o.example"}, true)
			if err := far.Respond(&hop.Response{Status: c.status, Header: http.Header{"Content-Length": {"4"}}}, false); err != nil {
				t.Fatal(err)
			}
			b := hop.NewBuffer()
			b.Append([]byte("four"))
			if err := far.Send(b); !errors.Is(err, errNoContent) {
				t.Error(err)
			}
			if err := far.CloseSend(); err != nil {
				t.Error(err)
			}
			sink := newCollector()
			near.Start(sink)
			if err := sink.wait(t); err != io.EOF || len(sink.bytes()) > 0 {
				t.Errorf("%s, %d: %q, %v", c.method, c.status, sink.bytes(), err)
			}
			settled(t, client, server)
		})
	}
}

// spec: HOP-36
func TestCompleteResponseStopsTheRequest(t *testing.T) {
	for name, finish := range map[string]func(x hop.Answering) error{
		"head":    func(x hop.Answering) error { return x.Respond(&hop.Response{Status: 200}, true) },
		"content": func(x hop.Answering) error { x.Respond(&hop.Response{Status: 200}, false); return x.CloseSend() },
		"trailer": func(x hop.Answering) error {
			x.Respond(&hop.Response{Status: 200}, false)
			return x.SendTrailer(http.Header{"A": {"b"}})
		},
		"a Conn that was closed": func(x hop.Answering) error {
			c := hop.NewConn(x)
			x.Respond(&hop.Response{Status: 200}, false)
			return c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, &Config{Ordinary: true}).greet()
				x := p.posted(1)
				conn := name == "a Conn that was closed"
				if conn { // more than a Conn waits for
					p.must(p.fr.WriteData(1, false, make([]byte, 10<<10)))
					p.alive()
				}
				sink := newCollector()
				if !conn {
					x.Start(sink)
				}
				p.must(finish(x))
				ended := false
				for {
					f, err := p.next()
					p.must(err)
					switch f := f.(type) {
					case *http2.HeadersFrame:
						ended = ended || f.StreamEnded()
					case *http2.DataFrame:
						ended = ended || f.StreamEnded()
					case *http2.RSTStreamFrame:
						if !ended || f.ErrCode != http2.ErrCodeNo {
							t.Errorf("%v; END_STREAM came: %v", f, ended)
						}
						p.must(p.fr.WriteData(1, false, []byte("on its way")))
						p.headers(1, true, "on", "its way")
						p.alive()
						var reset *hop.ResetError
						if conn {
							settled(t, p.s)
							return
						}
						if err := sink.wait(t); !errors.As(err, &reset) || reset.Code != hop.NoError || reset.Remote {
							t.Error(err)
						}
						if p.log.has("reset") {
							t.Errorf("%v", p.log.list)
						}
						settled(t, p.s)
						return
					}
				}
			})
		})
	}
}

// An upload that somebody takes may be as slow as 4 KiB in StallTimeout, and the time that its taker needs
// does not count.
func TestSlowUploads(t *testing.T) {
	cfg := &Config{Ordinary: true, Limits: hop.Limits{StallTimeout: time.Minute, FrameTimeout: 5 * time.Second, PingInterval: -1}}
	slow := func(p *rawPeer, n int, every time.Duration) {
		go io.Copy(io.Discard, p.conn)
		for range 20 {
			<-time.After(every)
			p.must(p.fr.WriteData(1, false, make([]byte, n)))
		}
	}
	over := func(x hop.Answering) bool { return x.(*answering).over() }
	t.Run("read", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, cfg).greet()
			x := p.posted(1)
			x.Start(newCollector())
			slow(p, stallBytes, 55*time.Second)
			if over(x) {
				t.Error("cut")
			}
			p.must(x.Respond(&hop.Response{Status: 200}, true))
		})
	})
	t.Run("dribbled", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, cfg).greet()
			x := p.posted(1)
			x.Start(newCollector())
			began := time.Now()
			go func() {
				for p.fr.WriteData(1, false, []byte("x")) == nil {
					select {
					case <-time.After(time.Second):
					case <-p.s.Done():
						return
					}
				}
			}()
			p.wantReset(1, http2.ErrCodeCancel)
			if d := time.Since(began); d < time.Minute || d > 63*time.Second {
				t.Errorf("after %v", d)
			}
			x.Reset(hop.Cancel)
			settled(t, p.s)
			p.s.Close(hop.NoError, "")
			<-p.s.Done()
		})
	})
	t.Run("held", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, cfg).greet()
			x := p.posted(1)
			sink := newCollector()
			sink.hold = true
			x.Start(sink)
			for sent := 0; sent < 256<<10; sent += 16384 {
				p.must(p.fr.WriteData(1, false, make([]byte, 16384)))
			}
			go io.Copy(io.Discard, p.conn)
			<-time.After(10 * time.Minute)
			if over(x) {
				t.Error("cut, although we did not read")
			}
			sink.release()
			<-time.After(2 * time.Minute)
			if !over(x) {
				t.Error("the window is open, and nothing came")
			}
			x.Reset(hop.Cancel)
		})
	})
	t.Run("answered", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, cfg).greet()
			x := p.posted(1)
			x.Start(newCollector())
			p.must(x.Respond(&hop.Response{Status: 200}, false))
			go io.Copy(io.Discard, p.conn)
			<-time.After(time.Hour)
			if over(x) {
				t.Error("cut, as no tunnel is")
			}
			x.Reset(hop.Cancel)
		})
	})
}

// CVE-2023-44487: a request that was taken over is work until it is answered, whatever the client resets.
func TestRapidResetOfExchangesBuysNoWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true, Limits: hop.Limits{Streams: 10}}).greet()
		var taken []hop.Answering
		for id := uint32(1); id <= 19; id += 2 {
			taken = append(taken, p.posted(id))
			p.must(p.fr.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		p.headers(21, true, postFields...)
		p.wantReset(21, http2.ErrCodeRefusedStream)
		if n := open(p.s); n != 0 {
			t.Fatalf("%d streams are open", n)
		}
		if err := taken[0].Respond(&hop.Response{Status: 200}, true); err == nil {
			t.Error("an answer to a request that was reset")
		}
		taken[1].Reset(hop.Cancel)
		taken[2].Kill(signedVerdict)
		for id := uint32(23); id <= 27; id += 2 {
			taken = append(taken, p.posted(id))
		}
		p.headers(29, true, postFields...)
		p.wantReset(29, http2.ErrCodeRefusedStream)
		for _, x := range taken {
			x.Reset(hop.Cancel)
		}
		p.alive()
		settled(t, p.s)
	})
}

// spec: HOP-37
func TestKillOfAnExchange(t *testing.T) {
	for _, when := range []string{"before the head", "after the head", "after the request"} {
		t.Run(when, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				client, server := sessions(t, nil, &Config{Ordinary: true})
				near, far := exchanged(t, client, server, post(), when == "after the request")
				sink := newCollector()
				near.Start(sink)
				var reset *hop.ResetError
				if when == "before the head" {
					far.Kill(signedVerdict)
					if _, err := near.Response(context.Background(), nil); !errors.As(err, &reset) {
						t.Fatal(err)
					}
				} else {
					far.Respond(&hop.Response{Status: 200}, false)
					send(t, far, []byte("half"))
					if _, err := near.Response(context.Background(), nil); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					far.Kill(signedVerdict)
				}
				if err := sink.wait(t); !errors.As(err, &reset) {
					t.Fatal(err)
				}
				if reset.Code != hop.Killed || !reset.Remote || !bytes.Equal(reset.Verdict, signedVerdict) {
					t.Errorf("%+v", reset)
				}
				settled(t, client, server)
			})
		})
	}
}

package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"vitrine/frames"
	"vitrine/internal/hop"
)

// spec: HOP-17 HOP-18
func TestEveryFrameType(t *testing.T) {
	known := map[int]bool{
		int(http2.FrameData): true, int(http2.FrameHeaders): true, int(http2.FramePriority): true,
		int(http2.FrameRSTStream): true, int(http2.FrameSettings): true, int(http2.FramePushPromise): true,
		int(http2.FramePing): true, int(http2.FrameGoAway): true, int(http2.FrameWindowUpdate): true,
		int(http2.FrameContinuation): true, frames.TypeEvidence: true, frames.TypeVerdict: true,
	}
	streams := []uint32{0, 1, 3, 101} // the connection; an open, a closed and an idle stream
	lengths := []int{0, 1, 4, 5, 8, 300, 16384}
	ready := func(t *testing.T) (*rawPeer, hop.Stream) {
		p := rawClient(t, nil).greet()
		st := p.open(1)
		p.open(3).Reset(hop.Cancel)
		p.wantReset(3, http2.ErrCodeCancel)
		return p, st
	}
	for typ := range 256 {
		if !known[typ] {
			bubble(t, func(t *testing.T) {
				p, st := ready(t)
				for _, at := range streams {
					for _, length := range lengths {
						p.must(p.fr.WriteRawFrame(http2.FrameType(typ), 0xff, at, make([]byte, length)))
					}
				}
				p.alive()
				if st.(*stream).over() {
					t.Errorf("type %#x: the stream is over", typ)
				}
			})
			continue
		}
		for _, at := range streams {
			for _, length := range lengths {
				bubble(t, func(t *testing.T) {
					p, _ := ready(t)
					p.must(p.fr.WriteRawFrame(http2.FrameType(typ), 0, at, make([]byte, length)))
					synctest.Wait() // whatever it means, it is decided
					p.conn.NetConn().Close()
					<-p.s.Done()
				})
			}
		}
	}
}

// spec: HOP-17
func TestUnknownFrameInsideAHeaderBlock(t *testing.T) {
	for _, typ := range []http2.FrameType{0xfa, frames.TypeEvidence, http2.FramePing} {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, nil).greet()
			block := p.encode(connectFields...)
			p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:5]}))
			p.must(p.fr.WriteRawFrame(typ, 0, 1, make([]byte, 8)))
			p.wantGoAway(http2.ErrCodeProtocol)
		})
	}
}

func TestHeaderBlockInManyFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		block := p.encode(connectFields...)
		p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:5]}))
		for i := 5; i < 15; i++ {
			p.must(p.fr.WriteContinuation(1, false, block[i:i+1]))
		}
		p.must(p.fr.WriteContinuation(1, true, block[15:]))
		p.accept()
	})
}

func TestMalformedRequests(t *testing.T) {
	extended := func(more ...string) []string { return append(append([]string(nil), connectFields...), more...) }
	get := func(more ...string) []string {
		return append([]string{":method", "GET", ":scheme", "https", ":path", "/", ":authority", "p.example"}, more...)
	}
	for name, fields := range map[string][]string{
		"no method":                     {":scheme", "https", ":path", "/", ":authority", "p.example"},
		"method with space":             {":method", "G T", ":scheme", "https", ":path", "/", ":authority", "p.example"},
		"no scheme":                     {":method", "GET", ":path", "/", ":authority", "p.example"},
		"empty path":                    {":method", "GET", ":scheme", "https", ":path", "", ":authority", "p.example"},
		"path without slash":            {":method", "GET", ":scheme", "https", ":path", "x", ":authority", "p.example"},
		"path with space":               {":method", "GET", ":scheme", "https", ":path", "/a b", ":authority", "p.example"},
		"path with fragment":            {":method", "GET", ":scheme", "https", ":path", "/#a", ":authority", "p.example"},
		"star for GET":                  {":method", "GET", ":scheme", "https", ":path", "*", ":authority", "p.example"},
		"protocol without CONNECT":      get(":protocol", "itls"),
		"status in a request":           {":method", "GET", ":scheme", "https", ":path", "/", ":status", "200"},
		"unknown pseudo-header field":   {":method", "GET", ":scheme", "https", ":path", "/", ":x", "y"},
		"pseudo-header field twice":     {":method", "GET", ":method", "GET", ":scheme", "https", ":path", "/"},
		"pseudo-header field behind":    get("a", "b", ":path", "/x"),
		"CONNECT with path":             {":method", "CONNECT", ":authority", "o.example:443", ":path", "/"},
		"CONNECT with scheme":           {":method", "CONNECT", ":authority", "o.example:443", ":scheme", "https"},
		"CONNECT without authority":     {":method", "CONNECT"},
		"CONNECT with empty authority":  {":method", "CONNECT", ":authority", ""},
		"extended without authority":    {":method", "CONNECT", ":protocol", "itls", ":scheme", "https", ":path", "/"},
		"extended without path":         {":method", "CONNECT", ":protocol", "itls", ":scheme", "https", ":authority", "o.example:443"},
		"extended with empty protocol":  {":method", "CONNECT", ":protocol", "", ":scheme", "https", ":path", "/", ":authority", "o.example:443"},
		"CONNECT with content-length":   extended("content-length", "0"),
		"userinfo in authority":         {":method", "CONNECT", ":authority", "u@o.example:443"},
		"space in authority":            {":method", "CONNECT", ":authority", "o.example :443"},
		"host and authority differ":     get("host", "q.example"),
		"host twice":                    get("host", "p.example", "host", "p.example"),
		"connection":                    get("connection", "close"),
		"proxy-connection":              get("proxy-connection", "close"),
		"keep-alive":                    get("keep-alive", "1"),
		"transfer-encoding":             get("transfer-encoding", "chunked"),
		"upgrade":                       get("upgrade", "x"),
		"te":                            get("te", "gzip"),
		"te with more":                  get("te", "trailers, gzip"),
		"upper case":                    get("Accept", "x"),
		"space in a name":               get("a b", "x"),
		"empty name":                    get("", "x"),
		"line feed in a value":          get("a", "x\ny"),
		"carriage return in a value":    get("a", "x\ry"),
		"NUL in a value":                get("a", "x\x00y"),
		"leading space in a value":      get("a", " x"),
		"trailing tab in a value":       get("a", "x\t"),
		"content-length twice":          get("content-length", "0", "content-length", "0"),
		"content-length with a sign":    get("content-length", "+0"),
		"content-length without digits": get("content-length", "0x0"),
		"content-length unmet":          get("content-length", "5"),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, &Config{Ordinary: true}).greet()
				p.headers(1, true, fields...)
				p.wantReset(1, http2.ErrCodeProtocol)
				p.connect(3) // the compression state is whole
				if in, err := p.s.Accept(context.Background()); err != nil || in.ID() != 3 {
					t.Error("after it:", in, err)
				}
			})
		})
	}
}

func TestContentLengthExceeded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true}).greet()
		p.headers(1, false, ":method", "POST", ":scheme", "https", ":path", "/", ":authority", "p.example", "content-length", "3")
		p.must(p.fr.WriteData(1, true, []byte("four")))
		p.wantReset(1, http2.ErrCodeProtocol)
	})
}

func TestHostStandsForAuthority(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true}).greet()
		p.headers(1, true, ":method", "GET", ":scheme", "https", ":path", "/", "host", "p.example", "te", "trailers")
		in, err := p.s.Accept(context.Background())
		p.must(err)
		if r := in.Request(); r.Authority != "p.example" || r.Header.Get("Host") != "" {
			t.Errorf("%+v", r)
		}
	})
}

func TestOrdinaryRequestsAreMisdirected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		p.headers(1, true, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "p.example")
		if f := p.fields(p.want(http2.FrameHeaders)); f[":status"] != "421" {
			t.Errorf("%v", f)
		}
	})
}

// Errors of the peer's that end the connection (RFC 9113).
func TestConnectionErrors(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(p *rawPeer)
		code http2.ErrCode
	}{
		"DATA on stream 0":          {func(p *rawPeer) { p.must(p.fr.WriteData(0, false, []byte("x"))) }, http2.ErrCodeProtocol},
		"DATA on an idle stream":    {func(p *rawPeer) { p.must(p.fr.WriteData(7, false, []byte("x"))) }, http2.ErrCodeProtocol},
		"RST_STREAM on idle":        {func(p *rawPeer) { p.must(p.fr.WriteRSTStream(7, http2.ErrCodeCancel)) }, http2.ErrCodeProtocol},
		"WINDOW_UPDATE on idle":     {func(p *rawPeer) { p.must(p.fr.WriteWindowUpdate(7, 1)) }, http2.ErrCodeProtocol},
		"HEADERS on an even stream": {func(p *rawPeer) { p.connect(2) }, http2.ErrCodeProtocol},
		"HEADERS below the last":    {func(p *rawPeer) { p.open(9); p.connect(5) }, http2.ErrCodeProtocol},
		"CONTINUATION alone":        {func(p *rawPeer) { p.must(p.fr.WriteContinuation(1, true, nil)) }, http2.ErrCodeProtocol},
		"PUSH_PROMISE":              {func(p *rawPeer) { p.must(p.fr.WriteRawFrame(http2.FramePushPromise, 4, 1, make([]byte, 4))) }, http2.ErrCodeProtocol},
		"padding longer than DATA": {func(p *rawPeer) {
			p.open(1)
			p.must(p.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{9}))
		}, http2.ErrCodeProtocol},
		"padded DATA without padding": {func(p *rawPeer) { p.open(1); p.must(p.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, nil)) }, http2.ErrCodeFrameSize},
		"padding longer than HEADERS": {func(p *rawPeer) {
			p.must(p.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded, 1, []byte{9}))
		}, http2.ErrCodeProtocol},
		"zero WINDOW_UPDATE":         {func(p *rawPeer) { p.must(p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))) }, http2.ErrCodeProtocol},
		"connection window overflow": {func(p *rawPeer) { p.must(p.fr.WriteWindowUpdate(0, maxWindow)) }, http2.ErrCodeFlowControl},
		"stream window overflow by SETTINGS": {func(p *rawPeer) {
			p.open(1)
			p.must(p.fr.WriteWindowUpdate(1, maxWindow-65535))
			p.must(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65536}))
		}, http2.ErrCodeFlowControl},
		"DATA over the connection's window": {func(p *rawPeer) {
			p.s.connRecv = 10 // as if the peer had used it up
			p.must(p.fr.WriteData(101, false, make([]byte, 11)))
		}, http2.ErrCodeFlowControl},
		"HEADERS on a stream that has ended": {func(p *rawPeer) {
			st := p.open(1)
			st.Start(newCollector())
			p.must(p.fr.WriteData(1, true, nil))
			p.must(st.CloseSend())
			p.want(http2.FrameData)
			p.connect(1)
		}, http2.ErrCodeStreamClosed},
		"bad compression":            {func(p *rawPeer) { p.must(p.fr.WriteRawFrame(http2.FrameHeaders, 4, 1, []byte{0xff, 0xff, 0xff})) }, http2.ErrCodeCompression},
		"SETTINGS of a wrong length": {func(p *rawPeer) { p.must(p.fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5))) }, http2.ErrCodeFrameSize},
		"unasked acknowledgement":    {func(p *rawPeer) { p.must(p.fr.WriteSettingsAck()) }, http2.ErrCodeProtocol},
		"GOAWAY that goes up":        {func(p *rawPeer) { p.open(1); p.must(p.fr.WriteGoAway(3, 0, nil)); p.must(p.fr.WriteGoAway(5, 0, nil)) }, http2.ErrCodeProtocol},
		"stream that depends on itself": {func(p *rawPeer) {
			p.must(p.fr.WritePriority(1, http2.PriorityParam{StreamDep: 1}))
		}, http2.ErrCodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, nil).greet()
				synctest.Wait()
				c.do(p)
				p.wantGoAway(c.code)
				<-p.s.Done()
			})
		})
	}
}

func TestFirstFrameIsSettings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil)
		p.preface()
		p.must(p.fr.WritePing(false, [8]byte{}))
		p.wantGoAway(http2.ErrCodeProtocol)
	})
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil)
		p.write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		p.wantGoAway(http2.ErrCodeProtocol)
	})
}

// Errors of the peer's that end one stream.
func TestStreamErrors(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(p *rawPeer)
		code http2.ErrCode
	}{
		"DATA after END_STREAM": {func(p *rawPeer) {
			p.must(p.fr.WriteData(1, true, nil))
			p.must(p.fr.WriteData(1, false, []byte("x")))
		}, http2.ErrCodeStreamClosed},
		"HEADERS after END_STREAM": {func(p *rawPeer) {
			p.must(p.fr.WriteData(1, true, nil))
			p.headers(1, true, "a", "b")
		}, http2.ErrCodeStreamClosed},
		// spec: HOP-19
		"HEADERS inside a tunnel":    {func(p *rawPeer) { p.headers(1, true, "a", "b") }, http2.ErrCodeProtocol},
		"zero WINDOW_UPDATE":         {func(p *rawPeer) { p.must(p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 1, make([]byte, 4))) }, http2.ErrCodeProtocol},
		"window overflow":            {func(p *rawPeer) { p.must(p.fr.WriteWindowUpdate(1, maxWindow)) }, http2.ErrCodeFlowControl},
		"DATA over the window":       {func(p *rawPeer) { dataOverWindow(p) }, http2.ErrCodeFlowControl},
		"DATA after RST_STREAM":      {func(p *rawPeer) { p.must(p.fr.WriteRSTStream(1, 8)); p.must(p.fr.WriteData(1, false, []byte("x"))) }, http2.ErrCodeStreamClosed},
		"trailers of upper case":     {func(p *rawPeer) { p.headers(1, true, "A", "b") }, http2.ErrCodeProtocol},
		"stream that needs itself":   {func(p *rawPeer) { selfDependent(p) }, http2.ErrCodeProtocol},
		"a header list over limits":  {func(p *rawPeer) { p.headers(1, true, manyFields()...) }, http2.ErrCodeProtocol},
		"padding that is the window": {func(p *rawPeer) { paddingOverWindow(p) }, http2.ErrCodeFlowControl},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, nil).greet()
				p.open(1)
				sibling := p.open(3)
				c.do(p)
				f, err := p.next()
				for ; err == nil && f.Header().Type != http2.FrameRSTStream; f, err = p.next() {
				}
				p.must(err)
				if code := f.(*http2.RSTStreamFrame).ErrCode; code != c.code {
					t.Errorf("reset with %v, want %v", code, c.code)
				}
				p.alive()
				if sibling.(*stream).over() {
					t.Error("the sibling is over")
				}
			})
		})
	}
}

func manyFields() []string {
	var fields []string
	for range 201 {
		fields = append(fields, "a", "b")
	}
	return fields
}

func dataOverWindow(p *rawPeer) {
	for sent := 0; sent <= 256<<10; sent += 16384 {
		p.must(p.fr.WriteData(1, false, make([]byte, 16384)))
	}
}

func paddingOverWindow(p *rawPeer) {
	sink := newCollector()
	sink.hold = true
	p.t.Cleanup(sink.release)
	p.s.mu.Lock()
	st := p.s.streams[1]
	p.s.mu.Unlock()
	st.Start(sink)
	for sent := 0; sent <= 256<<10; sent += 16128 {
		p.must(p.fr.WriteDataPadded(1, false, make([]byte, 16128), make([]byte, 255)))
	}
}

func selfDependent(p *rawPeer) {
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 5, BlockFragment: p.encode(connectFields...), EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 5},
	}))
}

// spec: HOP-20
func TestDataOnClosedStreamsReturnsConnectionCredit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Limits: hop.Limits{ConnWindow: 128 << 10}}).greet()
		p.open(1).Reset(hop.Cancel)
		p.wantReset(1, http2.ErrCodeCancel)
		granted := 0
		for range 100 {
			for range 8 {
				p.must(p.fr.WriteData(1, false, make([]byte, 1024)))
			}
			p.must(p.fr.WritePing(false, [8]byte{}))
			for {
				f, err := p.next()
				p.must(err)
				if u, ok := f.(*http2.WindowUpdateFrame); ok && u.StreamID == 0 {
					granted += int(u.Increment)
				}
				if f.Header().Type == http2.FramePing {
					break
				}
			}
		}
		if sent := 100 * 8 * 1024; granted < sent-128<<10 {
			t.Errorf("%d bytes were given back, of %d", granted, sent)
		}
	})
}

func TestPaddingReturnsCredit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		st := p.open(1)
		for range 1500 { // 384,000 bytes of padding, more than the window
			p.must(p.fr.WriteDataPadded(1, false, []byte("x"), make([]byte, 255)))
			synctest.Wait()
		}
		p.alive()
		sink := newCollector()
		st.Start(sink)
		if got := len(sink.bytes()); got != 1500 {
			t.Errorf("%d bytes arrived", got)
		}
	})
}

func TestStalledStreamDoesNotStopItsSiblings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		limits := hop.Limits{ConnWindow: 512 << 10}
		client, server := sessions(t, nil, &Config{Limits: limits})
		var stalled []*collector
		for range 8 { // eight windows are more than the connection's
			near, far := tunnel(t, client, server)
			sink := newCollector()
			sink.hold = true
			far.Start(sink)
			stalled = append(stalled, sink)
			send(t, near, make([]byte, 512<<10))
		}
		near, far := tunnel(t, client, server)
		sink := newCollector()
		far.Start(sink)
		want := bytes.Repeat([]byte("sibling"), 200_000)
		send(t, near, want)
		p := near.CloseSend()
		if p != nil {
			t.Fatal(p)
		}
		sink.wait(t)
		if !bytes.Equal(sink.bytes(), want) {
			t.Error("the sibling's bytes changed")
		}
		for _, s := range stalled {
			s.release()
		}
	})
}

// spec: HOP-21
func TestRefusedStreamMayBeRetried(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(p *rawPeer)
		retry bool
	}{
		"REFUSED_STREAM": {func(p *rawPeer) { p.must(p.fr.WriteRSTStream(1, http2.ErrCodeRefusedStream)) }, true},
		"GOAWAY below":   {func(p *rawPeer) { p.must(p.fr.WriteGoAway(0, http2.ErrCodeNo, []byte("bye"))) }, true},
		"CANCEL":         {func(p *rawPeer) { p.must(p.fr.WriteRSTStream(1, http2.ErrCodeCancel)) }, false},
		"the end":        {func(p *rawPeer) { p.conn.Close() }, false},
		"GOAWAY above, and the end": {func(p *rawPeer) {
			p.must(p.fr.WriteGoAway(1, http2.ErrCodeInternal, nil))
			p.conn.Close()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawServer(t, nil).greet()
				errc := make(chan error, 1)
				go func() {
					_, _, err := p.s.Open(context.Background(), connectRequest())
					errc <- err
				}()
				p.want(http2.FrameHeaders)
				c.do(p)
				err := <-errc
				var retry *hop.RetryError
				if err == nil || errors.As(err, &retry) != c.retry {
					t.Errorf("%v; may be retried: %v", err, c.retry)
				}
			})
		})
	}
}

func TestClientRefusesWhatServersMustNotDo(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(p *rawPeer)
		code http2.ErrCode
		all  bool // a connection error
	}{
		"DATA before HEADERS":     {func(p *rawPeer) { p.must(p.fr.WriteData(1, false, []byte("x"))) }, http2.ErrCodeProtocol, false},
		"END_STREAM alone":        {func(p *rawPeer) { p.must(p.fr.WriteData(1, true, nil)) }, http2.ErrCodeProtocol, false},
		"no status":               {func(p *rawPeer) { p.headers(1, false, "a", "b") }, http2.ErrCodeProtocol, false},
		"a status of two digits":  {func(p *rawPeer) { p.headers(1, false, ":status", "20") }, http2.ErrCodeProtocol, false},
		"a request":               {func(p *rawPeer) { p.headers(1, false, connectFields...) }, http2.ErrCodeProtocol, false},
		"101":                     {func(p *rawPeer) { p.headers(1, false, ":status", "101") }, http2.ErrCodeProtocol, false},
		"an interim end":          {func(p *rawPeer) { p.headers(1, true, ":status", "103") }, http2.ErrCodeProtocol, false},
		"connection field":        {func(p *rawPeer) { p.headers(1, false, ":status", "200", "upgrade", "x") }, http2.ErrCodeProtocol, false},
		"two final responses":     {func(p *rawPeer) { p.headers(1, false, ":status", "200"); p.headers(1, false, ":status", "200") }, http2.ErrCodeProtocol, false},
		"less content than said":  {func(p *rawPeer) { p.headers(1, true, ":status", "403", "content-length", "3") }, http2.ErrCodeProtocol, false},
		"HEADERS on an idle one":  {func(p *rawPeer) { p.headers(3, false, ":status", "200") }, http2.ErrCodeProtocol, true},
		"a stream of the server":  {func(p *rawPeer) { p.connect(2) }, http2.ErrCodeProtocol, true},
		"PUSH_PROMISE":            {func(p *rawPeer) { p.must(p.fr.WriteRawFrame(http2.FramePushPromise, 4, 1, make([]byte, 4))) }, http2.ErrCodeProtocol, true},
		"push enabled":            {func(p *rawPeer) { p.must(p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1})) }, http2.ErrCodeProtocol, true},
		"CONNECT protocol undone": {func(p *rawPeer) { p.must(p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol})) }, http2.ErrCodeProtocol, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawServer(t, nil).greet()
				go func() {
					_, st, err := p.s.Open(context.Background(), connectRequest())
					if err == nil && name != "two final responses" && !c.all {
						t.Errorf("Open returned %v", st)
					}
				}()
				p.want(http2.FrameHeaders)
				c.do(p)
				if c.all {
					p.wantGoAway(c.code)
				} else {
					p.wantReset(1, c.code)
					p.alive()
				}
			})
		})
	}
}

// spec: HOP-1 HOP-2
func TestExtendedConnectWaitsForTheSettings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil)
		opened := make(chan error, 1)
		go func() {
			_, _, err := p.s.Open(context.Background(), connectRequest())
			opened <- err
		}()
		p.preface()
		p.want(http2.FrameSettings)
		synctest.Wait()
		if n := open(p.s); n != 0 {
			t.Fatal("the request left before SETTINGS came")
		}
		p.must(p.fr.WriteSettings(p.settings()...))
		got := p.fields(p.want(http2.FrameHeaders))
		for i := 0; i < len(connectFields); i += 2 {
			if name, want := connectFields[i], connectFields[i+1]; got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
		if len(got) != len(connectFields)/2 {
			t.Errorf("%d fields: %v", len(got), got)
		}
		p.headers(1, false, ":status", "200")
		p.must(<-opened)
	})
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil)
		p.preface()
		p.must(p.fr.WriteSettings())
		if _, _, err := p.s.Open(context.Background(), connectRequest()); !errors.Is(err, ErrNoExtendedConnect) {
			t.Error(err)
		}
	})
}

func TestWhatCannotBeSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Limits: hop.Limits{HeaderBytes: 1000}})
		for _, req := range []*hop.Request{
			{Protocol: "itls", Authority: ""},
			{Protocol: "itls", Authority: "a b:1"},
			{Protocol: "it ls", Authority: "a:1"},
			{Protocol: "itls", Method: "GET", Authority: "a:1"},
			{Method: "GET", Authority: "a:1", Path: "x"},
			{Protocol: "itls", Authority: "a:1", Header: http.Header{"Connection": {"close"}}},
			{Protocol: "itls", Authority: "a:1", Header: http.Header{"A": {"x\r\ny: z"}}},
			{Protocol: "itls", Authority: "a:1", Header: http.Header{"A b": {"x"}}},
			{Protocol: "itls", Authority: "a:1", Header: http.Header{"A": {strings.Repeat("x", 1000)}}},
		} {
			if _, _, err := client.Open(context.Background(), req); err == nil {
				t.Errorf("%+v was sent", req)
			}
		}
		go client.Open(context.Background(), connectRequest())
		in, err := server.Accept(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*hop.Response{
			{Status: 100},
			{Status: 1000},
			{Status: 403},
			{Status: 200, Header: http.Header{"Content-Length": {"3"}}},
			{Status: 200, Header: http.Header{"Upgrade": {"x"}}},
			{Status: 200, Evidence: make([]byte, frames.MaxEvidence+1)},
		} {
			if _, err := in.Accept(r); err == nil {
				t.Errorf("%+v was sent", r)
			}
		}
		if err := in.Reject(&hop.Response{Status: 200}); err == nil {
			t.Error("a refusal with 200")
		}
		if _, err := in.Accept(&hop.Response{Status: 200}); err != nil {
			t.Error("after what cannot be sent:", err)
		}
	})
}

func TestStreamIdentifiersRunOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil).greet()
		p.s.mu.Lock()
		p.s.nextID = maxStreamID
		p.s.mu.Unlock()
		go p.s.Open(context.Background(), connectRequest())
		if f := p.want(http2.FrameHeaders); f.Header().StreamID != maxStreamID {
			t.Fatal(f)
		}
		var retry *hop.RetryError
		if _, _, err := p.s.Open(context.Background(), connectRequest()); !errors.As(err, &retry) {
			t.Error(err)
		}
	})
}

func TestReorderedWindowsOfSettings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		st := p.open(1)
		st.Start(newCollector())
		send(t, st, bytes.Repeat([]byte("x"), 300))
		read := func(want int) {
			t.Helper()
			for got := 0; got < want; {
				n := len(p.want(http2.FrameData).(*http2.DataFrame).Data())
				if got += n; got > want {
					t.Fatalf("%d bytes, the window was %d", got, want)
				}
			}
		}
		read(100)
		p.must(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 50})) // −50
		p.must(p.fr.WriteWindowUpdate(1, 60))                                                  // 10
		read(10)
		p.must(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 240}))
		read(190)
	})
}

func TestErrorsSayWhatHappened(t *testing.T) {
	err := error(&faultError{reason: "why", reset: &hop.ResetError{Code: hop.ProtocolError}})
	var reset *hop.ResetError
	if !errors.As(fmt.Errorf("x: %w", err), &reset) || !strings.Contains(err.Error(), "why") {
		t.Error(err)
	}
}

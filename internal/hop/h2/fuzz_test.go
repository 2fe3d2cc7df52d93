package h2

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
)

// wire is what a client might send, encoded by the Framer.
func wire(script func(fr *http2.Framer, block func(fields ...string) []byte)) []byte {
	var out, b bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&out, nil)
	fr.AllowIllegalWrites = true
	enc := hpack.NewEncoder(&b)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	script(fr, func(fields ...string) []byte {
		b.Reset()
		for i := 0; i < len(fields); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return bytes.Clone(b.Bytes())
	})
	return out.Bytes()
}

// FuzzServerReader gives a server whatever a client could send. It must end when the connection does, with
// nothing left of streams, work, memory or queues.
func FuzzServerReader(f *testing.F) {
	head := func(fr *http2.Framer, id uint32, end bool, block []byte) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
	}
	f.Add(wire(func(fr *http2.Framer, block func(...string) []byte) {
		head(fr, 1, false, block(connectFields...))
		fr.WriteData(1, false, []byte("hello"))
		fr.WriteDataPadded(1, false, []byte("x"), make([]byte, 9))
		fr.WriteWindowUpdate(1, 100)
		fr.WriteData(1, true, nil)
	}))
	f.Add(wire(func(fr *http2.Framer, block func(...string) []byte) {
		b := block(connectFields...)
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:9]})
		fr.WriteContinuation(1, false, b[9:20])
		fr.WriteContinuation(1, true, b[20:])
		fr.WriteRSTStream(1, http2.ErrCodeCancel)
		fr.WritePing(false, [8]byte{1})
		fr.WriteGoAway(0, http2.ErrCodeNo, []byte("bye"))
	}))
	f.Add(wire(func(fr *http2.Framer, block func(...string) []byte) {
		head(fr, 1, false, block(":method", "POST", ":scheme", "https", ":path", "/", ":authority", "p", "content-length", "3"))
		fr.WriteData(1, false, []byte("abc"))
		head(fr, 1, true, block("trailer", "x"))
		head(fr, 3, true, block(":method", "GET", ":scheme", "https", ":path", "/", ":authority", "p"))
		fr.WritePriority(5, http2.PriorityParam{StreamDep: 3})
		fr.WriteRawFrame(0xe1, 0, 1, []byte{1, 2})
		fr.WriteRawFrame(0xe2, 0, 0, make([]byte, 20))
		fr.WriteRawFrame(0xfa, 0, 9, []byte("?"))
		fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	}))
	f.Add(wire(func(fr *http2.Framer, block func(...string) []byte) {
		head(fr, 1, false, block(":method", "POST", ":scheme", "https", ":path", "/echo", ":authority", "p", "content-length", "6"))
		fr.WriteData(1, false, []byte("abc"))
		head(fr, 3, false, block(":method", "HEAD", ":scheme", "https", ":path", "/echo", ":authority", "p"))
		fr.WriteData(3, false, []byte("abc"))
		fr.WriteDataPadded(1, false, []byte("def"), make([]byte, 3))
		head(fr, 1, true, block("trailer", "x"))
		head(fr, 3, true, block("checksum", "x"))
		head(fr, 5, false, block(":method", "PUT", ":scheme", "https", ":path", "/echo", ":authority", "p"))
		fr.WriteRSTStream(5, http2.ErrCodeCancel)
	}))
	f.Fuzz(func(t *testing.T, input []byte) {
		a, b := pipe.New()
		go io.Copy(io.Discard, a)
		s := startPlain(b, &Config{Ordinary: true}, true)
		served := make(chan struct{})
		go func() {
			defer close(served)
			for {
				in, err := s.Accept(context.Background())
				if err != nil {
					return
				}
				or, ordinary := in.(hop.IncomingRequest)
				switch {
				case !ordinary:
					if st, err := in.Accept(&hop.Response{Status: 200}); err == nil {
						st.Start(&joint{to: st})
					} else {
						in.Reject(&hop.Response{Status: 400})
					}
				case in.Request().Path == "/echo":
					if x, err := or.Answer(); err == nil {
						x.Interim(103, nil)
						x.Respond(&hop.Response{Status: 200}, false)
						x.Start(&joint{to: x})
					}
				default:
					in.Reject(&hop.Response{Status: 200, Body: []byte("ok")})
				}
			}
		}()
		a.Write(input) // an error says that the session has ended
		a.CloseWrite()
		<-s.Done()
		<-served
		a.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.streams)+len(s.pending)+s.work+s.headerSize != 0 {
			t.Errorf("left: %d streams, %d pending, %d at work, %d bytes of header lists", len(s.streams), len(s.pending), s.work, s.headerSize)
		}
		if s.connRecv < 0 || s.err == nil {
			t.Errorf("window %d, error %v", s.connRecv, s.err)
		}
	})
}

// FuzzClientReader gives a client with three requests under way whatever a server could send. Content that ends
// well is as long as its head says, and nothing is left when the connection has ended.
func FuzzClientReader(f *testing.F) {
	seed := func(script func(fr *http2.Framer, block func(fields ...string) []byte)) {
		f.Add(bytes.TrimPrefix(wire(script), []byte(http2.ClientPreface)))
	}
	head := func(fr *http2.Framer, id uint32, end bool, block []byte) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
	}
	seed(func(fr *http2.Framer, block func(...string) []byte) {
		fr.WriteSettingsAck()
		head(fr, 1, false, block(":status", "103", "link", "x"))
		head(fr, 1, false, block(":status", "200", "content-length", "6"))
		fr.WriteData(1, false, []byte("abc"))
		head(fr, 3, true, block(":status", "200", "content-length", "6"))
		fr.WriteDataPadded(1, true, []byte("def"), make([]byte, 3))
		head(fr, 5, false, block(":status", "200"))
		fr.WriteData(5, false, []byte("abc"))
		head(fr, 5, true, block("checksum", "x"))
		fr.WriteRSTStream(1, http2.ErrCodeNo)
	})
	seed(func(fr *http2.Framer, block func(...string) []byte) {
		head(fr, 1, false, block(":status", "200", "content-length", "6"))
		fr.WriteData(1, true, []byte("abc"))
		fr.WriteRSTStream(3, http2.ErrCodeRefusedStream)
		head(fr, 5, false, block(":status", "204"))
		fr.WriteGoAway(3, http2.ErrCodeNo, nil)
		fr.WriteRawFrame(0xe1, 0, 5, []byte{0, 0, 0, 1, 2})
	})
	f.Fuzz(func(t *testing.T, input []byte) { synctest.Test(t, func(t *testing.T) { readAsClient(t, input) }) })
}

func readAsClient(t *testing.T, input []byte) {
	a, b := pipe.New()
	go io.Copy(io.Discard, a)
	s := startPlain(b, nil, false)
	var asking sync.WaitGroup
	ask := func(req *hop.Request, end bool) {
		x, err := s.Request(context.Background(), req, end)
		if err != nil {
			return
		}
		sink := newCollector()
		asking.Go(func() {
			r, err := x.Response(context.Background(), func(status int, h http.Header) {
				if status < 100 || status > 199 || status == 101 {
					t.Errorf("%d as an interim response", status)
				}
			})
			x.Start(sink)
			if (r == nil) == (err == nil) {
				t.Errorf("%v, %v", r, err)
			}
			end := sink.wait(t)
			if r == nil || end != io.EOF {
				return
			}
			n, err := contentLength(r.Header)
			switch none := noContent(req.Method == "HEAD", r.Status); {
			case none && len(sink.bytes()) > 0:
				t.Errorf("%d bytes of content where there is none", len(sink.bytes()))
			case !none && n >= 0 && n != int64(len(sink.bytes())), err != nil:
				t.Errorf("%d bytes, content-length is %q", len(sink.bytes()), r.Header["Content-Length"])
			}
			for name := range x.Trailer() {
				if headOnly[strings.ToLower(name)] {
					t.Errorf("%q in trailers", name)
				}
			}
		})
	}
	asking.Go(func() {
		ask(&hop.Request{Method: "GET", Authority: "o"}, true)
		ask(&hop.Request{Method: "HEAD", Authority: "o"}, true)
		ask(&hop.Request{Method: "POST", Authority: "o"}, false)
	})
	settings, rest := input, []byte(nil)
	if len(input) > 9 && int(input[0])<<16+int(input[1])<<8+int(input[2]) <= len(input)-9 {
		n := 9 + int(input[0])<<16 + int(input[1])<<8 + int(input[2])
		settings, rest = input[:n], input[n:]
	}
	a.Write(settings) // errors say that the session has ended
	synctest.Wait()   // the requests have left, where they may
	a.Write(rest)
	a.CloseWrite()
	<-s.Done()
	asking.Wait()
	a.Close()
	settled(t, s)
}

// FuzzRequest checks that a request which is accepted can be sent again, and is the same then.
func FuzzRequest(f *testing.F) {
	f.Add("CONNECT", "itls", "https", "/", "origin.example:443", "evidence-request", ":YQ==:")
	f.Add("GET", "", "https", "/a?b", "p.example", "accept", "*/*")
	f.Add("CONNECT", "", "", "", "[2001:db8::1]:443", "te", "trailers")
	f.Add("OPTIONS", "", "https", "*", "p.example", "host", "p.example")
	f.Add("POST", "", "https", "/", "p.example", "content-length", "12")
	f.Add("GET", "", "HTTP", "/", "p.example", "", "")
	f.Fuzz(func(t *testing.T, method, protocol, scheme, path, authority, name, value string) {
		var fields []hpack.HeaderField
		add := func(name, value string) {
			if value != "" {
				fields = append(fields, hpack.HeaderField{Name: name, Value: value})
			}
		}
		add(":method", method)
		add(":protocol", protocol)
		add(":scheme", scheme)
		add(":path", path)
		add(":authority", authority)
		if !strings.HasPrefix(name, ":") {
			fields = append(fields, hpack.HeaderField{Name: name, Value: value})
		}
		r, declared, err := parseRequest(fields)
		if err != nil {
			return
		}
		for _, s := range []string{r.Authority, r.Path, r.Method, r.Protocol} {
			if strings.ContainsAny(s, " \t\r\n\x00") {
				t.Fatalf("white space or control characters in %+v", r)
			}
		}
		if r.Method == http.MethodConnect && (r.Authority == "" || declared != -1) {
			t.Fatalf("%+v", r)
		}
		again, sent, err := requestFields(r)
		if err == nil && sent != declared {
			t.Fatalf("content-length %d became %d", declared, sent)
		}
		if err != nil {
			return // what the Framer would have refused on the way in is refused on the way out
		}
		r2, declared2, err := parseRequest(again)
		if err != nil || declared2 != declared {
			t.Fatalf("sent again: %v", err)
		}
		if r.Authority == "" {
			r.Authority = r2.Authority
		}
		if !reflect.DeepEqual(r, r2) {
			t.Fatalf("%+v became %+v", r, r2)
		}
	})
}

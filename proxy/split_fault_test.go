package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/internal/fields"
)

// rawHTTP2 is an origin of HTTP/2 that answers the head of a request as it likes. It goes on reading.
func (st *stage) rawHTTP2(answer func(fr *http2.Framer, conn net.Conn, stream uint32)) {
	cfg := st.originConfig("h2")
	st.listen(func(conn net.Conn) {
		tc := tls.Server(conn, cfg)
		if tc.Handshake() != nil {
			return
		}
		if _, err := io.ReadFull(tc, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		fr := http2.NewFramer(tc, tc)
		fr.WriteSettings()
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					fr.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				answer(fr, conn, f.StreamID)
			}
		}
	})
}

// writeHead writes a header section in as many frames as it takes.
func writeHead(fr *http2.Framer, stream uint32, fields ...[2]string) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range fields {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	first := block.Next(16 << 10)
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: true, EndHeaders: block.Len() == 0})
	for block.Len() > 0 {
		p := block.Next(16 << 10)
		if fr.WriteContinuation(stream, block.Len() == 0, p) != nil {
			return
		}
	}
}

// Why an origin of HTTP/2 gave no response is told apart: who reads the answer has to know whom to ask.
//
// spec: PRX-35
func TestFailuresOfHTTP2OriginsAreToldApart(t *testing.T) {
	long := func(n int) (all [][2]string) {
		all = append(all, [2]string{":status", "200"})
		for i := range n {
			all = append(all, [2]string{fmt.Sprintf("x-%d", i), strings.Repeat("x", 1000)})
		}
		return all
	}
	for name, tt := range map[string]struct {
		answer  func(fr *http2.Framer, conn net.Conn, stream uint32)
		status  int
		reason  string
		details string
	}{
		"a large head": {func(fr *http2.Framer, _ net.Conn, id uint32) {
			writeHead(fr, id, long(70)...)
		}, 502, fields.ErrorHTTPResponseHeaderSectionSize, "over 64 KiB"},
		"a larger head": {func(fr *http2.Framer, _ net.Conn, id uint32) {
			writeHead(fr, id, long(190)...)
		}, 502, fields.ErrorHTTPResponseHeaderSectionSize, "over 64 KiB"},
		"one large field": {func(fr *http2.Framer, _ net.Conn, id uint32) {
			writeHead(fr, id, [2]string{":status", "200"}, [2]string{"x", strings.Repeat("x", 80<<10)})
		}, 502, fields.ErrorHTTPResponseHeaderSectionSize, "over 64 KiB"},
		"no status": {func(fr *http2.Framer, _ net.Conn, id uint32) {
			writeHead(fr, id, [2]string{"x", "y"})
		}, 502, fields.ErrorHTTPProtocol, "no HTTP response"},
		"REFUSED_STREAM": {func(fr *http2.Framer, _ net.Conn, id uint32) {
			fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		}, 503, fields.ErrorDestinationUnavailable, "REFUSED_STREAM"},
		"a reset": {func(fr *http2.Framer, _ net.Conn, id uint32) {
			fr.WriteRSTStream(id, http2.ErrCodeInternal)
		}, 502, fields.ErrorConnectionTerminated, "INTERNAL_ERROR"},
		"GOAWAY, not processed": {func(fr *http2.Framer, _ net.Conn, _ uint32) {
			fr.WriteGoAway(0, http2.ErrCodeNo, nil)
		}, 503, fields.ErrorDestinationUnavailable, "did not process"},
		"GOAWAY and the end": {func(fr *http2.Framer, conn net.Conn, id uint32) {
			fr.WriteGoAway(id, http2.ErrCodeInternal, nil)
			conn.Close()
		}, 502, fields.ErrorConnectionTerminated, "closed the connection"},
		"the end": {func(_ *http2.Framer, conn net.Conn, _ uint32) {
			conn.Close()
		}, 502, fields.ErrorConnectionTerminated, "closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t, withSplit)
			st.rawHTTP2(tt.answer)
			c := st.split()
			resp, _ := c.get("/")
			c.isOwn(resp, tt.status, tt.reason)
			status, err := fields.ParseProxyStatus(resp.Header.Values(fields.ProxyStatusName))
			if err != nil || len(status) != 1 || !strings.Contains(status[0].Details, tt.details) || status[0].NextProtocol != "h2" {
				t.Errorf("%+v, %v", status, err)
			}
			if st.dials() != 1 {
				t.Errorf("%d dials", st.dials())
			}
		})
	}
}

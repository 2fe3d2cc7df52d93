package testnet

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"vitrine/proxy"
)

// Responses that two parsers could read in two ways: what one takes for the next response is in the body for
// the other. Nothing of the part on which they differ reaches the client.
func TestP18ResponsesThatTwoParsersReadInTwoWays(t *testing.T) {
	const ok, poison = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for _, x := range []struct{ name, method, response, rule string }{
		{"Content-Length and chunked", "GET", ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison, "http-cl-te"},
		{"two lengths", "GET", ok + "Content-Length: 0\r\nContent-Length: 6\r\n\r\npoison", "http-content-length"},
		{"a list of lengths", "GET", ok + "Content-Length: 6, 6\r\n\r\npoison", "http-content-length"},
		{"a signed length", "GET", ok + "Content-Length: +6\r\n\r\npoison", "http-content-length"},
		{"a hexadecimal length", "GET", ok + "Content-Length: 0x6\r\n\r\npoison", "http-content-length"},
		{"a length above 63 bits", "GET", ok + "Content-Length: 18446744073709551616\r\n\r\n" + poison, "http-content-length"},
		{"two codings", "GET", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + poison, "http-transfer-encoding"},
		{"a coding that is not last", "GET", ok + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + poison, "http-transfer-encoding"},
		{"a coding in other letters", "GET", ok + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + poison, "http-field-value"},
		{"a length spelled with _", "GET", ok + "Content_Length: 6\r\nContent-Length: 0\r\n\r\npoison", "http-field-name"},
		{"chunked in HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison, "http-10-chunked"},
		{"a field name with a space", "GET", ok + "Content-Length : 6\r\n\r\npoison", "http-field-name"},
		{"obs-fold", "GET", ok + "X: a\r\n Content-Length: 6\r\n\r\npoison", "http-obs-fold"},
		{"bare LF", "GET", "HTTP/1.1 200 OK\nContent-Length: 6\n\npoison", "http-bare-lf"},
		{"bare CR", "GET", ok + "X: a\rContent-Length: 6\r\n\r\npoison", "http-bare-cr"},
		{"NUL in a value", "GET", ok + "X: a\x00b\r\n\r\n" + poison, "http-field-value"},
		{"HTTP/0.9", "GET", "poison\r\n\r\n", "http-status-line"},
		{"HTTP/2", "GET", "HTTP/2.0 200 OK\r\n\r\npoison", "http-version"},
		{"a status of two digits", "GET", "HTTP/1.1 20 OK\r\n\r\npoison", "http-status-line"},
		{"a status below 100", "GET", "HTTP/1.1 099 OK\r\nContent-Length: 6\r\n\r\npoison", "http-status-line"},
		{"a chunk extension", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n6;x=\"\r\npoison\r\n0\r\n\r\n", "http-chunk-ext"},
		{"a chunk of too many digits", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n100000006\r\npoison\r\n0\r\n\r\n", "http-chunk-size"},
		{"a chunk that is longer than it says", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n0000\r\npoison\r\n0\r\n\r\n", "http-field-name"},
		{"a length in the trailer section", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 6\r\n\r\npoison", "http-trailer"},
		{"a body behind HEAD", "HEAD", ok + "Content-Length: 6\r\n\r\npoison", "http-unsolicited"},
		{"a body behind 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", "http-unsolicited"},
		{"204 with a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison", "http-no-body"},
		{"100 with a length", "GET", "HTTP/1.1 100 Continue\r\nContent-Length: 6\r\n\r\npoison", "http-no-body"},
		{"205 with a body", "GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 6\r\n\r\npoison", "http-no-body"},
		{"a second response", "GET", ok + "Content-Length: 0\r\n\r\n" + poison, "http-unsolicited"},
		{"a second response behind chunks", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison, "http-unsolicited"},
		{"101", "GET", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + poison, "opaque"},
		{"interim responses without end", "GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100) + poison, "http-interim"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rec := newRecorder()
				n := New(t, Config{Names: []string{"else.example"}, Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} }})
				n.serveOwnOrigin(&ownOrigin{talk: sayRaw(x.response)})
				tun, err := n.NewDialer(nil).DialTunnel(n.ctx, OriginHost+":443")
				if err != nil {
					t.Fatal(err)
				}
				defer tun.Close()
				fmt.Fprintf(tun, "%s / HTTP/1.1\r\nHost: origin.example\r\n\r\n", x.method)
				got, err := io.ReadAll(tun)
				wantRule(t, err, x.rule)
				if bytes.Contains(got, []byte("poison")) || !strings.HasPrefix(x.response, string(got)) {
					t.Errorf("the client was given %q", got)
				}
			})
		})
	}
}

package testnet

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/itls"
)

// Any TLS terminator in front of any server of RFC 9150's suites is an origin: the terminator picks itls/1,
// and the inner session is the next layer. Such a server knows nothing of `inspection`, so the session
// is intact and nobody confirms it.
func TestATerminatorInFrontOfAnRFC9150ServerIsAnOrigin(t *testing.T) {
	const name = "plain.example"
	bubble(t, func(t *testing.T) {
		n := New(t, Config{})
		cert := n.certificate(n.Origins.Origin(name))
		ln := n.Listen(name)
		n.Go(func(ctx context.Context) {
			for range 2 {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				hop2 := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{frames.ALPNRaw}})
				// The terminator's back end is on its own machine; that is what the option stands for.
				inner := itls.Server(hop2, &itls.Config{
					TLS:                 &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}},
					UnprotectedForTests: true,
				})
				n.Go(func(context.Context) {
					defer inner.Close()
					if inner.HandshakeContext(ctx) != nil {
						return
					}
					buf := make([]byte, 4096)
					if _, err := inner.Read(buf); err != nil {
						t.Errorf("the request: %v", err)
					}
					io.WriteString(inner, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain")
				})
			}
		})
		for range 2 { // one tunnel for each connection
			req, err := http.NewRequest(http.MethodGet, "https://"+name+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, body, err := fetch(n.Client, req)
			if err != nil {
				t.Fatal(err)
			}
			rep := client.ReportOf(resp)
			if string(body) != "plain" || rep.Level != client.Intact || rep.Inner.Confirmed {
				t.Errorf("%q at %s, confirmed %t", body, rep.Level, rep.Inner.Confirmed)
			}
			if rep.Evidence.Kind != "transcript" || !rep.Evidence.Verified || rep.Evidence.Hop.ALPN != frames.ALPNRaw {
				t.Errorf("evidence %+v", rep.Evidence)
			}
		}
	})
}

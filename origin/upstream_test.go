package origin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A resetConn is a connection that was reset when answer had arrived: Writes fail.
type resetConn struct {
	net.Conn // nil
	answer   io.Reader
}

func (c *resetConn) Read(p []byte) (int, error) { return c.answer.Read(p) }
func (*resetConn) Write([]byte) (int, error)    { return 0, syscall.ECONNRESET }
func (*resetConn) Close() error                 { return nil }

// A Write that fails says so when the answer was read, or somebody has closed the connection, or it took too long.
func TestAWriteThatFailsWaitsForTheAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(t *testing.T, c net.Conn)
		want time.Duration
	}{
		"read": {end: func(t *testing.T, c net.Conn) {
			if p, err := io.ReadAll(c); string(p) != "too large" || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q, %v", p, err) // with io.EOF an answer that was cut would look whole
			}
		}},
		"closed":  {end: func(_ *testing.T, c net.Conn) { c.Close() }},
		"no more": {end: func(*testing.T, net.Conn) {}, want: answerPatience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := upstreamDial(func(context.Context, string, string) (net.Conn, error) {
					return &resetConn{answer: strings.NewReader("too large")}, nil
				})
				c := must(dial(t.Context(), "tcp", "upstream.example:80"))
				written := make(chan error, 1)
				start := time.Now()
				go func() {
					_, err := c.Write([]byte("a part of the request"))
					written <- err
				}()
				synctest.Wait()
				select {
				case err := <-written:
					t.Fatalf("before the answer was read: %v", err)
				default:
				}
				tt.end(t, c)
				if err := <-written; !errors.Is(err, syscall.ECONNRESET) {
					t.Error(err)
				}
				if took := time.Since(start); took != tt.want {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// An upstream that answers an upload at once and closes is heard, though the connection is reset while its answer is
// read: it comes in two parts, with the reset behind them.
func TestGatewayPassesAnEarlyAnswerToAnUpload(t *testing.T) {
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo")
				io.WriteString(conn, " large")
			}
			conn.Close() // with a reset, since there is more to read
		}
	}()
	g := NewGateway(must(url.Parse("http://" + ln.Addr().String())))
	defer g.CloseIdleConnections()
	for range 30 {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest(http.MethodPost, site, noise(8<<20)))
		if w.Code != http.StatusRequestEntityTooLarge || w.Body.String() != "too large" {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
	}
}

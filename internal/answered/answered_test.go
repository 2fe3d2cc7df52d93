package answered

import (
	"errors"
	"io"
	"net"
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
		"no more": {end: func(*testing.T, net.Conn) {}, want: patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := NewConn(&resetConn{answer: strings.NewReader("too large")})
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

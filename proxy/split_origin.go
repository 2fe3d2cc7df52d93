package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/internal/answered"
)

// maxOriginHead bounds a header section of an origin's, in bytes: as much as the reader takes.
const maxOriginHead = 64 << 10

// origins speaks HTTP with origins in split mode. Of net/http's transports only NewClientConn is used: no
// pool, no retries, no redirects, no compression of their own.
type origins struct{ http1, http2 *http.Transport }

type connKey struct{}

func newOrigins(l *Limits) *origins {
	transport := func(http2 bool) *http.Transport {
		protocols := new(http.Protocols)
		// The connection is no *tls.Conn, and so net/http takes it for what it is told.
		protocols.SetUnencryptedHTTP2(http2)
		protocols.SetHTTP1(!http2)
		hop := l.Hop.WithDefaults()
		head := int64(maxOriginHead)
		if http2 {
			// net/http ends the connection, and does not say why, where another frame of a head begins behind its limit.
			head *= 4
		}
		return &http.Transport{
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return ctx.Value(connKey{}).(net.Conn), nil
			},
			Protocols:              protocols,
			DisableCompression:     true,
			MaxResponseHeaderBytes: head,
			HTTP2: &http.HTTP2Config{
				// An origin that sends faster than its client reads fills these and waits.
				MaxReceiveBufferPerStream:     max(hop.StreamWindow, 64<<10),
				MaxReceiveBufferPerConnection: max(hop.ConnWindow, 64<<10),
				SendPingTimeout:               hop.PingInterval,
				PingTimeout:                   hop.PingTimeout,
				WriteByteTimeout:              hop.WriteTimeout,
			},
		}
	}
	return &origins{http1: transport(false), http2: transport(true)}
}

// clientConn is an HTTP client's end on conn.
func (o *origins) clientConn(ctx context.Context, conn *originConn, authority string, wait time.Duration) (*http.ClientConn, error) {
	t := o.http2
	if conn.http1 {
		t = o.http1
	}
	if err := conn.SetWriteDeadline(time.Now().Add(wait)); err != nil { // of HTTP/2's preface
		return nil, err
	}
	cc, err := t.NewClientConn(context.WithValue(ctx, connKey{}, conn), "https", authority)
	if err != nil {
		return nil, err
	}
	return cc, conn.SetWriteDeadline(time.Time{})
}

// An originConn is hop 2 in split mode below net/http. Of HTTP/1.1 it sees what net/http does not tell.
type originConn struct {
	net.Conn
	http1 bool
	fin   *finWatch // below TLS; may be nil
	wrote atomic.Int64

	mu   sync.Mutex
	head *headWatch // of the exchange that it is busy with, nil for none; of HTTP/1.1 alone
}

func newOriginConn(up *Upstream) *originConn {
	c := &originConn{Conn: up.HTTP, http1: up.State.NegotiatedProtocol != "h2", fin: up.fin}
	if c.http1 { // HTTP/2 ends an exchange, and not the connection
		c.Conn = answered.NewConn(c.Conn)
	}
	return c
}

// A finWatch is a TCP connection below TLS. crypto/tls takes its end for close_notify where a record ends, which would let
// whoever cuts the connection cut a response that has no length.
type finWatch struct {
	net.Conn
	ended atomic.Bool
}

func (w *finWatch) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.ended.Store(true)
	}
	return n, err
}

// errUnsolicited ends a connection whose origin speaks without being asked. net/http would say on standard
// error what.
var errUnsolicited = errors.New("the origin sent something without a request")

func (c *originConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) && c.fin != nil && c.fin.ended.Load() {
		err = io.ErrUnexpectedEOF
	}
	if !c.http1 {
		return n, err
	}
	c.mu.Lock()
	w := c.head
	if w == nil {
		c.mu.Unlock()
		if n > 0 {
			err = errUnsolicited
		}
		return 0, err
	}
	w.read(p[:n])
	broken := err != nil && w.failed == nil
	if broken {
		w.failed = err
	}
	c.mu.Unlock()
	if broken && w.cut != nil {
		w.cut()
	}
	return n, err
}

func (c *originConn) Write(p []byte) (int, error) {
	c.wrote.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// begin says that an exchange begins. What its response's head has is the exchange's own: the next one may begin as soon
// as net/http has read a response without content.
//
// cut is called when nothing more can be read. net/http then waits for whoever writes the request before it says so, and
// that one waits for content, which a client may never send.
func (c *originConn) begin(cut func()) *headWatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head = &headWatch{cut: cut}
	return c.head
}

// failure is why nothing more can be read for the exchange, nil while it can.
func (c *originConn) failure(exchange *headWatch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return exchange.failed
}

// end says that it has ended. Another one may have begun.
func (c *originConn) end(exchange *headWatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if exchange == c.head {
		c.head = nil
	}
}

// noCacheControl says that the response had no Cache-Control: where there is a Pragma instead, net/http adds
// one.
func (c *originConn) noCacheControl(exchange *headWatch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.http1 && !exchange.found
}

// connectionOptions are the names in the response's Connection fields, which net/http does not show where one of them is
// "close".
func (c *originConn) connectionOptions(exchange *headWatch) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.FieldsFunc(string(exchange.options), func(r rune) bool { return strings.ContainsRune(", \t", r) })
}

// A headWatch looks for Cache-Control and Connection in the first final response's head, as it goes by.
type headWatch struct {
	line    [len("cache-control:")]byte // the beginning of the line
	n       int                         // bytes of the line, at most len(line)
	lines   int
	again   bool // the head is of an interim response
	found   bool
	in      bool   // the line is Connection, behind its colon
	options []byte // the values of Connection, with commas between
	done    bool

	cut    func() // may be nil
	failed error
}

const connectionField = "connection:"

func (w *headWatch) read(p []byte) {
	for _, c := range p {
		switch {
		case w.done:
			return
		case c == '\n':
			w.end()
		case c == '\r':
		case w.n == 0 && w.in && (c == ' ' || c == '\t'): // a folded line goes on where the last one ended
			w.n = len(w.line)
		case w.in && w.n > 0:
			if len(w.options) < maxOriginHead {
				w.options = append(w.options, c)
			}
		case w.n < len(w.line):
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			w.line[w.n] = c
			w.n++
			w.in = w.n == len(connectionField) && !w.again && string(w.line[:w.n]) == connectionField
		}
	}
}

// end is called at the end of a line.
func (w *headWatch) end() {
	line := string(w.line[:w.n])
	if w.n = 0; w.in {
		w.options = append(w.options, ',')
	}
	w.lines++
	switch {
	case line == "" && w.lines > 1:
		w.done = !w.again
		w.lines, w.again = 0, false
	case w.lines == 1: // HTTP/1.1 200
		w.again = len(line) >= 12 && line[9] == '1' && line[9:12] != "101"
	case line == "cache-control:" && !w.again:
		w.found = true
	}
}

package client

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptrace"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"vitrine/internal/hop"
)

// An upload sends the content of a request below intact.
type upload struct {
	e      *splitExchange
	body   io.ReadCloser
	length int64 // -1 for unknown
	expect bool
	done   chan struct{} // closed when nothing more is sent

	mu      sync.Mutex
	go100   chan struct{} // closed when 100 came, or the final response
	open    bool          // go100 is not closed
	final   bool          // the response has come
	stopped bool          // no Read may begin
	begun   bool          // one may have
	sent    bool          // all of it
	err     error         // of the body's reader, or of the caller
}

// expectPatience is how long the content waits for 100 (RFC 9110, section 10.1.1), as net/http's here.
const expectPatience = time.Second

func newUpload(e *splitExchange) *upload {
	u := &upload{e: e, body: e.x.body, length: e.x.req.ContentLength, done: make(chan struct{}), go100: make(chan struct{}), open: true}
	if u.length == 0 {
		u.length = -1 // by net/http's convention, where there is a body
	}
	u.expect = httpguts.HeaderValuesContainsToken(e.x.req.Header["Expect"], "100-continue")
	return u
}

// none is run for a request without content.
func (u *upload) none() {
	u.sent = true
	u.wrote(nil)
	close(u.done)
}

// run is a goroutine's. Nobody waits for its end, which is with the body's Read, and that is the caller's; but nothing
// is read after stop.
func (u *upload) run() {
	defer close(u.done)
	if u.expect && !u.awaitContinue() {
		return
	}
	buf := make([]byte, 32<<10)
	for total := int64(0); ; {
		if !u.may() {
			return
		}
		n, err := u.body.Read(buf)
		total += int64(n)
		if u.length >= 0 && (total > u.length || err == io.EOF && total < u.length) {
			u.fail(fmt.Errorf("the request has ContentLength %d, and its body %d bytes or more", u.length, total))
			return
		}
		if u.e.agreement.ended() != nil { // nothing more passes; the exchange hears of it a moment later
			u.e.asked.Reset(hop.Cancel)
			return
		}
		if n > 0 {
			if _, werr := u.e.conn.Write(buf[:n]); werr != nil {
				return // the response says why
			}
		}
		switch {
		case err == io.EOF:
			u.end()
			return
		case err != nil:
			u.fail(err)
			return
		}
	}
}

// end ends the request, with its trailer section.
func (u *upload) end() {
	u.mu.Lock()
	u.sent = true // before it is, or the response could be complete first and find that the request is not
	u.mu.Unlock()
	var err error
	if trailer := u.e.x.req.Trailer; len(trailer) > 0 {
		err = u.e.asked.SendTrailer(splitTrailer(trailer))
	} else {
		err = u.e.conn.CloseWrite()
	}
	u.wrote(err)
	u.body.Close()
}

func (u *upload) wrote(err error) {
	if trace := httptrace.ContextClientTrace(u.e.x.req.Context()); trace != nil && trace.WroteRequest != nil {
		trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
}

// awaitContinue returns false when the response came first, which then makes do without the content.
func (u *upload) awaitContinue() bool {
	if trace := httptrace.ContextClientTrace(u.e.x.req.Context()); trace != nil && trace.Wait100Continue != nil {
		trace.Wait100Continue()
	}
	patience := time.NewTimer(expectPatience)
	defer patience.Stop()
	select {
	case <-u.go100:
	case <-patience.C:
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.final
}

// proceed says that 100 came.
func (u *upload) proceed() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open {
		u.open = false
		close(u.go100)
	}
}

// answered says that the final response came. Content that has begun goes on: the origin may read it yet.
func (u *upload) answered() {
	u.mu.Lock()
	u.final = true
	u.mu.Unlock()
	u.proceed()
}

// may says whether a Read may begin.
func (u *upload) may() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.begun = u.begun || !u.stopped
	return !u.stopped
}

func (u *upload) touched() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.begun
}

// stop keeps any Read from beginning, and says whether all was sent.
func (u *upload) stop() (sent bool) {
	u.mu.Lock()
	u.stopped, u.final = true, true
	sent = u.sent
	u.mu.Unlock()
	u.proceed()
	return sent
}

// fail ends the exchange for a reason of the caller's.
func (u *upload) fail(err error) {
	u.mu.Lock()
	if u.err == nil && !u.stopped {
		u.err = err
	}
	u.mu.Unlock()
	u.e.asked.Reset(hop.Cancel)
}

func (u *upload) fault() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// maxSpool bounds a body that can be had once and has to be hashed before it is sent, in bytes.
const maxSpool = 1 << 20

var errSpool = errors.New("at level signed its digest goes before it, so content that can be read once may have at most 1 MiB; without signed among the accepted levels it may have any length")

// readSpool reads a body to be sent from memory.
func readSpool(body io.Reader) ([]byte, error) {
	p, err := io.ReadAll(io.LimitReader(body, maxSpool+1))
	if err == nil && len(p) > maxSpool {
		err = errSpool
	}
	return p, err
}

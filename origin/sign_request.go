package origin

import (
	"io"
	"net/http"
	"sync"
	"time"

	"vitrine/internal/httpsig"
)

const (
	// drainBytes is how much of a request's content that the handler left is read to check its digest, as much as
	// net/http reads to keep a connection. It stops endless content.
	drainBytes = 256 << 10
	// drainTime bounds the wait for it. It stops a client that sends no more, or waits for the answer first.
	drainTime = 2 * time.Second
)

// A checkedBody is a request's content whose digest is checked as the handler reads it.
type checkedBody struct {
	body   io.ReadCloser
	length int64 // -1 when it is not known
	// reading is who reads. Of two who wait for content over HTTP/2, net/http would tell one that it has come, or comes
	// no more.
	reading chan struct{}

	mu     sync.Mutex // handlers may read and answer at once
	digest *httpsig.Digest
	begun  bool // somebody looked
	read   int64
	end    bool
	wrong  error // its digest was another's
}

// newCheckedBody is an error for a Content-Digest that cannot be checked.
func newCheckedBody(r *http.Request) (*checkedBody, error) {
	b := &checkedBody{body: r.Body, length: r.ContentLength, reading: make(chan struct{}, 1)}
	if b.body == nil {
		b.body = http.NoBody
	}
	if lines := r.Header.Values(httpsig.ContentDigest); len(lines) > 0 {
		var err error
		if b.digest, err = httpsig.ParseDigest(lines); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Read gives an error in the place of io.EOF where the content is not that of the digest: a handler that reads to
// the end does not act on it.
func (b *checkedBody) Read(p []byte) (int, error) {
	b.reading <- struct{}{}
	defer func() { <-b.reading }()
	b.mu.Lock()
	b.begun = true
	b.mu.Unlock()
	n, err := b.body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += int64(n)
	if b.digest != nil {
		b.digest.Write(p[:n])
	}
	if err == io.EOF || b.length >= 0 && b.read == b.length {
		if wrong := b.ended(); wrong != nil {
			return n, wrong
		}
	}
	return n, err
}

func (b *checkedBody) ended() error {
	if !b.end && b.digest != nil {
		b.wrong = b.digest.Check()
	}
	b.end = true
	return b.wrong
}

func (b *checkedBody) Close() error { return b.body.Close() }

// altered reports whether the content is known to be another than its digest says.
func (b *checkedBody) altered() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wrong != nil
}

// unjudged is why judged was false.
func (b *checkedBody) unjudged() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.digest != nil && !b.end {
		return errUnread
	}
	return errContent
}

// judged reports whether what the handler did rests on what the digest says: it looked at none of the content, or
// all of it is that of the digest. The handler has returned.
func (b *checkedBody) judged(w http.ResponseWriter) bool {
	if b.body == http.NoBody || b.length == 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.ended() == nil
	}
	b.mu.Lock()
	begun, complete, none := b.begun, b.end, b.end && b.read == 0
	b.mu.Unlock()
	switch {
	case !begun:
		return true
	case b.digest == nil:
		return none // else content that the client's signature would not cover: it may be the proxy's
	}
	if !complete {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTime))
		io.CopyN(io.Discard, b, drainBytes)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !complete && b.end {
		// Where it did not end the deadline stays: net/http would wait for the rest, too.
		http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	return b.end && b.wrong == nil
}

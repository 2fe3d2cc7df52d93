package proxy

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"

	"vitrine/frames"
	"vitrine/internal/fields"
)

// A requestBody is the request's content as net/http reads it: what the reader has released.
type requestBody struct {
	x       *exchange
	rest    []byte
	ended   bool
	left    int64       // bytes of a declared length, which tells the origin where the end is; -1 for none
	trailer http.Header // the request's; complete with io.EOF
}

func (b *requestBody) Read(p []byte) (int, error) {
	// With the last byte of a declared length the origin has the whole request, and the reader is to have seen its end.
	for len(b.rest) == 0 || int64(len(b.rest)) == b.left && !b.ended {
		if b.ended {
			return 0, io.EOF
		}
		it, err := b.x.sluices[frames.ToOrigin].take()
		if err != nil {
			return 0, err
		}
		b.x.moved.Store(true)
		if it.kind == itemEnd {
			maps.Copy(b.trailer, it.header)
			b.ended = true
			continue
		}
		b.rest = it.content
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	if b.left < 0 {
		return n, nil
	}
	if b.left -= int64(n); b.left == 0 {
		return n, io.EOF // at once: net/http does not keep a connection whose response is there long before that
	}
	return n, nil
}

// Close is called by net/http when all was read, or the origin wants no more.
func (b *requestBody) Close() error {
	if !b.ended {
		b.x.sluices[frames.ToOrigin].close()
	}
	return nil
}

// traced is the context of a request of x. sent is set when net/http has written its head.
func (x *exchange) traced(sent *atomic.Bool) context.Context {
	return httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			x.interim(status, http.Header(h))
			return nil
		},
	})
}

// announced is the value of Trailer for a response with these trailers.
func announced(trailer http.Header) string {
	return strings.ToLower(strings.Join(slices.Sorted(maps.Keys(trailer)), ", "))
}

// trailerSection is what of t is sent on: what came, without what is for this hop alone. It is nil where there
// is nothing.
func trailerSection(t http.Header) http.Header {
	var out http.Header
	for name, values := range t {
		if len(values) == 0 { // announced, and not sent
			continue
		}
		if out == nil {
			out = make(http.Header)
		}
		out[name] = values
	}
	if out == nil {
		return nil
	}
	out = endToEnd(out)
	out.Del(fields.EvidenceRequest) // which is a field of heads
	if len(out) == 0 {
		return nil
	}
	return out
}

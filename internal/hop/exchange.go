package hop

import (
	"context"
	"net/http"
)

// An Exchange is the stream of an ordinary request and its response. As a [Stream] it carries content, in
// both directions; [NewConn] reads and writes it. Trailer sections are the only addition. A carrier checks
// content against content-length: what arrives and differs ends in a *[ResetError], and what is sent and
// differs is an error that resets the stream. Content in a message that has none, as in the response to a
// HEAD, is an error and is not sent. CloseSend, and so [Conn.Close], says that the content is complete: whoever
// gives up calls Reset.
type Exchange interface {
	Stream
	// SendTrailer ends the sending side, as CloseSend does, with a trailer section. An empty one is
	// CloseSend. Fields that frame a message or say where it goes (RFC 9110 section 6.5.1) are an error.
	SendTrailer(h http.Header) error
	// Trailer is the trailer section that came, nil where there was none. It is complete once the Sink's
	// End has been called with io.EOF.
	Trailer() http.Header
}

// A Requester is a Session that sends ordinary requests. Carriers without them do not implement it.
type Requester interface {
	// Request sends req, whose Method is set and not CONNECT. end says that neither content nor trailers
	// follow. It waits for the peer's SETTINGS and a stream slot; ctx ends only this wait. err is a
	// *[RetryError] when the request did not leave.
	Request(ctx context.Context, req *Request, end bool) (Asked, error)
}

// Asked is the Exchange of a request of ours.
type Asked interface {
	Exchange
	// Response waits for the final response, whose content, of any status, is what arrives on the Exchange;
	// Response.Body is nil. Interim responses are given to interim, if it is not nil, in order, before it
	// returns; there are at most eight. It is called once. When ctx ends the stream is reset. err is a
	// *[RetryError] when the peer provably did not process the request, a *[ResetError] when it was reset
	// before an answer, and the session's error when that has ended. A reset with [NoError] by the peer
	// after a complete response says that the rest of the request is not wanted: what Send returns then.
	Response(ctx context.Context, interim func(status int, h http.Header)) (*Response, error)
}

// An IncomingRequest is an [Incoming] that is no CONNECT, on a carrier whose Config hands such requests over
// before their content has come.
type IncomingRequest interface {
	Incoming
	// End says that the request has neither content nor trailers.
	End() bool
	// Answer takes the request over: in the place of Accept, Reject and Refuse the result's methods are
	// used. Respond, Reset or Kill is called at least once, even after the stream has ended: until then the
	// request counts as work (see Limits.Streams). Without Answer content is not read beyond the stream's
	// window, and thrown away with the answer.
	Answer() (Answering, error)
}

// Answering is the Exchange of a peer's request.
type Answering interface {
	Exchange
	// Interim sends an interim response: 100 to 199, but 101. A ninth is an error.
	Interim(status int, h http.Header) error
	// Respond sends the final response's head, once, with its Evidence where there is any; Body is not
	// looked at. end says that neither content nor trailers follow. Content is sent behind it, not before.
	// Once the response is complete a request that goes on is reset with [NoError]. After an error of r's
	// the request is still unanswered.
	Respond(r *Response, end bool) error
}

package proxy

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"golang.org/x/net/http2"

	"vitrine/internal/fields"
)

// originError is about a request that an origin did not answer as HTTP has it.
type originError struct{ err error }

func (e *originError) Error() string { return "the origin: " + e.err.Error() }

func (e *originError) Unwrap() error { return e.err }

// answerTo says what the client is told about err in the origin's place.
func (x *exchange) answerTo(err error) *answer {
	if errors.Is(err, errIdle) {
		return &answer{
			status: http.StatusGatewayTimeout, reason: fields.ErrorHTTPResponseTimeout,
			details: "the origin did not answer the request in time", cause: err,
		}
	}
	var o *originError
	if !errors.As(err, &o) {
		return answerTo(err)
	}
	for _, f := range []func(error) *answer{aSilence, anAlert, aSocket, anEnd, aLargeHead, aStreamReset} {
		if a := f(o.err); a != nil {
			a.protocol, a.cause = x.kept.state.NegotiatedProtocol, err
			return a
		}
	}
	return &answer{
		status: http.StatusBadGateway, reason: fields.ErrorHTTPProtocol, details: "what the origin sent is no HTTP response that can be passed on",
		protocol: x.kept.state.NegotiatedProtocol, cause: err,
	}
}

// aStreamReset knows how an origin ends a stream of HTTP/2. What net/http itself finds wrong with one has another cause.
func aStreamReset(err error) *answer {
	var reset http2.StreamError
	if !errors.As(err, &reset) || reset.Cause == nil || reset.Cause.Error() != "received from peer" {
		return nil
	}
	if reset.Code == http2.ErrCodeRefusedStream {
		return &answer{
			status: http.StatusServiceUnavailable, reason: fields.ErrorDestinationUnavailable,
			details: "the origin refused the request without processing it (REFUSED_STREAM)",
		}
	}
	return &answer{
		status: http.StatusBadGateway, reason: fields.ErrorConnectionTerminated,
		details: "the origin reset the request's stream before it answered: " + reset.Code.String(),
	}
}

// errBroken is about a connection from which nothing more can be read.
var errBroken = errors.New("the connection broke")

// anEnd knows how net/http says that the origin ended the connection, where it does not say it with the socket's error.
func anEnd(err error) *answer {
	if errors.Is(err, errBroken) || errors.Is(err, net.ErrClosed) { // closed by net/http, where a write failed first
		return &answer{
			status: http.StatusBadGateway, reason: fields.ErrorConnectionTerminated, details: "the connection to the origin broke before it answered",
		}
	}
	for _, says := range []string{
		"http: server closed idle connection",
		"http2: client conn is closed", "http2: client conn not usable", "http2: client connection lost",
		"http2: server sent GOAWAY and closed the connection",
	} {
		if strings.Contains(err.Error(), says) {
			return &answer{
				status: http.StatusBadGateway, reason: fields.ErrorConnectionTerminated, details: "the origin closed the connection before it answered",
			}
		}
	}
	if strings.Contains(err.Error(), "http2: Transport received Server's graceful shutdown GOAWAY") {
		return &answer{
			status: http.StatusServiceUnavailable, reason: fields.ErrorDestinationUnavailable,
			details: "the origin is closing the connection, and did not process the request",
		}
	}
	return nil
}

// errLargeHead is about a response whose head has more than maxOriginHead.
var errLargeHead = errors.New("the response's head is too large")

// aLargeHead knows what net/http says of one that it did not read to its end.
func aLargeHead(err error) *answer {
	if s := err.Error(); !errors.Is(err, errLargeHead) && !strings.Contains(s, "server response headers exceeded") && !strings.Contains(s, "response header list larger than advertised limit") {
		return nil
	}
	return &answer{
		status: http.StatusBadGateway, reason: fields.ErrorHTTPResponseHeaderSectionSize, details: "the origin's response head is over 64 KiB",
	}
}

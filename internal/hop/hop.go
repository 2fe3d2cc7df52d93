// Package hop is one TLS-protected connection between neighbours, and the tunnels and ordinary requests on it.
//
// Call a carrier's Client or Server (hop/h2, hop/raw, hop/h1) for a [Session], then Open or
// Accept; an end that wants an ordinary connection calls [NewConn] on the stream. A join
// calls [Stream.Start] with a [Sink] of its own and moves Buffers from one hop to the other. A client
// sends ordinary requests through a Session that is a [Requester]; a server takes one over with
// [IncomingRequest.Answer].
//
// # Rules of the data path
//
// The read loop of a session never blocks: it reads a frame, runs the Sink and goes on. A
// session has two goroutines, a reader and a writer; a tunnel has none. Bytes travel as
// [Buffer]s that carry the flow-control credit of the hop they came from, so whoever holds
// a Buffer is the back-pressure. Connection credit returns at receipt, stream credit at
// [Buffer.Release]. Windows are taken when a frame is written, not when it is queued, so a
// reset drops a queue without accounting. No lock is held across I/O; the lock order is
// stream, session, write queue.
package hop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
)

// A Session is one hop. All methods are safe for concurrent use.
type Session interface {
	// Open sends Extended CONNECT (or plain CONNECT when req.Protocol is "") and returns at the
	// final response. Interim responses are skipped. Non-2xx: the stream is nil and err is nil.
	// It waits for the peer's SETTINGS and a stream slot; ctx ends every wait and resets a
	// half-open stream. err is a *[RetryError] when the peer provably did not process the stream
	// (GOAWAY, REFUSED_STREAM), and a *[ResetError] when it was reset before an answer.
	Open(ctx context.Context, req *Request) (*Response, Stream, error)

	// Accept returns the next request from the peer. At most Limits.Streams are pending or open.
	Accept(ctx context.Context) (Incoming, error)

	// SendVerdict sends a VERDICT that names stream id of this session; it does not reset the
	// stream. [Stream.Kill] does both, in order. verdict is the VERDICT payload behind its
	// stream field (tbs, scheme, signature); the carrier writes the stream field.
	SendVerdict(id uint64, verdict []byte) error

	// Ready waits for the peer's SETTINGS; only then is Peer complete.
	Ready(ctx context.Context) error

	// Peer is what the hop's handshake and SETTINGS said. Immutable once Ready, Open or Accept
	// has returned without error.
	Peer() *Peer

	// Drain stops new streams (GOAWAY), waits for the open ones or ctx, then closes.
	Drain(ctx context.Context) error

	// Close ends the session at once; it sends GOAWAY or CONNECTION_CLOSE when it can.
	Close(code ErrorCode, reason string) error

	// Done is closed when every goroutine of the session has ended.
	Done() <-chan struct{}

	// Err says why the session ended; nil while it is open. It wraps net.ErrClosed.
	Err() error
}

// Peer is what the hop's handshake and SETTINGS said.
type Peer struct {
	TLS      tls.ConnectionState // of the hop: version, suite, group, ALPN, chain, exporter
	Settings Settings
	Local    net.Addr
	Remote   net.Addr
}

// PeerCertificate is the neighbour's leaf, nil when it showed none.
func (p *Peer) PeerCertificate() *x509.Certificate {
	if len(p.TLS.PeerCertificates) == 0 {
		return nil
	}
	return p.TLS.PeerCertificates[0]
}

// Settings is what the peer announced.
type Settings struct {
	Connect  bool // RFC 8441, RFC 9220
	Evidence bool // SETTINGS_ITLS mask 0x1: it takes EVIDENCE and VERDICT
	Late     bool // SETTINGS_ITLS mask 0x2: send it EVIDENCE in the alternative place
	Bound    bool // SETTINGS_HOP_BINDING seen and equal
}

// Request is what opens a stream.
type Request struct {
	Protocol  string // ":protocol"; "" is plain CONNECT, or an ordinary request when Method is set and not CONNECT
	Method    string // "" means CONNECT
	Authority string
	Scheme    string // of an Extended CONNECT or an ordinary request, in lower case; "" means "https"
	Path      string // likewise; "" means "/"
	Header    http.Header
	// Early follows HEADERS at once, before the answer. Only an inner ClientHello may be early.
	Early []byte
}

// Response answers a Request.
type Response struct {
	Status int
	Header http.Header
	// Evidence travels in EVIDENCE frames, fragmented and capped by the carrier, placed as the
	// peer's Settings ask. Nil where none was sent.
	Evidence []byte
	Body     []byte // of a refusal, at most Limits.RefusalBody bytes
}

// Incoming is a request that was not answered yet. Exactly one of Accept and Reject is called, once.
type Incoming interface {
	ID() uint64
	Request() *Request
	Session() Session
	Context() context.Context // ends when the peer gives up or the session ends
	Accept(*Response) (Stream, error)
	Reject(*Response) error
	Refuse(code ErrorCode) // resets the stream without an answer, e.g. [RefusedStream]
}

// A Stream is one tunnel on one hop.
type Stream interface {
	ID() uint64
	Session() Session

	// Start delivers what arrives to sink, in order, never concurrently; what has arrived already
	// is delivered before it returns. Until Start nothing is read beyond the initial window. It is
	// called once.
	Start(sink Sink)

	// Send takes ownership of b and never blocks. Bytes leave when both windows admit them; until
	// then b keeps the credit of the hop it came from, which is what bounds the queue. After the
	// stream has ended it releases b and returns the reason.
	Send(b *Buffer) error

	// CloseSend ends the sending side (END_STREAM, FIN) behind everything queued.
	CloseSend() error

	// Reset ends both directions now and drops what is queued.
	Reset(code ErrorCode)

	// Kill is SendVerdict then Reset(Killed), in that order on the wire where the carrier has an
	// order. A carrier, or a peer, without VERDICT gets the reset alone.
	Kill(verdict []byte)

	Queued() int // bytes accepted by Send and not yet written; not 0 before the end that CloseSend asked for was, too
}

// A Sink is called on a goroutine of the carrier's, or of [Stream.Start]'s caller, and must not block:
// every stream of the hop waits for it. Calls never overlap, and none is made from within Send, Reset or
// Kill, so a Sink may hold a lock of its own while it calls those.
type Sink interface {
	// Data brings the next bytes. The sink owns b.
	Data(b *Buffer)
	// Writable says that Queued fell below Limits.LowWater, after it had reached Limits.HighWater, or that
	// everything up to the end that CloseSend asked for was written. After
	// End with io.EOF it still comes, since the sending side is open; there a reset of the stream causes
	// it, too, and the next Send returns the reason.
	Writable()
	// End comes once, and no Data behind it: io.EOF for END_STREAM, *[ResetError] (also for a local
	// Reset), *[RetryError], or the session's error.
	End(err error)
}

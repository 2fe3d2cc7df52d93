// Package inspect is what the proxy reads a tunnel with: it takes the inner session's bytes of both
// directions, checks them as TLS 1.3 with an RFC 9150 suite and as HTTP/1.1 that every parser reads in
// one way, shows the exchanges to inspectors, and says how many bytes may leave.
//
// Call [NewTunnel] for each tunnel, then [Tunnel.Feed] with every byte that arrives, [Tunnel.End] when a
// direction ends, and [Tunnel.Close] at last. Write an [Inspector] to judge what passes.
//
// With [Config.Plain] it reads the messages of one exchange that the proxy itself ends TLS for, written as
// HTTP/1.1 for this reader alone.
//
// The package has no keys: it cannot check a MAC, so it says what passed and never what a receiver
// accepted; and it never returns bytes, only a count of them, so it cannot change one.
package inspect

import (
	"time"

	"vitrine/frames"
)

// Config is what a Tunnel is made from. Authority is required, and without Plain so are Nonce and Proxies;
// everything else may be zero.
type Config struct {
	// Plain makes the Tunnel read HTTP/1.1 without TLS: a wire offset is an application offset, and units
	// leave as soon as inspectors let them. The bytes are the caller's own writing of messages whose framing
	// is known otherwise (HTTP/2, or a parser before it). So a chunked body may declare its length as well,
	// which is then no more than what inspectors are told, they are not shown the Transfer-Encoding, a body
	// may follow a response that its request did not wait for, and the end of a direction ends a body without
	// a length. Everything else is read as strictly. Default: the bytes are those of a TLS session.
	Plain bool

	Authority string     // of the CONNECT, "host:port" in canonical form
	Nonce     [32]byte   // N of the CONNECT
	Proxies   [][32]byte // SHA-256 of each proxy's leaf, client side first, the own one last

	Client, Proxy, Origin Party

	// Admit is asked at each request head, before Inspectors: an error ends the tunnel, and the request does
	// not pass. Default: none does.
	Admit func() *KillError
	// Inspectors is asked at each request head who judges the exchange, in this order: an exchange is judged
	// by those of its beginning. The result must not change later. Default: nobody does.
	//
	// Both are called with the tunnel's lock held: they must not block and must not call the Tunnel. A panic
	// kills the tunnel ([RulePanic]).
	Inspectors func() []Inspector

	Limits Limits

	// Log is told what passed, once for each exchange whose request head was complete. It is called
	// with the tunnel's lock held: it must not block and must not call the Tunnel. Default: nobody is.
	Log func(Passed)
	// Release says that more of direction d may leave than the last Feed said, because a Hold was
	// answered. upTo counts from the start, as Feed's result does; calls may overtake each other, so the
	// largest wins. It is called without locks, and never on a goroutine that is inside Feed, End or
	// Close. Default: nobody is told.
	Release func(d frames.Direction, upTo int64)
	// Kill says that the tunnel was killed by [Exchange.Decide] or by Limits.HoldTime, at most once, and
	// not for a kill that Feed or End returned. It is called as Release is. Default: the next Feed says so.
	Kill func(*KillError)
	// Time is the clock for Exchange.Started. Default: time.Now.
	Time func() time.Time
}

// Limits bound what one tunnel can cost. Each zero field means its default.
type Limits struct {
	// HeldBytes bounds what one direction may hold back, in bytes on the wire: an inspector that never
	// decides, or a header section in one-byte records, would otherwise make the proxy store a stream.
	// Default: 1 MiB.
	HeldBytes int
	// HoldTime bounds how long inspectors may hold a tunnel without a moment in which nobody does: a
	// hold that is never answered would pin memory on three machines. Default: 30 s.
	HoldTime time.Duration
	// HoldPass lets what is held leave when HeldBytes or HoldTime is reached, and stops asking the
	// Inspections that held it. Default: the tunnel is killed.
	HoldPass bool
	// IdleRecords bounds records in a row without application bytes, a complete message of the handshake,
	// or 32 bytes of one: empty and alert records cost work and move nothing. Default: 32.
	IdleRecords int
	// KeyUpdates bounds KeyUpdate messages in both directions together: each costs the receiver a key
	// schedule. Default: 64.
	KeyUpdates int
	// Tickets and TicketBytes bound NewSessionTicket, which a client stores. Defaults: 4 and 2 KiB.
	Tickets, TicketBytes int
	// HandshakeBytes bounds one handshake message, which is collected here. Default and most: 64 KiB.
	HandshakeBytes int
	// HeadBytes and Fields bound one header or trailer section, which is collected here: a field count
	// stops hash and map floods that fit the bytes. Defaults: 64 KiB and 200.
	HeadBytes, Fields int
	// Interim bounds 1xx responses before a final one: they are unbounded otherwise. Default: 8.
	Interim int
	// DecodeRatio and DecodeFree bound what a content coding may expand to: past DecodeFree bytes, at
	// most DecodeRatio times what was read. They stop decompression bombs. Defaults: 100 and 1 MiB.
	DecodeRatio, DecodeFree int
	// DecodeDepth bounds nested content codings; deeper ones are opaque. Default: 2.
	DecodeDepth int
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.HeldBytes, 1<<20)
	if l.HoldTime <= 0 {
		l.HoldTime = 30 * time.Second
	}
	set(&l.IdleRecords, 32)
	set(&l.KeyUpdates, 64)
	set(&l.Tickets, 4)
	set(&l.TicketBytes, 2<<10)
	set(&l.HandshakeBytes, 64<<10)
	set(&l.HeadBytes, 64<<10)
	set(&l.Fields, 200)
	set(&l.Interim, 8)
	set(&l.DecodeRatio, 100)
	set(&l.DecodeFree, 1<<20)
	set(&l.DecodeDepth, 2)
	return l
}

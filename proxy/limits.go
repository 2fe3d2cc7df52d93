package proxy

import (
	"sync/atomic"
	"time"

	"vitrine/internal/hop"
	"vitrine/proxy/inspect"
)

// Limits bound what peers can make a proxy spend. Zero means the default.
type Limits struct {
	// Connections bounds the hop-1 connections that are open at once, handshakes included; more wait
	// in the listener's backlog. It stops a flood of connections from using up memory and descriptors.
	// Default: 1,024.
	Connections int
	// Handshake bounds the TLS handshake of hop 1, the resolution of a name, the TCP connection of
	// hop 2, its TLS handshake, and the wait for the origin's answer to CONNECT, each. It stops peers
	// that go silent. Default: 10 s.
	Handshake time.Duration
	// Setups bounds the CONNECTs of one client that are being answered at once, and its ordinary requests that
	// have no exchange with an origin yet; more wait unread. It
	// stops rapid reset (CVE-2023-44487): the work is counted, not the streams. Default: 256.
	Setups int
	// Dials bounds the hop-2 connections that are being made at once; more wait. It stops CONNECTs to
	// addresses that never answer from using up descriptors. Default: 256.
	Dials int
	// Upstreams bounds the hop-2 connections that are open at once. Default: 4,096. Of those to an UpstreamProxy a
	// client can have a part of a part of Connections: to that proxy all clients of this one are one.
	Upstreams int
	// Addresses bounds how many addresses of a name are tried. It stops a name with a thousand
	// addresses from being a port scanner. Default: 8.
	Addresses int
	// Shared bounds the tunnels on one pooled hop-2 connection, where the origin allows as many; further
	// ones get another connection. Default: 100.
	Shared int
	// PoolIdle is how long a hop-2 connection without tunnels is kept. Default: 60 s.
	PoolIdle time.Duration
	// Kept bounds the connections to origins that one hop-1 session has evidence of for ordinary requests (split
	// mode); the one used the longest ago goes. It stops a client that asks for evidence and sends no
	// requests from holding ever more of them. They are among Upstreams. Default: 32.
	Kept int
	// KeptIdle is how long such a connection is kept without a request, and KeptLife how old it may be when a
	// request begins: evidence grows stale. Defaults: 90 s and 10 min.
	KeptIdle, KeptLife time.Duration
	// TunnelIdle ends a tunnel, or an exchange of split mode, on which nothing moves in either direction. It stops
	// tunnels from being hoarded. Default: 5 min.
	TunnelIdle time.Duration
	// HeldBytes bounds what all tunnels together may hold back beyond their flow-control windows. It
	// stops many tunnels from doing what Policy.HeldBytes keeps one from doing. Default: 256 MiB.
	HeldBytes int
	// Parts says what one client can have: of Connections, Dials, Upstreams and HeldBytes one part in
	// this many. It stops a client that takes all it can get from starving the others. A client is known
	// by its certificate, and without one it is its hop-1 connection; handshakes count for the address
	// that they come from, this machine's excepted. Default: 4.
	Parts int
	// Hop bounds the sessions of both hops.
	Hop hop.Limits
	// Inspect bounds the readers of each tunnel.
	Inspect inspect.Limits
}

func (l Limits) withDefaults() Limits {
	setInt := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	setTime := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	setInt(&l.Connections, 1024)
	setTime(&l.Handshake, 10*time.Second)
	setInt(&l.Setups, 256)
	setInt(&l.Dials, 256)
	setInt(&l.Upstreams, 4096)
	setInt(&l.Addresses, 8)
	setInt(&l.Shared, 100)
	setTime(&l.PoolIdle, time.Minute)
	setInt(&l.Kept, 32)
	setTime(&l.KeptIdle, 90*time.Second)
	setTime(&l.KeptLife, 10*time.Minute)
	setTime(&l.TunnelIdle, 5*time.Minute)
	setInt(&l.HeldBytes, 256<<20)
	setInt(&l.Parts, 4)
	return l
}

// part is what one client can have of n.
func (l *Limits) part(n int) int { return (n + l.Parts - 1) / l.Parts }

// holders is what one client can have of HeldBytes. Whatever its part, one tunnel can hold what p lets it:
// it would else stall short of its end.
func (l *Limits) holders(p *Policy) int {
	return max(l.part(l.HeldBytes), min(2*p.HeldBytes, l.HeldBytes))
}

// inspect is Inspect with what p says.
func (l *Limits) inspect(p *Policy) inspect.Limits {
	limits := l.Inspect
	if limits.HeldBytes <= 0 {
		limits.HeldBytes = p.HeldBytes
	}
	if limits.HoldTime <= 0 {
		limits.HoldTime = p.HoldTime
	}
	return limits
}

// mayHold is what one more passage may hold beyond its windows.
func (s *session) mayHold(p *Policy) heldBytes {
	return heldBytes{
		own: &budget{max: 2 * int64(p.HeldBytes)}, all: s.run.held,
		clients: s.run.holders, client: s.id,
	}
}

// A budget is a number of bytes that many tunnels draw on.
type budget struct {
	max  int64
	used atomic.Int64
}

// take reports whether n more bytes fit, and takes them if so.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) <= b.max {
		return true
	}
	b.used.Add(-n)
	return false
}

func (b *budget) give(n int64) { b.used.Add(-n) }

package hop

import "time"

// A Rate is a token bucket: Burst events at once, refilled at PerSecond.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Limits of a session. The zero value of every field means its default; each field names the
// attack that it stops. Sizes are bytes.
type Limits struct {
	// Streams is how many streams of the peer's may be pending or open, and how many of ours may be
	// open: 256. A stream that was reset while its request is still being worked on counts until
	// that work has ended, so that resets buy no extra work (Rapid Reset, CVE-2023-44487, and
	// MadeYouReset, CVE-2025-8671).
	Streams int
	// RefusalBody is how much of a refusal's body is kept: 16 KiB. A peer could answer a CONNECT
	// with an endless error page.
	RefusalBody int
	// HighWater is how many queued bytes make [Conn] wait before it queues more: 256 KiB, and
	// LowWater is where it goes on: 64 KiB. They bound what a peer that does not read makes us
	// keep (slow read, CVE-2016-1546; internal buffering, CVE-2019-9517).
	HighWater, LowWater int
	// HeaderBytes is the decoded size of a header list, 32 bytes a field included: 64 KiB.
	// HeaderFields is the number of fields: 200. Both bound what a few bytes of HPACK decode to
	// (CVE-2016-6581, CVE-2026-49975).
	HeaderBytes, HeaderFields int
	// HeaderTotal is the size of the header lists of all the peer's open requests: 4 MiB. Many streams
	// with a large list each would pass every limit of one stream (CVE-2026-47774).
	HeaderTotal int
	// Continuations is how many CONTINUATION frames one header block may take: 16
	// (CONTINUATION flood, CVE-2023-45288).
	Continuations int
	// StreamWindow is the receive window of a stream: 256 KiB. With Streams it bounds what a
	// session keeps for receivers that stall. Buffers that hold little of their memory count with
	// it: a stream whose buffers take more than four windows is reset (data dribble,
	// CVE-2019-9511).
	StreamWindow int
	// ConnWindow is the receive window of the connection: 16 MiB. It is given back at receipt, so
	// that one stalled stream cannot starve its siblings.
	ConnWindow int
	// ControlQueue is how many control frames may wait for the writer: 2,048. A peer that makes us
	// answer and does not read ends its session there (ping flood, CVE-2019-9512; settings flood,
	// CVE-2019-9515; reset flood, CVE-2019-9514).
	ControlQueue int

	// SettingsTimeout bounds the wait for the preface, for the first SETTINGS and for each SETTINGS
	// acknowledgement: 10 s (slow preface, CVE-2026-56853).
	SettingsTimeout time.Duration
	// FrameTimeout bounds the time from a frame's header to its last byte, and from HEADERS to the
	// end of its header block: 20 s. A request that is not a CONNECT has as long for its content
	// (Slowloris), unless it was taken over: then StallTimeout bounds it.
	FrameTimeout time.Duration
	// WriteTimeout bounds one write to the peer: 30 s. A peer that stops reading its socket cannot
	// keep a session (slow read).
	WriteTimeout time.Duration
	// StallTimeout is how long a stream's queue, or the whole session's, may wait for a window
	// while fewer than 4 KiB leave: 5 min. Then the stream is reset, or the session closed (zero
	// window, CVE-2016-1546; HTTP/2 Bomb, CVE-2026-49975). The content of a request that was taken over and
	// has no answer yet must bring as much in that time, whenever its window is open (Slowloris).
	StallTimeout time.Duration
	// IdleTimeout ends a session without streams: 5 min. PING does not extend it: a peer cannot
	// keep a connection for nothing.
	IdleTimeout time.Duration
	// PingInterval is the silence after which we ask whether the peer is there: 30 s; negative
	// means never. PingTimeout is how long it has to show any sign: 15 s. A peer that vanished
	// without a FIN does not keep its tunnels.
	PingInterval, PingTimeout time.Duration
	// CloseTimeout bounds the goodbye: 1 s for the last frames to leave and for the peer to close
	// (hang on close, CVE-2022-27664).
	CloseTimeout time.Duration
	// Linger is how long a closed [Conn] waits for the peer's own end before it resets the stream:
	// 5 s. A peer that never ends its side cannot keep the stream.
	Linger time.Duration

	// Resets pays for each reset that a client sends for a live stream, and for each that a peer's
	// errors make us send: burst 512, 50 a second (Rapid Reset; MadeYouReset; reset flood,
	// CVE-2019-9514).
	Resets Rate
	// Pings pays for each PING: burst 100, 10 a second (ping flood, CVE-2019-9512).
	Pings Rate
	// Settings pays for each SETTINGS: burst 20, 1 a second (settings flood, CVE-2019-9515).
	Settings Rate
	// Empty pays for each frame that carries no progress: DATA without payload or end, PRIORITY
	// (resource loop, CVE-2019-9513), unknown types, verdicts of unknown streams, frames on closed
	// streams, GOAWAY, interim responses; burst 1,000, 100 a second (empty frames, CVE-2019-9518).
	Empty Rate
	// Updates pays for WINDOW_UPDATEs beyond four for each DATA frame that we sent: burst 1,000,
	// 100 a second. Tiny window grants cost us more than the peer.
	Updates Rate
}

// WithDefaults returns l with the default in the place of every zero.
func (l Limits) WithDefaults() Limits {
	size := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	wait := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	rate := func(p *Rate, perSecond float64, burst int) {
		if *p == (Rate{}) {
			*p = Rate{PerSecond: perSecond, Burst: burst}
		}
	}
	size(&l.Streams, 256)
	size(&l.RefusalBody, 16<<10)
	size(&l.HighWater, 256<<10)
	size(&l.LowWater, 64<<10)
	l.LowWater = min(l.LowWater, l.HighWater)
	size(&l.HeaderBytes, 64<<10)
	size(&l.HeaderFields, 200)
	size(&l.HeaderTotal, 4<<20)
	size(&l.Continuations, 16)
	size(&l.StreamWindow, 256<<10)
	size(&l.ConnWindow, 16<<20)
	size(&l.ControlQueue, 2048)
	wait(&l.SettingsTimeout, 10*time.Second)
	wait(&l.FrameTimeout, 20*time.Second)
	wait(&l.WriteTimeout, 30*time.Second)
	wait(&l.StallTimeout, 5*time.Minute)
	wait(&l.IdleTimeout, 5*time.Minute)
	wait(&l.PingInterval, 30*time.Second)
	wait(&l.PingTimeout, 15*time.Second)
	wait(&l.CloseTimeout, time.Second)
	wait(&l.Linger, 5*time.Second)
	rate(&l.Resets, 50, 512)
	rate(&l.Pings, 10, 100)
	rate(&l.Settings, 1, 20)
	rate(&l.Empty, 100, 1000)
	rate(&l.Updates, 100, 1000)
	return l
}

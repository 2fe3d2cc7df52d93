package inspect

import (
	"net/http"
	"time"

	"vitrine/frames"
)

// An Inspector judges exchanges. It can read everything and change nothing: heads are copies, bodies are
// [View]s, and the only way to act is the Decision it returns.
type Inspector interface {
	// Begin is called when a request head was read. Nil: not interested, the exchange costs nothing
	// more. x is this Inspection's own: its Decide answers no other's Hold.
	Begin(x *Exchange) Inspection
}

// An Inspection follows one exchange. Its methods are called in order, never concurrently, and must not
// block: they run on the hop's goroutine, with the tunnel's lock held. They must not call the Tunnel;
// Exchange.Decide is safe anywhere. Slow work returns Hold and later calls Exchange.Decide. A panic kills the
// tunnel ([RulePanic]), and Close is still called.
type Inspection interface {
	// Request and Response are given a message part by part. Both directions may be open at once: a
	// response can begin before its request has ended.
	Request(p Part) Decision
	Response(p Part) Decision
	// Close is called always, once, last, also after Done.
	Close(o Outcome)
}

// A Part is what arrived since the last call. Head is set on the first Part of a message only. An
// interim response (1xx) is a message of its own: a Part with a Head and without End, after which the
// final response follows.
type Part struct {
	Head *Head
	// Body is decoded: no chunk framing, and no content coding where it is gzip, x-gzip or deflate.
	Body View
	// Coded is the body as it is on the wire, without chunk framing, where Body is decoded: every byte of
	// it comes in some Part, in order, no later than what it decodes to. Receivers that do not undo
	// Content-Encoding, as most origins do not, read this; it can hold what no decoder shows. It is empty
	// where Body is not decoded.
	Coded View
	// End says that the message is complete. It may come with a Part of its own, without a Body.
	End bool
	// Opaque says that Body is not what a receiver will see: a content coding that is not undone here.
	Opaque bool
	// Trailer is set with End, nil where there was none.
	Trailer http.Header
}

// Head is a copy made for inspectors. Nothing in it is normalised beyond what its fields say.
type Head struct {
	Method string // request
	Scheme string // request: "https"
	Host   string // request: the tunnel's authority, "host:port"; Host agreed with it
	Path   string // request: as on the wire, percent-encoding and dot segments included; "*" is possible
	Query  string // request: behind "?", as on the wire
	Status int    // response
	// Header has canonical keys. Host is not in it.
	Header http.Header
	// Size is the body's, in bytes on the wire, where it is known: 0 for a message that cannot have one,
	// -1 when not declared. Of a response to HEAD it is what a GET would have had.
	Size int64
}

// An Action is what a Decision says.
type Action uint8

// The actions.
const (
	Allow Action = iota // release what was seen; keep calling
	Done                // release; do not call again for this exchange
	Hold                // release nothing from the start of this Part on, until a later Decision
	Kill                // nothing more leaves; VERDICT carries Rule and Reason
)

// A Decision is an Inspection's answer. A Hold ends with a later Decision for the same direction that is
// not Hold (the next Part's, or End's), or with [Exchange.Decide], or with the tunnel's limits.
type Decision struct {
	Action Action
	Rule   string // stable id, at most 64 bytes, shown to both ends; longer ones are cut
	Reason string // one line for a person, at most 256 bytes; longer ones are cut
}

// Exchange is what is known of an exchange apart from its bytes. Immutable.
type Exchange struct {
	ID        uint64 // of the tunnel's exchanges, from 1
	Started   time.Time
	Authority string // of the CONNECT
	Client    Party
	Proxy     Party
	Origin    Party // zero where another proxy is between
	Mode      Mode

	watch *watch
}

// Decide answers an earlier Hold from any goroutine, the Inspection's own calls included. It covers every
// Part that was given so far, the one of a call that is still running included, in both directions. Of
// several answers to a Hold only the first counts; an answer when nothing is held, one after the
// exchange has ended, and the answer Hold do nothing.
func (x *Exchange) Decide(d Decision) {
	if x.watch != nil {
		x.watch.decide(d, [2]bool{true, true}, false)
	}
}

// Release answers an earlier Hold of one direction with Allow, and leaves a Hold of the other as it is. In
// everything else it is like Decide, but an answer by Decide counts although a Release came before it.
func (x *Exchange) Release(d frames.Direction) {
	if x.watch != nil {
		x.watch.decide(Decision{Action: Allow}, [2]bool{frames.ToOrigin: d == frames.ToOrigin, frames.ToClient: d == frames.ToClient}, true)
	}
}

// A Party is one of the three at the ends and in the middle.
type Party struct {
	Addr    string
	Subject string
	SPKI    [32]byte // SHA-256 of its certificate's SubjectPublicKeyInfo; zero when it showed none
}

// Outcome says how an exchange ended.
type Outcome struct {
	Killed *Decision // the rule and reason of the kill that ended it, else nil
	Err    error     // nil, or how the tunnel ended early; a *KillError where Killed is set
	// Sent and Recved count the bytes of the messages, heads and framing included, that were released
	// to the origin and to the client.
	Sent, Recved int64
}

// Passed is what a tunnel let through of one exchange. It says nothing about what the receiver accepted.
type Passed struct {
	ID      uint64
	Started time.Time
	Method  string
	Host    string // the tunnel's authority
	Path    string // as on the wire, without the query
	Status  int    // of the final response; 0 when it did not come
	// ToOrigin and ToClient count the bytes of the messages, heads and framing included, that were
	// released.
	ToOrigin, ToClient int64
	// Err is nil when both messages were complete and all of them was released.
	Err error
}

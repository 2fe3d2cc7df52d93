package inspect

import "vitrine/frames"

// A Tunnel reads one tunnel. Its methods are safe for concurrent use, except that the calls for one
// direction must follow one another.
type Tunnel struct {
	killed *KillError
}

// NewTunnel returns a Tunnel that has read nothing. cfg is not kept and may be reused.
func NewTunnel(cfg *Config) *Tunnel {
	return &Tunnel{killed: &KillError{Reason: frames.ReasonOpaque, Rule: "opaque", Detail: "no reader"}}
}

// Feed reads the next bytes of direction d and keeps none of them. release is how many of all the bytes
// of d so far may leave; it only grows, and it is always a whole number of records. err is a *[KillError]
// when nothing more may leave than release says, in either direction, and stays so.
func (t *Tunnel) Feed(d frames.Direction, p []byte) (release int64, err error) { return 0, t.killed }

// End says that the sender of direction d ended it. Nil: a legal end, after close_notify or a fatal
// alert, or between exchanges; what is still held may be released later. io.ErrUnexpectedEOF: a record or
// a message is cut, and what was released stays as it is. A *[KillError]: the tunnel is killed.
func (t *Tunnel) End(d frames.Direction) error { return t.killed }

// Close ends the tunnel and closes the Inspections that are open, with err or the kill as their Outcome.
// It is called always and once; the second call does nothing.
func (t *Tunnel) Close(err error) {}

// Wait returns when no call of Config.Release or Config.Kill is running or to come. Call it after Close,
// without a lock that those take.
func (t *Tunnel) Wait() {}

type watch struct{}

func (w *watch) decide(Decision) {}

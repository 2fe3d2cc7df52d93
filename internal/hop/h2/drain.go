package h2

import (
	"context"
	"errors"
	"time"

	"golang.org/x/net/http2"

	"vitrine/internal/hop"
)

var (
	errDraining = errors.New("h2: the session is draining")

	drainPing     = [8]byte{'d', 'r', 'a', 'i', 'n'}
	keepalivePing = [8]byte{'t', 'h', 'e', 'r', 'e', '?'}
)

// Drain implements [hop.Session]. A server says GOAWAY twice: first with the highest number there is, so
// that requests on their way are still served, and after one round trip with the last stream that it has
// seen (RFC 9113 section 6.8).
func (s *session) Drain(ctx context.Context) error {
	s.mu.Lock()
	first := !s.draining
	s.draining = true
	s.opening.Broadcast()
	var ack chan struct{}
	if first && s.server && s.err == nil {
		ack = make(chan struct{})
		s.drainAck = ack
	}
	s.mu.Unlock()
	if ack != nil {
		s.announce(ctx, ack)
	} else if first {
		s.w.push(control{kind: sendGoAway, code: http2.ErrCodeNo})
	}
	err := s.awaitQuiet(ctx)
	if err != nil {
		s.Close(hop.NoError, "drain was cut short")
	} else {
		s.fail(&hop.SessionError{Reason: "drained"})
	}
	<-s.done
	return err
}

// announce is the server's part of Drain.
func (s *session) announce(ctx context.Context, ack <-chan struct{}) {
	s.w.push(
		control{kind: sendGoAway, id: maxStreamID, code: http2.ErrCodeNo},
		control{kind: sendPing, data: drainPing})
	timer := time.NewTimer(s.lim.CloseTimeout)
	defer timer.Stop()
	select {
	case <-ack:
	case <-timer.C:
	case <-ctx.Done():
	case <-s.failed:
	}
	s.mu.Lock()
	s.refusing = true
	s.w.push(control{kind: sendGoAway, id: s.lastTaken, code: http2.ErrCodeNo})
	s.mu.Unlock()
}

// awaitQuiet waits for the last stream and the last request.
func (s *session) awaitQuiet(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.quiet.Broadcast()
		s.mu.Unlock()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && len(s.streams)+s.work > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.quiet.Wait()
	}
	return nil
}

// onGoAway takes the peer's goodbye: streams that it will not process are free to be tried elsewhere, the
// others go on.
func (s *session) onGoAway(f *http2.GoAwayFrame) error {
	if err := s.spend(s.budgets.empty, "GOAWAY"); err != nil {
		return err
	}
	reason := f.DebugData()
	gone := &hop.SessionError{
		Code: hop.ErrorCode(f.ErrCode), Remote: true, Reason: string(reason[:min(len(reason), 256)]),
	}
	s.mu.Lock()
	if s.peerGone != nil && f.LastStreamID > s.peerLast {
		s.mu.Unlock()
		return protocol("GOAWAY with a higher last stream than before")
	}
	s.peerGone, s.peerLast = gone, f.LastStreamID
	s.opening.Broadcast()
	var unseen []*stream
	for id, st := range s.streams {
		if st.local && id > f.LastStreamID {
			unseen = append(unseen, st)
		}
	}
	left := len(s.streams)
	s.mu.Unlock()
	for _, st := range unseen {
		st.abort(&hop.RetryError{Err: gone}, resetPeer)
		st.pump()
	}
	if left == 0 {
		s.fail(gone)
	}
	return nil
}

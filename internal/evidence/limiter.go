package evidence

import (
	"sync"

	"golang.org/x/time/rate"
)

const (
	// maxAnswers bounds what a connection remembers, and what one proxy can make an origin's key
	// sign over one connection.
	maxAnswers = 1024
	// answersPerSecond and answersBurst stop a proxy from keeping a core busy: an RSA signature
	// costs a millisecond. A tunnel costs a second one, in its inner handshake, so a lower rate would
	// slow honest proxies down and save an origin little.
	answersPerSecond = 256
	answersBurst     = 256
)

// Limiter is an origin's guard over one hop-2 connection: RFC 9261 allows one authenticator for each
// context, and every one costs a signature. Its methods are safe for concurrent use.
type Limiter struct {
	mu   sync.Mutex
	seen map[[32]byte]struct{}
	rate *rate.Limiter
}

// NewLimiter returns a limiter for a new connection: 1,024 answers in all, 256 a second after the first
// 256.
func NewLimiter() *Limiter {
	return &Limiter{seen: make(map[[32]byte]struct{}), rate: rate.NewLimiter(answersPerSecond, answersBurst)}
}

// Allow says whether a request with this nonce may be answered, and counts it. The error is
// [ErrRepeated], [ErrSpent] or [ErrRate]; only after the last may the same request be tried again.
func (l *Limiter) Allow(nonce [32]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.seen[nonce]; ok {
		return ErrRepeated
	}
	if len(l.seen) == maxAnswers {
		return ErrSpent
	}
	if !l.rate.Allow() {
		return ErrRate
	}
	l.seen[nonce] = struct{}{}
	return nil
}

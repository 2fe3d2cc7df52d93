package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/internal/hop"
	"vitrine/internal/itls"
)

// A Tunnel is a verified connection to an origin. Read and Write carry the application's bytes; their errors are
// the typed ones of this package once the tunnel fails, and io.EOF only when the origin ended it itself.
type Tunnel struct {
	inner     inner
	level     Level
	authority string
	wire      *wire     // below inner
	stream    *hop.Conn // nil at direct
	report    *Report
	hop1      *sessions
	inners    *itls.SessionCache
	uncount   func() // takes it off hop1's count, once

	// For verdicts and for consent; proxy is nil at direct.
	proxy *x509.Certificate
	root  [32]byte // that vouches for proxy
	name  string
	nonce *[32]byte // nil at blind, where nothing can be killed by rule
	// members are the proxies behind proxy, which read too.
	members []*member

	// busy says that an exchange is under way, which Close then cuts instead of saying goodbye.
	busy    atomic.Bool
	written atomic.Int64
	closing atomic.Bool
	ended   atomic.Bool // by the origin, in order
	// readEnd is closed when Read has failed or come to the end; nil but at direct.
	readEnd   chan struct{}
	endOfRead sync.Once
	once      sync.Once
	mu        sync.Mutex
	cause     error // the first error that was not ours
	under     []*Agreement
	beside    []*Agreement  // of members
	unwatch   []func() bool // stop waiting for their ends
}

var _ net.Conn = (*Tunnel)(nil)

// inner is *itls.Conn or *tls.Conn.
type inner interface {
	net.Conn
	CloseWrite() error
	ConnectionState() tls.ConnectionState
}

// wire counts what leaves below the session with the origin, its own records included.
type wire struct {
	net.Conn
	n atomic.Int64
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// protected is a wire inside a hop, as itls demands.
type protected struct {
	*wire
	conn *hop.Conn
}

func (p *protected) HopState() tls.ConnectionState { return p.conn.HopState() }

// Report describes the tunnel. It is shared and must not be changed.
func (t *Tunnel) Report() *Report { return t.report }

// Level is how the tunnel was opened.
func (t *Tunnel) Level() Level { return t.level }

// ConnectionState is that of the TLS session with the origin.
func (t *Tunnel) ConnectionState() tls.ConnectionState { return t.inner.ConnectionState() }

// ExportKeyingMaterial exports from the session with the origin (RFC 8446, section 7.5).
func (t *Tunnel) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	if c, ok := t.inner.(*itls.Conn); ok {
		return c.ExportKeyingMaterial(label, context, length)
	}
	cs := t.inner.ConnectionState()
	return cs.ExportKeyingMaterial(label, context, length)
}

// opened finishes a tunnel whose handshakes are done.
func (t *Tunnel) opened(d *Dialer, a *attempt) *Tunnel {
	cs := t.inner.ConnectionState()
	if a.rep.Inner == nil && !a.sealed {
		a.rep.Inner = innerReport(&cs)
	}
	a.rep.Level, a.rep.Chains = t.level, cs.VerifiedChains
	if t.level == Direct {
		a.rep.Proxies, a.rep.Proxy = nil, nil
	}
	t.report = a.rep
	t.hop1, t.inners, t.uncount = &d.hop1, &d.inners, func() {}
	if t.stream != nil {
		d.hop1.count(1)
		t.uncount = sync.OnceFunc(func() { d.hop1.count(-1) })
	}
	return t
}

// agree has the tunnel end with an agreement, beside those that it ends with already.
func (t *Tunnel) agree(agreement *Agreement) { t.agreeIn(&t.under, agreement) }

func (t *Tunnel) agreeIn(list *[]*Agreement, agreement *Agreement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*list = append(*list, agreement)
	if agreement.Ends == nil || t.closing.Load() {
		return
	}
	t.unwatch = append(t.unwatch, context.AfterFunc(agreement.Ends, func() {
		t.hop1.own(func() { t.consentEnded(agreement.ended()) })
	}))
}

// credentials says whether agreements let credentials through all proxies that read.
func (t *Tunnel) credentials() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.under, func(a *Agreement) bool { return a.Credentials }) &&
		!slices.ContainsFunc(t.members, func(m *member) bool { return !m.credentials })
}

// standing is nil while all agreements stand. Whoever ends one and then looks finds that nothing more
// passes, whether or not consentEnded has run yet.
func (t *Tunnel) standing() error {
	t.mu.Lock()
	var end *consentEnd
	for _, list := range [...][]*Agreement{t.under, t.beside} {
		for _, a := range list {
			if end == nil {
				end = a.ended()
			}
		}
	}
	t.mu.Unlock()
	if end == nil {
		return nil
	}
	return t.failed(end)
}

// consentEnded ends the tunnel at once, and hop 1 if it carries no other.
func (t *Tunnel) consentEnded(end *consentEnd) {
	t.mu.Lock()
	if t.cause == nil {
		t.cause = end
	}
	t.mu.Unlock()
	t.stream.Stream().Reset(hop.Cancel)
	t.uncount()
	t.inners.Clear()
	t.hop1.closeIdle()
}

// Read reads what the origin sent.
func (t *Tunnel) Read(p []byte) (int, error) {
	n, err := 0, t.standing()
	if err == nil {
		n, err = t.inner.Read(p)
		if err == io.EOF {
			t.ended.Store(true)
		} else if err != nil {
			err = t.failed(err)
		}
	}
	if err != nil && t.readEnd != nil {
		t.endOfRead.Do(func() { close(t.readEnd) })
	}
	return n, err
}

// Write writes to the origin.
func (t *Tunnel) Write(p []byte) (int, error) {
	if err := t.standing(); err != nil {
		return 0, err
	}
	before := t.wire.n.Load()
	n, err := t.inner.Write(p)
	if n > 0 || t.wire.n.Load() != before {
		t.written.Add(int64(max(n, 1)))
	}
	if err != nil {
		t.awaitReader()
		err = t.failed(err)
	}
	return n, err
}

// awaitReader gives a Read that is under way a moment to find out why the origin closed the connection that
// a Write has failed on: an alert that says so is there to be read, on a connection without a proxy. A
// proxy's hop says the same to both.
func (t *Tunnel) awaitReader() {
	if t.level != Direct || t.closing.Load() {
		return
	}
	patience := time.NewTimer(closeTimeout)
	defer patience.Stop()
	select {
	case <-t.readEnd:
	case <-patience.C:
	}
}

// CloseWrite tells the origin that nothing more follows.
func (t *Tunnel) CloseWrite() error { return t.inner.CloseWrite() }

// Close ends the tunnel behind everything written.
func (t *Tunnel) Close() error {
	err := net.ErrClosed
	t.once.Do(func() {
		t.closing.Store(true)
		if t.busy.Load() && t.stream != nil {
			t.stream.Stream().Reset(hop.Cancel)
		}
		err = t.inner.Close()
		if t.stream != nil {
			t.stream.Close() // an inner session that failed may have left it open
		}
		t.uncount()
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, stop := range t.unwatch {
			stop()
		}
	})
	return err
}

// LocalAddr is that of the TCP connection.
func (t *Tunnel) LocalAddr() net.Addr { return t.inner.LocalAddr() }

// RemoteAddr is the proxy's, or at direct the origin's.
func (t *Tunnel) RemoteAddr() net.Addr { return t.inner.RemoteAddr() }

// SetDeadline sets both deadlines.
func (t *Tunnel) SetDeadline(at time.Time) error { return t.inner.SetDeadline(at) }

// SetReadDeadline bounds Reads.
func (t *Tunnel) SetReadDeadline(at time.Time) error { return t.inner.SetReadDeadline(at) }

// SetWriteDeadline bounds Writes.
func (t *Tunnel) SetWriteDeadline(at time.Time) error { return t.inner.SetWriteDeadline(at) }

// failed remembers the first error that is not of our own making, and types it.
func (t *Tunnel) failed(err error) error {
	if t.closing.Load() || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	t.mu.Lock()
	if t.cause == nil {
		t.cause = err
	}
	if end, ok := t.cause.(*consentEnd); ok {
		err = end // which made all that fails now fail
	}
	t.mu.Unlock()
	typed := t.typed(err)
	rep := *t.report
	return reported(typed, &rep)
}

// fault is a new error for what ended the tunnel, nil when nothing did.
func (t *Tunnel) fault() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause == nil {
		return nil
	}
	return t.typed(t.cause)
}

// typed says what an error after the handshake with the origin means. There every end without
// close_notify counts as an attack: whoever can cut a tunnel can choose where.
func (t *Tunnel) typed(err error) error {
	if end, ok := err.(*consentEnd); ok {
		return end.trust()
	}
	if killed := t.killed(err); killed != nil {
		return killed
	}
	var (
		session *hop.SessionError
		reset   *hop.ResetError
		record  *itls.RecordError
		alert   *itls.AlertError
		op      *net.OpError // of crypto/tls: an alert is "remote" when it came, "local" when we sent it
	)
	errors.As(err, &op)
	switch {
	case errors.As(err, &session): // whatever it wraps was said on hop 1
		return &IntegrityError{What: "hop 1 ended, and the tunnel with it, without the origin's close_notify", Err: err}
	case errors.As(err, &reset):
		return &IntegrityError{What: "the tunnel was reset", Err: err}
	case errors.As(err, &alert) && alert.Remote && alert.Alert.AboutClient(), clientAlert(err) != nil:
		// It came under the session's keys. In TLS 1.3 a client's handshake is over before the server has
		// looked at the client's certificate.
		return &UnreachableError{Party: PartyOrigin, Err: fmt.Errorf("it refused this client: %w", err)}
	case errors.As(err, &record), op != nil && op.Op == "local error":
		return &IntegrityError{What: "bytes were changed on the way from the origin", Err: err}
	case alert != nil && alert.Remote, op != nil && op.Op == "remote error":
		return &IntegrityError{What: "the origin ended the session with an alert; bytes may have been changed on the way to it", Err: err}
	case errors.Is(err, itls.ErrTruncated), t.level != Direct:
		return &IntegrityError{What: "it ended without the origin's close_notify", Err: err}
	}
	return &UnreachableError{Party: PartyOrigin, Err: err}
}

// killed returns a KilledError when err is the proxy's kill.
func (t *Tunnel) killed(err error) error {
	var reset *hop.ResetError
	if !errors.As(err, &reset) || !reset.Remote || reset.Code != hop.Killed || t.proxy == nil {
		return nil
	}
	e := &KilledError{Proxy: t.name, Err: err}
	switch {
	case len(reset.Verdict) == 0:
		return e
	case t.nonce == nil:
		e.Err = fmt.Errorf("%w (a verdict about a tunnel without a nonce proves nothing)", err)
		return e
	}
	k, verr := t.judge(reset.Verdict)
	if verr != nil {
		e.Err = fmt.Errorf("%w (%w)", err, verr)
		return e
	}
	tbs := k.tbs
	e.Proxy = k.name
	e.SignatureVerified, e.Rule, e.Reason, e.Time = true, tbs.Rule, tbs.Detail, tbs.Time
	if e.Reason == "" {
		e.Reason = tbs.Reason.String()
	}
	if e.Rule == "" {
		e.Rule = tbs.Reason.String()
	}
	return e
}

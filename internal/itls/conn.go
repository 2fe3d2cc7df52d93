package itls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/internal/tlsmsg"
)

// closeTimeout bounds how long an alert waits for a carrier that takes no bytes: a peer that does
// not read must not hold Close.
const closeTimeout = 5 * time.Second

// A Conn is one session. Read and Write, and any other methods, may be called concurrently. After an
// error other than a deadline's, every later call of that direction returns it again.
type Conn struct {
	conn   net.Conn
	cfg    *Config
	client bool

	complete atomic.Bool // the handshake succeeded; what it set does not change afterwards

	handshakeMutex sync.Mutex
	handshakeErr   error // of the one attempt
	attempted      bool

	tls          *tls.Config // in use: GetConfigForClient may have replaced Config.TLS
	suite        *suite
	clientRandom [32]byte
	exporter     []byte
	state        tls.ConnectionState
	offer        *tlsmsg.InspectionOffer
	answer       *tlsmsg.InspectionAnswer
	transcript   hash.Hash   // during the handshake
	resumption   *resumption // of a client that keeps sessions

	in  input
	out output

	// calls counts active Writes in steps of two; bit 0 says that Close was called. Close needs both
	// at once, to know whether a Write may be stuck in the carrier.
	calls atomic.Int64
}

func newConn(conn net.Conn, cfg *Config, client bool) *Conn {
	if cfg == nil {
		cfg = &Config{}
	}
	return &Conn{conn: conn, cfg: cfg, client: client, tls: cfg.TLS}
}

// Handshake is [Conn.HandshakeContext] without a context.
func (c *Conn) Handshake() error { return c.HandshakeContext(context.Background()) }

// HandshakeContext runs the handshake, once: later calls return its result. Read and Write call it.
// When ctx ends first, the carrier is closed and the error is ctx's. The errors are [AlertError],
// which may wrap [CertificateError] or [RecordError], [ErrTruncated], [ErrUnprotected], or the
// carrier's own.
func (c *Conn) HandshakeContext(ctx context.Context) (err error) {
	if c.complete.Load() {
		return nil
	}
	if ctx.Done() != nil {
		closed := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			_ = c.conn.Close()
			close(closed)
		})
		defer func() {
			if !stop() {
				<-closed
				err = fmt.Errorf("itls: handshake: %w", context.Cause(ctx))
			}
		}()
	}
	c.handshakeMutex.Lock()
	defer c.handshakeMutex.Unlock()
	if c.attempted {
		return c.handshakeErr
	}
	c.attempted = true
	if c.handshakeErr = c.cfg.check(c.conn, c.client); c.handshakeErr != nil {
		return c.handshakeErr
	}
	c.in.Lock()
	defer c.in.Unlock()
	c.handshakeErr = c.handshake()
	c.transcript = nil
	c.out.flight = nil
	if c.handshakeErr == nil {
		c.state.HandshakeComplete = true
		c.complete.Store(true)
	}
	return c.handshakeErr
}

// handshake turns the failures that are ours into alerts. What the carrier or the peer ended needs
// none.
func (c *Conn) handshake() error {
	var err error
	if c.client {
		err = c.clientHandshake()
	} else {
		err = c.serverHandshake()
	}
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*transportError](err); ok {
		return t.err
	}
	if isRemoteAlert(err) {
		return err
	}
	if len(c.out.flight) > 0 {
		// The alert is numbered behind these records.
		if err := c.flush(); err != nil {
			return err.(*transportError).err
		}
	}
	return c.fail(err)
}

// A transportError marks what the carrier said, so that it reaches the caller as it is.
type transportError struct{ err error }

func (e *transportError) Error() string { return e.err.Error() }

// Close sends close_notify, unless CloseWrite did or a Write is stuck, and closes the carrier. It
// waits for a carrier that takes no bytes for at most five seconds, and ends blocked Reads and
// Writes. It does not wait for the peer's close_notify.
func (c *Conn) Close() error {
	var calls int64
	for {
		calls = c.calls.Load()
		if calls&1 != 0 {
			return net.ErrClosed
		}
		if c.calls.CompareAndSwap(calls, calls|1) {
			break
		}
	}
	var alertErr error
	if calls == 0 && c.complete.Load() {
		_ = c.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
		alertErr = c.closeNotify()
	}
	if err := c.conn.Close(); err != nil {
		return err
	}
	return alertErr
}

// CloseWrite sends close_notify, and ends the carrier's sending side where it has a CloseWrite. The
// peer reads [io.EOF]; reading goes on here. It fails before the handshake is complete.
func (c *Conn) CloseWrite() error {
	if !c.complete.Load() {
		return errors.New("itls: CloseWrite before the handshake is complete")
	}
	if err := c.closeNotify(); err != nil {
		return err
	}
	if w, ok := c.conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// NetConn returns the carrier. Reading from it or writing to it breaks the session.
func (c *Conn) NetConn() net.Conn { return c.conn }

// LocalAddr returns the carrier's local address.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the carrier's remote address.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline sets both deadlines of the carrier. After a Write has timed out the session can only
// be closed; a Read that has timed out can be repeated.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline sets the carrier's read deadline.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline sets the carrier's write deadline.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// ConnectionState describes the session. Its own ExportKeyingMaterial cannot work and panics: call
// [Conn.ExportKeyingMaterial]. During a handshake it waits.
func (c *Conn) ConnectionState() tls.ConnectionState {
	c.handshakeMutex.Lock()
	defer c.handshakeMutex.Unlock()
	return c.state
}

// InspectionOffer is the client's `inspection` extension: on a client what it was configured to
// send, on a server what arrived; nil where there was none, or before the handshake is complete.
func (c *Conn) InspectionOffer() *tlsmsg.InspectionOffer {
	if !c.complete.Load() {
		return nil
	}
	return c.offer
}

// InspectionAnswer is the server's `inspection` extension, on both ends; nil where there was none,
// or before the handshake is complete.
func (c *Conn) InspectionAnswer() *tlsmsg.InspectionAnswer {
	if !c.complete.Load() {
		return nil
	}
	return c.answer
}

// setApplication enters the application epoch of the key schedule.
func (c *Conn) setApplication(k *schedule) error {
	exporter, err := k.application(c.transcript.Sum(nil))
	if err != nil {
		return err
	}
	c.exporter = exporter
	if err := c.logSecrets(k, "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"); err != nil {
		return err
	}
	return c.logSecret("EXPORTER_SECRET", exporter)
}

// setHandshake enters the handshake epoch.
func (c *Conn) setHandshake(k *schedule, shared []byte) error {
	if err := k.handshake(shared, c.transcript.Sum(nil)); err != nil {
		return err
	}
	return c.logSecrets(k, "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET")
}

// negotiated records the choices that both roles learn from ServerHello.
func (c *Conn) negotiated(s *suite, group tls.CurveID, serverName string) {
	c.suite = s
	c.state.Version = tls.VersionTLS13
	c.state.CipherSuite = s.id
	c.state.CurveID = group
	c.state.ServerName = serverName
}

// retryTranscript puts message_hash in the place of the first ClientHello (RFC 8446, section 4.4.1).
func retryTranscript(s *suite, firstHello []byte) hash.Hash {
	first := s.hash()
	first.Write(firstHello)
	h := s.hash()
	h.Write([]byte{byte(tlsmsg.TypeMessageHash), 0, 0, byte(s.size)})
	h.Write(first.Sum(nil))
	return h
}

package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/itls"
)

// A Dialer opens tunnels. Its tunnels share one connection to the proxy. What is sent through them is
// the caller's to judge: only [Transport] knows credentials when it sees them. The fields must not change
// after the first use; a Dialer must not be copied, and is safe for concurrent use.
type Dialer struct {
	// Proxy is https://host[:port]; the port defaults to 443. Required unless Levels is {Direct}.
	Proxy string
	// ProxyRoots vouch for proxies and never for origins. Required with Proxy: there is no default.
	ProxyRoots *x509.CertPool
	// Roots vouch for origins. Default: the system's.
	Roots *x509.CertPool
	// ClientCertificate is shown to a proxy that asks for one. Default: none.
	ClientCertificate *tls.Certificate
	// Certificates are for origins that ask for one, in the session with the origin. Default: none.
	Certificates []tls.Certificate
	// Levels is the set of levels that the user accepts. Default: {Intact}.
	Levels []Level
	// Consent is asked before each CONNECT and each request without a tunnel, and again before credentials leave
	// where only reading was agreed to. Default: nobody consents, and no CONNECT leaves.
	Consent Consent
	// Choose is asked when a proxy refuses with 470 and no accepted level can be had. It returns one of the
	// offer's choices, which is then used as if it had been accepted, this once; "" or an error means no. A
	// Dialer's tunnels can be chosen at no level below intact. Default: nobody chooses, and the refusal is the
	// [LevelError].
	Choose func(ctx context.Context, o *Offer) (Level, error)
	// Memory remembers what authorities were reached at, beyond this Dialer. Default: in memory, bounded.
	Memory Memory
	// ConnectTo sends TCP connections elsewhere, as curl's --connect-to: those to the proxy and, at
	// direct, to origins. Default: no rules.
	ConnectTo ConnectTo
	// NetDial opens TCP connections. Default: a net.Dialer.
	NetDial func(ctx context.Context, network, address string) (net.Conn, error)
	// KeyLog receives the secrets of all TLS sessions, for debugging only: whoever reads it can forge.
	// Default: nil.
	KeyLog io.Writer
	// Timeouts bound the steps of opening a tunnel.
	Timeouts Timeouts
	// LateEvidence asks for evidence behind the response's HEADERS, for intermediaries that mishandle
	// frames before them. Default: before.
	LateEvidence bool
	// Limits bound what the proxy can make hop 1 hold.
	Limits Limits
	// NoResumption has every session with an origin begin with a full handshake. Default: sessions inside
	// tunnels are resumed, where origin, proxy and all else are the same; the origin, and who reads, then see
	// that it is the same client.
	NoResumption bool
	// Time is the clock for certificates and evidence. Default: time.Now.
	Time func() time.Time

	hop1   sessions
	worked memory
	inners itls.SessionCache // of sessions inside tunnels
	keyLog keyLog
}

// Limits bound what a peer can make one connection hold. Every zero field means its default.
type Limits = hop.Limits

// ConnectTo is a list of rules, of which the first that fits counts. [ParseConnectTo] reads them.
type ConnectTo = connectto.Rules

// ParseConnectTo reads rules in curl's form, HOST1:PORT1:HOST2:PORT2: what was for HOST1 and PORT1 (empty: for
// any) is dialled at HOST2 and PORT2 (empty: the same). IPv6 addresses are in brackets.
func ParseConnectTo(rules ...string) (ConnectTo, error) {
	list, err := connectto.ParseRules(rules...)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return list, nil
}

// Timeouts bound each step, so that a peer that falls silent holds nobody for long. A zero field means
// the default.
type Timeouts struct {
	Dial     time.Duration // TCP. Default: 10 s.
	Hop      time.Duration // TLS with the proxy. Default: 10 s.
	Settings time.Duration // until the proxy's SETTINGS. Default: 10 s.
	Connect  time.Duration // until the answer to a CONNECT, the proxy's dial included. Default: 30 s.
	Inner    time.Duration // TLS with the origin. Default: 10 s.
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

func (t Timeouts) dial() time.Duration     { return orDefault(t.Dial, 10*time.Second) }
func (t Timeouts) hop() time.Duration      { return orDefault(t.Hop, 10*time.Second) }
func (t Timeouts) settings() time.Duration { return orDefault(t.Settings, 10*time.Second) }
func (t Timeouts) connect() time.Duration  { return orDefault(t.Connect, 30*time.Second) }
func (t Timeouts) inner() time.Duration    { return orDefault(t.Inner, 10*time.Second) }

// DialTunnel opens a tunnel to authority, "host:port", at the best of the accepted levels that can be
// had: intact before blind before direct; the others have no tunnels. ctx ends every wait; it has no effect on the
// tunnel afterwards.
func (d *Dialer) DialTunnel(ctx context.Context, authority string) (*Tunnel, error) {
	rep := new(Report)
	a, err := d.newAttempt(authority, rep)
	if err == nil && !slices.ContainsFunc(a.levels, a.accepts) {
		err = &LevelError{
			Authority: a.authority, Accepted: a.levels,
			Why: "at these levels there are no tunnels: they are of requests, which a Transport sends",
		}
	}
	if err != nil {
		return nil, reported(err, rep)
	}
	t, err := d.open(ctx, a)
	if err != nil {
		return nil, reported(err, rep)
	}
	return t, nil
}

// DialContext is [Dialer.DialTunnel] in the shape that net/http and others take. network must be
// "tcp", "tcp4" or "tcp6", which all mean "tcp": how an origin is reached is the proxy's to choose. The
// connection is a *[Tunnel].
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, fmt.Errorf("client: network %q cannot be tunnelled", network)
	}
	t, err := d.DialTunnel(ctx, addr)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends the connection to the proxy with its tunnels, and waits for the Dialer's goroutines.
func (d *Dialer) Close() error {
	d.hop1.close()
	d.inners.Clear()
	return nil
}

// Forget drops the memory of what authority was reached at, for a user who was told and accepts
// less from now on, and the sessions with it.
func (d *Dialer) Forget(authority string) {
	// It was remembered by the spelling that all parties use, however the user writes it.
	if canonical, _, _, err := canonicalAuthority(authority); err == nil {
		authority = canonical
	}
	d.memory().Forget(authority)
	d.inners.Forget(func(s *itls.Session) bool { return s.Authority() == authority })
}

// An attempt is one DialTunnel.
type attempt struct {
	authority string
	host      string
	port      int
	levels    []Level
	rep       *Report
	fields    []string  // the credentials that are to be sent
	sealed    bool      // by the caller, who speaks with the origin himself
	agreed    *[32]byte // the root that the user agreed to
	path      path      // behind that proxy
	agreement *Agreement
	split     bool                   // it is for an exchange, which needs no tunnel
	chosen    Level                  // what Choose answered; it is among levels, too
	route     *route                 // what was found in the place of a tunnel, reserved
	room      func() (enough func()) // begins to make room for a CONNECT; may be nil
}

func (d *Dialer) newAttempt(authority string, rep *Report) (*attempt, error) {
	levels, err := levelSet(d.Levels)
	if err != nil {
		return nil, err
	}
	a := &attempt{levels: levels, rep: rep}
	if a.authority, a.host, a.port, err = canonicalAuthority(authority); err != nil {
		return nil, fmt.Errorf("client: authority %q: %w", authority, err)
	}
	return a, nil
}

// canonicalAuthority reads an authority as a user writes it.
func canonicalAuthority(s string) (authority, host string, port int, err error) {
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		return "", "", 0, err
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", "", 0, errors.New("bad port")
	}
	if authority, err = fields.CanonicalAuthority(host, int(n)); err != nil {
		return "", "", 0, err
	}
	host, port, err = fields.ParseAuthority(authority)
	return authority, host, port, err
}

func (a *attempt) accepts(l Level) bool {
	return slices.Contains(a.levels, l) && (a.split || !l.split())
}

// reads says that the attempt begins with a CONNECT for a tunnel that the proxy reads, or would read.
func (a *attempt) reads() bool {
	return slices.ContainsFunc(a.levels, func(l Level) bool { return l.Readable() && a.accepts(l) })
}

// open tries the accepted levels, best first.
func (d *Dialer) open(ctx context.Context, a *attempt) (*Tunnel, error) {
	if d.hop1.isClosed() {
		return nil, ErrClosed
	}
	t, err := d.openBest(ctx, a)
	if err != nil && d.hop1.isClosed() {
		return nil, ErrClosed // whatever Close made fail
	}
	return t, err
}

func (d *Dialer) openBest(ctx context.Context, a *attempt) (*Tunnel, error) {
	if !a.reads() && !a.accepts(Blind) {
		return d.direct(ctx, a)
	}
	for try := 0; ; try++ {
		s, err := d.session(ctx)
		if err != nil {
			return nil, err
		}
		t, err := d.through(ctx, s, a)
		var again *hop.RetryError
		if !errors.As(err, &again) {
			return t, err
		}
		d.hop1.retire(s)
		if try > 0 {
			return nil, &UnreachableError{Party: PartyProxy, Err: err}
		}
	}
}

// through opens a tunnel over s, or sets a's route and returns neither a tunnel nor an error. Its error wraps
// *hop.RetryError when another session may do better.
func (d *Dialer) through(ctx context.Context, s *session, a *attempt) (*Tunnel, error) {
	a.rep.Proxies, a.rep.Proxy = []ProxyReport{proxyReport(s.leaf, s.name)}, s.leaf
	if err := d.askConsent(ctx, s, a); err != nil {
		return nil, err
	}
	t, direct, err := d.readOrCarried(ctx, s, a)
	if end := a.agreement.ended(); end != nil && ctx.Err() == nil {
		if t != nil {
			t.Close()
		}
		a.leave()
		d.hop1.closeIdle()
		d.inners.Clear()
		return nil, end.trust()
	}
	switch {
	case direct:
		return d.direct(ctx, a) // which no proxy carries
	case err != nil, a.route != nil:
		return nil, err
	}
	t.root = s.root
	t.agree(a.agreement)
	return t, nil
}

// readOrCarried opens a tunnel at intact or blind, or finds a route. direct says that none of them can be had, and
// that the user accepts to do without the proxy. Each step ends with the agreement that stands at its beginning: a choice
// in the one before may have brought another.
func (d *Dialer) readOrCarried(ctx context.Context, s *session, a *attempt) (t *Tunnel, direct bool, err error) {
	if a.reads() {
		consented, stop := a.agreement.within(ctx)
		defer stop()
		if found, err := d.known(consented, s, a); found || err != nil {
			return nil, false, err
		}
		t, next, refused, err := d.readOrBelow(ctx, s, a)
		switch {
		case refused == nil:
			return t, false, err
		case err != nil || next == Direct:
			return nil, err == nil, err
		case next != Blind:
			a.route = s.routes.add(d, a, refused.route(s, a))
			return nil, false, nil
		}
	}
	consented, stop := a.agreement.within(ctx)
	defer stop()
	t, refused, err := d.blind(consented, s, a)
	if refused == nil {
		return t, false, err
	}
	if a.accepts(Direct) && !a.accepts(Intact) {
		return nil, true, nil
	}
	return nil, false, refused.levelError(a, "the proxy does not carry it blind", true)
}

// readOrBelow opens a tunnel at intact, or says what follows the refusal.
func (d *Dialer) readOrBelow(ctx context.Context, s *session, a *attempt) (t *Tunnel, next Level, refused *refusal, err error) {
	for {
		consented, stop := a.agreement.within(ctx)
		defer stop()
		if t, refused, err = d.along(consented, s, a); refused == nil {
			return t, "", nil, err
		}
		next, err = d.belowIntact(consented, s, a, refused)
		if err != nil || next == Blind || next == Direct || d.now().Sub(refused.at) < maxRouteAge {
			return nil, next, refused, err
		}
		// The user took so long to choose that the evidence is too old for it; other evidence is judged anew.
	}
}

// askConsent asks once for each proxy root that an attempt meets. Where every level that it may reach
// through the proxy can be read, credentials that the user keeps back end it here.
func (d *Dialer) askConsent(ctx context.Context, s *session, a *attempt) error {
	if a.agreed == nil || *a.agreed != s.root || a.agreement.ended() != nil {
		agreement, err := ask(ctx, d.Consent, a.question(s.root, s.name, s.leaf, a.may()))
		if err != nil {
			return err
		}
		a.agreed, a.agreement = &s.root, agreement
	}
	return a.permitted(a.agreement, a.may())
}

// askAgain is for credentials that a is to send through t, which was opened before.
func (d *Dialer) askAgain(ctx context.Context, t *Tunnel, a *attempt) error {
	if t.firstLets() {
		return d.askMembers(ctx, t, a)
	}
	agreement, err := d.askCredentials(ctx, a, a.question(t.root, t.name, t.proxy, []Level{t.level}))
	if err != nil {
		return err
	}
	t.agree(agreement)
	return d.askMembers(ctx, t, a)
}

func (d *Dialer) now() time.Time {
	if d.Time != nil {
		return d.Time()
	}
	return time.Now()
}

// dialTCP applies ConnectTo and the dial timeout. party is who an error is about.
func (d *Dialer) dialTCP(ctx context.Context, party Party, host string, port int) (net.Conn, error) {
	addr, to, _ := d.ConnectTo.Lookup(host, port)
	dial := d.NetDial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	tctx, cancel := context.WithTimeout(ctx, d.Timeouts.dial())
	defer cancel()
	conn, err := dial(tctx, "tcp", net.JoinHostPort(addr, strconv.Itoa(to)))
	if err != nil {
		return nil, step(ctx, &UnreachableError{Party: party, Err: err})
	}
	return conn, nil
}

// step is err, unless the caller's own context ended, which is then the reason.
func step(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return err
	case errors.Is(cause, ctx.Err()):
		return fmt.Errorf("client: %w", cause)
	default:
		return fmt.Errorf("client: %w (%w)", cause, ctx.Err())
	}
}

// keyLog keeps lines whole: crypto/tls and itls each lock for themselves only.
type keyLog struct {
	mu sync.Mutex
	w  io.Writer
}

func (k *keyLog) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.w.Write(p)
}

// keyLogWriter is nil when there is no KeyLog: a non-nil interface would switch logging on.
func (d *Dialer) keyLogWriter() io.Writer {
	if d.KeyLog == nil {
		return nil
	}
	d.keyLog.mu.Lock()
	defer d.keyLog.mu.Unlock()
	d.keyLog.w = d.KeyLog
	return &d.keyLog
}

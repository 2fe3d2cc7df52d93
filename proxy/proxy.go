// Package proxy is the inspecting proxy: it reads every tunnel, can kill any, and can change none. Where its operator
// allows [Split] and the client asks for it, it also carries exchanges that it could change, and does not.
//
// Fill in a [Proxy] and call [Proxy.Serve] with a listener; [Proxy.Shutdown] drains it, and [Proxy.Reload]
// gives it other settings while it runs. An [Inspector] judges exchanges. [Proxy.ServeSession] serves one hop-1
// session that the caller made, with hop 2 dialled by a function of the caller's.
//
// The proxy joins a stream of hop 1 with a stream of hop 2. It holds no key of the inner session that
// passes between them and imports no code that could compute one: what it may do to bytes is release
// them, hold them, or end the tunnel. In split mode it is an end of TLS on both sides; the same reader and
// the same inspectors judge what passes, and they cannot change it either.
package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"vitrine/proxy/inspect"
)

// The Inspector interface and what it deals in; package inspect documents them.
type (
	Inspector  = inspect.Inspector
	Inspection = inspect.Inspection
	Exchange   = inspect.Exchange
	Party      = inspect.Party
	Part       = inspect.Part
	Head       = inspect.Head
	View       = inspect.View
	Decision   = inspect.Decision
	Action     = inspect.Action
	Outcome    = inspect.Outcome
)

// What a Decision can say.
const (
	Allow = inspect.Allow
	Done  = inspect.Done
	Hold  = inspect.Hold
	Kill  = inspect.Kill
)

var (
	// ErrServerClosed is what Serve returns after Shutdown or Close.
	ErrServerClosed = fmt.Errorf("proxy: closed: %w", net.ErrClosed)
	// ErrOpenProxy is what Serve returns for a listener beyond loopback without ClientCAs: anyone who
	// reaches it could use it, and the addresses that it reaches.
	ErrOpenProxy = errors.New("proxy: beyond loopback it serves only with client certificates (ClientCAs)")
)

// A Proxy serves hop 1 and dials hop 2. Its fields must not change once a method was called, which is what
// [Proxy.Reload] is for; it must not be copied. The zero value of every field but Certificate works.
type Proxy struct {
	// Certificate is the proxy's, on both hops: proxyAuthentication, serverAuth and clientAuth, at most
	// 30 days (pki.CheckProxyCertificate). Required.
	Certificate tls.Certificate
	// Name is the pseudonym in via and proxy-status. Default: the leaf's first DNS name, else its
	// first IP address.
	Name string
	// Roots verify origins. Default: the system's.
	Roots *x509.CertPool
	// ClientCAs verify the certificates that clients have to show on hop 1. Default: none is asked
	// for, and the proxy serves on loopback only.
	ClientCAs *x509.CertPool
	// Policy says what may pass.
	Policy Policy
	// Inspectors judge each exchange, in this order.
	Inspectors []Inspector
	// Targets says what may be dialled.
	Targets TargetPolicy
	// ConnectTo sends connections elsewhere than their authority says. An address that a rule names is
	// dialled although Targets would refuse it: the operator wrote it down.
	ConnectTo ConnectTo
	// Upstream is the next proxy of a chain, through which everything goes. Default: the proxy goes to origins
	// itself.
	Upstream *UpstreamProxy
	// Limits bound what peers can make the proxy spend.
	Limits Limits
	// Log gets a line for every exchange that passed, every tunnel that ended early and every refusal.
	// Queries, field values and bodies are never logged. Default: nothing is.
	Log *slog.Logger
	// KeyLog gets the TLS secrets of both hops in the NSS format: whoever has it reads them.
	// Default: nobody.
	KeyLog io.Writer
	// Time is the clock for certificates, evidence and verdicts. Default: time.Now.
	Time func() time.Time

	once  sync.Once
	setup error
	run   *running
}

// Policy says what a proxy lets pass. The zero value allows intact tunnels.
type Policy struct {
	// Modes are those that the proxy allows, of intact, split and blind. Default (nil): intact alone. Empty
	// and not nil refuses everything.
	Modes []Mode
	// HostModes returns those of one target, a canonical "host:port", in the place of Modes; nil for Modes,
	// and empty and not nil to refuse the target. It is asked at each CONNECT, and at each request in an
	// intact tunnel or in split mode, on many goroutines at once: it must not block. A panic refuses the CONNECT, and
	// kills the tunnel. Default: Modes for all.
	HostModes func(authority string) []Mode
	// HeldBytes bounds what one direction of a tunnel may hold back for its inspectors; past it the
	// tunnel is killed. Default: 1 MiB.
	HeldBytes int
	// HoldTime bounds how long an inspector may hold; past it the tunnel is killed. Default: 30 s.
	HoldTime time.Duration
	// TellOrigins puts the rule and the detail of a kill into the origin's verdict too. Default: the
	// origin learns the reason's class alone, because rules may say what the client's side looks for.
	TellOrigins bool
}

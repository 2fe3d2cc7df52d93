package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"vitrine/internal/connectto"
	"vitrine/internal/fields"
)

// A dialer makes the TCP connection of hop 2, where policy lets it.
type dialer struct {
	policy    *TargetPolicy
	rules     connectto.Rules
	timeout   time.Duration
	addresses int
	slots     chan struct{}
	turns     *turns // each client's part of slots
	listeners func() []net.Addr
}

func newDialer(policy *TargetPolicy, rules connectto.Rules, limits *Limits, listeners func() []net.Addr) *dialer {
	return &dialer{
		policy:    policy,
		rules:     rules,
		timeout:   limits.Handshake,
		addresses: limits.Addresses,
		slots:     make(chan struct{}, limits.Dials),
		turns:     newTurns(limits.part(limits.Dials)),
		listeners: listeners,
	}
}

// to is a dialer under other rules that shares d's slots.
func (d *dialer) to(policy *TargetPolicy, rules connectto.Rules) *dialer {
	o := *d
	o.policy, o.rules = policy, rules
	return &o
}

// errDialsBusy is wrapped by the error of a dial that never got its turn.
var errDialsBusy = errors.New("too many connections are being made")

// acquire takes one of the slots for connections under way; release gives it back. A client whose
// connections never finish waits for its own part of the slots, and not others for theirs.
func (d *dialer) acquire(ctx context.Context, client string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	give, err := d.turns.take(ctx, client)
	if err == nil {
		select {
		case d.slots <- struct{}{}:
			return func() { <-d.slots; give() }, nil
		case <-ctx.Done():
			give()
			err = ctx.Err()
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", errDialsBusy, err)
	}
	return nil, err
}

// dial connects to authority: a rule's address, or the first of the name's that policy allows and that
// answers.
func (d *dialer) dial(ctx context.Context, authority string) (net.Conn, error) {
	host, port, err := fields.ParseAuthority(authority)
	if err != nil {
		return nil, err
	}
	host, port, named, err := d.route(host, port)
	if err != nil {
		return nil, err
	}
	addrs, err := d.resolve(ctx, host, named)
	if err != nil {
		return nil, err
	}
	return d.connect(ctx, addrs, port)
}

// route applies the rules. named says that the operator wrote the host down in one.
func (d *dialer) route(host string, port int) (to string, toPort int, named bool, err error) {
	for _, rule := range d.rules {
		to, toPort, ok := connectto.Rules{rule}.Lookup(host, port)
		if !ok {
			continue
		}
		if rule.Port == 0 && rule.To == 0 {
			err = d.policy.port(port)
		}
		return to, toPort, rule.Addr != "", err
	}
	return host, port, false, d.policy.port(port)
}

// resolve returns the addresses of host that may be dialled, at most d.addresses.
func (d *dialer) resolve(ctx context.Context, host string, named bool) ([]netip.Addr, error) {
	addrs, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(addrs) > d.addresses {
		addrs = addrs[:d.addresses]
	}
	if named {
		return addrs, nil
	}
	own, err := ownAddresses(d.listeners())
	if err != nil {
		return nil, err
	}
	var allowed []netip.Addr
	for _, a := range addrs {
		if refused := d.policy.address(a, own); refused != nil {
			err = refused
			continue
		}
		allowed = append(allowed, a)
	}
	if len(allowed) == 0 {
		return nil, err
	}
	return allowed, nil
}

func (d *dialer) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var r Resolver = net.DefaultResolver
	if d.policy.Resolver != nil {
		r = d.policy.Resolver
	}
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		if named := (*net.DNSError)(nil); errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &named) {
			err = &net.DNSError{UnwrapErr: err, Err: err.Error(), Name: host, IsTimeout: true}
		}
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: errNoAddress.Error(), Name: host, IsNotFound: true}
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	return addrs, nil
}

// connect tries the addresses in turn. Each gets an equal share of the time that is left, so that one
// that does not answer leaves time for the next.
func (d *dialer) connect(ctx context.Context, addrs []netip.Addr, port int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	dial := (&net.Dialer{}).DialContext
	if d.policy.DialContext != nil {
		dial = d.policy.DialContext
	}
	var first error
	for i, a := range addrs {
		deadline, _ := ctx.Deadline()
		share := time.Until(deadline) / time.Duration(len(addrs)-i)
		each, stop := context.WithTimeout(ctx, share)
		conn, err := dial(each, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(port)))
		stop()
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

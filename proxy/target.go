package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// TargetPolicy says what may be dialled. The zero value allows port 443 of public addresses. A name is
// judged by the addresses that it resolves to, and the address that was judged is the one dialled, so
// that a name which changes its mind (DNS rebinding) gains nothing.
type TargetPolicy struct {
	// Ports are those that may be dialled. Default: 443.
	Ports []int
	// Allow names addresses that may be dialled although they are not public, or the proxy's own.
	Allow []netip.Prefix
	// Resolver finds the addresses of names. Default: net.DefaultResolver.
	Resolver Resolver
	// DialContext makes the TCP connection to an address that was judged ("192.0.2.1:443"). Default:
	// that of a net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Resolver finds addresses; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// A ProhibitedError says that policy forbids to dial a target.
type ProhibitedError struct {
	// Port is set when the port is what is forbidden.
	Port int
	// Addr is the address that is forbidden. It goes to the log and not to the client, who could else
	// explore the network behind the proxy by names.
	Addr netip.Addr
	// Why names the kind of address.
	Why string
}

func (e *ProhibitedError) Error() string {
	if e.Port != 0 {
		return fmt.Sprintf("port %d may not be dialled", e.Port)
	}
	return fmt.Sprintf("address %v may not be dialled: %s", e.Addr, e.Why)
}

func (p *TargetPolicy) port(port int) error {
	if len(p.Ports) == 0 && port == 443 || slices.Contains(p.Ports, port) {
		return nil
	}
	return &ProhibitedError{Port: port}
}

// address judges addr, which must be unmapped. own are the addresses of this machine.
func (p *TargetPolicy) address(addr netip.Addr, own []netip.Addr) error {
	for _, prefix := range p.Allow {
		if prefix.Contains(addr) {
			return nil
		}
	}
	if why := special(addr); why != "" {
		return &ProhibitedError{Addr: addr, Why: why}
	}
	if inner, ok := nat64(addr); slices.Contains(own, addr) || ok && slices.Contains(own, inner) {
		return &ProhibitedError{Addr: addr, Why: "one of the proxy's own"}
	}
	return nil
}

// special says what kind of address addr is when it is not a public unicast address, "" when it is.
// The lists are those of the IANA special-purpose registries (RFC 6890), and what IPv4 addresses can
// hide in.
func special(addr netip.Addr) string {
	switch {
	case !addr.IsValid():
		return "not an address"
	case addr.Zone() != "":
		return "an address with a zone"
	case addr.Is4In6():
		return special(addr.Unmap())
	case addr.Is4():
		return within(addr, special4())
	}
	if why := within(addr, special6()); why != "" {
		return why
	}
	if inner, ok := nat64(addr); ok {
		return special(inner)
	}
	if !netip.MustParsePrefix("2000::/3").Contains(addr) {
		return "outside of global unicast"
	}
	return ""
}

// nat64 is the IPv4 address in addr. Behind DNS64 every IPv4 origin looks like this, and so does every
// IPv4 host inside.
func nat64(addr netip.Addr) (netip.Addr, bool) {
	if !netip.MustParsePrefix("64:ff9b::/96").Contains(addr) {
		return netip.Addr{}, false
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}

type block struct{ prefix, what string }

func within(addr netip.Addr, blocks []block) string {
	for _, b := range blocks {
		if netip.MustParsePrefix(b.prefix).Contains(addr) {
			return b.what
		}
	}
	return ""
}

func special4() []block {
	return []block{
		{"0.0.0.0/8", "this network"},
		{"10.0.0.0/8", "private"},
		{"100.64.0.0/10", "shared (carrier-grade NAT)"},
		{"127.0.0.0/8", "loopback"},
		{"169.254.0.0/16", "link-local"},
		{"172.16.0.0/12", "private"},
		{"192.0.0.0/24", "protocol assignments"},
		{"192.0.2.0/24", "documentation"},
		{"192.88.99.0/24", "6to4 relay"},
		{"192.168.0.0/16", "private"},
		{"198.18.0.0/15", "benchmarking"},
		{"198.51.100.0/24", "documentation"},
		{"203.0.113.0/24", "documentation"},
		{"224.0.0.0/4", "multicast"},
		{"240.0.0.0/4", "reserved"},
	}
}

// special6 need not name what lies outside of 2000::/3, but a good reason helps whoever reads the log.
func special6() []block {
	return []block{
		{"::/128", "unspecified"},
		{"::1/128", "loopback"},
		{"64:ff9b:1::/48", "local NAT64"},
		{"100::/64", "discard-only"},
		{"2001::/23", "protocol assignments (Teredo, ORCHID, benchmarking)"},
		{"2001:db8::/32", "documentation"},
		{"2002::/16", "6to4"},
		{"3fff::/20", "documentation"},
		{"fc00::/7", "private (unique local)"},
		{"fe80::/10", "link-local"},
		{"fec0::/10", "site-local"},
		{"ff00::/8", "multicast"},
	}
}

// ownAddresses are those of this machine's interfaces, and those that the proxy listens on.
func ownAddresses(listeners []net.Addr) ([]netip.Addr, error) {
	ifaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("the addresses of this machine: %w", err)
	}
	var own []netip.Addr
	for _, a := range ifaces {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				own = append(own, ip.Unmap())
			}
		}
	}
	for _, a := range listeners {
		if t, ok := a.(*net.TCPAddr); ok {
			own = append(own, t.AddrPort().Addr().Unmap())
		}
	}
	return own, nil
}

var errNoAddress = errors.New("the name has no address")

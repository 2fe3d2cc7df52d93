package testnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"vitrine/internal/hop/raw/pipe"
)

// A network is names, addresses and listeners in memory. It is safe for concurrent use.
type network struct {
	mu        sync.Mutex
	names     map[string]netip.Addr
	listeners map[netip.Addr]*pipe.Listener
}

func newNetwork() *network {
	return &network{names: make(map[string]netip.Addr), listeners: make(map[netip.Addr]*pipe.Listener)}
}

// special are the prefixes that names resolve to: those for documentation (RFC 5737, RFC 3849).
func special() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}
}

// listen gives each host one listener on all ports of an address. A host that is an address keeps it.
func (w *network) listen(hosts ...string) *pipe.Listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	ln := pipe.Listen()
	for _, host := range hosts {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			addr = netip.AddrFrom4([4]byte{198, 51, 100, byte(len(w.names) + 1)})
		}
		w.names[host] = addr
		w.listeners[addr] = ln
	}
	return ln
}

// LookupNetIP implements proxy.Resolver.
func (w *network) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	addr, ok := w.names[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{addr}, nil
}

// DialContext connects to the host of address, a name or an IP address.
func (w *network) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	addr, ok := w.names[host]
	if !ok {
		addr, _ = netip.ParseAddr(host) // the zero Addr has no listener
	}
	ln := w.listeners[addr]
	w.mu.Unlock()
	if ln == nil {
		return nil, fmt.Errorf("testnet: nobody is at %s", address)
	}
	return ln.Dial(ctx)
}

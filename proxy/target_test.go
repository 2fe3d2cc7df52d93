package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/connectto"
)

// The first and last address of each range, and their public neighbours.
var addresses = []struct {
	addr   string
	public bool
}{
	{"0.0.0.0", false},
	{"0.255.255.255", false},
	{"1.0.0.0", true},
	{"9.255.255.255", true},
	{"10.0.0.0", false},
	{"10.255.255.255", false},
	{"11.0.0.0", true},
	{"100.63.255.255", true},
	{"100.64.0.0", false},
	{"100.127.255.255", false},
	{"100.128.0.0", true},
	{"126.255.255.255", true},
	{"127.0.0.1", false},
	{"127.255.255.255", false},
	{"128.0.0.0", true},
	{"169.253.255.255", true},
	{"169.254.0.0", false},
	{"169.254.169.254", false}, // where clouds keep their credentials
	{"169.254.255.255", false},
	{"169.255.0.0", true},
	{"172.15.255.255", true},
	{"172.16.0.0", false},
	{"172.31.255.255", false},
	{"172.32.0.0", true},
	{"192.0.0.0", false},
	{"192.0.0.255", false},
	{"192.0.1.0", true},
	{"192.0.2.1", false},
	{"192.0.3.0", true},
	{"192.88.99.1", false},
	{"192.168.0.0", false},
	{"192.168.255.255", false},
	{"192.169.0.0", true},
	{"198.17.255.255", true},
	{"198.18.0.0", false},
	{"198.19.255.255", false},
	{"198.20.0.0", true},
	{"198.51.100.1", false},
	{"203.0.113.1", false},
	{"223.255.255.255", true},
	{"224.0.0.1", false},
	{"239.255.255.255", false},
	{"240.0.0.1", false},
	{"255.255.255.255", false},
	{"8.8.8.8", true},

	{"::", false},
	{"::1", false},
	{"::2", false},
	{"::7f00:1", false},         // IPv4-compatible 127.0.0.1
	{"::ffff:127.0.0.1", false}, // IPv4-mapped
	{"::ffff:10.0.0.1", false},
	{"::ffff:8.8.8.8", true},
	{"64:ff9b::7f00:1", false}, // NAT64 of 127.0.0.1
	{"64:ff9b::a00:1", false},
	{"64:ff9b::a9fe:a9fe", false},
	{"64:ff9b::808:808", true},
	{"64:ff9b:1::1", false},
	{"100::1", false},
	{"1fff:ffff::1", false},
	{"2001::1", false},    // Teredo
	{"2001:2::1", false},  // benchmarking
	{"2001:10::1", false}, // ORCHID
	{"2001:1ff:ffff::1", false},
	{"2001:200::1", true},
	{"2001:db8::1", false},
	{"2001:db9::1", true},
	{"2002:7f00:1::1", false}, // 6to4 of 127.0.0.1
	{"2003::1", true},
	{"2606:4700::1111", true},
	{"3fff::1", false},
	{"3fff:fff::1", false},
	{"3fff:1000::1", true},
	{"4000::1", false},
	{"5f00::1", false},
	{"fc00::1", false},
	{"fd12:3456::1", false},
	{"fe80::1", false},
	{"fe80::1%eth0", false},
	{"2606:4700::1111%eth0", false},
	{"fec0::1", false},
	{"ff02::1", false},
}

// spec: PRX-8
func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	for _, c := range addresses {
		t.Run(c.addr, func(t *testing.T) {
			err := new(TargetPolicy).address(netip.MustParseAddr(c.addr), nil)
			var p *ProhibitedError
			switch {
			case c.public && err != nil:
				t.Errorf("refused: %v", err)
			case !c.public && !errors.As(err, &p):
				t.Errorf("not refused: %v", err)
			case !c.public && p.Why == "":
				t.Error("no reason")
			}
		})
	}
	if err := new(TargetPolicy).address(netip.Addr{}, nil); err == nil {
		t.Error("the zero address is allowed")
	}
}

func TestAllowedPrefixesAreDialled(t *testing.T) {
	p := &TargetPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}}
	for addr, want := range map[string]bool{"10.1.2.3": true, "10.2.0.0": false, "fd00::1": true, "fc00::1": false, "127.0.0.1": false} {
		if err := p.address(netip.MustParseAddr(addr), nil); (err == nil) != want {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestTheProxysOwnAddressesAreNotDialled(t *testing.T) {
	own, err := ownAddresses([]net.Addr{&net.TCPAddr{IP: net.ParseIP("::ffff:8.8.4.4"), Port: 1}})
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("8.8.4.4")
	if err := new(TargetPolicy).address(addr, own); err == nil {
		t.Error("dialled its own listener")
	}
	if err := new(TargetPolicy).address(netip.MustParseAddr("64:ff9b::808:404"), own); err == nil {
		t.Error("dialled its own listener through NAT64")
	}
	allow := &TargetPolicy{Allow: []netip.Prefix{netip.PrefixFrom(addr, 32)}}
	if err := allow.address(addr, own); err != nil {
		t.Errorf("refused what the operator allows: %v", err)
	}
}

// a network is a resolver and a TCP in memory.
type network struct {
	names map[string][]string
	// silent addresses never answer; refusing ones do at once.
	silent, refusing map[string]bool
	dialled          []string
}

func (n *network) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	list, ok := n.names[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(list) == 0 {
		<-ctx.Done()
		return nil, &net.DNSError{Err: ctx.Err().Error(), Name: host, IsTimeout: true}
	}
	var addrs []netip.Addr
	for _, a := range list {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

var errRefused = fmt.Errorf("refused: %w", syscall.ECONNREFUSED)

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.dialled = append(n.dialled, address)
	host, _, _ := net.SplitHostPort(address)
	switch {
	case n.silent[host]:
		<-ctx.Done()
		return nil, ctx.Err()
	case n.refusing[host]:
		return nil, errRefused
	}
	a, b := net.Pipe()
	b.Close()
	return a, nil
}

func (n *network) dialer(rules ...string) *dialer {
	var parsed connectto.Rules
	for _, r := range rules {
		rule, err := connectto.Parse(r)
		if err != nil {
			panic(err)
		}
		parsed = append(parsed, rule)
	}
	limits := Limits{}.withDefaults()
	policy := &TargetPolicy{Resolver: n, DialContext: n.dial}
	return newDialer(policy, parsed, &limits, func() []net.Addr { return nil })
}

// spec: PRX-7 PRX-8 PRX-29
func TestWhatIsDialled(t *testing.T) {
	names := map[string][]string{
		"origin.example":  {"192.0.1.1"},
		"two.example":     {"192.0.1.1", "2606:4700::1"},
		"rebound.example": {"127.0.0.1"},
		"mixed.example":   {"10.0.0.1", "::ffff:192.168.0.1", "192.0.1.1"},
		"mapped.example":  {"::ffff:192.0.1.1"},
		"inside.example":  {"10.0.0.1"},
	}
	for _, c := range []struct {
		name, authority string
		rules           []string
		want            string // "" when refused
	}{
		{"a name", "origin.example:443", nil, "192.0.1.1:443"},
		{"a literal", "192.0.1.7:443", nil, "192.0.1.7:443"},
		{"a literal of IPv6", "[2606:4700::1]:443", nil, "[2606:4700::1]:443"},
		{"another port", "origin.example:80", nil, ""},
		{"SSH", "192.0.1.7:22", nil, ""},
		{"a private literal", "10.0.0.1:443", nil, ""},
		{"a name that means loopback", "rebound.example:443", nil, ""},
		{"only what may be dialled of a name", "mixed.example:443", nil, "192.0.1.1:443"},
		{"a mapped address", "mapped.example:443", nil, "192.0.1.1:443"},
		{"not canonical", "ORIGIN.example:443", nil, ""},

		{"a rule's address", "origin.example:443", []string{"origin.example:443:127.0.0.1:9443"}, "127.0.0.1:9443"},
		{"a rule's address with its port", "origin.example:8443", []string{"origin.example:8443:127.0.0.1:9443"}, "127.0.0.1:9443"},
		{"a rule that names the address it stands for", "127.0.0.1:443", []string{"127.0.0.1:443:127.0.0.1:9443"}, "127.0.0.1:9443"},
		{"a rule for another host", "rebound.example:443", []string{"origin.example:443:127.0.0.1:9443"}, ""},
		{"a rule for any host", "rebound.example:443", []string{"::192.0.1.9:9443"}, "192.0.1.9:9443"},
		{"a rule's port alone does not allow the address", "rebound.example:443", []string{"rebound.example:443::9443"}, ""},
		{"a rule's port alone", "origin.example:443", []string{"origin.example:443::9443"}, "192.0.1.1:9443"},
		{"a rule without ports does not allow any", "origin.example:22", []string{"origin.example::127.0.0.1:"}, ""},
		{"a rule's name", "origin.example:443", []string{"origin.example:443:inside.example:443"}, "10.0.0.1:443"},
		{"the first rule decides", "origin.example:443", []string{"origin.example:443:127.0.0.1:1", "origin.example:443:127.0.0.1:2"}, "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &network{names: names}
			conn, err := n.dialer(c.rules...).dial(t.Context(), c.authority)
			if conn != nil {
				conn.Close()
			}
			if (err == nil) != (c.want != "") {
				t.Fatalf("error %v", err)
			}
			if got := strings.Join(n.dialled, " "); got != c.want {
				t.Errorf("dialled %q", got)
			}
		})
	}
}

func TestTheNextAddressIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{
			names:    map[string][]string{"origin.example": {"192.0.1.1", "192.0.1.2", "192.0.1.3"}},
			silent:   map[string]bool{"192.0.1.1": true},
			refusing: map[string]bool{"192.0.1.2": true},
		}
		start := time.Now()
		conn, err := n.dialer().dial(t.Context(), "origin.example:443")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if d := time.Since(start); d >= 10*time.Second {
			t.Errorf("after %v", d)
		}
		if len(n.dialled) != 3 || n.dialled[2] != "192.0.1.3:443" {
			t.Errorf("dialled %v", n.dialled)
		}
	})
}

func TestSilenceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{
			names:  map[string][]string{"mute.example": {}, "hole.example": {"192.0.1.1", "192.0.1.2"}},
			silent: map[string]bool{"192.0.1.1": true, "192.0.1.2": true},
		}
		for authority, reason := range map[string]string{"mute.example:443": "dns_timeout", "hole.example:443": "connection_timeout"} {
			start := time.Now()
			_, err := n.dialer().dial(t.Context(), authority)
			if d := time.Since(start); err == nil || d != 10*time.Second {
				t.Errorf("%s: %v after %v", authority, err, d)
			}
			if a := answerTo(err); a.status != 504 || a.reason != reason {
				t.Errorf("%s: answered %d %s", authority, a.status, a.reason)
			}
		}
	})
}

func TestANameWithManyAddressesIsNoPortScanner(t *testing.T) {
	n := &network{names: map[string][]string{}, refusing: map[string]bool{}}
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{192, 0, 1, byte(i)}).String()
		n.names["many.example"] = append(n.names["many.example"], a)
		n.refusing[a] = true
	}
	if _, err := n.dialer().dial(t.Context(), "many.example:443"); !errors.Is(err, errRefused) {
		t.Errorf("error %v", err)
	}
	if len(n.dialled) != 8 {
		t.Errorf("%d addresses were dialled", len(n.dialled))
	}
}

func TestDialsThatNeverGetTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{Dials: 1}.withDefaults()
		d := newDialer(new(TargetPolicy), nil, &limits, nil)
		release, err := d.acquire(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.acquire(t.Context(), "alice"); !errors.Is(err, errDialsBusy) {
			t.Errorf("error %v", err)
		} else if a := answerTo(err); a.status != 503 || a.reason != "connection_limit_reached" {
			t.Errorf("answered %d %s", a.status, a.reason)
		}
		release()
		if release, err = d.acquire(t.Context(), "alice"); err != nil {
			t.Errorf("after a release: %v", err)
		} else {
			release()
		}
	})
}

func TestConnectToInCurlsForm(t *testing.T) {
	rules, err := ParseConnectTo("origin.example:443:[::1]:8443", "::192.0.2.1:")
	if err != nil {
		t.Fatal(err)
	}
	if addr, port, ok := rules.Lookup("origin.example", 443); addr != "::1" || port != 8443 || !ok {
		t.Errorf("%s %d %t", addr, port, ok)
	}
	if addr, port, ok := rules.Lookup("other.example", 444); addr != "192.0.2.1" || port != 444 || !ok {
		t.Errorf("%s %d %t", addr, port, ok)
	}
	if rules, err := ParseConnectTo("nonsense"); err == nil {
		t.Errorf("%v", rules)
	}
}

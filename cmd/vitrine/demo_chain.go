package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"vitrine/client"
	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/origin"
	"vitrine/proxy"
)

// chainSteps show a chain of n proxies.
func chainSteps(n int) []demoStep {
	steps := []demoStep{{name: "chain", title: fmt.Sprintf("An inspected fetch through %d proxies, which all read it", n), run: func(ctx context.Context, st *stage) (sights, error) {
		return stepChain(ctx, st, n)
	}}}
	for i := range n {
		steps = append(steps, demoStep{name: fmt.Sprintf("chain-kill-%d", i+1), title: fmt.Sprintf("A page that proxy %d kills", i+1), run: func(ctx context.Context, st *stage) (sights, error) {
			return stepChainKill(ctx, st, n, i)
		}})
	}
	return append(steps,
		demoStep{name: "chain-consent", title: fmt.Sprintf("The user agrees to every proxy but proxy %d", n), run: func(ctx context.Context, st *stage) (sights, error) {
			return stepChainConsent(ctx, st, n)
		}},
		demoStep{name: "chain-loop", title: fmt.Sprintf("Behind proxy %d comes the first one again", n), run: func(ctx context.Context, st *stage) (sights, error) {
			return stepChainLoop(ctx, st, n)
		}},
	)
}

// A row is proxies, client side first, of which each goes through the next.
type row struct {
	tr     *client.Transport
	names  []string
	leaves [][32]byte
	guards []*guard
	asked  []string // whom the user was asked about
	refuse string   // whom the user does not agree to
	killer atomic.Int32
}

func chainName(i int) string {
	if i == 0 {
		return glassHost
	}
	return fmt.Sprintf("glass%d.example", i+1)
}

// serveRow starts n proxies, and a transport that goes through them. back leads from the last to the first.
func (st *stage) serveRow(ctx context.Context, n int, back bool) (*row, error) {
	r := new(row)
	r.killer.Store(-1)
	listeners := make([]net.Listener, n)
	rules := slices.Clone(st.rules)
	for i := range n {
		ln, err := loopback(ctx)
		if err != nil {
			return nil, err
		}
		listeners[i], r.names = ln, append(r.names, chainName(i))
		rules = append(rules, to(chainName(i), ln))
	}
	for i, ln := range listeners {
		cert, err := st.proxies.Proxy(chainName(i))
		if err != nil {
			return nil, errors.Join(err, ln.Close())
		}
		g := &guard{row: r, place: i}
		p := &proxy.Proxy{
			Certificate: cert, Roots: st.origins.Pool().CertPool, ConnectTo: rules,
			Policy: proxy.Policy{Modes: []fields.Mode{fields.Intact}}, Inspectors: []proxy.Inspector{g},
		}
		if i > 0 {
			p.ClientCAs = st.proxies.Pool().CertPool
		}
		if next := (i + 1) % n; next > 0 || back {
			p.Upstream = &proxy.UpstreamProxy{URL: "https://" + chainName(next), Roots: st.proxies.Pool().CertPool}
		}
		r.leaves, r.guards = append(r.leaves, pki.LeafHash(cert.Leaf)), append(r.guards, g)
		st.own(func() error { return p.Serve(ln) }, p.Close)
	}
	r.tr = &client.Transport{
		Proxy: "https://" + glassHost, ProxyRoots: st.proxies.Pool().CertPool, Roots: st.origins.Pool().CertPool,
		ConnectTo: connectto.Rules{to(glassHost, listeners[0])},
		Consent: client.ConsentFunc(func(_ context.Context, req *client.ConsentRequest) (*client.Agreement, error) {
			r.asked = append(r.asked, req.ProxyName) // one request at a time
			if req.ProxyName == r.refuse {
				return nil, errors.New("the user does not agree to " + req.ProxyName)
			}
			return new(client.Agreement), nil
		}),
	}
	st.cleanup = append(st.cleanup, r.tr.Close)
	return r, nil
}

// A guard is the inspector of one proxy of a row. It notes what it reads, and kills what names what is forbidden if it
// is its turn.
type guard struct {
	row   *row
	place int
	mu    sync.Mutex
	read  []byte
}

// Begin implements [proxy.Inspector].
func (g *guard) Begin(*proxy.Exchange) proxy.Inspection { return g }

func (*guard) Request(proxy.Part) proxy.Decision { return proxy.Decision{} }

func (g *guard) Response(p proxy.Part) proxy.Decision {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.read = p.Body.Append(g.read)
	if int(g.row.killer.Load()) == g.place && bytes.Contains(g.read, []byte(forbidden)) {
		return proxy.Decision{Action: proxy.Kill, Rule: killRule, Reason: killReason}
	}
	return proxy.Decision{}
}

func (*guard) Close(proxy.Outcome) {}

func (g *guard) content() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.read)
}

func stepChain(ctx context.Context, st *stage, n int) (saw sights, err error) {
	r, err := st.serveRow(ctx, n, false)
	if err != nil {
		return nil, err
	}
	resp, body, err := get(ctx, r.tr, shopHost, "/page")
	if err != nil {
		return nil, err
	}
	rep := client.ReportOf(resp)
	if rep == nil || rep.Evidence == nil || rep.Inner == nil || len(rep.Hops) != n || len(rep.Proxies) != n {
		return nil, fmt.Errorf("the response has no complete report: %+v", rep)
	}
	saw.add("client", "was asked about %s", strings.Join(r.asked, ", then "))
	saw.add("client", "level %s, confirmed by the origin: %t; evidence %s, verified: %t", rep.Level, rep.Inner.Confirmed, rep.Evidence.Kind, rep.Evidence.Verified)
	inOrder := true
	for i, p := range rep.Proxies {
		saw.add("client", "%s, and behind it %s with %s, ALPN %q", p.Subject, rep.Hops[i].Version, rep.Hops[i].Suite, rep.Hops[i].ALPN)
		inOrder = inOrder && p.Leaf == fmt.Sprintf("%x", r.leaves[i])
	}
	var info *origin.Inspection
	select {
	case info = <-st.reader:
	case <-ctx.Done():
	}
	if info == nil || info.ProxyCertificate == nil {
		return saw, errors.New("the origin does not know who read the exchange")
	}
	saw.add("origin", "knows of %d readers, %s; the last one showed its certificate: %s", len(info.Proxies), strings.Join(info.Via, ", "), info.ProxyCertificate.Subject)
	err = errors.Join(
		check(string(body) == pageText, "the client got %q", body),
		check(rep.Level == client.Intact && rep.Inner.Confirmed && rep.Evidence.Verified && rep.Evidence.Kind == "authenticator", "%+v", rep),
		check(inOrder, "the report names %+v", rep.Proxies),
		check(slices.Equal(r.asked, r.names), "the user was asked about %v", r.asked),
		check(slices.Equal(info.Proxies, r.leaves), "the origin knows of %x", info.Proxies),
	)
	for i, g := range r.guards {
		saw.add("proxy", "%s read %q", r.names[i], bytes.TrimSpace(g.content()))
		err = errors.Join(err, check(string(g.content()) == pageText, "%s read %q", r.names[i], g.content()))
	}
	return saw, err
}

func stepChainKill(ctx context.Context, st *stage, n, killer int) (saw sights, err error) {
	r, err := st.serveRow(ctx, n, false)
	if err != nil {
		return nil, err
	}
	r.killer.Store(int32(killer))
	_, body, err := get(ctx, r.tr, shopHost, "/secret")
	var killed *client.KilledError
	if !errors.As(err, &killed) {
		return nil, fmt.Errorf("/secret was not killed: %q, %w", body, err)
	}
	saw.add("client", "%v (signature verified: %t)", killed, killed.SignatureVerified)
	return saw, errors.Join(
		check(killed.SignatureVerified && killed.Proxy == r.names[killer] && killed.Rule == killRule, "the verdict says %+v", killed),
		check(exitCode(err) == exitKilled, "exit status %d", exitCode(err)),
		check(!bytes.Contains(body, []byte(forbidden)), "%q got out", body),
	)
}

func stepChainConsent(ctx context.Context, st *stage, n int) (saw sights, err error) {
	r, err := st.serveRow(ctx, n, false)
	if err != nil {
		return nil, err
	}
	r.refuse = r.names[n-1]
	_, body, err := get(ctx, r.tr, shopHost, "/page")
	var trust *client.TrustError
	if !errors.As(err, &trust) {
		return nil, fmt.Errorf("not refused: %q, %w", body, err)
	}
	saw.add("client", "%v", trust)
	saw.add("client", "exit status %d; nothing left for the origin", exitCode(err))
	return saw, errors.Join(
		check(trust.Party == client.PartyConsent && exitCode(err) == exitProxyTrust, "%s, exit status %d", trust.Party, exitCode(err)),
		check(slices.Equal(r.asked, r.names), "the user was asked about %v", r.asked),
		check(len(st.reader) == 0, "a request reached the origin"),
	)
}

func stepChainLoop(ctx context.Context, st *stage, n int) (saw sights, err error) {
	r, err := st.serveRow(ctx, n, true)
	if err != nil {
		return nil, err
	}
	_, body, err := get(ctx, r.tr, shopHost, "/page")
	var refused *client.UnreachableError
	if !errors.As(err, &refused) {
		return nil, fmt.Errorf("not refused: %q, %w", body, err)
	}
	saw.add("client", "%v", refused)
	return saw, errors.Join(
		check(refused.ProxyError == fields.ErrorProxyLoopDetected, "proxy-status says %q", refused.ProxyError),
		check(len(st.reader) == 0, "a request reached the origin"),
	)
}

// chainLengths is what --chain takes.
func chainLengths() []string {
	var words []string
	for n := 2; n <= tlsmsg.MaxProxies; n++ {
		words = append(words, strconv.Itoa(n))
	}
	return words
}

// chainLength checks --chain.
func chainLength(n int) error {
	if n < 2 || n > tlsmsg.MaxProxies {
		return usagef("--chain: a chain has 2 to %d proxies", tlsmsg.MaxProxies)
	}
	return nil
}

package proxy

import (
	"fmt"

	"vitrine/internal/pki"
)

// Reload puts the Certificate, Roots, ClientCAs, Policy, Inspectors, Targets, ConnectTo and Upstream of next in the
// place of p's. They are checked as Serve checks them, [ErrOpenProxy] included; after an error nothing has
// changed. Of next nothing else counts; next must not be in use.
//
// Nothing that is open ends. What begins later begins under the new settings:
//
//   - A CONNECT gets the new modes, bounds and targets, and no connection to an origin that was made under
//     other Roots, Targets, ConnectTo or Upstream.
//   - An exchange, in an open tunnel too, is judged by the new Inspectors from its request head on; one
//     that is under way keeps its own. Where a host may no longer be intact, the next request kills the
//     tunnel, with rule "policy-mode". Blind tunnels have no exchanges, and go on.
//   - A session of hop 1 that was made with another Certificate or under other ClientCAs keeps its tunnels,
//     and the certificate for their verdicts, and takes no new ones: the client is told to come again.
//
// It may be called at any time, before Serve too, and from any goroutine.
func (p *Proxy) Reload(next *Proxy) error {
	r, err := p.start()
	if err != nil {
		return err
	}
	st, err := r.settings(next)
	if err != nil {
		return err
	}
	if err := pki.CheckProxyCertificate(next.Certificate, r.now()); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isClosing() {
		return ErrServerClosed
	}
	for ln := range r.listeners {
		if !st.mayListen(ln.Addr()) {
			return ErrOpenProxy
		}
	}
	old := r.current.Load()
	if st.front.equal(old.front) {
		st.front = old.front
	}
	if st.epoch = old.epoch; !st.reaches(old) {
		st.epoch++
		// Before anybody can ask for the new epoch's connections: one of those would else not be kept.
		r.pool.begin(st.epoch)
	}
	r.holders.resize(r.limits.holders(&st.policy))
	r.current.Store(st)
	if st.front != old.front {
		close(old.front.retired)
	}
	return nil
}

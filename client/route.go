package client

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"vitrine/internal/fields"
)

// A route is verified evidence on one hop 1, and with it the proxy's connection to an origin, which exchanges
// name by the evidence's hash.
type route struct {
	authority string
	id        [32]byte
	level     Level             // Attested or Claimed
	origin    *x509.Certificate // the leaf in the evidence
	options   []fields.Mode     // what the refusal listed that the evidence came with
	why       string            // it was a refusal
	shared    bool              // the connection carries several exchanges at a time
	at        time.Time         // when the evidence was verified
	evidence  *EvidenceReport
	hops      []HopReport
	raw       []byte
	session   *session

	// Guarded by routes.mu.
	busy   int
	used   time.Time
	gone   bool
	unwind func() bool // stops waiting for the end of the agreement that it was made under
}

const (
	// maxRouteAge is how long evidence justifies exchanges: what the origin answered for was this proxy then.
	maxRouteAge = 10 * time.Minute
	// maxRouteIdle is a little less than proxies keep a connection without an exchange. What is older would only
	// be answered with other evidence.
	maxRouteIdle = 80 * time.Second
	// maxRoutes bounds the evidence that a hop 1 keeps, at up to 64 KiB each: a page that names a thousand hosts must not
	// make a client remember them all. Proxies keep as many connections.
	maxRoutes = 32
)

// routes are those of one hop 1.
type routes struct {
	mu     sync.Mutex
	list   []*route // the last used at the end
	closed bool
}

// route is what evidence that came with r gives.
func (r *refusal) route(s *session, a *attempt) *route {
	return &route{
		authority: a.authority, id: sha256.Sum256(r.raw), level: r.level(), origin: r.result.Origin, options: r.options, why: r.why,
		shared: r.result.Hop.ALPN == "h2", at: r.at, evidence: a.rep.Evidence, hops: a.rep.Hops, raw: r.raw, session: s,
	}
}

// add keeps r, reserved.
func (rs *routes) add(d *Dialer, a *attempt, r *route) *route {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.busy, r.used = 1, d.now()
	if rs.closed {
		r.gone = true
		return r
	}
	if len(rs.list) == maxRoutes {
		rs.removeLocked(rs.list[0])
	}
	rs.list = append(rs.list, r)
	if ends := a.agreement.Ends; ends != nil {
		r.unwind = context.AfterFunc(ends, func() {
			d.hop1.own(func() {
				rs.drop(r)
				d.hop1.closeIdle()
			})
		})
	}
	return r
}

// take returns a route to authority, reserved, or nil.
func (rs *routes) take(authority string, now time.Time) *route {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range slices.Clone(rs.list) {
		if now.Sub(r.at) >= maxRouteAge || r.busy == 0 && now.Sub(r.used) >= maxRouteIdle {
			rs.removeLocked(r)
		}
	}
	for i := len(rs.list) - 1; i >= 0; i-- {
		if r := rs.list[i]; r.authority == authority && (r.shared || r.busy == 0) {
			r.busy++
			return r
		}
	}
	return nil
}

// release gives back what take or add reserved.
func (rs *routes) release(r *route, now time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.busy--
	r.used = now
	if i := slices.Index(rs.list, r); i >= 0 {
		rs.list = append(slices.Delete(rs.list, i, i+1), r)
	}
}

// drop forgets r. Exchanges on it go on.
func (rs *routes) drop(r *route) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.removeLocked(r)
}

func (rs *routes) removeLocked(r *route) {
	if r.gone {
		return
	}
	r.gone = true
	if r.unwind != nil {
		r.unwind()
	}
	rs.list = slices.DeleteFunc(rs.list, func(o *route) bool { return o == r })
}

// clear forgets all; last says that none is kept any more.
func (rs *routes) clear(last bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.closed = rs.closed || last
	for _, r := range slices.Clone(rs.list) {
		rs.removeLocked(r)
	}
}

// refusal is what r was made of, for a user who is asked again.
func (r *route) refusal() *refusal {
	return &refusal{
		options: r.options, claim: r.level == Claimed, justified: r.level == Attested, why: r.why,
	}
}

// known finds a route from before. Where its level has to be chosen, the user is asked as at its beginning.
func (d *Dialer) known(ctx context.Context, s *session, a *attempt) (found bool, err error) {
	if !a.split || a.accepts(Intact) && a.chosen == "" && d.reached(a.authority, Intact) {
		return false, nil // a CONNECT may find that it can be had again
	}
	r := s.routes.take(a.authority, d.now())
	if r == nil {
		return false, nil
	}
	a.rep.Evidence, a.rep.EvidenceBytes = r.evidence, r.raw
	next, err := d.belowIntact(ctx, s, a, r.refusal())
	if err != nil || next != r.level {
		s.routes.release(r, d.now())
		a.rep.Evidence, a.rep.EvidenceBytes = nil, nil
		return false, err
	}
	if d.now().Sub(r.at) >= maxRouteAge { // the user took long to choose
		s.routes.drop(r)
		s.routes.release(r, d.now())
		a.rep.Evidence, a.rep.EvidenceBytes = nil, nil
		return false, nil
	}
	a.route = r
	return true, nil
}

// leave gives back the route that a has reserved and will not use.
func (a *attempt) leave() {
	if r := a.route; r != nil {
		a.route = nil
		r.session.routes.release(r, r.used)
	}
}

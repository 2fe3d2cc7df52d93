package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"vitrine/internal/hop"
)

const (
	// aloneMemory is how long the pool remembers that an origin's connections cannot be shared.
	aloneMemory = 10 * time.Minute
	// partingTime bounds the wait for what a connection still has to write when its last tunnel is gone.
	partingTime = 10 * time.Second
)

var (
	errUpstreamsFull = errors.New("too many connections to origins are open")
	errPoolClosed    = errors.New("the proxy is closing")
)

// A pool keeps the hop-2 connections. One is shared by the tunnels of one client to one origin, and only
// while the origin answers each request for evidence on it: a connection whose transcript holds another
// request's nonce proves nothing about this one's.
type pool struct {
	life   context.Context // ends when no origin is waited for any more
	shared int
	max    int
	part   int // of max, for one client
	onward int // of those to a next proxy, for one client
	idle   time.Duration

	mu      sync.Mutex
	entries map[poolKey]*poolEntry
	slots   map[*slot]struct{} // all that have not ended
	others  int                // dials under way, and connections of blind tunnels and of split mode
	spares  map[*spare]struct{}
	clients map[string]int // slots and others, of each client
	epoch   uint64         // of the connections to keep
	closed  bool
	wg      sync.WaitGroup // a goroutine for each slot
}

// poolKey says whom a connection serves.
type poolKey struct {
	authority, client string
	proxy             [32]byte // SHA-256 of the leaf that the proxy showed
	epoch             uint64   // of the settings that it was made under
	next              *nextProxy
}

type poolEntry struct {
	slots   []*slot
	dialing *dialing
	alone   time.Time // until then nothing is shared
}

func (e *poolEntry) isAlone() bool { return time.Now().Before(e.alone) }

// dialing is a dial that others wait for.
type dialing struct {
	done chan struct{}
	err  error // set before done is closed; nil when who dialled gave up
}

// A slot is one open connection.
type slot struct {
	pool     *pool
	key      poolKey
	upstream Upstream
	users    int
	listed   bool // others may find it
	ended    bool
	leave    chan struct{} // closed when ended
	timer    *time.Timer   // runs while listed and without users
}

func newPool(life context.Context, l *Limits) *pool {
	return &pool{
		life:   life,
		shared: l.Shared,
		max:    l.Upstreams,
		part:   l.part(l.Upstreams),
		// To the next proxy all our clients are one. It is taken to allow one as many connections as we do.
		onward:  l.part(l.part(l.Connections)),
		idle:    l.PoolIdle,
		entries: make(map[poolKey]*poolEntry),
		slots:   make(map[*slot]struct{}),
		spares:  make(map[*spare]struct{}),
		clients: make(map[string]int),
	}
}

// get returns a connection for key: one that is open, unless fresh, or the one that dial makes. CONNECTs
// that come while the first of their key is dialling wait for it: a page's twenty make one connection.
func (p *pool) get(ctx context.Context, key poolKey, fresh bool, dial func(context.Context) (*Upstream, error)) (*Upstream, error) {
	for {
		up, wait, own, err := p.find(key, fresh)
		if up != nil || err != nil {
			return up, err
		}
		if wait == nil {
			up, err = dial(ctx)
			return p.add(ctx, key, own, up, err)
		}
		select {
		case <-wait.done:
			if wait.err != nil {
				return nil, wait.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// find returns a connection to use, or a dial to wait for, or neither: then the caller dials and calls
// add; own, if not nil, is what others wait for.
func (p *pool) find(key poolKey, fresh bool) (up *Upstream, wait, own *dialing, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, nil, errPoolClosed
	}
	e := p.entries[key]
	if e != nil && !fresh && !e.isAlone() {
		for _, s := range e.slots {
			if s.users < s.room() && s.upstream.Session.Err() == nil {
				return s.use(), nil, nil, nil
			}
		}
		if e.dialing != nil {
			return nil, e.dialing, nil, nil
		}
	}
	part := p.part
	if key.next != nil {
		part = min(part, p.onward)
	}
	if !p.enter(key.client, part) {
		return nil, nil, nil, errUpstreamsFull
	}
	if e == nil {
		e = p.newEntry(key)
	}
	if e.dialing == nil {
		own = &dialing{done: make(chan struct{})}
		e.dialing = own
	}
	return nil, nil, own, nil
}

// enter counts one more connection, still to be made, as client's, if there is room for it: in all, and in part, which
// the client's are to stay within.
func (p *pool) enter(client string, part int) bool {
	if p.clients[client] >= part && !p.evict(func(who string) bool { return who == client }) {
		return false
	}
	if len(p.slots)+p.others >= p.max && !p.evict(func(string) bool { return true }) {
		return false
	}
	p.others++
	p.clients[client]++
	return true
}

// leave is called for each connection of client's that is no more.
func (p *pool) leave(client string) {
	if p.clients[client]--; p.clients[client] == 0 {
		delete(p.clients, client)
	}
}

// reserve counts a connection that the pool does not keep, until release is called.
func (p *pool) reserve(client string) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errPoolClosed
	}
	if !p.enter(client, p.part) {
		return nil, errUpstreamsFull
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.others--
		p.leave(client)
	}), nil
}

// newEntry makes room first when entries that only remember something have become many: a client that
// names ever new origins must not fill memory.
func (p *pool) newEntry(key poolKey) *poolEntry {
	if len(p.entries) >= 2*p.max {
		for k, e := range p.entries {
			if len(e.slots) == 0 && e.dialing == nil {
				delete(p.entries, k)
			}
		}
	}
	e := new(poolEntry)
	p.entries[key] = e
	return e
}

// evict ends a connection that nobody uses, of a client whose may be, and reports whether there was one.
func (p *pool) evict(may func(client string) bool) bool {
	for s := range p.slots {
		if s.users == 0 && may(s.key.client) {
			s.end()
			return true
		}
	}
	for s := range p.spares {
		if s.yield != nil && may(s.client) && s.yield() {
			s.leave()
			return true
		}
	}
	return false
}

// A spare is a connection of split mode. It counts as one of the pool's, which does not know more of it.
type spare struct {
	pool   *pool
	client string
	yield  func() bool // ends the connection if nobody uses it; nil until it is kept
}

// newSpare counts a connection of split mode. p.mu is held.
func (p *pool) newSpare(client string) *spare {
	s := &spare{pool: p, client: client}
	p.spares[s] = struct{}{}
	p.others++
	return s
}

// offer lets the pool end the connection by yield, which it calls with its lock held.
func (s *spare) offer(yield func() bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.yield = yield
}

// release says that the connection is no more.
func (s *spare) release() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.leave()
}

// leave is called with the pool's lock held.
func (s *spare) leave() {
	if _, ok := s.pool.spares[s]; ok {
		delete(s.pool.spares, s)
		s.pool.others--
		s.pool.leave(s.client)
	}
}

// add ends a dial that find asked for.
func (p *pool) add(ctx context.Context, key poolKey, own *dialing, up *Upstream, err error) (*Upstream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.others--
	e := p.entries[key]
	if e == nil {
		e = p.newEntry(key)
	}
	if own != nil {
		if ctx.Err() == nil {
			own.err = err
		}
		close(own.done)
		e.dialing = nil
	}
	if err != nil {
		p.leave(key.client)
		p.forget(key, e)
		return nil, err
	}
	shareable := up.Session != nil && up.shareable
	if !shareable {
		e.alone = time.Now().Add(aloneMemory)
	}
	switch {
	case up.Session != nil:
	case up.HTTP != nil:
		up.spare = p.newSpare(key.client)
		up.Done = up.spare.release
		return up, nil
	default:
		p.leave(key.client)
		return up, nil
	}
	s := &slot{pool: p, key: key, upstream: *up, leave: make(chan struct{}), timer: time.NewTimer(p.idle)}
	s.timer.Stop()
	s.upstream.Transcript = nil
	if p.closed {
		p.leave(key.client)
		s.ended = true
		close(s.leave)
	} else {
		p.slots[s] = struct{}{}
		if shareable && !e.isAlone() && key.epoch == p.epoch {
			s.listed = true
			e.slots = append(e.slots, s)
		}
	}
	p.wg.Add(1)
	go s.watch()
	out := s.use()
	out.Transcript = up.Transcript
	return out, nil
}

// forget drops an entry in which nothing is left.
func (p *pool) forget(key poolKey, e *poolEntry) {
	if len(e.slots) == 0 && e.dialing == nil && !e.isAlone() && p.entries[key] == e {
		delete(p.entries, key)
	}
}

// use counts one more tunnel on s.
func (s *slot) use() *Upstream {
	s.users++
	s.timer.Stop()
	up := s.upstream
	up.slot = s
	up.Done = sync.OnceFunc(s.release)
	return &up
}

// room is how many tunnels fit on s: one more than the origin takes would wait for one of them to end.
func (s *slot) room() int {
	if session, ok := s.upstream.Session.(interface{ MaxStreams() int }); ok {
		return min(s.pool.shared, session.MaxStreams())
	}
	return s.pool.shared
}

func (s *slot) release() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.users--
	switch {
	case s.users > 0 || s.ended:
	case s.listed:
		s.timer.Reset(s.pool.idle)
	default:
		s.end()
	}
}

// retire lets nobody else find s. alone says that the origin did not answer a request for evidence on
// it, so that its connections cannot be shared at all.
func (s *slot) retire(alone bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	e := s.pool.entries[s.key]
	if alone && e != nil {
		e.alone = time.Now().Add(aloneMemory)
		for _, other := range slices.Clone(e.slots) {
			other.unlist()
		}
	}
	s.unlist()
}

// answered says that the origin answered a request for evidence: its connections can be shared again.
func (s *slot) answered() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if e := s.pool.entries[s.key]; e != nil {
		e.alone = time.Time{}
	}
}

// unlist is called with the pool's lock held.
func (s *slot) unlist() {
	if !s.listed {
		return
	}
	s.listed = false
	s.timer.Stop()
	if e := s.pool.entries[s.key]; e != nil {
		e.slots = slices.DeleteFunc(e.slots, func(o *slot) bool { return o == s })
		s.pool.forget(s.key, e)
	}
	if s.users == 0 {
		s.end()
	}
}

// end is called with the pool's lock held.
func (s *slot) end() {
	if s.ended {
		return
	}
	s.ended = true
	delete(s.pool.slots, s)
	s.pool.leave(s.key.client)
	close(s.leave)
	s.unlist()
}

// watch owns the connection: it ends when the slot, or the session, does.
func (s *slot) watch() {
	defer s.pool.wg.Done()
	session := s.upstream.Session
	for {
		select {
		case <-s.timer.C:
			s.pool.mu.Lock()
			if s.users == 0 {
				s.end()
			}
			s.pool.mu.Unlock()
		case <-session.Done():
			s.pool.mu.Lock()
			s.end()
			s.pool.mu.Unlock()
			return
		case <-s.leave:
			s.timer.Stop()
			part(s.pool.life, session)
			return
		}
	}
}

// part lets a session write what it still has, a verdict and a reset perhaps, and ends it.
func part(ctx context.Context, session hop.Session) {
	ctx, cancel := context.WithTimeout(ctx, partingTime)
	defer cancel()
	if session.Drain(ctx) != nil {
		session.Close(hop.NoError, "")
	}
	<-session.Done()
}

// leaveClient ends what was kept for a client that is gone.
func (p *pool) leaveClient(client string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.entries {
		if key.client == client {
			p.disband(key, e)
		}
	}
}

// begin starts an epoch. Nobody finds the connections of an older one; each ends with its last tunnel.
func (p *pool) begin(epoch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch = epoch
	for key, e := range p.entries {
		if key.epoch != epoch {
			p.disband(key, e)
		}
	}
}

// disband unlists what e has and forgets it.
func (p *pool) disband(key poolKey, e *poolEntry) {
	e.alone = time.Time{}
	for _, s := range slices.Clone(e.slots) {
		s.unlist()
	}
	p.forget(key, e)
}

// close ends every connection. wg says when they are gone.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for s := range p.slots {
		s.end()
	}
}

package client

import (
	"slices"
	"sync"
)

// A Memory remembers what authorities were reached at: [Intact], or [Signed]. A lower offer for one of them later
// is an error that needs the user. It may outlive the program, and is called from several goroutines at once;
// whoever makes a client visit many origins must not make it grow without a bound. Authorities are
// "host:port", in one spelling.
type Memory interface {
	// Reached returns the better of what authority was reached at; Intact is better than Signed. ok is false
	// where nothing is remembered. A Memory that cannot tell returns Intact, true: it must not be a way down.
	Reached(authority string) (l Level, ok bool)
	// Remember is called each time that authority was reached at l. It must not wait long.
	Remember(authority string, l Level)
	// Forget drops what is remembered, for a user who was told.
	Forget(authority string)
}

// A memory remembers a bounded number of authorities. Past the bound the oldest goes: who makes a client
// visit thousands of origins can make it forget, not grow.
type memory struct {
	mu    sync.Mutex
	known map[string]Level
	order []string
}

const maxRemembered = 4096

// Reached implements [Memory].
func (m *memory) Reached(authority string) (Level, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.known[authority]
	return l, ok
}

// Remember implements [Memory]. What is better stays.
func (m *memory) Remember(authority string, l Level) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.known[authority]; ok {
		if old != Intact {
			m.known[authority] = l
		}
		return
	}
	if m.known == nil {
		m.known = make(map[string]Level)
	}
	if len(m.order) == maxRemembered {
		delete(m.known, m.order[0])
		m.order = slices.Delete(m.order, 0, 1)
	}
	m.known[authority] = l
	m.order = append(m.order, authority)
}

// Forget implements [Memory].
func (m *memory) Forget(authority string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, authority)
	m.order = slices.DeleteFunc(m.order, func(s string) bool { return s == authority })
}

// memory is where d remembers.
func (d *Dialer) memory() Memory {
	if d.Memory != nil {
		return d.Memory
	}
	return &d.worked
}

// reached says whether authority was reached at l, or better, before.
func (d *Dialer) reached(authority string, l Level) bool {
	best, ok := d.memory().Reached(authority)
	return ok && (best == l || best == Intact)
}

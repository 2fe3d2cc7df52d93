package consent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"vitrine/client"
	"vitrine/internal/fields"
)

// ErrNotRemembered is what [Memory.Remove]'s error wraps for an authority that the file does not have.
var ErrNotRemembered = errors.New("nothing is remembered of it")

const (
	// maxReached stops a page with links to ever more origins from filling the disk. The oldest go first.
	maxReached = 4096
	// refreshEvery is how old an entry may be before it is written anew: what is visited stays, and not every visit writes.
	refreshEvery = 24 * time.Hour
)

// A Memory is the file of what authorities were reached at, which outlives the program: what was intact once must
// not become less without the user, and a program that has just started does not know what was. It implements
// [client.Memory] and is safe for concurrent use, and so is the file. It names hosts that the user visited, and is
// private like the grants.
type Memory struct {
	path string

	mu     sync.Mutex
	seen   fs.FileInfo // of the file when it was read last; nil if there was none
	list   []Reached   // what was in it, the oldest first
	unkept []Reached   // what could not be written, for as long as this program runs
	failed error       // why
}

// Reached is what is remembered of one authority.
type Reached struct {
	Authority string       // host:port, in canonical form
	Level     client.Level // Intact or Signed
	At        time.Time    // of the last time, give or take a day
}

// MemoryPath is where the [Memory] beside the store at path is.
func MemoryPath(store string) string { return strings.TrimSuffix(store, ".json") + ".reached.json" }

// OpenMemory reads the file at path, which [MemoryPath] names. One that is not there is empty, and is made, with its
// folder, when there is something to remember. One that others may read or write, that is malformed or too large
// (1 MiB, 4,096 authorities) or of a later version is an error.
func OpenMemory(path string) (*Memory, error) {
	m := &Memory{path: path}
	_, err := m.List()
	return m, err
}

// List returns what is remembered, the oldest first.
func (m *Memory) List() ([]Reached, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, err := m.readLocked()
	return slices.Clone(list), err
}

// Reached implements [client.Memory]. When the file cannot be read it returns Intact, true.
func (m *Memory) Reached(authority string) (client.Level, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, err := m.readLocked()
	if err != nil {
		return client.Intact, true
	}
	l, ok := client.Level(""), false
	for _, known := range [][]Reached{list, m.unkept} { // either may be the later
		if i := indexReached(known, authority); i >= 0 {
			l, ok = better(l, known[i].Level), true
		}
	}
	return l, ok
}

// Remember implements [client.Memory]. What it cannot write it remembers for as long as the program runs; [Memory.Err]
// says why. It waits for other processes that are writing; only the user's own can make it wait.
func (m *Memory) Remember(authority string, l client.Level) {
	r := Reached{Authority: authority, Level: l, At: time.Now().UTC().Round(0)}
	if r.check() != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if list, err := m.readLocked(); err == nil && !newer(list, r) {
		return
	}
	err := m.changeLocked(func(list []Reached) ([]Reached, error) { return remembered(list, r), nil })
	if err != nil {
		m.unkept, m.failed = remembered(m.unkept, r), err
	}
}

// Forget implements [client.Memory]. [Memory.Err] says what went wrong.
func (m *Memory) Forget(authority string) {
	if _, err := m.Remove(authority); err != nil && !errors.Is(err, ErrNotRemembered) {
		m.mu.Lock()
		m.failed = err
		m.mu.Unlock()
	}
}

// Err is why something could not be written, or forgotten, last; nil if everything could.
func (m *Memory) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// Remove forgets these authorities, in canonical form, and returns what was remembered of them. If nothing is of one,
// the error wraps ErrNotRemembered and none is forgotten.
func (m *Memory) Remove(authorities ...string) (removed []Reached, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unkept = slices.DeleteFunc(m.unkept, func(r Reached) bool { return slices.Contains(authorities, r.Authority) })
	list, err := m.readLocked()
	if err != nil {
		return nil, err
	}
	for _, a := range authorities {
		if indexReached(list, a) < 0 { // and nothing is made for it
			return nil, fmt.Errorf("%w: %s", ErrNotRemembered, clean(a, maxSubject))
		}
	}
	if len(authorities) == 0 {
		return nil, nil
	}
	err = m.changeLocked(func(list []Reached) (kept []Reached, err error) {
		removed = nil
		for _, r := range list {
			if slices.Contains(authorities, r.Authority) {
				removed = append(removed, r)
			} else {
				kept = append(kept, r)
			}
		}
		return kept, nil
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// RemoveAll forgets everything, also what cannot be read, by removing the file.
func (m *Memory) RemoveAll() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unkept = nil
	if _, err := os.Lstat(m.path); errors.Is(err, fs.ErrNotExist) {
		return nil // and nothing is made for it
	}
	lock, err := lockBeside(m.path)
	if err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	defer lock.Close()
	if err := remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("consent: %w", err)
	}
	return nil
}

// readLocked returns what is in the file. It reads only what has changed.
func (m *Memory) readLocked() ([]Reached, error) {
	if !changed(m.path, m.seen) {
		return m.list, nil
	}
	text, info, err := readPrivate(m.path)
	var list []Reached
	if err == nil && info != nil {
		if list, err = parseReached(text); err != nil {
			err = fmt.Errorf("%s: %w", m.path, err)
		}
	}
	if err != nil {
		m.seen, m.list = nil, nil
		return nil, fmt.Errorf("consent: %w", err)
	}
	m.seen, m.list = info, list
	return list, nil
}

// changeLocked rewrites the file under its lock. f may change what it gets.
func (m *Memory) changeLocked(f func([]Reached) ([]Reached, error)) error {
	lock, err := lockBeside(m.path)
	if err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	defer lock.Close()
	list, err := m.readLocked()
	if err != nil {
		return err
	}
	if list, err = f(slices.Clone(list)); err != nil {
		return err
	}
	text, err := formatReached(list)
	if err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	if err := replace(m.path, text, m.seen); err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	_, err = m.readLocked()
	return err
}

// indexReached is where authority is in list, below 0 for nowhere.
func indexReached(list []Reached, authority string) int {
	return slices.IndexFunc(list, func(r Reached) bool { return r.Authority == authority })
}

// newer says whether r is worth writing.
func newer(list []Reached, r Reached) bool {
	i := indexReached(list, r.Authority)
	return i < 0 || better(list[i].Level, r.Level) != list[i].Level || r.At.Sub(list[i].At) >= refreshEvery
}

// better is the level of which the loss is the greater.
func better(a, b client.Level) client.Level {
	if a == client.Intact {
		return a
	}
	return b
}

// remembered is list with r at its end. The oldest make room.
func remembered(list []Reached, r Reached) []Reached {
	if i := indexReached(list, r.Authority); i >= 0 {
		r.Level = better(list[i].Level, r.Level)
		list = slices.Delete(list, i, i+1)
	}
	list = append(list, r)
	return list[max(0, len(list)-maxReached):]
}

// check returns what is wrong with r, whoever made it.
func (r *Reached) check() error {
	_, _, err := fields.ParseAuthority(r.Authority)
	switch {
	case err != nil:
		return fmt.Errorf("authority %q: %w", clean(r.Authority, maxSubject), err)
	case r.Level != client.Intact && r.Level != client.Signed:
		return fmt.Errorf("level %q is neither intact nor signed", clean(string(r.Level), maxSubject))
	case r.At.IsZero():
		return errors.New("no time")
	}
	return nil
}

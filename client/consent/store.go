package consent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"vitrine/client"
)

var (
	// ErrNoGrant is what Ask's error wraps when nothing stored covers a request.
	ErrNoGrant = errors.New("nothing that is stored grants it")
	// ErrUnknownID is what Revoke's error wraps for an id that no grant has.
	ErrUnknownID = errors.New("no such grant")
	// ErrRevoked is the cause of an agreement's end when its grant is gone, or allows something else, or ends sooner.
	ErrRevoked = errors.New("the grant was revoked")
	// ErrExpired is that cause when the grant's time is over.
	ErrExpired = errors.New("the grant's time is over")
	// ErrClosed is that cause after [Store.Close], and the error of the Store's other methods then.
	ErrClosed = errors.New("consent: the store is closed")
)

// A Store is the file of a user's grants. It implements [client.Consent]: what is stored is agreed to,
// nothing else. It is safe for concurrent use, and so is the file: several processes may have it open.
type Store struct {
	path   string
	memory *Memory // in a file of its own beside it

	mu       sync.Mutex
	seen     fs.FileInfo           // of the file when it was read last; nil if there was none
	live     map[string]*agreement // that Ask gave, by the grant's ID
	watching bool
	closed   bool
	done     chan struct{} // closed by Close
	wg       sync.WaitGroup
}

// An agreement is the end of those that Ask returns for one grant.
type agreement struct {
	grant Grant
	ends  context.Context
	end   context.CancelCauseFunc
}

// watchEvery is how long a revocation by another process, and the end of a grant's time, may go unnoticed.
const watchEvery = time.Second

// folderName is of the folder that is made for the grants and for nothing else.
const folderName = "vitrine"

// Path is where a user's grants are: $XDG_STATE_HOME/vitrine/consent.json. XDG_STATE_HOME defaults to
// ~/.local/state, also where it is not an absolute path.
func Path() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err == nil && !filepath.IsAbs(home) {
			err = errors.New("the home folder is not an absolute path")
		}
		if err != nil {
			return "", fmt.Errorf("consent: no folder to keep it in: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, folderName, "consent.json"), nil
}

// Open reads the store at path. A file that is not there is an empty store, which the first Add makes,
// with its folder. Both must be owned by the user, and the user's alone to read and to write: who can write
// there can agree in the user's name. A file that is malformed, too large (1 MiB, 4,096 grants) or of a later
// version is an error.
func Open(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("consent: %w", err)
	}
	s := &Store{path: path, memory: &Memory{path: MemoryPath(path)}, live: make(map[string]*agreement), done: make(chan struct{})}
	if _, err := s.Grants(); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the agreements that Ask gave, since nobody would notice their revocation any more, and waits for
// the Store's goroutine. It returns nil.
func (s *Store) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.endLocked(func(*agreement) error { return ErrClosed })
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Grants returns the grants whose time is not over, in the order in which they were added.
func (s *Store) Grants() ([]Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	grants, err := s.readLocked()
	return unexpired(grants, time.Now()), err
}

// Add stores a grant, and returns it as it is stored: with its ID and, if it had none, with now for Granted. One that
// allows the same is lengthened instead, or stays when it lasts longer. Grants whose time is over are dropped. It
// waits for other processes that are writing; only the user's own can make it wait.
func (s *Store) Add(g Grant) (Grant, error) {
	err := s.change(func(grants []Grant) ([]Grant, error) {
		if g.Granted.IsZero() {
			g.Granted = time.Now()
		}
		g.ID = newID(grants)
		g.ProxySubject = clean(g.ProxySubject, maxSubject)
		g.Granted, g.Until = g.Granted.UTC().Round(0), g.Until.UTC().Round(0)
		if len(g.Levels) == 0 {
			g.Levels = []client.Level{client.Intact}
		}
		g.Levels = ordered(g.Levels)
		if err := g.check(); err != nil {
			return nil, err
		}
		g.Scope = distinct(g.Scope)
		grants, g = put(grants, g)
		return grants, nil
	})
	if err != nil {
		return Grant{}, err
	}
	return g, nil
}

// Revoke removes the grants with these ids, and returns them. If one is not there, the error wraps ErrUnknownID
// and none is removed. What was opened under them in this process ends before Revoke returns, in other
// processes within a second.
func (s *Store) Revoke(ids ...string) ([]Grant, error) {
	for _, id := range ids {
		if !validID(id) {
			return nil, fmt.Errorf("%w: %q", ErrUnknownID, clean(id, maxSubject))
		}
	}
	return s.revoke(func(g *Grant) bool { return slices.Contains(ids, g.ID) }, ids)
}

// RevokeAll removes all grants, and returns them.
func (s *Store) RevokeAll() ([]Grant, error) {
	return s.revoke(func(*Grant) bool { return true }, nil)
}

func (s *Store) revoke(which func(*Grant) bool, ids []string) (revoked []Grant, err error) {
	if there, err := s.exists(); err != nil || !there {
		if err == nil && len(ids) > 0 {
			err = fmt.Errorf("%w: %s", ErrUnknownID, ids[0])
		}
		return nil, err // and nothing is made for it
	}
	err = s.change(func(grants []Grant) (kept []Grant, err error) {
		for _, id := range ids {
			if !slices.ContainsFunc(grants, func(g Grant) bool { return g.ID == id }) {
				return nil, fmt.Errorf("%w: %s", ErrUnknownID, id)
			}
		}
		for _, g := range grants {
			if which(&g) {
				revoked = append(revoked, g)
			} else {
				kept = append(kept, g)
			}
		}
		return kept, nil
	})
	if err != nil {
		return nil, err
	}
	return revoked, nil
}

// exists says whether there is a file.
func (s *Store) exists() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.readLocked()
	return s.seen != nil, err
}

// Ask implements [client.Consent]. Its error wraps ErrNoGrant when no grant covers the request. Where several do, one
// with credentials is preferred for a request that carries some, then one that allows the proxy less, and then the
// one that lasts longest. The agreement ends with its grant.
func (s *Store) Ask(_ context.Context, req *client.ConsentRequest) (*client.Agreement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	grants, err := s.readLocked()
	if err != nil {
		return nil, err
	}
	var best *Grant
	now := time.Now()
	for i := range grants {
		g := &grants[i]
		switch {
		case !g.Covers(req, now):
		case best == nil, len(req.Fields) > 0 && g.Credentials && !best.Credentials:
			best = g
		case len(req.Fields) > 0 && best.Credentials && !g.Credentials:
		case highest(g.Levels) != highest(best.Levels):
			if highest(g.Levels) < highest(best.Levels) {
				best = g
			}
		case g.Until.After(best.Until):
			best = g
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: %s for %s", ErrNoGrant, clean(req.ProxyName, maxSubject), clean(req.Authority, maxSubject))
	}
	a := s.live[best.ID]
	if a == nil {
		a = &agreement{grant: *best}
		a.ends, a.end = context.WithCancelCause(context.Background())
		s.live[best.ID] = a
	}
	if !s.watching {
		s.watching = true
		s.wg.Go(s.watch)
	}
	return &client.Agreement{Credentials: best.Credentials, Ends: a.ends}, nil
}

// watch ends agreements until there are none.
func (s *Store) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.done:
			return
		}
		if !s.look() {
			return
		}
	}
}

// look ends the agreements whose grants have ended, and says whether others live.
func (s *Store) look() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changedLocked() {
		s.readLocked() // an error of which has ended all of them
	}
	now := time.Now()
	s.endLocked(func(a *agreement) error {
		if now.Before(a.grant.Until) {
			return nil
		}
		return ErrExpired
	})
	s.watching = len(s.live) > 0 && !s.closed
	return s.watching
}

// endLocked ends the agreements for which why returns a cause.
func (s *Store) endLocked(why func(*agreement) error) {
	for id, a := range s.live {
		if cause := why(a); cause != nil {
			delete(s.live, id)
			a.end(cause)
		}
	}
}

// changedLocked says whether the file is another than the one that was read last.
func (s *Store) changedLocked() bool { return changed(s.path, s.seen) }

// readLocked reads the file, and ends the agreements whose grants are not there as they were. A store that cannot
// be read grants nothing.
func (s *Store) readLocked() ([]Grant, error) {
	if s.closed {
		return nil, ErrClosed
	}
	grants, info, err := read(s.path)
	if err != nil {
		err = fmt.Errorf("consent: %w", err)
		s.endLocked(func(*agreement) error { return err })
		return nil, err
	}
	s.seen = info
	s.endLocked(func(a *agreement) error {
		i := slices.IndexFunc(grants, func(g Grant) bool { return g.continues(&a.grant) })
		if i < 0 {
			return ErrRevoked
		}
		a.grant = grants[i]
		return nil
	})
	return grants, nil
}

// change rewrites the file under its lock. f gets the grants whose time is not over.
func (s *Store) change(f func(grants []Grant) ([]Grant, error)) error {
	lock, err := lockBeside(s.path)
	if err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	defer lock.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	grants, err := s.readLocked()
	if err != nil {
		return err
	}
	if grants, err = f(unexpired(grants, time.Now())); err != nil {
		return err
	}
	text, err := format(grants)
	if err != nil {
		return fmt.Errorf("consent: %s: %w", s.path, err)
	}
	err = replace(s.path, text, s.seen)
	if err != nil && len(grants) == 0 { // a full disk must not keep a user from taking everything back
		err = remove(s.path)
	}
	if err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	_, err = s.readLocked()
	return err
}

func unexpired(grants []Grant, now time.Time) []Grant {
	return slices.DeleteFunc(grants, func(g Grant) bool { return !now.Before(g.Until) })
}

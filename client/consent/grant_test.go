package consent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/internal/hosts"
)

func (g *Grant) equal(o *Grant) bool {
	return g.ID == o.ID && g.ProxyRootSPKI == o.ProxyRootSPKI && g.ProxyName == o.ProxyName && g.ProxySubject == o.ProxySubject &&
		slices.Equal(g.Scope, o.Scope) && g.Granted.Equal(o.Granted) && g.Until.Equal(o.Until) && g.Credentials == o.Credentials &&
		slices.Equal(g.Levels, o.Levels)
}

// What is granted twice is revoked at once: a second grant of the same would let through what the user took back.
func TestTheSameGrantTwiceIsOne(t *testing.T) {
	s := open(t, newPath(t))
	first := sample(t, "*.example", "shop.test")
	first.ProxySubject = ""
	first = add(t, s, first)
	add(t, s, sample(t, "other.example"))
	again := sample(t, "shop.test", "*.example", "shop.test")
	again.Until = time.Now().Add(2 * time.Hour)
	again = add(t, s, again)
	if again.ID != first.ID || again.Until.Before(first.Until) || again.ProxySubject != "CN=glass.example" || again.Granted.Before(first.Granted) {
		t.Errorf("granted %+v, then %+v", first, again)
	}
	shorter := sample(t, "*.example", "shop.test")
	shorter.Until = time.Now().Add(time.Minute)
	if shorter = add(t, s, shorter); !shorter.Until.Equal(again.Until) {
		t.Errorf("a shorter grant ends at %v, and the longer one at %v", shorter.Until, again.Until)
	}
	if list := grants(t, s); len(list) != 2 || !list[0].equal(&shorter) {
		t.Errorf("there is %+v", list)
	}
	if _, err := s.Revoke(first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ask(t.Context(), request("shop.test:443")); !errors.Is(err, ErrNoGrant) {
		t.Errorf("after it was revoked: %v", err)
	}
}

func TestWhatDiffersIsAnotherGrant(t *testing.T) {
	s := open(t, newPath(t))
	add(t, s, sample(t))
	for _, change := range []func(g *Grant){
		func(g *Grant) { g.ProxyRootSPKI[31] = 1 },
		func(g *Grant) { g.ProxyName = "mirror.example" },
		func(g *Grant) { g.Credentials = true },
		func(g *Grant) { g.Scope = scope(t, "*:443") },
		func(g *Grant) { g.Scope = scope(t, "*", "shop.example") },
		func(g *Grant) { g.Levels = []client.Level{client.Intact, client.Attested} },
	} {
		g := sample(t)
		change(&g)
		add(t, s, g)
	}
	if list := grants(t, s); len(list) != 7 {
		t.Errorf("%d grants, want 7: %+v", len(list), list)
	}
}

// A file of an earlier version may hold the same twice.
func TestWhatIsThereTwiceBecomesOne(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	g := add(t, s, sample(t))
	twin := g
	twin.ID, twin.Until = "bbbbbbbb", g.Until.Add(time.Hour)
	text, err := format([]Grant{g, twin})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := add(t, s, sample(t)); got.ID != g.ID || !got.Until.Equal(twin.Until) || len(grants(t, s)) != 1 {
		t.Errorf("%+v in %+v", got, grants(t, s))
	}
}

// A clock that was ahead for a while must not stop a user from granting again.
func TestAGrantFromTheFutureCanBeGrantedAgain(t *testing.T) {
	s := open(t, newPath(t))
	ahead := sample(t)
	ahead.Granted = time.Now().Add(48 * time.Hour)
	ahead.Until = ahead.Granted.Add(MaxTime)
	ahead = add(t, s, ahead)
	if again := add(t, s, sample(t)); again.ID != ahead.ID || !again.Until.Equal(ahead.Until) {
		t.Errorf("%+v", again)
	}
}

// Who lengthens a grant while a tunnel is open under it does not want it closed.
func TestALongerGrantEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		other := open(t, s.path)
		add(t, s, sample(t))
		a := ask(t, s, request("shop.example:443"))
		time.Sleep(30 * time.Minute)
		add(t, other, sample(t))
		time.Sleep(45 * time.Minute)
		synctest.Wait()
		if a.Ends.Err() != nil {
			t.Errorf("ended: %v", context.Cause(a.Ends))
		}
		time.Sleep(16 * time.Minute)
		synctest.Wait()
		if context.Cause(a.Ends) != ErrExpired {
			t.Errorf("ends: %v", context.Cause(a.Ends))
		}
		s.Close()
	})
}

// Who has granted nothing is not given a folder, a store and a lock for asking so.
func TestToRevokeMakesNoStore(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	if list, err := s.RevokeAll(); err != nil || list != nil {
		t.Errorf("%v %v", list, err)
	}
	if list, err := s.Revoke("abcdefgh"); !errors.Is(err, ErrUnknownID) || list != nil {
		t.Errorf("%v %v", list, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it made a folder")
	}
}

// Where nothing can be written any more, everything can still be taken back.
func TestAFullDiskKeepsNoGrant(t *testing.T) {
	s := open(t, newPath(t))
	one := add(t, s, sample(t, "one.example"))
	add(t, s, sample(t, "two.example"))
	a := ask(t, s, request("one.example:443"))
	if err := os.MkdirAll(filepath.Join(s.path+".new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Revoke(one.ID); err == nil || list != nil || a.Ends.Err() != nil {
		t.Errorf("%v %v: it cannot have worked", list, err)
	}
	if list, err := s.RevokeAll(); err != nil || len(list) != 2 || context.Cause(a.Ends) != ErrRevoked || len(grants(t, s)) != 0 {
		t.Errorf("%v %v; ends: %v", list, err, context.Cause(a.Ends))
	}
}

// A shared folder stays one: who follows an error's advice must not shut others out of /tmp.
func TestNobodyIsToldToCloseASharedFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	folder := t.TempDir()
	os.Chmod(folder, 0o777|fs.ModeSticky)
	path := filepath.Join(folder, "x")
	_, err := Open(path)
	if err == nil || strings.Contains(err.Error(), "chmod") || !strings.Contains(err.Error(), "folder of your own") {
		t.Errorf("%v", err)
	}
}

// spec: CLI-24
func TestAnErrorNamesAFileOnce(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	for name, spoil := range map[string]func(){
		"mode":     func() { os.Chmod(path, 0o644) },
		"nonsense": func() { os.WriteFile(path, []byte("{"), 0o600) },
		"a folder": func() { os.Remove(path); os.Mkdir(path, 0o700) },
		"in the way": func() {
			os.Remove(path)
			os.WriteFile(path, []byte(oneGrant), 0o600)
			os.MkdirAll(filepath.Join(path+".new", "in the way"), 0o700)
		},
	} {
		add(t, s, sample(t))
		spoil()
		_, err := s.Add(sample(t))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		text, _, _ := strings.Cut(err.Error(), "chmod")
		if !strings.HasPrefix(text, "consent: ") || strings.Count(text, path) != 1 {
			t.Errorf("%s: %v", name, err)
		}
		os.RemoveAll(path + ".new")
		os.RemoveAll(path)
	}
}

// An administrator who opens what another user owns would let that user agree for them.
// spec: CLI-24
func TestAnotherUsersStoreIsNotOurs(t *testing.T) {
	path := newPath(t)
	add(t, open(t, path), sample(t))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, known := ownerOf(info); !known {
		t.Skip("files have no owner here")
	}
	if err := checkPrivate(path, info, 0o600, os.Geteuid()); err != nil {
		t.Error(err)
	}
	if err := checkPrivate(path, info, 0o600, os.Geteuid()+1); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("%v", err)
	}
	if os.Geteuid() != 0 {
		return // nobody else can give files away
	}
	for _, name := range []string{path, filepath.Dir(path)} {
		os.Chown(name, 1234, -1)
		if _, err := Open(path); err == nil {
			t.Errorf("%s is another user's, and was opened", name)
		}
		os.Chown(name, 0, -1)
	}
}

func TestARelativeHomeIsNone(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", "here")
	if path, err := Path(); err == nil {
		t.Errorf("the grants would be in %s, wherever that is", path)
	}
}

func TestAScopeIsKeptAsItWasGiven(t *testing.T) {
	g := add(t, open(t, newPath(t)), sample(t, "b.example", "a.example", "b.example"))
	if !slices.Equal(g.Scope, []hosts.Pattern(scope(t, "b.example", "a.example"))) {
		t.Errorf("scope %v", g.Scope)
	}
}

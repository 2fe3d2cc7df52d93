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

var (
	_ client.Consent = (*Store)(nil)
	_ client.Consent = (*Prompt)(nil)
)

func scope(t testing.TB, patterns ...string) []hosts.Pattern {
	t.Helper()
	var list []hosts.Pattern
	for _, s := range patterns {
		p, err := hosts.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// sample is a grant for an hour from now.
func sample(t testing.TB, patterns ...string) Grant {
	if patterns == nil {
		patterns = []string{"*"}
	}
	return Grant{
		ProxyRootSPKI: [32]byte{1, 2, 3}, ProxyName: "glass.example", ProxySubject: "CN=glass.example",
		Scope: scope(t, patterns...), Until: time.Now().Add(time.Hour),
	}
}

func request(authority string, credentials ...string) *client.ConsentRequest {
	return &client.ConsentRequest{
		ProxyRootSPKI: [32]byte{1, 2, 3}, ProxyName: "glass.example", ProxySubject: "CN=glass.example", Authority: authority,
		Levels: []client.Level{client.Intact}, Fields: credentials, Words: "The proxy reads everything.",
	}
}

// newPath is where no store is yet.
func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "vitrine", "consent.json") }

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func add(t testing.TB, s *Store, g Grant) Grant {
	t.Helper()
	g, err := s.Add(g)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func ask(t testing.TB, c client.Consent, req *client.ConsentRequest) *client.Agreement {
	t.Helper()
	a, err := c.Ask(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func grants(t testing.TB, s *Store) []Grant {
	t.Helper()
	list, err := s.Grants()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPath(t *testing.T) {
	t.Setenv("HOME", "/home/alice")
	for state, want := range map[string]string{
		"":         "/home/alice/.local/state/vitrine/consent.json",
		"relative": "/home/alice/.local/state/vitrine/consent.json",
		"/state":   "/state/vitrine/consent.json",
	} {
		t.Setenv("XDG_STATE_HOME", state)
		if got, err := Path(); err != nil || filepath.ToSlash(got) != want {
			t.Errorf("XDG_STATE_HOME=%q: %q %v, want %q", state, got, err, want)
		}
	}
}

func TestWhatIsAddedIsThereForTheNext(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	if list := grants(t, s); len(list) != 0 {
		t.Errorf("an empty store has %v", list)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Open made a folder")
	}
	want := sample(t, "*.example", "192.0.2.1:8443")
	want.Credentials = true
	want.ProxySubject = "CN=glass\x1b[2J.example"
	added := add(t, s, want)
	if !validID(added.ID) || added.Granted.IsZero() || added.ProxySubject != "CN=glass?[2J.example" {
		t.Errorf("added %+v", added)
	}
	add(t, s, sample(t))
	list := grants(t, open(t, path))
	if len(list) != 2 || !list[0].equal(&added) || list[0].ID == list[1].ID {
		t.Errorf("read %+v, added %+v", list, added)
	}
	if runtime.GOOS != "windows" {
		for name, want := range map[string]fs.FileMode{path: 0o600, path + ".lock": 0o600, filepath.Dir(path): 0o700} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: mode %v %v, want %v", name, info.Mode(), err, want)
			}
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 {
		t.Errorf("%v %v, want the store and its lock", left, err)
	}
}

func TestAddRefuses(t *testing.T) {
	s := open(t, newPath(t))
	for name, change := range map[string]func(g *Grant){
		"no root":            func(g *Grant) { g.ProxyRootSPKI = [32]byte{} },
		"no name":            func(g *Grant) { g.ProxyName = "" },
		"a name in capitals": func(g *Grant) { g.ProxyName = "Glass.example" },
		"a name with a port": func(g *Grant) { g.ProxyName = "glass.example:443" },
		"no scope":           func(g *Grant) { g.Scope = nil },
		"an empty pattern":   func(g *Grant) { g.Scope = make([]hosts.Pattern, 1) },
		"a scope too long":   func(g *Grant) { g.Scope = slices.Repeat(g.Scope, maxScope+1) },
		"no end":             func(g *Grant) { g.Until = time.Time{} },
		"an end before now":  func(g *Grant) { g.Until = time.Now().Add(-time.Second) },
		"more than a year":   func(g *Grant) { g.Until = time.Now().Add(MaxTime + time.Minute) },
	} {
		g := sample(t)
		change(&g)
		if _, err := s.Add(g); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if list := grants(t, s); len(list) != 0 {
		t.Errorf("stored %v", list)
	}
	for _, name := range []string{"192.0.2.1", "2001:db8::1", "xn--bcher-kva.example"} {
		g := sample(t)
		g.ProxyName = name
		add(t, s, g)
	}
}

// spec: CLI-23
func TestAGrantCountsForWhatItSaysAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		add(t, s, sample(t, "*.example", "shop.test:8443"))
		for _, x := range []struct {
			name   string
			change func(req *client.ConsentRequest)
			ok     bool
		}{
			{"as granted", func(*client.ConsentRequest) {}, true},
			{"another port of a host", func(req *client.ConsentRequest) { req.Authority = "shop.example:8443" }, true},
			{"a host with its port", func(req *client.ConsentRequest) { req.Authority = "shop.test:8443" }, true},
			{"that host at another port", func(req *client.ConsentRequest) { req.Authority = "shop.test:443" }, false},
			{"a host outside", func(req *client.ConsentRequest) { req.Authority = "shop.invalid:443" }, false},
			{"what the pattern is below", func(req *client.ConsentRequest) { req.Authority = "example:443" }, false},
			{"another root", func(req *client.ConsentRequest) { req.ProxyRootSPKI[31] = 1 }, false},
			{"another name", func(req *client.ConsentRequest) { req.ProxyName = "mirror.example" }, false},
			{"another certificate of the proxy", func(req *client.ConsentRequest) { req.ProxySubject = "CN=new" }, true},
		} {
			req := request("shop.example:443")
			x.change(req)
			a, err := s.Ask(t.Context(), req)
			if (err == nil) != x.ok || (a != nil) != x.ok || err != nil && !errors.Is(err, ErrNoGrant) {
				t.Errorf("%s: %v %v", x.name, a, err)
			}
		}
		time.Sleep(time.Hour)
		if _, err := s.Ask(t.Context(), request("shop.example:443")); !errors.Is(err, ErrNoGrant) {
			t.Errorf("after its time: %v", err)
		}
		s.Close()
	})
}

func TestCredentialsAreWhatTheGrantSays(t *testing.T) {
	s := open(t, newPath(t))
	plain := sample(t)
	plain.Until = time.Now().Add(3 * time.Hour)
	add(t, s, plain)
	if ask(t, s, request("shop.example:443", "Cookie")).Credentials {
		t.Error("a grant to read became one for credentials")
	}
	secret := sample(t, "shop.example")
	secret.Credentials = true
	secret = add(t, s, secret)
	for _, order := range []string{"first", "last"} {
		if !ask(t, s, request("shop.example:443", "Cookie")).Credentials {
			t.Errorf("%s: the grant with credentials was not preferred", order)
		}
		if ask(t, s, request("shop.example:443")).Credentials {
			t.Errorf("%s: the one that lasts longest was not preferred", order)
		}
		if ask(t, s, request("other.example:443", "Cookie")).Credentials {
			t.Errorf("%s: a grant counted outside its scope", order)
		}
		if _, err := s.Revoke(grants(t, s)[0].ID); err != nil {
			t.Fatal(err)
		}
		add(t, s, plain)
	}
}

// spec: CLI-21
func TestRevokeEndsAgreementsAtOnce(t *testing.T) {
	s := open(t, newPath(t))
	one, two := add(t, s, sample(t, "one.example")), add(t, s, sample(t, "two.example"))
	a, b := ask(t, s, request("one.example:443")), ask(t, s, request("two.example:443"))
	if same := ask(t, s, request("one.example:443")); same.Ends != a.Ends {
		t.Error("one grant has several ends")
	}
	for _, ids := range [][]string{{one.ID, "aaaaaaaa"}, {"no id"}, {one.ID, ""}} {
		if list, err := s.Revoke(ids...); !errors.Is(err, ErrUnknownID) || list != nil {
			t.Errorf("Revoke(%q): %v %v", ids, list, err)
		}
	}
	if list, err := s.Revoke(); err != nil || list != nil || len(grants(t, s)) != 2 || a.Ends.Err() != nil {
		t.Errorf("nothing was revoked, and %v %v, %v", list, err, a.Ends.Err())
	}
	list, err := s.Revoke(one.ID, one.ID)
	if err != nil || len(list) != 1 || list[0].ID != one.ID {
		t.Errorf("revoked %v %v", list, err)
	}
	if a.Ends.Err() == nil || context.Cause(a.Ends) != ErrRevoked || b.Ends.Err() != nil {
		t.Errorf("ends: %v, the other: %v", context.Cause(a.Ends), b.Ends.Err())
	}
	if list, err := s.RevokeAll(); err != nil || len(list) != 1 || list[0].ID != two.ID || len(grants(t, s)) != 0 || context.Cause(b.Ends) != ErrRevoked {
		t.Errorf("revoked %v %v; ends: %v", list, err, context.Cause(b.Ends))
	}
}

// spec: CLI-25
func TestWhatAnotherStoreDoesIsSeenWithinASecond(t *testing.T) {
	for name, x := range map[string]struct {
		do   func(t *testing.T, other *Store, id string)
		want error // nil: the agreement stands
	}{
		"revoke":          {func(t *testing.T, o *Store, id string) { o.Revoke(id) }, ErrRevoked},
		"add":             {func(t *testing.T, o *Store, _ string) { add(t, o, sample(t)) }, nil},
		"revoke and add":  {func(t *testing.T, o *Store, id string) { o.Revoke(id); add(t, o, sample(t)) }, ErrRevoked},
		"nothing":         {func(*testing.T, *Store, string) {}, nil},
		"remove the file": {func(t *testing.T, o *Store, _ string) { os.Remove(o.path) }, ErrRevoked},
		"remove it all":   {func(t *testing.T, o *Store, _ string) { os.RemoveAll(filepath.Dir(o.path)) }, ErrRevoked},
		"narrow the scope": {func(t *testing.T, o *Store, _ string) {
			text, _ := os.ReadFile(o.path)
			os.WriteFile(o.path, []byte(strings.Replace(string(text), `"*"`, `"other.example"`, 1)), 0o600)
		}, ErrRevoked},
		"write nonsense": {func(t *testing.T, o *Store, _ string) { os.WriteFile(o.path, []byte("{"), 0o600) }, errors.ErrUnsupported},
		"let others in":  {func(t *testing.T, o *Store, _ string) { os.Chmod(o.path, 0o644) }, errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, newPath(t))
				g := add(t, s, sample(t))
				a := ask(t, s, request("shop.example:443"))
				time.Sleep(10*watchEvery + watchEvery/2) // nothing happens meanwhile
				if a.Ends.Err() != nil {
					t.Fatalf("it ended for no reason: %v", context.Cause(a.Ends))
				}
				x.do(t, open(t, s.path), g.ID)
				time.Sleep(watchEvery)
				synctest.Wait()
				cause := context.Cause(a.Ends)
				switch {
				case x.want == nil && cause != nil, x.want != nil && cause == nil:
					t.Errorf("ends: %v", cause)
				case x.want == ErrRevoked && cause != ErrRevoked:
					t.Errorf("ends: %v, want %v", cause, x.want)
				case x.want == errors.ErrUnsupported && !strings.Contains(cause.Error(), s.path):
					t.Errorf("ends: %v, which does not name the file", cause)
				}
				s.mu.Lock()
				if s.watching != (x.want == nil) {
					t.Errorf("watching: %v", s.watching)
				}
				s.mu.Unlock()
				s.Close()
			})
		})
	}
}

// Two changes that leave a file of the same size, in one tick of the file system's clock.
// spec: CLI-25
func TestAChangeIsNewerThanWhatItReplaces(t *testing.T) {
	s := open(t, newPath(t))
	add(t, s, sample(t))
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(s.path, future, future); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		before, err := os.Stat(s.path)
		if err != nil {
			t.Fatal(err)
		}
		add(t, s, sample(t))
		if after, err := os.Stat(s.path); err != nil || !after.ModTime().After(before.ModTime()) {
			t.Errorf("%v after %v, %v", after.ModTime(), before.ModTime(), err)
		}
	}
}

// spec: CLI-21 CLI-23
func TestAgreementsEndWithTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		add(t, s, sample(t, "shop.example"))
		later := sample(t, "other.example")
		later.Until = later.Until.Add(time.Hour)
		later = add(t, s, later)
		a, b := ask(t, s, request("shop.example:443")), ask(t, s, request("other.example:443"))
		time.Sleep(time.Hour - time.Nanosecond)
		synctest.Wait()
		if a.Ends.Err() != nil {
			t.Error("it ended early")
		}
		time.Sleep(watchEvery)
		synctest.Wait()
		if context.Cause(a.Ends) != ErrExpired || b.Ends.Err() != nil {
			t.Errorf("ends: %v, the other: %v", context.Cause(a.Ends), b.Ends.Err())
		}
		if list := grants(t, s); len(list) != 1 || list[0].ID != later.ID {
			t.Errorf("grants %v", list)
		}
		text, _ := os.ReadFile(s.path)
		added := add(t, s, sample(t))
		after, _ := os.ReadFile(s.path)
		if !strings.Contains(string(text), "shop.example") || strings.Contains(string(after), "shop.example") {
			t.Error("a grant that is over is dropped by the next write, not before and not later")
		}
		if _, err := s.Revoke(added.ID); err != nil {
			t.Error(err)
		}
		s.Close()
	})
}

func TestCloseEndsAgreements(t *testing.T) {
	s := open(t, newPath(t))
	g := add(t, s, sample(t))
	a := ask(t, s, request("shop.example:443"))
	s.Close()
	s.Close()
	if context.Cause(a.Ends) != ErrClosed {
		t.Errorf("ends: %v", context.Cause(a.Ends))
	}
	_, errAsk := s.Ask(t.Context(), request("shop.example:443"))
	_, errGrants := s.Grants()
	_, errAdd := s.Add(sample(t))
	_, errRevoke := s.Revoke(g.ID)
	_, errAll := s.RevokeAll()
	for i, err := range []error{errAsk, errGrants, errAdd, errRevoke, errAll} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if len(grants(t, open(t, s.path))) != 1 {
		t.Error("Close revoked")
	}
}

// spec: CLI-24
func TestOthersHaveNoAccess(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	for _, x := range []struct {
		file, folder fs.FileMode
		chmod        string
	}{
		{0o600, 0o700, ""},
		{0o400, 0o500, ""},
		{0o640, 0o700, "chmod 600 "},
		{0o602, 0o700, "chmod 600 "},
		{0o600, 0o755, "chmod 700 "},
		{0o600, 0o730, "chmod 700 "},
	} {
		path := newPath(t)
		s := open(t, path)
		g := add(t, s, sample(t))
		a := ask(t, s, request("shop.example:443"))
		os.Chmod(path, x.file)
		os.Chmod(filepath.Dir(path), x.folder)
		_, err := Open(path)
		if (err == nil) != (x.chmod == "") || err != nil && !strings.Contains(err.Error(), x.chmod+filepath.Dir(path)) {
			t.Errorf("%o %o: %v", x.file, x.folder, err)
		}
		if x.chmod != "" {
			if _, err := s.Ask(t.Context(), request("shop.example:443")); err == nil || errors.Is(err, ErrNoGrant) || a.Ends.Err() == nil {
				t.Errorf("%o %o: a store that was open still agrees: %v", x.file, x.folder, err)
			}
			if _, err := s.Add(sample(t)); err == nil {
				t.Errorf("%o %o: added to", x.file, x.folder)
			}
			if _, err := s.Revoke(g.ID); err == nil {
				t.Errorf("%o %o: revoked from", x.file, x.folder)
			}
		}
		os.Chmod(filepath.Dir(path), 0o700) // for who cleans up
	}
}

// A folder that is there before has its mode checked before anything is made in it.
// spec: CLI-24
func TestNothingIsMadeInASharedFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	folder := t.TempDir()
	os.Chmod(folder, 0o777)
	if _, err := Open(filepath.Join(folder, "consent.json")); err == nil {
		t.Error("opened")
	}
	s := &Store{path: filepath.Join(folder, "consent.json"), live: make(map[string]*agreement), done: make(chan struct{})}
	if _, err := s.Add(sample(t)); err == nil {
		t.Error("added")
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}

// spec: CLI-24
func TestWhatIsNoFileIsNoStore(t *testing.T) {
	path := newPath(t)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("a folder was opened")
	}
	os.Remove(path)
	elsewhere := filepath.Join(t.TempDir(), "x")
	os.WriteFile(elsewhere, []byte(`{"version":1,"grants":[]}`), 0o600)
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Skip(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("a link was followed")
	}
}

// A process that is cut short, or cannot write, leaves the store as it was.
func TestAWriteIsWholeOrNotAtAll(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	g := add(t, s, sample(t))
	if err := os.WriteFile(path+".new", []byte(`{"version":1,"gra`), 0o600); err != nil {
		t.Fatal(err)
	}
	add(t, s, sample(t, "shop.example"))
	if len(grants(t, s)) != 2 {
		t.Error("what another process left in the way counts")
	}
	before, _ := os.ReadFile(path)
	if err := os.MkdirAll(filepath.Join(path+".new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Revoke(g.ID); err == nil {
		t.Error("Revoke cannot have worked, and says nothing")
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the store was changed")
	}
}

func TestTheStoreIsBounded(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	g := add(t, s, sample(t))
	g.ProxySubject = strings.Repeat("x", maxSubject)
	full := func(n int) ([]Grant, []byte) {
		list := slices.Repeat([]Grant{g}, n)
		for i := range list {
			list[i].ID = "bbbbb" + string([]byte{byte('a' + i/676), byte('a' + i/26%26), byte('a' + i%26)})
		}
		text, err := format(list)
		if err != nil {
			t.Fatal(err)
		}
		return list, text
	}
	_, one := full(1)
	_, two := full(2)
	list, text := full((maxFile-len(one))/(len(two)-len(one)) + 1)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	another := list[0]
	another.ProxyName = "grass.example"
	if _, err := s.Add(another); err == nil || !strings.Contains(err.Error(), "revoke some") {
		t.Errorf("a full store: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(text) || len(grants(t, s)) != len(list) {
		t.Errorf("a full store was changed: %v", err)
	}
	if _, err := s.Revoke(list[0].ID); err != nil {
		t.Error(err)
	}
	add(t, s, another)
	if _, err := format(make([]Grant, maxGrants+1)); err == nil {
		t.Error("too many grants were written")
	}
}

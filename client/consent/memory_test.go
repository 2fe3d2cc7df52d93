package consent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
)

var (
	_ client.Memory = (*Memory)(nil)
	_ client.Memory = (*Store)(nil)
)

func openMemory(t testing.TB, path string) *Memory {
	t.Helper()
	m, err := OpenMemory(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newMemory(t testing.TB) *Memory { return openMemory(t, MemoryPath(newPath(t))) }

func reached(t testing.TB, m client.Memory, authority string, want client.Level) {
	t.Helper()
	if l, ok := m.Reached(authority); l != want || ok != (want != "") {
		t.Errorf("%s: reached at %q %v, want %q", authority, l, ok, want)
	}
}

func authorities(t testing.TB, m *Memory) (names []string) {
	t.Helper()
	list, err := m.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		names = append(names, r.Authority)
	}
	return names
}

// spec: CLI-84
func TestWhatWasIntactIsKnownToTheNextProgram(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	reached(t, s, "shop.example:443", "")
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("to look made a folder")
	}
	s.Remember("shop.example:443", client.Intact)
	s.Remember("signed.example:8443", client.Signed)
	for _, m := range []client.Memory{s, open(t, path), openMemory(t, MemoryPath(path))} {
		reached(t, m, "shop.example:443", client.Intact)
		reached(t, m, "signed.example:8443", client.Signed)
		reached(t, m, "shop.example:8443", "")
	}
	if err := s.Memory().Err(); err != nil {
		t.Error(err)
	}
	if runtime.GOOS != "windows" {
		for name, want := range map[string]fs.FileMode{MemoryPath(path): 0o600, MemoryPath(path) + ".lock": 0o600, filepath.Dir(path): 0o700} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: mode %v %v, want %v", name, info.Mode(), err, want)
			}
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 2 {
		t.Errorf("%v %v, want the memory and its lock, and no grants", left, err)
	}
}

func TestTheBetterLevelStays(t *testing.T) {
	m := newMemory(t)
	m.Remember("shop.example:443", client.Signed)
	m.Remember("shop.example:443", client.Intact)
	reached(t, m, "shop.example:443", client.Intact)
	m.Remember("shop.example:443", client.Signed)
	reached(t, openMemory(t, m.path), "shop.example:443", client.Intact)
	for _, l := range []client.Level{client.Blind, client.Direct, client.Attested, client.Claimed, ""} {
		m.Remember("other.example:443", l)
	}
	for _, name := range []string{"", "other.example", "Other.example:443", "other.example:0443", "a b:1", "x\x1b:443"} {
		m.Remember(name, client.Intact)
	}
	if names := authorities(t, m); !slices.Equal(names, []string{"shop.example:443"}) {
		t.Errorf("remembered %q", names)
	}
}

// A fetch of what is known writes nothing; a host that is visited does not become the oldest.
func TestAVisitADayIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		m.Remember("shop.example:443", client.Intact)
		m.Remember("other.example:443", client.Intact)
		before, _ := os.ReadFile(m.path)
		time.Sleep(refreshEvery - time.Second)
		m.Remember("shop.example:443", client.Intact)
		if after, _ := os.ReadFile(m.path); string(after) != string(before) {
			t.Error("it was written for nothing")
		}
		time.Sleep(time.Second)
		m.Remember("shop.example:443", client.Signed)
		if names := authorities(t, openMemory(t, m.path)); !slices.Equal(names, []string{"other.example:443", "shop.example:443"}) {
			t.Errorf("the order is %q", names)
		}
		reached(t, m, "shop.example:443", client.Intact)
	})
}

// spec: CLI-19
func TestTheMemoryIsBounded(t *testing.T) {
	m := newMemory(t)
	var list []Reached
	for i := range maxReached {
		list = append(list, Reached{Authority: fmt.Sprintf("h%d.example:443", i), Level: client.Intact, At: time.Now()})
	}
	text, err := formatReached(list)
	if err != nil {
		t.Fatal(err)
	}
	m.Remember("shop.example:443", client.Intact)
	if err := os.WriteFile(m.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	m.Remember("new.example:443", client.Intact)
	names := authorities(t, m)
	if len(names) != maxReached || names[0] != "h1.example:443" || names[maxReached-1] != "new.example:443" {
		t.Errorf("%d authorities, from %s to %s", len(names), names[0], names[len(names)-1])
	}
	for i := range list {
		list[i].Authority = fmt.Sprintf("h%d.%sexample:443", i, strings.Repeat("a2345678901234567890123456789.", 7))
	}
	text, err = formatReached(list)
	if err != nil || len(text) > maxFile {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if kept, err := parseReached(text); err != nil || len(kept) == 0 || kept[len(kept)-1].Authority != list[len(list)-1].Authority {
		t.Errorf("%d are kept, %v; the oldest go first", len(kept), err)
	}
}

func TestRemoveForgetsAllThatIsNamedOrNothing(t *testing.T) {
	m := newMemory(t)
	if _, err := m.Remove("one.example:443"); !errors.Is(err, ErrNotRemembered) {
		t.Error(err)
	}
	if err := m.RemoveAll(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(m.path)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("to forget nothing made a folder")
	}
	for _, name := range []string{"one.example:443", "two.example:443", "three.example:443"} {
		m.Remember(name, client.Intact)
	}
	if list, err := m.Remove("one.example:443", "four.example:443"); !errors.Is(err, ErrNotRemembered) || list != nil {
		t.Errorf("%v %v", list, err)
	}
	if list, err := m.Remove(); err != nil || list != nil || len(authorities(t, m)) != 3 {
		t.Errorf("%v %v", list, err)
	}
	other := openMemory(t, m.path)
	if list, err := other.Remove("one.example:443", "three.example:443"); err != nil || len(list) != 2 || list[0].Authority != "one.example:443" {
		t.Errorf("%v %v", list, err)
	}
	reached(t, m, "one.example:443", "")
	m.Forget("two.example:443")
	m.Forget("two.example:443")
	if names := authorities(t, other); names != nil || m.Err() != nil {
		t.Errorf("there is still %q, %v", names, m.Err())
	}
	m.Remember("one.example:443", client.Intact)
	if err := other.RemoveAll(); err != nil {
		t.Error(err)
	}
	reached(t, m, "one.example:443", "")
}

// Who can spoil the file must not have everybody read at less: what cannot be told counts as intact.
// spec: CLI-85
func TestAMemoryThatCannotTellIsNoWayDown(t *testing.T) {
	for name, spoil := range map[string]func(path string){
		"nonsense":        func(path string) { os.WriteFile(path, []byte("{"), 0o600) },
		"empty":           func(path string) { os.WriteFile(path, nil, 0o600) },
		"a later version": func(path string) { os.WriteFile(path, []byte(`{"version":2,"reached":[]}`), 0o600) },
		"too long":        func(path string) { os.WriteFile(path, []byte(strings.Repeat(" ", maxFile+1)), 0o600) },
		"a folder":        func(path string) { os.Remove(path); os.Mkdir(path, 0o700) },
		"others write":    func(path string) { os.Chmod(path, 0o602) },
	} {
		if name == "others write" && runtime.GOOS == "windows" {
			continue
		}
		m := newMemory(t)
		m.Remember("shop.example:443", client.Intact)
		spoil(m.path)
		if _, err := OpenMemory(m.path); err == nil || strings.Count(err.Error(), m.path) < 1 || !strings.HasPrefix(err.Error(), "consent: ") {
			t.Errorf("%s: opened: %v", name, err)
		}
		reached(t, m, "never.example:443", client.Intact)
		m.Remember("new.example:443", client.Intact)
		if m.Err() == nil {
			t.Errorf("%s: written to", name)
		}
		if _, err := m.Remove("shop.example:443"); err == nil || errors.Is(err, ErrNotRemembered) {
			t.Errorf("%s: %v", name, err)
		}
		// A user can always begin again.
		if err := m.RemoveAll(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		reached(t, m, "never.example:443", "")
	}
}

// A disk that is full, or a home that cannot be written to, keeps nobody from remembering for as long as they run.
func TestWhatCannotBeWrittenIsRememberedMeanwhile(t *testing.T) {
	m := newMemory(t)
	m.Remember("old.example:443", client.Intact)
	if err := os.MkdirAll(filepath.Join(m.path+".new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.Remember("shop.example:443", client.Signed)
	m.Remember("shop.example:443", client.Intact)
	reached(t, m, "shop.example:443", client.Intact)
	reached(t, m, "old.example:443", client.Intact)
	reached(t, openMemory(t, m.path), "shop.example:443", "")
	if m.Err() == nil {
		t.Error("nobody is told")
	}
	m.Forget("shop.example:443")
	reached(t, m, "shop.example:443", "")
	for i := range maxReached + 10 {
		m.unkept = remembered(m.unkept, Reached{Authority: fmt.Sprintf("h%d.example:443", i), Level: client.Intact, At: time.Now()})
	}
	if len(m.unkept) != maxReached {
		t.Errorf("%d are remembered", len(m.unkept))
	}
}

func TestANewMemoryIsNotMadeAmongOthersFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	folder := t.TempDir()
	os.Chmod(folder, 0o755)
	m := openMemory(t, filepath.Join(folder, "x.reached.json"))
	m.Remember("shop.example:443", client.Intact)
	if m.Err() == nil {
		t.Error("nobody is told")
	}
	reached(t, m, "shop.example:443", client.Intact)
	if left, _ := os.ReadDir(folder); len(left) != 0 {
		t.Errorf("made %v", left)
	}
}

const oneReached = `{
  "version": 1,
  "reached": [
    {
      "authority": "shop.example:443",
      "level": "intact",
      "at": "2026-01-02T03:04:05Z"
    }
  ]
}
`

func TestTheMemorysFileHasOneForm(t *testing.T) {
	list, err := parseReached([]byte(oneReached))
	if err != nil || len(list) != 1 || list[0] != (Reached{"shop.example:443", client.Intact, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}) {
		t.Errorf("%+v %v", list, err)
	}
	if text, err := formatReached(list); err != nil || string(text) != oneReached {
		t.Errorf("%s%v", text, err)
	}
	change := func(old, new string) string {
		if !strings.Contains(oneReached, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.Replace(oneReached, old, new, 1)
	}
	entry := oneReached[strings.Index(oneReached, "    {"):strings.LastIndex(oneReached, "\n  ]")]
	for name, x := range map[string]struct{ text, want string }{
		"nothing":           {"", "EOF"},
		"no version":        {`{"reached":[]}`, "version"},
		"a later version":   {change(`"version": 1`, `"version": 2`), "later"},
		"an unknown field":  {change(`"at"`, `"on"`), `"on"`},
		"a field twice":     {change(`"level": "intact"`, `"level": "signed", "level": "intact"`), "twice"},
		"an authority only": {change(`"shop.example:443"`, `"shop.example"`), "authority"},
		"in capitals":       {change(`"shop.example:443"`, `"Shop.example:443"`), "authority"},
		"an escape":         {change(`"shop.example:443"`, `"\u001b[2J:443"`), "authority"},
		"another level":     {change(`"intact"`, `"attested"`), "neither"},
		"no level":          {change(`"level": "intact",`, ""), "neither"},
		"no time": {change(`,
      "at": "2026-01-02T03:04:05Z"`, ""), "time"},
		"the same twice": {change(entry, entry+","+entry), "twice"},
		"deep":           {strings.Repeat("[", maxFile), "deep"},
		"too long":       {oneReached + strings.Repeat(" ", maxFile), "longer"},
		"too many":       {`{"version":1,"reached":[` + strings.TrimSuffix(strings.Repeat("{},", maxReached+1), ",") + `]}`, "at most"},
	} {
		if list, err := parseReached([]byte(x.text)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v %v, want an error with %q", name, list, err, x.want)
		}
	}
}

// What is accepted is written back and read as the same.
func FuzzParseReached(f *testing.F) {
	f.Add([]byte(oneReached))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseReached(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Error("what is no JSON was accepted")
		}
		again, err := formatReached(list)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > maxFile/4 {
			t.Skip("what was below the bound need not be in our own form")
		}
		if back, err := parseReached(again); err != nil || !slices.Equal(list, back) {
			t.Errorf("%+v was written as %s and read as %+v, %v", list, again, back, err)
		}
	})
}

// Two processes, and two Memories in this one, remember at once, and nothing is lost.
func TestTwoProcessesRememberAtOnce(t *testing.T) {
	path := newPath(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if out, err := other(t, "remember", path, "").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		wg.Go(func() {
			if err := otherProcess("remember", path, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if names := authorities(t, openMemory(t, MemoryPath(path))); len(names) != 4*12 {
		t.Errorf("%d are remembered, want %d", len(names), 4*12)
	}
}

// What could not be written once is no way down from what was written later.
func TestTheBetterLevelCountsWhereverItIs(t *testing.T) {
	m := newMemory(t)
	lock := m.path + ".lock"
	if err := os.MkdirAll(lock, 0o700); err != nil {
		t.Fatal(err)
	}
	m.Remember("shop.example:443", client.Signed)
	if m.Err() == nil {
		t.Fatal("it was written")
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	m.Remember("shop.example:443", client.Intact)
	reached(t, m, "shop.example:443", client.Intact)
}

package consent

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/internal/hosts"
)

// otherProcess is what a second process does to the store.
func otherProcess(job, path, id string) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	defer s.Close()
	switch job {
	case "revoke":
		_, err := s.Revoke(id)
		return err
	case "remember":
		for range 12 {
			s.Remember(strings.ToLower(rand.Text())+".example:443", client.Intact)
		}
		return s.Memory().Err()
	case "write":
		for i := range 24 {
			host, err := hosts.Parse(rand.Text() + ".example") // the same twice would be one
			if err != nil {
				return err
			}
			g, err := s.Add(Grant{ProxyRootSPKI: [32]byte{9}, ProxyName: "glass.example", Scope: []hosts.Pattern{host}, Until: time.Now().Add(time.Hour)})
			if err != nil {
				return err
			}
			if i%2 == 0 {
				if _, err := s.Revoke(g.ID); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return fmt.Errorf("unknown job %q", job)
}

// other is that process, not started yet.
func other(t *testing.T, job, path, id string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^$")
	cmd.Env = append(os.Environ(), "CONSENT_TEST_JOB="+job, "CONSENT_TEST_STORE="+path, "CONSENT_TEST_ID="+id)
	return cmd
}

// Two processes, and two Stores in this one, write at once, and nobody loses anything.
func TestTwoProcessesWriteAtOnce(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	kept := add(t, s, sample(t))
	a := ask(t, s, request("shop.example:443"))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if out, err := other(t, "write", path, "").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		wg.Go(func() {
			if err := otherProcess("write", path, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list := grants(t, s)
	if len(list) != 1+4*12 || list[0].ID != kept.ID {
		t.Errorf("%d grants, want %d", len(list), 1+4*12)
	}
	if a.Ends.Err() != nil {
		t.Errorf("the writing ended an agreement: %v", context.Cause(a.Ends))
	}
}

// spec: CLI-25
func TestAnotherProcessRevokes(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	g := add(t, s, sample(t))
	a := ask(t, s, request("shop.example:443"))
	if out, err := other(t, "revoke", path, g.ID).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	start := time.Now()
	<-a.Ends.Done()
	if cause := context.Cause(a.Ends); cause != ErrRevoked {
		t.Errorf("ends: %v", cause)
	}
	t.Logf("it took %v", time.Since(start))
}

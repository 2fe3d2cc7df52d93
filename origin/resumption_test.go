package origin

import (
	"crypto/tls"
	"net/http"
	"testing"
	"time"
)

// spec: TLS-36
func TestHowLongSessionsMayBeResumed(t *testing.T) {
	for _, c := range []struct {
		name     string
		resume   time.Duration
		disabled bool
		want     time.Duration // 0: not at all
		refused  bool
	}{
		{name: "by default", want: 12 * time.Hour},
		{name: "an hour", resume: time.Hour, want: time.Hour},
		{name: "as long as TLS allows", resume: 7 * 24 * time.Hour, want: 7 * 24 * time.Hour},
		{name: "longer", resume: 7*24*time.Hour + 1, refused: true},
		{name: "never", resume: -1},
		{name: "never, as the server's other sessions", resume: time.Hour, disabled: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{{0}}}}, SessionTicketsDisabled: c.disabled}
			cfg := &Config{ResumeFor: c.resume}
			srv := &http.Server{TLSConfig: user}
			if err := ConfigureServer(srv, cfg); (err != nil) != c.refused {
				t.Fatalf("%v", err)
			}
			if c.refused {
				return
			}
			keys := newServer(srv, cfg, user).tickets
			if (keys != nil) != (c.want > 0) {
				t.Fatalf("tickets: %v", keys != nil)
			}
			if keys != nil && keys.Lifetime != c.want && (c.want != 12*time.Hour || keys.Lifetime != 0) {
				t.Errorf("for %v", keys.Lifetime)
			}
		})
	}
}

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"vitrine/frames"
	"vitrine/internal/hop"
)

// What the caller puts into a carried tunnel is what the origin gets: here TLS of the caller's own, of a version and
// with protocols that a Dialer would not choose.
func TestACarriedTunnelIsTheCallers(t *testing.T) {
	w := newWorld(t)
	var asked []*ConsentRequest
	tr := w.transport(func(tr *Transport) {
		tr.Levels = []Level{Intact, Blind}
		tr.Consent = ConsentFunc(func(_ context.Context, req *ConsentRequest) (*Agreement, error) {
			asked = append(asked, req)
			return &Agreement{}, nil
		})
	})
	tun, err := tr.Carry(t.Context(), "ORIGIN.example:443")
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	if rep := tun.Report(); rep.Level != Blind || rep.Inner != nil || rep.Evidence != nil || len(rep.Proxies) != 1 {
		t.Errorf("%+v", rep)
	}
	if len(asked) != 1 || !slices.Equal(asked[0].Levels, []Level{Blind}) || asked[0].Authority != "origin.example:443" {
		t.Errorf("asked %+v", asked)
	}
	conn := tls.Client(tun, &tls.Config{RootCAs: w.origins.Pool().CertPool, ServerName: originName, MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	io.WriteString(conn, "GET /carried HTTP/1.1\r\nHost: origin.example\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || conn.ConnectionState().Version != tls.VersionTLS12 {
		t.Errorf("%q, %v, version %x", answer, err, conn.ConnectionState().Version)
	}
	if got := <-w.requests; got != "GET /carried" {
		t.Errorf("the origin was asked %q", got)
	}
	if tr.open() != 0 {
		t.Error("a carried tunnel became one of the pool's")
	}
}

// Who accepts intact alone sends nothing that nobody can read.
func TestCarryNeedsBlind(t *testing.T) {
	w := newWorld(t)
	d := w.dialer()
	d.NetDial = refuseDial(t)
	_, err := d.Carry(t.Context(), "origin.example:443")
	var level *LevelError
	if !errors.As(err, &level) || level.Option != "intact,blind" || ReportOfError(err) == nil {
		t.Errorf("%v, option %q", err, level.Option)
	}
}

func TestCarryOfWhatTheProxyWantsToRead(t *testing.T) {
	w := newWorld(t)
	w.answer = func(in hop.Incoming, _ *hop.Request) bool {
		w.refuse(in, frames.StatusInspectionRequired, "", nil)
		return true
	}
	d := w.dialer()
	d.Levels = []Level{Intact, Blind}
	_, err := d.Carry(t.Context(), "origin.example:443")
	var level *LevelError
	if !errors.As(err, &level) || !slices.Equal(level.Accepted, []Level{Blind}) || !slices.Equal(level.Offered, []string{"intact"}) {
		t.Errorf("%v", err)
	}
}

// A carried tunnel ends with the consent that it was opened under, and with the Transport.
func TestACarriedTunnelEndsWithItsConsent(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	granted, revoke := context.WithCancelCause(t.Context())
	d := w.dialer()
	d.Levels = []Level{Blind}
	d.Consent = ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) { return &Agreement{Ends: granted}, nil })
	tun, err := d.Carry(t.Context(), "origin.example:443")
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	gone := errors.New("revoked")
	revoke(gone)
	_, err = tun.Read(make([]byte, 1))
	var trust *TrustError
	if !errors.As(err, &trust) || trust.Party != PartyConsent || !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

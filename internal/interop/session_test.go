package interop

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/internal/itls"
)

const exporterLabel = "EXPORTER-vitrine-interop"

// A session of ours with a peer.
type session struct {
	*itls.Conn
	keylog *bytes.Buffer
	flow   *recorder
}

// config is what both roles of ours begin with.
func (r *run) config() *itls.Config {
	return &itls.Config{
		TLS:                 &tls.Config{ServerName: host, RootCAs: r.pool, Certificates: nil},
		Suites:              []uint16{r.suite},
		UnprotectedForTests: true,
	}
}

// over runs a handshake of ours over conn.
func (r *run) over(conn net.Conn, cfg *itls.Config) (*session, error) {
	r.Helper()
	s := &session{keylog: new(bytes.Buffer)}
	s.flow = &recorder{Conn: conn, client: r.role == asClient}
	// A shallow copy that shares caches: one key log for each session.
	own := *cfg
	own.TLS = cfg.TLS.Clone()
	own.TLS.KeyLogWriter = s.keylog
	// Nothing a peer does may hold a test for ever.
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		r.Fatal(err)
	}
	if r.role == asClient {
		s.Conn = itls.Client(s.flow, &own)
	} else {
		s.Conn = itls.Server(s.flow, &own)
	}
	r.Cleanup(func() { s.Conn.Close() })
	err := s.Handshake()
	if err == nil {
		if got := s.ConnectionState().CipherSuite; got != r.suite {
			r.Errorf("suite %#04x", got)
		}
	}
	return s, err
}

// keyLogOf are the lines of a key log that belong to a session, sorted.
func keyLogOf(text, clientRandom string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && strings.EqualFold(f[1], clientRandom) {
			lines = append(lines, f[0]+" "+strings.ToLower(f[2]))
		}
	}
	slices.Sort(lines)
	return lines
}

// clientRandom is from our own key log.
func (s *session) clientRandom() string { return strings.Fields(s.keylog.String())[1] }

// wantExporter compares what a peer exported with what we do.
func (s *session) wantExporter(t testing.TB, theirs string) {
	t.Helper()
	ours, err := s.ExportKeyingMaterial(exporterLabel, nil, len(theirs)/2)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.EqualFold(theirs, hex.EncodeToString(ours)) {
		t.Errorf("exporter: theirs %s, ours %x", theirs, ours)
	}
}

// send writes a text, and has the peer show it.
func (s *session) send(t testing.TB, text string) {
	t.Helper()
	if _, err := io.WriteString(s, text); err != nil {
		t.Fatal(err)
	}
}

// want reads a text.
func (s *session) want(t testing.TB, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

// wantEnd reads what may still come and then close_notify.
func (s *session) wantEnd(t testing.TB) {
	t.Helper()
	if rest, err := io.ReadAll(s); err != nil {
		t.Fatalf("%q and then %v, want close_notify", rest, err)
	}
}

// cutOff says whether an error is that of a session that ended without close_notify.
func cutOff(err error) bool {
	_, network := errors.AsType[*net.OpError](err)
	timeout := false
	if e, ok := errors.AsType[net.Error](err); ok {
		timeout = e.Timeout()
	}
	return errors.Is(err, itls.ErrTruncated) || network && !timeout
}

// wantAlert expects that a handshake ended with an alert.
func wantAlert(t testing.TB, err error, alert string, remote bool) {
	t.Helper()
	a, ok := errors.AsType[*itls.AlertError](err)
	if !ok || a.Remote != remote || a.Alert.String() != alert {
		t.Fatalf("%v, want alert %s, from the peer: %t", err, alert, remote)
	}
}

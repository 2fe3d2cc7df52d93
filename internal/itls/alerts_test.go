package itls

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"vitrine/internal/tlsmsg"
)

// A scene makes one end send the alert of a row of the specification's table of alerts.
type scene struct {
	row  int
	role string // of the end under test: client or server
	name string
	play func(t *testing.T, s *stage) error // the error of the end under test
}

// A stage notes what the end under test sends.
type stage struct{ sent bytes.Buffer }

func (s *stage) watch(p *pipe) {
	p.onSend = func(b []byte) []byte {
		s.sent.Write(b)
		return b
	}
}

// alert is the last record that was sent, which must be an alert. None of these ends pads.
func (s *stage) alert(t *testing.T) (level byte, alert tlsmsg.Alert) {
	t.Helper()
	list := records(t, s.sent.Bytes())
	if len(list) == 0 {
		t.Fatal("nothing was sent")
	}
	last := list[len(list)-1]
	h, _ := tlsmsg.ParseRecordHeader(last)
	body := last[tlsmsg.RecordHeaderLen:]
	if h.Type == tlsmsg.TypeApplicationData {
		if len(body) != 2+1+32 || body[2] != byte(tlsmsg.TypeAlert) {
			t.Fatalf("the last record is no alert: %x", last)
		}
	} else if h.Type != tlsmsg.TypeAlert || len(body) != 2 {
		t.Fatalf("the last record is no alert: %x", last)
	}
	return body[0], tlsmsg.Alert(body[1])
}

type alertRow struct {
	alert string
	roles []string
}

// alertTable reads the table of the specification.
func alertTable(t *testing.T) map[int]alertRow {
	t.Helper()
	text, err := os.ReadFile("../../spec/vitrine.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n### 8.8. Alerts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[int]alertRow{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \| ([a-z_]+) \| (client|server|both) \| .+ \|$`).FindAllStringSubmatch(section, -1) {
		n, _ := strconv.Atoi(m[1])
		if n != len(table)+1 {
			t.Errorf("row %d follows row %d", n, len(table))
		}
		roles := []string{m[3]}
		if m[3] == "both" {
			roles = []string{"client", "server"}
		}
		table[n] = alertRow{m[2], roles}
	}
	if lines := strings.Count(section, "\n| "); lines != len(table)+1 {
		t.Errorf("%d lines of a table with %d rows and a head", lines, len(table))
	}
	return table
}

func scenes() []scene {
	var all []scene
	for _, list := range [][]scene{recordScenes(), messageScenes(), certificateScenes(), clientScenes(), serverScenes()} {
		all = append(all, list...)
	}
	return all
}

// Every row of the table has a scene for each role that it names, and every scene ends as its row says, in
// the error that the caller gets and in the record that the peer gets.
//
// spec: TLS-53
func TestEveryAlertOfTheTable(t *testing.T) {
	table := alertTable(t)
	missing := map[string]bool{}
	for n, row := range table {
		for _, role := range row.roles {
			missing[fmt.Sprintf("row %d, %s: %s", n, role, row.alert)] = true
		}
	}
	for _, c := range scenes() {
		row, ok := table[c.row]
		if !ok {
			t.Errorf("scene of row %d, which is not there", c.row)
			continue
		}
		delete(missing, fmt.Sprintf("row %d, %s: %s", c.row, c.role, row.alert))
		t.Run(fmt.Sprintf("%d/%s/%s", c.row, c.role, c.name), func(t *testing.T) {
			s := new(stage)
			err := c.play(t, s)
			level, sent := s.alert(t)
			if sent.String() != row.alert {
				t.Errorf("sent %s (%v), want %s", sent, err, row.alert)
			}
			if sent == tlsmsg.AlertCloseNotify {
				if err != nil || level != 1 {
					t.Errorf("close_notify of level %d, %v", level, err)
				}
				return
			}
			if alertOf(err) != sent || level != 2 {
				t.Errorf("sent %s of level %d, failed with %v", sent, level, err)
			}
		})
	}
	for row := range missing {
		t.Errorf("no scene of %s", row)
	}
}

type script func(t *testing.T, s *stage) error

// configs runs two honest ends that do not agree.
func configs(role string, change func(t *testing.T, cc, sc *Config)) script {
	return func(t *testing.T, s *stage) error {
		cc, sc := clientConfig(), serverConfig()
		change(t, cc, sc)
		a, b := newPipe()
		defer a.Close()
		defer b.Close()
		client, server := Client(a, cc), Server(b, sc)
		if role == "client" {
			s.watch(a)
			err, _ := shake(client, server)
			return err
		}
		s.watch(b)
		_, err := shake(client, server)
		return err
	}
}

// clientGetsFlight lets a server that follows the protocol up to ServerHello do as it likes behind it.
func clientGetsFlight(behind func(hs *serverHandshake) error, change ...func(cc, sc *Config)) script {
	return func(t *testing.T, s *stage) error {
		cc, sc := clientConfig(), serverConfig()
		for _, f := range change {
			f(cc, sc)
		}
		a, b := newPipe()
		defer a.Close()
		s.watch(a)
		done := make(chan struct{})
		go func() {
			defer close(done)
			scriptedServer(Server(b, sc), behind)
		}()
		err := Client(a, cc).Handshake()
		<-done
		return err
	}
}

// clientGetsHello answers ClientHellos with these hellos.
func clientGetsHello(hellos ...*tlsmsg.ServerHello) script {
	return func(t *testing.T, s *stage) error { return answerHello(clientConfig(), s, hellos...) }
}

func answerHello(cc *Config, s *stage, hellos ...*tlsmsg.ServerHello) error {
	a, b := newPipe()
	defer a.Close()
	s.watch(a)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = retryingServer(Server(b, serverConfig()), hellos...)
	}()
	err := Client(a, cc).Handshake()
	a.Close()
	<-done
	return err
}

// plainHello is a ServerHello that a client would go on from, changed.
func plainHello(change func(h *tlsmsg.ServerHello)) *tlsmsg.ServerHello {
	x, err := newKeyExchange(tls.X25519)
	if err != nil {
		panic(err)
	}
	h := &tlsmsg.ServerHello{
		LegacyVersion: tlsmsg.VersionTLS12, Random: [32]byte{1}, CipherSuite: tlsmsg.SuiteSHA256,
		Extensions: built(func(b *tlsmsg.ExtensionBuilder) {
			b.SelectedVersion(tlsmsg.VersionTLS13)
			b.KeyShare(x.share())
		}),
	}
	if change != nil {
		change(h)
	}
	return h
}

// serverGetsHello sends a changed ClientHello.
func serverGetsHello(change func(h *tlsmsg.ClientHello), configure ...func(sc *Config)) script {
	return func(t *testing.T, s *stage) error {
		sc := serverConfig()
		for _, f := range configure {
			f(sc)
		}
		a, b := newPipe()
		defer a.Close()
		s.watch(b)
		scriptedClient(t, a, clientConfig(), change)
		a.CloseWrite()
		return Server(b, sc).Handshake()
	}
}

// serverGets sends bytes, behind a ClientHello where hello says so.
func serverGets(hello bool, bytes ...[]byte) script {
	return func(t *testing.T, s *stage) error {
		a, b := newPipe()
		defer a.Close()
		s.watch(b)
		if hello {
			scriptedClient(t, a, clientConfig(), nil)
		}
		for _, p := range bytes {
			a.inject(p)
		}
		a.CloseWrite()
		return Server(b, serverConfig()).Handshake()
	}
}

// serverGetsFlight lets a client that follows the protocol up to the server's Finished do as it likes behind
// it.
func serverGetsFlight(behind func(hs *clientHandshake) error, configure ...func(sc *Config)) script {
	return func(t *testing.T, s *stage) error {
		sc := serverConfig()
		for _, f := range configure {
			f(sc)
		}
		a, b := newPipe()
		defer a.Close()
		s.watch(b)
		hs := scriptedClient(t, a, clientConfig(), nil)
		done := make(chan error, 1)
		go func() { done <- Server(b, sc).Handshake() }()
		if err := hs.steps(hs.readServerHello, hs.readParameters, hs.authenticateServer); err != nil {
			t.Fatal(err)
		}
		if err := behind(hs); err != nil {
			t.Fatal(err)
		}
		a.CloseWrite()
		return <-done
	}
}

// afterwards lets the peer of an established session do as it likes; the end under test reads.
func afterwards(role string, peer func(t *testing.T, from, to *Conn)) script {
	return func(t *testing.T, s *stage) error {
		to, from := connect(t, clientConfig(), serverConfig())
		if role == "server" {
			to, from = from, to
		}
		s.watch(to.conn.(*pipe))
		peer(t, from, to)
		_ = from.conn.(*pipe).CloseWrite()
		buf := make([]byte, 100)
		for {
			if _, err := to.Read(buf); err != nil {
				return err
			}
		}
	}
}

// forBoth is a scene of each role.
func forBoth(row int, name string, play func(role string) script) []scene {
	return []scene{{row, "client", name, play("client")}, {row, "server", name, play("server")}}
}

// inFlight sends one message of the handshake, to a client behind EncryptedExtensions and to a server in
// place of Finished.
func inFlight(row int, name string, message []byte) []scene {
	return []scene{
		{row, "client", name, clientGetsFlight(afterExtensions(func(hs *serverHandshake) error { return hs.send(message) }))},
		{row, "server", name, serverGetsFlight(func(hs *clientHandshake) error { return hs.record(tlsmsg.TypeHandshake, message) })},
	}
}

// inCertificate sends a Certificate message, to a server that asks for one.
func inCertificate(row int, name string, message func() []byte) []scene {
	return []scene{
		{row, "client", name, clientGetsFlight(afterExtensions(func(hs *serverHandshake) error { return hs.send(message()) }))},
		{row, "server", name, serverGetsFlight(func(hs *clientHandshake) error { return hs.record(tlsmsg.TypeHandshake, message()) }, asking)},
	}
}

func asking(sc *Config) {
	sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
}

func handshakeMessage(t tlsmsg.HandshakeType, body ...byte) []byte {
	n := len(body)
	return append([]byte{byte(t), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

func mustAppend(m interface {
	Append(b []byte) ([]byte, error)
},
) []byte {
	b, err := m.Append(nil)
	if err != nil {
		panic(err)
	}
	return b
}

func plainRecord(t tlsmsg.ContentType, b []byte) []byte {
	return append(tlsmsg.RecordHeader{Type: t, Version: tlsmsg.VersionTLS12, Length: len(b)}.Append(nil), b...)
}

package itls

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"vitrine/internal/tlsmsg"
)

// bogoMode makes this test binary a shim: a program that BoringSSL's runner starts with flags, and that
// speaks TLS to it as they say.
const bogoMode = "-bogo-shim"

// bogoUnimplemented is the exit code for a test that the shim cannot take part in.
const bogoUnimplemented = 89

// A bogoShim is one run of the shim: a connection, and perhaps some that resume it.
type bogoShim struct {
	sessions SessionCache
	tickets  TicketKeys
	clock    time.Time // stands still, but for -resumption-delay
}

// runBogoShim returns an exit code.
func runBogoShim(args []string, stdout, stderr io.Writer) int {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == bogoMode })
	first, resumed, err := parseBogo(args)
	if err == nil && first.probe {
		fmt.Fprintln(stdout, "No")
		return 0
	}
	if err == nil {
		s := &bogoShim{clock: time.Now()}
		s.tickets.Time = s.now
		for i := 0; i <= first.resumeCount && err == nil; i++ {
			o := first
			if i > 0 {
				o = resumed
			}
			err = s.connect(o, i > 0)
			s.clock = s.clock.Add(time.Duration(o.delay) * time.Second)
		}
	}
	switch {
	case errors.Is(err, errBogo):
		fmt.Fprintln(stdout, err)
		return bogoUnimplemented
	case err != nil:
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func (s *bogoShim) now() time.Time { return s.clock }

// A bogoSession is one connection.
type bogoSession struct {
	*bogoShim
	o      *bogoOptions
	resume bool
	conn   *Conn
	certs  []*tls.Certificate // by the number of their credential

	scheme  tls.SignatureScheme   // of the peer
	offered []tls.SignatureScheme // by the peer
	shown   []byte                // our leaf
}

func (s *bogoShim) connect(o *bogoOptions, resume bool) error {
	b := &bogoSession{bogoShim: s, o: o, resume: resume}
	cfg, err := b.config()
	if err != nil {
		return err
	}
	network := "127.0.0.1"
	if o.ipv6 {
		network = "::1"
	}
	wire, err := net.Dial("tcp", net.JoinHostPort(network, o.port))
	if err != nil {
		return err
	}
	defer wire.Close()
	id, err := strconv.ParseUint(o.shimID, 10, 64)
	if err != nil {
		return err
	}
	if _, err := wire.Write(binary.LittleEndian.AppendUint64(nil, id)); err != nil {
		return err
	}
	carrier := &bogoConn{Conn: wire, arrived: b.arrived, departed: b.departed}
	var under net.Conn = carrier
	if o.slow {
		under = slowConn{carrier}
	}
	b.conn = newConn(under, cfg, !o.server)
	carrier.session = b.conn
	err = b.exchange()
	if err == nil {
		err = b.conn.CloseWrite()
	}
	// The runner may still be writing, and would not read our alert if that failed.
	_ = wire.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, wire)
	if err == nil && !o.server && o.expect.noSession && s.sessions.Len() > 0 {
		err = errors.New("there is a session, and should be none")
	}
	return err
}

func (b *bogoSession) config() (*Config, error) {
	o := b.o
	cfg := &Config{
		TLS:                 &tls.Config{ServerName: "test", RootCAs: o.roots, Time: b.now},
		Groups:              o.groups,
		Sessions:            &b.sessions,
		Tickets:             &b.tickets,
		UnprotectedForTests: true,
	}
	if cfg.Groups == nil {
		cfg.Groups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.X25519MLKEM768}
	}
	if o.noTicket {
		cfg.Sessions, cfg.Tickets = nil, nil
	}
	for _, s := range bogoSuites() {
		cfg.Suites = append(cfg.Suites, s.id)
		cfg.testSuites = append(cfg.testSuites, &s.suite)
	}
	for _, c := range o.credentials {
		cert, err := c.load()
		if err != nil {
			return nil, err
		}
		b.certs = append(b.certs, cert)
	}
	// The default credential is the last choice.
	for i := range b.certs {
		if cert := b.certs[(i+1)%len(b.certs)]; cert != nil {
			cfg.TLS.Certificates = append(cfg.TLS.Certificates, *cert)
		}
	}
	if o.hostName != "" {
		cfg.TLS.ServerName = o.hostName
	}
	if o.server {
		return cfg, b.serverConfig(cfg)
	}
	cfg.TLS.NextProtos = o.alpn
	if o.failCert {
		return nil, unimplemented("a client's certificates come from no callback")
	}
	return cfg, nil
}

func (b *bogoSession) serverConfig(cfg *Config) error {
	o := b.o
	if o.mustMatch {
		return unimplemented("a server looks at no names of issuers")
	}
	switch {
	case o.clientAuth != tls.NoClientCert:
		cfg.TLS.ClientAuth = o.clientAuth
	case o.verifyPeer:
		cfg.TLS.ClientAuth = tls.RequestClientCert
	}
	switch {
	case o.rejectALPN:
		cfg.TLS.NextProtos = []string{"a protocol that nobody offers"}
	case o.selectALPN != nil && !o.declineALPN:
		cfg.TLS.NextProtos = []string{*o.selectALPN}
	}
	if o.failCert {
		cfg.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return nil, errors.New("the callback fails")
		}
		cfg.TLS.Certificates = nil
	}
	cfg.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if o.failHello {
			return nil, abort(tlsmsg.AlertHandshakeFailure, "the callback fails")
		}
		if o.failLater {
			return nil, errors.New("the callback fails")
		}
		if want := o.expect.advertised; want != nil {
			var x bogoOptions
			if err := setALPN(&x, *want); err != nil || !slices.Equal(hello.SupportedProtos, x.alpn) {
				return nil, fmt.Errorf("the client offers protocols %q, want %q", hello.SupportedProtos, *want)
			}
		}
		return nil, nil
	}
	return nil
}

func (b *bogoSession) arrived(msg []byte) {
	if m, err := tlsmsg.ParseClientHello(msg); err == nil {
		b.offered = m.SignatureSchemes
	}
	if m, err := tlsmsg.ParseCertificateRequest(msg); err == nil {
		b.offered = m.SignatureSchemes
	}
	if m, err := tlsmsg.ParseCertificateVerify(msg); err == nil {
		b.scheme = m.Scheme
	}
}

func (b *bogoSession) departed(msg []byte) {
	if m, err := tlsmsg.ParseCertificate(msg); err == nil && len(m.Entries) > 0 {
		b.shown = m.Entries[0].Cert
	}
}

// exchange does what a test wants done in a session: to write first what it says, then to send back
// whatever comes, changed.
func (b *bogoSession) exchange() error {
	if err := b.conn.Handshake(); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return err
	}
	if b.o.twice {
		if err := b.conn.Handshake(); err != nil {
			return err
		}
	}
	if err := b.writeFirst(); err != nil {
		return err
	}
	if b.o.recordSizes {
		for _, n := range []int{0, 1, 255, 256, 257, 16383, 16384, 16385, 32767, 32768, 32769} {
			if _, err := b.conn.Write(bytes.Repeat([]byte{0x42}, n)); err != nil {
				return err
			}
		}
		return nil
	}
	if b.o.shutsDown {
		if err := b.conn.CloseWrite(); err != nil || !b.o.checkClose {
			return err
		}
	}
	return b.echo()
}

func (b *bogoSession) writeFirst() error {
	var first []byte
	if n := b.o.exportLen; n > 0 {
		out, err := b.conn.ExportKeyingMaterial(b.o.exportLabel, []byte(b.o.exportData), n)
		if err != nil {
			return err
		}
		first = append(first, out...)
	}
	if b.o.exportSecret {
		first = binary.LittleEndian.AppendUint16(first, uint16(b.conn.suite.size))
		first = append(first, b.conn.in.secret...)
		first = append(first, b.conn.out.secret...)
	}
	if b.o.writesFirst {
		first = append(first, b.o.initialWrite...)
	}
	_, err := b.conn.Write(first)
	return err
}

func (b *bogoSession) echo() error {
	buf := make([]byte, b.o.readSize)
	for {
		if err := b.updateKeys(b.o.updateFirst); err != nil {
			return err
		}
		n, err := b.conn.Read(buf)
		switch {
		case err == io.EOF, errors.Is(err, ErrTruncated) && !b.o.checkClose:
			return nil
		case err != nil:
			return err
		case b.o.shutsDown:
			return errors.New("data after we closed")
		}
		if err := b.updateKeys(b.o.update); err != nil {
			return err
		}
		for i := range buf[:n] {
			buf[i] ^= 0xff
		}
		if _, err := b.conn.Write(buf[:n]); err != nil {
			return err
		}
		if b.o.exportOften {
			if _, err := b.conn.ExportKeyingMaterial("some label", nil, 32); err != nil {
				return err
			}
		}
	}
}

// updateKeys changes our keys, and does not ask the peer to change its own.
func (b *bogoSession) updateKeys(wanted bool) error {
	if !wanted {
		return nil
	}
	b.conn.out.Lock()
	defer b.conn.out.Unlock()
	return b.conn.sendKeyUpdate(false)
}

// check compares the session with what the test expects of it.
func (b *bogoSession) check() error {
	state, want := b.conn.ConnectionState(), b.o.expect
	var failed []error
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			failed = append(failed, fmt.Errorf(format, args...))
		}
	}
	expect(!want.never, "the handshake succeeded")
	expect(state.DidResume == (b.resume && !want.miss), "DidResume is %v", state.DidResume)
	expect(want.version == 0 || state.Version == want.version, "version %x", state.Version)
	expect(want.cipher == 0 || state.CipherSuite == want.cipher, "cipher suite %x", state.CipherSuite)
	expect(want.curve == 0 || state.CurveID == want.curve, "group %s", state.CurveID)
	expect(want.scheme == 0 || state.DidResume || b.scheme == want.scheme, "peer's scheme %s", b.scheme)
	expect(want.offered == nil || slices.Equal(b.offered, want.offered), "schemes that the peer offers: %s", b.offered)
	expect(!want.hrr || state.HelloRetryRequest, "no HelloRetryRequest")
	expect(!want.noHRR || !state.HelloRetryRequest, "a HelloRetryRequest")
	expect(want.serverName == "" || state.ServerName == want.serverName, "server name %q", state.ServerName)
	expect(!want.noServerName || state.ServerName == "", "server name %q", state.ServerName)
	expect(want.ocsp == nil || bytes.Equal(state.OCSPResponse, want.ocsp), "OCSP response %x", state.OCSPResponse)
	expect(want.scts == nil || bytes.Equal(joinSCTs(state.SignedCertificateTimestamps), want.scts), "another list of SCTs")
	expect(want.peer == nil || sameCertificates(state.PeerCertificates, want.peer), "other certificates of the peer")
	expect(!want.noPeer || state.PeerCertificates == nil, "a certificate of the peer")
	if b.o.server {
		want.alpn = ""
		if b.o.selectALPN != nil {
			want.alpn = *b.o.selectALPN
		}
	}
	expect(state.NegotiatedProtocol == want.alpn, "application protocol %q", state.NegotiatedProtocol)
	if want.credential != nil && !state.DidResume {
		// The default credential is number -1, the others count from 0.
		i := slices.IndexFunc(b.certs, func(c *tls.Certificate) bool {
			return c != nil && b.shown != nil && bytes.Equal(c.Certificate[0], b.shown)
		})
		expect(i-1 == *want.credential, "credential %d", i-1)
	}
	return errors.Join(failed...)
}

// bogoArguments are the command line's, or nil where this is no shim.
func bogoArguments() []string {
	if !slices.Contains(os.Args, bogoMode) {
		return nil
	}
	return os.Args[1:]
}

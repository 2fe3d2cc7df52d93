package itls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vitrine/internal/tlsmsg"
)

// A machineState is what an end under test waits for (RFC 8446, appendix A), with a peer that has brought
// it there.
type machineState struct {
	name   string
	client bool                   // the end under test is a client
	waits  []tlsmsg.HandshakeType // what it takes there
	reach  func(p *machinePeer) error

	retry, asks, resumes bool // the handshake that the state is of
}

// A machinePeer follows the protocol to a state, with whatever is tolerated in between, and then does as it
// likes.
type machinePeer struct {
	*Conn
	ch     *clientHandshake
	sh     *serverHandshake
	tested *Conn
	ends   [2]*pipe
	ended  chan struct{}
	err    error // of the end under test, when it has ended

	tolerated func(p *machinePeer) error
}

func (p *machinePeer) between() error {
	if p.tolerated == nil {
		return nil
	}
	return p.tolerated(p)
}

// steps runs steps of the protocol, with what is tolerated behind each.
func (p *machinePeer) steps(list ...func() error) error {
	for _, step := range list {
		if err := step(); err != nil {
			return err
		}
		if err := p.between(); err != nil {
			return err
		}
	}
	return nil
}

// message sends one message of the handshake that f appends.
func (p *machinePeer) message(f func(b []byte) ([]byte, error)) func() error {
	return func() error {
		m, err := f(nil)
		if err != nil {
			return err
		}
		return p.record(tlsmsg.TypeHandshake, m)
	}
}

// machineStates are all states of both roles.
func machineStates() []machineState {
	const (
		hello, request, certificate  = tlsmsg.TypeClientHello, tlsmsg.TypeCertificateRequest, tlsmsg.TypeCertificate
		verify, finished, parameters = tlsmsg.TypeCertificateVerify, tlsmsg.TypeFinished, tlsmsg.TypeEncryptedExtensions
	)
	types := func(list ...tlsmsg.HandshakeType) []tlsmsg.HandshakeType { return list }
	// Of a server, whose peer is a client.
	flight := func(p *machinePeer) error {
		if err := p.ch.writeHello(); err != nil {
			return err
		}
		if err := p.between(); err != nil {
			return err
		}
		return p.ch.steps(p.ch.readServerHello, p.ch.readParameters, p.ch.authenticateServer)
	}
	identity := func(p *machinePeer) []func() error {
		cert := identities().client
		return []func() error{
			p.message(func(b []byte) ([]byte, error) { return p.ch.appendCertificate(b, &cert, false, false) }),
			p.message(func(b []byte) ([]byte, error) {
				return p.ch.appendCertificateVerify(b, &cert, tls.ECDSAWithP256AndSHA256, clientVerifyContext)
			}),
		}
	}
	behindFlight := func(n int) func(p *machinePeer) error {
		return func(p *machinePeer) error {
			if err := flight(p); err != nil {
				return err
			}
			return p.steps(identity(p)[:n]...)
		}
	}
	// Of a client, whose peer is a server.
	sends := func(n int) func(p *machinePeer) error {
		return func(p *machinePeer) error {
			h := p.sh
			steps := []func() error{h.readHello, h.agree, h.chooseParameters}
			if n > 0 {
				steps = append(steps, h.sendHello, h.flush)
			}
			for _, step := range steps {
				if err := step(); err != nil {
					return err
				}
			}
			if n == 0 {
				return nil
			}
			if err := p.between(); err != nil {
				return err
			}
			messages := []func() error{p.message(h.appendExtensions)}
			if h.tls.ClientAuth != tls.NoClientCert && h.resumed == nil {
				messages = append(messages, p.message(h.appendRequest))
			}
			if h.resumed == nil {
				messages = append(messages, p.message(func(b []byte) ([]byte, error) { return h.appendCertificate(b, h.cert, true, true) }),
					p.message(func(b []byte) ([]byte, error) {
						return h.appendCertificateVerify(b, h.cert, h.scheme, serverVerifyContext)
					}))
			}
			messages = append(messages, func() error {
				if err := p.message(func(b []byte) ([]byte, error) { return h.appendFinished(b, h.keys.server) })(); err != nil {
					return err
				}
				if err := h.setApplication(&h.keys); err != nil {
					return err
				}
				h.out.setSecret(h.suite, h.keys.server)
				return nil
			})
			if n > len(messages) {
				if err := p.steps(messages[:len(messages)-1]...); err != nil {
					return err
				}
				return messages[len(messages)-1]() // behind it less is tolerated
			}
			return p.steps(messages[:n-1]...)
		}
	}
	return []machineState{
		{name: "server waits for ClientHello", waits: types(hello), reach: func(p *machinePeer) error { return nil }},
		{name: "server waits for the second ClientHello", retry: true, waits: types(hello), reach: func(p *machinePeer) error {
			if err := p.ch.writeHello(); err != nil {
				return err
			}
			if _, err := p.ch.readHello(); err != nil {
				return err
			}
			return p.between()
		}},
		{name: "server waits for Finished", waits: types(finished), reach: flight},
		{name: "server waits for Finished behind a retry", retry: true, waits: types(finished), reach: flight},
		{name: "server waits for Finished of a resumption", resumes: true, waits: types(finished), reach: flight},
		{name: "server waits for Certificate", asks: true, waits: types(certificate), reach: behindFlight(0)},
		{name: "server waits for CertificateVerify", asks: true, waits: types(verify), reach: behindFlight(1)},
		{name: "server waits for Finished behind CertificateVerify", asks: true, waits: types(finished), reach: behindFlight(2)},
		{name: "server is connected", waits: types(tlsmsg.TypeKeyUpdate), reach: func(p *machinePeer) error {
			if err := flight(p); err != nil {
				return err
			}
			return p.ch.sendFinished()
		}},
		{name: "client waits for ServerHello", client: true, waits: types(tlsmsg.TypeServerHello), reach: sends(0)},
		{name: "client waits for ServerHello behind a retry", client: true, retry: true, waits: types(tlsmsg.TypeServerHello), reach: sends(0)},
		{name: "client waits for EncryptedExtensions", client: true, waits: types(parameters), reach: sends(1)},
		{name: "client waits for EncryptedExtensions behind a retry", client: true, retry: true, waits: types(parameters), reach: sends(1)},
		{name: "client waits for EncryptedExtensions of a resumption", client: true, resumes: true, waits: types(parameters), reach: sends(1)},
		{name: "client waits for Finished of a resumption", client: true, resumes: true, waits: types(finished), reach: sends(2)},
		{name: "client waits for Certificate or CertificateRequest", client: true, waits: types(request, certificate), reach: sends(2)},
		{name: "client waits for Certificate", client: true, asks: true, waits: types(certificate), reach: sends(3)},
		{name: "client waits for CertificateVerify", client: true, waits: types(verify), reach: sends(3)},
		{name: "client waits for CertificateVerify, having been asked", client: true, asks: true, waits: types(verify), reach: sends(4)},
		{name: "client waits for Finished", client: true, waits: types(finished), reach: sends(4)},
		{name: "client is connected", client: true, waits: types(tlsmsg.TypeNewSessionTicket, tlsmsg.TypeKeyUpdate), reach: sends(9)},
		{name: "client of a resumption is connected", client: true, resumes: true, waits: types(tlsmsg.TypeNewSessionTicket, tlsmsg.TypeKeyUpdate), reach: sends(9)},
	}
}

// fatal is what a test and a rapid property have in common.
type fatal interface {
	Fatalf(format string, args ...any)
}

// enter brings an end to a state. The end goes on reading until it fails, or the caller closes p.
func (p *machinePeer) enter(t testing.TB, f fatal, s machineState, tolerated func(p *machinePeer) error) {
	cc, sc := clientConfig(), serverConfig()
	if s.asks {
		asking(sc)
		cc.TLS.Certificates = []tls.Certificate{identities().client}
	}
	if s.resumes {
		cc.Sessions, sc.Tickets = new(SessionCache), new(TicketKeys)
		exchangeOnce(t, cc, sc)
	}
	if s.retry {
		sc.Groups = []tls.CurveID{tls.CurveP256}
	}
	a, b := newPipe()
	p.tolerated = tolerated
	if s.client {
		p.tested, p.Conn = Client(a, cc), Server(b, sc)
		p.sh = &serverHandshake{Conn: p.Conn}
	} else {
		scratch, _ := newPipe()
		p.Conn, p.tested = Client(scratch, cc), Server(b, sc)
		p.ch = &clientHandshake{Conn: p.Conn}
		if err := p.ch.sendHello(); err != nil {
			f.Fatalf("%v", err)
		}
		p.conn = a
	}
	p.ends, p.ended = [2]*pipe{a, b}, make(chan struct{})
	go func() {
		defer close(p.ended)
		_, p.err = io.Copy(io.Discard, p.tested)
	}()
	if err := s.reach(p); err != nil {
		p.close()
		f.Fatalf("%s: cannot be reached: %v, %v", s.name, err, p.err)
	}
}

// end lets the peer send no more, and returns what the end under test fails with.
func (p *machinePeer) end() error {
	_ = p.conn.(*pipe).CloseWrite()
	<-p.ended
	return p.err
}

// close waits for the end under test, which it cuts off.
func (p *machinePeer) close() {
	if p.ended == nil {
		return
	}
	for _, end := range p.ends {
		_ = end.Close()
	}
	<-p.ended
}

func exchangeOnce(t testing.TB, cc, sc *Config) {
	client, server := connect(t, cc, sc)
	exchange(t, client, server)
}

// sampleMessages has a well-formed message of each type.
func sampleMessages() map[tlsmsg.HandshakeType][]byte {
	schemes := built(func(x *tlsmsg.ExtensionBuilder) { x.SignatureAlgorithms(tlsmsg.Schemes()) })
	client := &tlsmsg.ClientHello{
		LegacyVersion: tlsmsg.VersionTLS12, CipherSuites: []uint16{tlsmsg.SuiteSHA256}, Compression: []byte{0},
		Extensions: built(func(x *tlsmsg.ExtensionBuilder) { x.SupportedVersions(tlsmsg.VersionTLS13) }),
	}
	m := map[tlsmsg.HandshakeType][]byte{
		tlsmsg.TypeClientHello:         mustAppend(client),
		tlsmsg.TypeServerHello:         mustAppend(plainHello(nil)),
		tlsmsg.TypeNewSessionTicket:    mustAppend(&tlsmsg.NewSessionTicket{Lifetime: 1, Ticket: []byte("ticket")}),
		tlsmsg.TypeEncryptedExtensions: mustAppend(&tlsmsg.EncryptedExtensions{}),
		tlsmsg.TypeCertificate:         mustAppend(&tlsmsg.Certificate{Entries: []tlsmsg.CertificateEntry{{Cert: identities().server.Certificate[0]}}}),
		tlsmsg.TypeCertificateRequest:  mustAppend(&tlsmsg.CertificateRequest{Extensions: schemes}),
		tlsmsg.TypeCertificateVerify:   mustAppend(&tlsmsg.CertificateVerify{Scheme: tls.ECDSAWithP256AndSHA256, Signature: otherSignature()}),
		tlsmsg.TypeClientCertificateRequest: mustAppend(&tlsmsg.CertificateRequest{
			Type: tlsmsg.TypeClientCertificateRequest, Extensions: schemes,
		}),
		tlsmsg.TypeFinished:  mustAppend(&tlsmsg.Finished{VerifyData: make([]byte, 32)}),
		tlsmsg.TypeKeyUpdate: mustAppend(&tlsmsg.KeyUpdate{}),
	}
	for t := range 256 {
		if _, ok := m[tlsmsg.HandshakeType(t)]; !ok {
			m[tlsmsg.HandshakeType(t)] = handshakeMessage(tlsmsg.HandshakeType(t))
		}
	}
	return m
}

// Every message in every state of both roles: what the state does not wait for is unexpected_message, and
// what it waits for is not.
//
// spec: TLS-15 TLS-53
func TestEveryMessageInEveryState(t *testing.T) {
	samples := sampleMessages()
	for _, s := range machineStates() {
		t.Run(s.name, func(t *testing.T) {
			for typ, message := range samples {
				if typ > tlsmsg.TypeCompressedCertificate && typ != tlsmsg.TypeMessageHash && typ%16 != 0 {
					continue // unknown types are all one; the property below takes any
				}
				p := new(machinePeer)
				p.enter(t, t, s, nil)
				if err := p.record(tlsmsg.TypeHandshake, message); err != nil {
					t.Fatal(err)
				}
				err := p.end()
				p.close()
				if unexpected := alertOf(err) == tlsmsg.AlertUnexpectedMessage; unexpected == slices.Contains(s.waits, typ) {
					t.Errorf("%s: %v", typ, err)
				}
			}
		})
	}
}

// connected says whether the state is behind the handshake.
func (s machineState) connected() bool { return slices.Contains(s.waits, tlsmsg.TypeKeyUpdate) }

// A random peer goes to a random state with what is tolerated on the way, and then sends something that does
// not belong there, as a message or as a record.
//
// spec: TLS-14 TLS-15 TLS-53
func TestStrayMessagesAndRecordsInAnyState(t *testing.T) {
	states := machineStates()
	samples := sampleMessages()
	rapid.Check(t, func(r *rapid.T) {
		s := states[rapid.IntRange(0, len(states)-1).Draw(r, "state")]
		noise := func(p *machinePeer) error {
			for range rapid.IntRange(0, 3).Draw(r, "tolerated") {
				if p.out.mac != nil && rapid.Bool().Draw(r, "protected") {
					if err := p.record(tlsmsg.TypeAlert, []byte{rapid.Byte().Draw(r, "level"), byte(tlsmsg.AlertUserCanceled)}); err != nil {
						return err
					}
				} else if err := p.Conn.raw(plainCCS); err != nil {
					return err
				}
			}
			return nil
		}
		p := new(machinePeer)
		defer p.close() // a draw that finds nothing panics
		p.enter(t, r, s, noise)
		plain := p.out.mac == nil
		want := tlsmsg.AlertUnexpectedMessage
		var remote, cut, closed bool
		send := p.record
		switch kind := rapid.SampledFrom([]string{"message", "type", "application data", "alert", "close_notify", "ccs", "unprotected", "forged", "empty"}).Draw(r, "stray"); kind {
		case "message":
			typ := tlsmsg.HandshakeType(rapid.Byte().Filter(func(b byte) bool { return !slices.Contains(s.waits, tlsmsg.HandshakeType(b)) }).Draw(r, "message"))
			message := samples[typ]
			if rapid.Bool().Draw(r, "any body") {
				message = handshakeMessage(typ, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(r, "body")...)
			}
			must(r, send(tlsmsg.TypeHandshake, message))
		case "type":
			typ := rapid.Byte().Filter(func(b byte) bool { return (b < 20 || b > 23) && (plain || b != 0) }).Draw(r, "type")
			must(r, send(tlsmsg.ContentType(typ), []byte{1}))
		case "application data":
			must(r, send(tlsmsg.TypeApplicationData, []byte("x")))
			if s.connected() {
				cut = true
			}
		case "alert":
			alert := rapid.Byte().Filter(func(b byte) bool { return b != 0 && b != byte(tlsmsg.AlertUserCanceled) }).Draw(r, "alert")
			must(r, send(tlsmsg.TypeAlert, []byte{rapid.Byte().Draw(r, "level"), alert}))
			want, remote = tlsmsg.Alert(alert), true
		case "close_notify":
			must(r, send(tlsmsg.TypeAlert, []byte{rapid.Byte().Draw(r, "level"), 0}))
			want, remote = tlsmsg.AlertCloseNotify, true
			if s.connected() {
				closed = true
			}
		case "ccs":
			// In place of the tolerated one.
			must(r, p.Conn.raw([]byte{20, 3, 3, 0, 1, rapid.Byte().Filter(func(b byte) bool { return b != 1 }).Draw(r, "value")}))
		case "unprotected":
			if plain {
				must(r, send(tlsmsg.TypeHandshake, handshakeMessage(tlsmsg.TypeMessageHash)))
				break
			}
			must(r, p.Conn.raw(plainRecord(tlsmsg.TypeHandshake, samples[s.waits[0]])))
		case "forged":
			must(r, p.Conn.raw(plainRecord(tlsmsg.TypeApplicationData, make([]byte, rapid.IntRange(0, 100).Draw(r, "length")))))
			if !plain {
				want = tlsmsg.AlertBadRecordMAC
			}
		case "empty":
			must(r, send(rapid.SampledFrom([]tlsmsg.ContentType{tlsmsg.TypeHandshake, tlsmsg.TypeAlert}).Draw(r, "type"), nil))
		}
		err := p.end()
		switch {
		case cut:
			if !errors.Is(err, ErrTruncated) {
				r.Fatalf("%s: %v, want a truncation", s.name, err)
			}
		case closed:
			if err != nil {
				r.Fatalf("%s: %v, want the end", s.name, err)
			}
		default:
			a, ok := errors.AsType[*AlertError](err)
			if !ok || a.Alert != want || a.Remote != remote {
				r.Fatalf("%s: %v, want %s, remote %v", s.name, err, want, remote)
			}
		}
	})
}

func must(f fatal, err error) {
	if err != nil {
		f.Fatalf("%v", err)
	}
}

// What is tolerated between the messages of a handshake does not change how it ends.
//
// spec: TLS-14
func TestToleratedRecordsAnywhere(t *testing.T) {
	for _, s := range machineStates() {
		if !s.connected() {
			continue
		}
		for n := range 4 {
			t.Run(fmt.Sprintf("%s/%d", s.name, n), func(t *testing.T) {
				p := new(machinePeer)
				defer p.close()
				p.enter(t, t, s, func(p *machinePeer) error {
					for range n {
						if err := p.Conn.raw(plainCCS); err != nil {
							return err
						}
						if p.out.mac != nil {
							if err := p.record(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)}); err != nil {
								return err
							}
						}
					}
					return nil
				})
				if err := p.record(tlsmsg.TypeAlert, []byte{1, 0}); err != nil {
					t.Fatal(err)
				}
				if err := p.end(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

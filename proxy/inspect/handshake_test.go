package inspect

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"testing"

	"vitrine/internal/tlsmsg"
)

func shattered(int) int { return 1 }

// Every legal handshake passes, in whole and byte by byte.
func TestHandshakesThatPass(t *testing.T) {
	w := newWire()
	w384 := &wire{suite: tlsmsg.SuiteSHA384, rng: w.rng}
	hello := plain(tlsmsg.TypeHandshake, newHello().bytes())
	resumed := newHello()
	resumed.psk = "ticket"
	withPSK := newServerHello(w.suite)
	withPSK.psk = 0
	retry := newServerHello(w.suite)
	retry.retry, retry.group = true, tls.CurveP256
	second := newHello()
	second.group = tls.CurveP256
	second.extra = []tlsmsg.Extension{{Type: tlsmsg.ExtensionCookie, Data: []byte{0, 1, 7}}}
	p256 := newServerHello(w.suite)
	p256.group = tls.CurveP256
	resumedAgain := newHello()
	resumedAgain.psk, resumedAgain.group = resumed.psk, tls.CurveP256
	p256PSK := newServerHello(w.suite)
	p256PSK.psk, p256PSK.group = 0, tls.CurveP256
	withoutPSK := newHello()
	withoutPSK.group = tls.CurveP256
	withoutPSK.extra = []tlsmsg.Extension{{Type: tlsmsg.ExtensionPSKKeyExchangeModes, Data: []byte{1, tlsmsg.PSKModeDHE}}}
	grease := newHello()
	grease.suites = append([]uint16{0x0a0a, 0x1301}, grease.suites...)
	grease.extra = []tlsmsg.Extension{{Type: 0x1a1a, Data: []byte{1}}}
	flight := w.hs(encryptedExtensions("http/1.1"), certificate(2), certificateVerify(), w.finished())
	serverHello := plain(tlsmsg.TypeHandshake, newServerHello(w.suite).bytes())
	flightAsking := w.hs(encryptedExtensions("http/1.1"), certificateRequest(), certificate(1), certificateVerify(), w.finished())

	legacy := bytes.Clone(hello)
	legacy[2] = 1 // a first ClientHello in a record of TLS 1.0
	half := len(hello) / 2
	cut := append(plain(tlsmsg.TypeHandshake, hello[5:half]), plain(tlsmsg.TypeHandshake, hello[half:])...)
	var slivers []byte
	for i, p := 0, bytes.Join([][]byte{encryptedExtensions("http/1.1"), certificate(1), certificateVerify(), w.finished()}, nil); i < len(p); i += 20 {
		slivers = append(slivers, w.hs(p[i:min(i+20, len(p))])...)
	}

	// The smallest record_size_limit leaves 63 bytes of a message to each record (RFC 8449).
	small := map[int][]byte{}
	for _, n := range []int{leastPiece, 63} {
		for p := range slices.Chunk(bytes.Join([][]byte{encryptedExtensions("http/1.1"), certificate(16), certificateVerify(), w.finished()}, nil), n) {
			small[n] = append(small[n], w.hs(p)...)
		}
	}

	tests := []struct {
		name  string
		steps []step
	}{
		{"one flight each", []step{c(hello), o(serverHello, flight), c(w.hs(w.finished()))}},
		{"as OpenSSL does", w.handshake()},
		{"SHA-384", w384.handshake()},
		{"GREASE and other suites offered", []step{c(plain(tlsmsg.TypeHandshake, grease.bytes())), o(serverHello, flight), c(w.hs(w.finished()))}},
		{"record of TLS 1.0 around ClientHello", []step{c(legacy), o(serverHello, flight), c(w.hs(w.finished()))}},
		{"ClientHello in two records", []step{c(cut), o(serverHello, flight), c(w.hs(w.finished()))}},
		{"messages across records", []step{c(hello), o(serverHello, slivers), c(w.hs(w.finished()))}},
		{"records of the smallest size limit", []step{c(hello), o(serverHello, small[63]), c(w.hs(w.finished()))}},
		{"records of the smallest size limit, padded", []step{c(hello), o(serverHello, small[leastPiece]), c(w.hs(w.finished()))}},
		{"padded records", []step{c(hello), o(serverHello, w.sealed(tlsmsg.TypeHandshake, bytes.Join([][]byte{
			encryptedExtensions("http/1.1"), certificate(1), certificateVerify(), w.finished(),
		}, nil), 500)), c(w.sealed(tlsmsg.TypeHandshake, w.finished(), 30))}},
		{"client certificate", []step{c(hello), o(serverHello, flightAsking), c(w.hs(certificate(1), certificateVerify(), w.finished()))}},
		{"client without the certificate that was asked for", []step{c(hello), o(serverHello, flightAsking), c(w.hs(certificate(0), w.finished()))}},
		{"HelloRetryRequest", []step{
			c(hello), o(plain(tlsmsg.TypeHandshake, retry.bytes()), ccs()),
			c(ccs(), plain(tlsmsg.TypeHandshake, second.bytes())),
			o(plain(tlsmsg.TypeHandshake, p256.bytes()), flight), c(w.hs(w.finished())),
		}},
		{"resumption", []step{
			c(plain(tlsmsg.TypeHandshake, resumed.bytes())),
			o(plain(tlsmsg.TypeHandshake, withPSK.bytes()), w.hs(encryptedExtensions("http/1.1"), w.finished())),
			c(w.hs(w.finished())),
		}},
		{"resumption behind a HelloRetryRequest", []step{
			c(plain(tlsmsg.TypeHandshake, resumed.bytes())), o(plain(tlsmsg.TypeHandshake, retry.bytes())),
			c(plain(tlsmsg.TypeHandshake, resumedAgain.bytes())),
			o(plain(tlsmsg.TypeHandshake, p256PSK.bytes()), w.hs(encryptedExtensions("http/1.1"), w.finished())),
			c(w.hs(w.finished())),
		}},
		{"PSK left out behind a HelloRetryRequest", []step{
			c(plain(tlsmsg.TypeHandshake, resumed.bytes())), o(plain(tlsmsg.TypeHandshake, retry.bytes())),
			c(plain(tlsmsg.TypeHandshake, withoutPSK.bytes())),
			o(plain(tlsmsg.TypeHandshake, p256.bytes()), flight), c(w.hs(w.finished())),
		}},
		{"PSK offered, not taken", []step{c(plain(tlsmsg.TypeHandshake, resumed.bytes())), o(serverHello, flight), c(w.hs(w.finished()))}},
		{"ticket before the client's Finished", []step{c(hello), o(serverHello, flight, w.hs(ticket(100))), c(w.hs(w.finished()))}},
		{"server refuses in clear", []step{c(hello), o(plain(tlsmsg.TypeAlert, []byte{2, 40})), originEnds()}},
		{"client refuses the certificate", []step{c(hello), o(serverHello, flight), c(w.alert(tlsmsg.AlertUnknownCA)), clientEnds()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newRun(config(), nil).passes(t, tt.steps...)
			newRun(config(), shattered).passes(t, tt.steps...)
		})
	}
}

// spec: RDR-1 RDR-2 RDR-3 RDR-4 RDR-5 RDR-6 RDR-7 RDR-8 RDR-9 RDR-10 RDR-35
func TestInnerTLSKills(t *testing.T) {
	w := newWire()
	hello := plain(tlsmsg.TypeHandshake, newHello().bytes())
	changed := func(f func(*helloSpec)) []byte {
		h := newHello()
		f(h)
		return plain(tlsmsg.TypeHandshake, h.bytes())
	}
	server := func(f func(*serverSpec)) []byte {
		h := newServerHello(w.suite)
		if f != nil {
			f(h)
		}
		return plain(tlsmsg.TypeHandshake, h.bytes())
	}
	serverHello := server(nil)
	flight := w.hs(encryptedExtensions("http/1.1"), certificate(1), certificateVerify(), w.finished())
	fin := w.hs(w.finished())
	up := []step{c(hello), o(serverHello, flight), c(fin)}
	after := func(s ...step) []step { return append(append([]step(nil), up...), s...) }
	retry := server(func(h *serverSpec) { h.retry, h.group = true, tls.CurveP256 })
	second := changed(func(h *helloSpec) { h.group = tls.CurveP256 })
	asking := w.hs(encryptedExtensions("http/1.1"), certificateRequest(), certificate(1), certificateVerify(), w.finished())
	pieces := slices.Collect(slices.Chunk(certificate(16), leastPiece-1))
	slivers := w.hs(encryptedExtensions("http/1.1"))
	for _, p := range pieces[:32] {
		slivers = append(slivers, w.hs(p)...)
	}
	psk := func(change func(h *helloSpec)) []byte {
		return changed(func(h *helloSpec) {
			h.psk = "ticket"
			if change != nil {
				change(h)
			}
		})
	}
	modes := []tlsmsg.Extension{{Type: tlsmsg.ExtensionPSKKeyExchangeModes, Data: []byte{1, tlsmsg.PSKModeDHE}}}
	tampered := func(p []byte, i int, v byte) []byte {
		p = bytes.Clone(p)
		p[i] = v
		return p
	}

	tests := []struct {
		name  string
		rule  string
		steps []step // of which the last one is the attack
	}{
		{"0-RTT offered", RuleEarlyData, []step{c(changed(func(h *helloSpec) {
			h.extra = []tlsmsg.Extension{{Type: tlsmsg.ExtensionEarlyData}}
		}))}},
		{"0-RTT sent", RuleEarlyData, []step{c(hello), c(w.app(get))}},
		{"0-RTT behind a HelloRetryRequest", RuleEarlyData, []step{c(hello), o(retry), c(w.app(get))}},
		{"0-RTT accepted", RuleEarlyData, []step{c(hello), o(serverHello), o(w.hs(must((&tlsmsg.EncryptedExtensions{
			Extensions: []tlsmsg.Extension{{Type: tlsmsg.ExtensionEarlyData}},
		}).Append(nil))))}},
		{"encrypted ClientHello", RuleECH, []step{c(changed(func(h *helloSpec) {
			h.extra = []tlsmsg.Extension{{Type: tlsmsg.ExtensionEncryptedClientHello, Data: []byte{0}}}
		}))}},
		{"TLS 1.2 offered", RuleVersion, []step{c(changed(func(h *helloSpec) { h.versions = []uint16{0x0303} }))}},
		{"TLS 1.2 chosen", RuleVersion, []step{c(hello), o(server(func(h *serverSpec) { h.version = 0 }))}},
		{"encrypting suite chosen", RuleSuite, []step{
			c(changed(func(h *helloSpec) { h.suites = append(h.suites, 0x1301) })),
			o(server(func(h *serverSpec) { h.suite = 0x1301 })),
		}},
		{"suite that was not offered", RuleSuite, []step{
			c(changed(func(h *helloSpec) { h.suites = h.suites[:1] })),
			o(server(func(h *serverSpec) { h.suite = tlsmsg.SuiteSHA384 })),
		}},
		{"suite changed behind a HelloRetryRequest", RuleSuite, []step{
			c(hello), o(retry), c(second),
			o(server(func(h *serverSpec) { h.suite, h.group = tlsmsg.SuiteSHA384, tls.CurveP256 })),
		}},
		{"ServerHello for another session", RuleServerHello, []step{c(hello), o(server(func(h *serverSpec) { h.session = []byte{1} }))}},
		{"ServerHello without a key share", RuleServerHello, []step{c(hello), o(server(func(h *serverSpec) { h.group = 0 }))}},
		{"ServerHello in a group that was not offered", RuleServerHello, []step{c(hello), o(server(func(h *serverSpec) { h.group = tls.CurveP256 }))}},
		{"ServerHello takes a PSK that was not offered", RuleServerHello, []step{c(hello), o(server(func(h *serverSpec) { h.psk = 0 }))}},
		{"ServerHello takes a PSK behind those that were offered", RuleServerHello, []step{c(psk(nil)), o(server(func(h *serverSpec) { h.psk = 1 }))}},
		{"ServerHello takes a PSK and no key share", RuleServerHello, []step{c(psk(nil)), o(server(func(h *serverSpec) { h.psk, h.group = 0, 0 }))}},
		{"ServerHello takes a PSK in a mode that was not offered", RuleServerHello, []step{c(psk(func(h *helloSpec) { h.modes = []uint8{0} })), o(server(func(h *serverSpec) { h.psk = 0 }))}},
		{"ServerHello takes a PSK of another suite", RuleServerHello, []step{c(psk(nil)), o(server(func(h *serverSpec) { h.psk, h.suite = 0, tlsmsg.SuiteSHA384 }))}},
		{"HelloRetryRequest takes a PSK", RuleServerHello, []step{c(psk(nil)), o(server(func(h *serverSpec) { h.retry, h.group, h.psk = true, tls.CurveP256, 0 }))}},
		{"certificate of a server that took a PSK", RuleOrder, []step{c(psk(nil)), o(server(func(h *serverSpec) { h.psk = 0 })), o(flight)}},
		{"client asked for a certificate by a server that took a PSK", RuleOrder, []step{c(psk(nil)), o(server(func(h *serverSpec) { h.psk = 0 })), o(w.hs(encryptedExtensions("http/1.1"), certificateRequest()))}},
		{"certificate of a client whose PSK was taken", RuleOrder, []step{
			c(psk(nil)), o(server(func(h *serverSpec) { h.psk = 0 })), o(w.hs(encryptedExtensions("http/1.1"), w.finished())), c(w.hs(certificate(1))),
		}},
		{"server that took no PSK and shows no certificate", RuleOrder, []step{c(psk(nil)), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), w.finished()))}},
		{"0-RTT offered with a PSK", RuleEarlyData, []step{c(psk(func(h *helloSpec) {
			h.extra = []tlsmsg.Extension{{Type: tlsmsg.ExtensionEarlyData}}
		}))}},
		{"PSK without modes", RuleMessage, []step{c(psk(func(h *helloSpec) { h.modes = nil }))}},
		{"PSK first offered behind a HelloRetryRequest", RuleHelloRetry, []step{
			c(changed(func(h *helloSpec) { h.extra = modes })), o(retry), c(psk(func(h *helloSpec) { h.group = tls.CurveP256 })),
		}},
		{"another PSK behind a HelloRetryRequest", RuleHelloRetry, []step{c(psk(nil)), o(retry), c(psk(func(h *helloSpec) { h.group, h.psk = tls.CurveP256, "other" }))}},
		{"another SNI", RuleSNI, []step{c(changed(func(h *helloSpec) { h.name = "other.example" }))}},
		{"no SNI", RuleSNI, []step{c(changed(func(h *helloSpec) { h.name = "" }))}},
		{"no inspection offer", RuleOfferMissing, []step{c(changed(func(h *helloSpec) { h.offer = nil }))}},
		{"inspection offer for another proxy", RuleOfferProxy, []step{c(changed(func(h *helloSpec) { h.offer.Proxies = [][32]byte{{8}} }))}},
		{"own leaf not at its place", RuleOfferProxy, []step{c(changed(func(h *helloSpec) { h.offer.Proxies = append(h.offer.Proxies, [32]byte{8}) }))}},
		{"inspection offer of another CONNECT", RuleOfferNonce, []step{c(changed(func(h *helloSpec) { h.offer.Nonce[0]++ }))}},
		{"inspection offer for another origin", RuleOfferAuthority, []step{c(changed(func(h *helloSpec) { h.offer.Authority = "other.example:443" }))}},
		{"second ClientHello without the offer", RuleOfferMissing, []step{c(hello), o(retry), c(changed(func(h *helloSpec) { h.group, h.offer = tls.CurveP256, nil }))}},
		{"second ClientHello with another random", RuleHelloRetry, []step{c(hello), o(retry), c(changed(func(h *helloSpec) { h.group, h.random = tls.CurveP256, 1 }))}},
		{"second ClientHello with other protocols", RuleHelloRetry, []step{c(hello), o(retry), c(changed(func(h *helloSpec) { h.group, h.alpn = tls.CurveP256, []string{"h2"} }))}},
		{"second HelloRetryRequest", RuleOrder, []step{c(hello), o(retry), c(second), o(retry)}},
		{"ServerHello instead of a second ClientHello", RuleOrder, []step{c(hello), o(retry), o(serverHello)}},
		{"protected record of the server before ServerHello", RuleOrder, []step{c(hello), o(w.app("x"))}},
		{"server speaks first", RuleOrder, []step{o(serverHello)}},
		{"alert before ClientHello", RuleOrder, []step{c(plain(tlsmsg.TypeAlert, []byte{2, 40}))}},
		{"second ClientHello unasked", RuleOrder, []step{c(hello), c(hello)}},
		{"bytes behind ClientHello in its record", RuleKeyChange, []step{c(plain(tlsmsg.TypeHandshake, append(newHello().bytes(), newHello().bytes()...)))}},
		{"bytes behind ServerHello in its record", RuleKeyChange, []step{c(hello), o(plain(tlsmsg.TypeHandshake, append(newServerHello(w.suite).bytes(), encryptedExtensions("http/1.1")...)))}},
		{"bytes behind Finished in its record", RuleKeyChange, []step{c(hello), o(serverHello, flight), c(w.hs(w.finished(), keyUpdate()))}},
		{"bytes behind KeyUpdate in its record", RuleKeyChange, after(o(w.hs(keyUpdate(), ticket(10))))},
		{"ServerHello inside a message of the client", RuleKeyChange, []step{c(hello), c(plain(tlsmsg.TypeHandshake, []byte{20, 0, 0})), o(serverHello)}},
		{"no ALPN", RuleOpaque, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("")))}},
		{"inner h2", RuleOpaque, []step{c(changed(func(h *helloSpec) { h.alpn = []string{"h2", "http/1.1"} })), o(serverHello), o(w.hs(encryptedExtensions("h2")))}},
		{"ALPN that was not offered", RuleALPN, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("h3")))}},
		{"Certificate before EncryptedExtensions", RuleOrder, []step{c(hello), o(serverHello), o(w.hs(certificate(1)))}},
		{"Finished without a certificate", RuleOrder, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), w.finished()))}},
		{"server certificate without entries", RuleMessage, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), certificate(0)))}},
		{"two CertificateRequests", RuleOrder, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), certificateRequest(), certificateRequest()))}},
		{"compressed certificate", RuleOrder, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), []byte{25, 0, 0, 1, 0}))}},
		{"Finished of another hash", RuleMessage, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), certificate(1), certificateVerify(), []byte{20, 0, 0, 3, 1, 2, 3}))}},
		{"client certificate unasked", RuleOrder, []step{c(hello), o(serverHello, flight), c(w.hs(certificate(1)))}},
		{"client's Finished without the certificate that was asked for", RuleOrder, []step{c(hello), o(serverHello, asking), c(fin)}},
		{"CertificateVerify for no certificate", RuleOrder, []step{c(hello), o(serverHello, asking), c(w.hs(certificate(0), certificateVerify()))}},
		{"client certificate without CertificateVerify", RuleOrder, []step{c(hello), o(serverHello, asking), c(w.hs(certificate(1), w.finished()))}},
		{"client's Finished before the server's", RuleOrder, []step{c(hello), o(serverHello), c(fin)}},
		{"client data before its Finished", RuleClientData, []step{c(hello), o(serverHello, flight), c(w.app(get))}},
		{"server data before its Finished", RuleOrder, []step{c(hello), o(serverHello), o(w.app("x"))}},
		{"plaintext handshake behind ServerHello", RulePlaintext, []step{c(hello), o(serverHello), o(plain(tlsmsg.TypeHandshake, encryptedExtensions("http/1.1")))}},
		{"plaintext alert behind ServerHello", RulePlaintext, after(c(plain(tlsmsg.TypeAlert, []byte{1, 0})))},
		{"second change_cipher_spec of the server", RuleCCS, []step{c(hello), o(serverHello, ccs()), o(ccs())}},
		{"second change_cipher_spec of the client", RuleCCS, []step{c(hello), o(serverHello, flight), c(ccs()), c(ccs())}},
		{"change_cipher_spec before ClientHello", RuleCCS, []step{c(ccs())}},
		{"change_cipher_spec before ServerHello", RuleCCS, []step{c(hello), o(ccs())}},
		{"change_cipher_spec behind the handshake", RuleCCS, after(c(ccs()))},
		{"change_cipher_spec of two bytes", RuleCCS, []step{c(hello), o(serverHello), o(plain(tlsmsg.TypeChangeCipherSpec, []byte{1, 1}))}},
		{"protected change_cipher_spec", RuleInnerType, after(c(w.sealed(tlsmsg.TypeChangeCipherSpec, []byte{1}, 0)))},
		{"heartbeat inside", RuleInnerType, after(c(w.sealed(24, []byte{1, 0, 0}, 0)))},
		{"record of padding alone", RuleInnerType, after(c(w.sealed(0, nil, 9)))},
		{"record shorter than its tag", RuleRecord, after(c(plain(tlsmsg.TypeApplicationData, make([]byte, 32))))},
		{"record longer than TLS allows", RuleRecord, after(c(w.sealed(tlsmsg.TypeApplicationData, make([]byte, 16384), 1)))},
		{"unknown record type", RuleRecord, []step{c([]byte{24, 3, 3, 0, 1, 0})}},
		{"record of another version", RuleRecord, after(c(tampered(w.app("x"), 2, 1)))},
		{"plaintext record longer than TLS allows", RuleRecord, []step{c([]byte{22, 3, 3, 0x40, 1})}},
		{"empty handshake record", RuleEmptyRecord, []step{c(plain(tlsmsg.TypeHandshake, nil))}},
		{"empty protected handshake record", RuleEmptyRecord, after(o(w.hs()))},
		{"data inside a fragmented message", RuleInterleaved, after(o(w.hs(ticket(100)[:50])), o(w.app("x")))},
		{"alert inside a fragmented message", RuleInterleaved, []step{c(hello), o(serverHello), o(w.hs(certificate(1)[:9])), o(w.closeNotify())}},
		{"change_cipher_spec inside a fragmented message", RuleInterleaved, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1")[:3])), o(ccs())}},
		{"handshake message above the limit", RuleHandshakeSize, []step{c(plain(tlsmsg.TypeHandshake, []byte{1, 1, 0, 1}))}},
		{"ClientHello that does not parse", RuleMessage, []step{c(plain(tlsmsg.TypeHandshake, []byte{1, 0, 0, 1, 0}))}},
		{"EncryptedExtensions that does not parse", RuleMessage, []step{c(hello), o(serverHello), o(w.hs([]byte{8, 0, 0, 1, 0}))}},
		{"Certificate that does not parse", RuleMessage, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), []byte{11, 0, 0, 1, 0}))}},
		{"Certificate with a context", RuleMessage, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), []byte{11, 0, 0, 5, 1, 7, 0, 0, 0}))}},
		{"CertificateRequest with a context", RuleMessage, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), []byte{13, 0, 0, 12, 1, 7, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3}))}},
		{"CertificateVerify that does not parse", RuleMessage, []step{c(hello), o(serverHello), o(w.hs(encryptedExtensions("http/1.1"), certificate(1), []byte{15, 0, 0, 1, 0}))}},
		{"ServerHello that does not parse", RuleMessage, []step{c(hello), o(plain(tlsmsg.TypeHandshake, []byte{2, 0, 0, 1, 0}))}},
		{"KeyUpdate that does not parse", RuleMessage, after(c(w.hs([]byte{24, 0, 0, 1, 2})))},
		{"ticket that does not parse", RuleMessage, after(o(w.hs([]byte{4, 0, 0, 1, 2})))},
		{"post-handshake authentication", RulePostHandshake, after(o(w.hs(certificateRequest())))},
		{"renegotiation", RulePostHandshake, after(c(w.hs(newHello().bytes())))},
		{"ticket from the client", RulePostHandshake, after(c(w.hs(ticket(10))))},
		{"five tickets", RuleTickets, after(o(w.hs(ticket(10), ticket(10)), w.hs(ticket(10), ticket(10))), o(w.hs(ticket(10))))},
		{"large ticket", RuleTickets, after(o(w.hs(ticket(2100))))},
		{"alert of three bytes", RuleAlert, after(c(w.sealed(tlsmsg.TypeAlert, []byte{1, 0, 0}, 0)))},
		{"alert of no level", RuleAlert, after(c(w.sealed(tlsmsg.TypeAlert, []byte{7, 0}, 0)))},
		{"data behind close_notify", RuleAfterClose, after(c(w.closeNotify()), c(w.app(get)))},
		{"data behind a fatal alert", RuleAfterClose, after(c(w.alert(tlsmsg.AlertInternalError)), c(w.app(get)))},
		{"fatal alert that says warning", RuleAfterClose, after(c(w.sealed(tlsmsg.TypeAlert, []byte{1, 20}, 0)), c(w.app(get)))},
		{"close_notify twice", RuleAfterClose, after(o(w.closeNotify()), o(w.closeNotify()))},
		{"empty records", RuleIdleRecords, after(c(bytes.Repeat(w.sealed(tlsmsg.TypeApplicationData, nil, 0), 32)), c(w.sealed(tlsmsg.TypeApplicationData, nil, 0)))},
		{"user_canceled without end", RuleIdleRecords, after(c(bytes.Repeat(w.alert(tlsmsg.AlertUserCanceled), 32)), c(w.alert(tlsmsg.AlertUserCanceled)))},
		{"handshake in slivers", RuleIdleRecords, []step{c(bytes.Repeat(plain(tlsmsg.TypeHandshake, []byte{1}), 1)), c(plain(tlsmsg.TypeHandshake, []byte{0, 1, 0})), c(bytes.Repeat(plain(tlsmsg.TypeHandshake, []byte{3}), 31))}},
		{"certificate in slivers", RuleIdleRecords, []step{c(hello), o(serverHello, slivers), o(w.hs(pieces[32]))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []func(int) int{nil, shattered} {
				r := newRun(config(), cut)
				last := len(tt.steps) - 1
				if err := r.all(t, tt.steps[:last]...); err != nil {
					t.Fatalf("before the attack: %v", err)
				}
				before := r.released
				err := r.feed(t, tt.steps[last])
				kills(t, err, tt.rule)
				if r.released != before && tt.rule != RuleIdleRecords {
					t.Fatalf("released %v of the attack, %v before it", r.released, before)
				}
			}
		})
	}
}

// spec: RDR-9
func TestKeyUpdateBudget(t *testing.T) {
	r, w := connected(t, config(), nil)
	for i := range 64 {
		d := toOrigin
		if i%2 == 1 {
			d = toClient
		}
		r.passes(t, step{dir: d, p: w.hs(keyUpdate())})
		if i%30 == 29 {
			// Application bytes in between, or the budget of idle records would end it first.
			r.passes(t, c(w.app(get)), o(w.app("HTTP/1.1 204 No Content\r\n\r\n")))
		}
	}
	kills(t, r.feed(t, c(w.hs(keyUpdate()))), RuleKeyUpdates)
}

// An IP literal has no SNI: the offer's authority stands for it.
func TestIPLiteralHasNoSNI(t *testing.T) {
	for _, authority := range []string{"192.0.2.7:443", "[2001:db8::7]:8443"} {
		cfg := config()
		cfg.Authority = authority
		h := newHello()
		h.name, h.offer.Authority = "", authority
		newRun(cfg, nil).passes(t, c(plain(tlsmsg.TypeHandshake, h.bytes())))
		h.name = "origin.example"
		kills(t, newRun(cfg, nil).feed(t, c(plain(tlsmsg.TypeHandshake, h.bytes()))), RuleSNI)
	}
}

// An incomplete message is not released: its first record may hold half of an offer.
//
// spec: RDR-32
func TestFragmentedMessageIsHeldUntilRead(t *testing.T) {
	msg := newHello().bytes()
	r := newRun(config(), nil)
	if err := r.feed(t, c(plain(tlsmsg.TypeHandshake, msg[:40]))); err != nil {
		t.Fatal(err)
	}
	if r.released[toOrigin] != 0 {
		t.Fatalf("released %d bytes of half a ClientHello", r.released[toOrigin])
	}
	r.passes(t, c(plain(tlsmsg.TypeHandshake, msg[40:])))
}

// spec: RDR-11
func TestEndWithoutCloseNotify(t *testing.T) {
	w := newWire()
	head := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	up := w.handshake()
	with := func(s ...step) []step { return append(append([]step(nil), up...), s...) }
	tests := []struct {
		name  string
		steps []step
		want  error
	}{
		{"before anything", []step{clientEnds()}, io.ErrUnexpectedEOF},
		{"in the handshake", append(append([]step(nil), up[:2]...), originEnds()), io.ErrUnexpectedEOF},
		{"behind the handshake", with(clientEnds(), originEnds()), nil},
		{"inside a record header", with(c(w.app(get)[:3]), clientEnds()), io.ErrUnexpectedEOF},
		{"inside a record", with(c(w.app(get)[:20]), clientEnds()), io.ErrUnexpectedEOF},
		{"inside a handshake message", with(o(w.hs(ticket(50)[:20])), originEnds()), io.ErrUnexpectedEOF},
		{"inside a request head", with(c(w.app("GET / HT")), clientEnds()), io.ErrUnexpectedEOF},
		{"behind a request", with(c(w.app(get)), clientEnds()), nil},
		{"instead of a response", with(c(w.app(get)), originEnds()), io.ErrUnexpectedEOF},
		{"inside a response head", with(c(w.app(get)), o(w.app(head[:9])), originEnds()), io.ErrUnexpectedEOF},
		{"behind an interim response", with(c(w.app(get)), o(w.app("HTTP/1.1 103 Early Hints\r\n\r\n")), originEnds()), io.ErrUnexpectedEOF},
		{"inside a body", with(c(w.app(get)), o(w.app(head+"hell")), originEnds()), io.ErrUnexpectedEOF},
		{"inside a body without a length", with(c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\n\r\nhell")), originEnds()), io.ErrUnexpectedEOF},
		{"behind a response", with(c(w.app(get)), o(w.app(head+"hello")), originEnds(), clientEnds()), nil},
		{"close_notify inside a body", with(c(w.app(get)), o(w.app(head+"hell"), w.closeNotify()), originEnds()), nil},
		{"close_notify behind a body without a length", with(c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\n\r\nhell"), w.closeNotify()), originEnds()), nil},
		{"fatal alert", with(c(w.alert(tlsmsg.AlertBadRecordMAC)), clientEnds()), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []func(int) int{nil, shattered} {
				r := newRun(config(), cut)
				if err := r.all(t, tt.steps...); !errors.Is(err, tt.want) {
					t.Fatalf("err %v, want %v", err, tt.want)
				}
				r.tun.Close(nil)
			}
		})
	}
}

// Whatever came before, a record behind the caller's own End or Close is refused.
func TestFeedBehindEndAndClose(t *testing.T) {
	r, w := connected(t, config(), nil)
	if err := r.tun.End(toOrigin); err != nil {
		t.Fatal(err)
	}
	if _, err := r.tun.Feed(toOrigin, w.app(get)); !errors.Is(err, ErrClosed) {
		t.Fatalf("err %v", err)
	}
	r.tun.Close(nil)
	r.tun.Close(nil)
	if _, err := r.tun.Feed(toClient, w.app(get)); !errors.Is(err, ErrClosed) {
		t.Fatalf("err %v", err)
	}
	if err := r.tun.End(toClient); !errors.Is(err, ErrClosed) {
		t.Fatalf("err %v", err)
	}
	r.tun.Wait()
}

package evidence

import (
	"crypto"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"vitrine/internal/tlsmsg"
)

// fakeServer is as much of a TLS 1.3 server as crypto/tls accepts, because crypto/tls's own cannot be told
// which suite to take nor how to cut its records.
type fakeServer struct {
	suite    uint16
	fragment int // bytes of handshake in a record
	padding  int // zeros behind them
}

func (f fakeServer) serve(conn net.Conn, cert *tls.Certificate) error {
	msg, err := readMessage(conn)
	if err != nil {
		return err
	}
	ch, err := tlsmsg.ParseClientHello(msg)
	if err != nil {
		return err
	}
	s, _ := suiteOf(f.suite)
	priv, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	var peer []byte
	for _, k := range ch.KeyShares {
		if k.Group == tls.X25519 {
			peer = k.Data
		}
	}
	pub, err := ecdh.X25519().NewPublicKey(peer)
	if err != nil {
		return err
	}
	shared, err := priv.ECDH(pub)
	if err != nil {
		return err
	}
	var x tlsmsg.ExtensionBuilder
	x.SelectedVersion(tls.VersionTLS13)
	x.KeyShare(tlsmsg.KeyShare{Group: tls.X25519, Data: priv.PublicKey().Bytes()})
	exts, err := x.Extensions()
	if err != nil {
		return err
	}
	h := &tlsmsg.ServerHello{LegacyVersion: tls.VersionTLS12, SessionID: ch.SessionID, CipherSuite: f.suite, Extensions: exts}
	rand.Read(h.Random[:])
	sh, err := h.Append(nil)
	if err != nil {
		return err
	}
	zero := make([]byte, s.hash.Size())
	early, err := hkdf.Extract(s.new, zero, nil)
	if err != nil {
		return err
	}
	hs, err := hkdf.Extract(s.new, shared, deriveSecret(s, early, "derived", s.sum()))
	if err != nil {
		return err
	}
	secret := deriveSecret(s, hs, "s hs traffic", s.sum(ch.Raw, sh))

	ee, err := (&tlsmsg.EncryptedExtensions{}).Append(nil)
	if err != nil {
		return err
	}
	certMsg := &tlsmsg.Certificate{}
	for _, der := range cert.Certificate {
		certMsg.Entries = append(certMsg.Entries, tlsmsg.CertificateEntry{Cert: der})
	}
	flight, err := certMsg.Append(ee)
	if err != nil {
		return err
	}
	key := cert.PrivateKey.(crypto.Signer)
	scheme, err := tlsmsg.PickScheme(key.Public(), ch.SignatureSchemes)
	if err != nil {
		return err
	}
	sig, err := tlsmsg.Sign(rand.Reader, key, scheme, tlsmsg.SignedContent(handshakeContext, s.sum(ch.Raw, sh, flight)))
	if err != nil {
		return err
	}
	if flight, err = (&tlsmsg.CertificateVerify{Scheme: scheme, Signature: sig}).Append(flight); err != nil {
		return err
	}
	mac := hmac.New(s.new, expand(s, secret, "finished", nil, s.hash.Size()))
	mac.Write(s.sum(ch.Raw, sh, flight))
	if flight, err = (&tlsmsg.Finished{VerifyData: mac.Sum(nil)}).Append(flight); err != nil {
		return err
	}

	out := tlsmsg.RecordHeader{Type: tlsmsg.TypeHandshake, Version: tls.VersionTLS12, Length: len(sh)}.Append(nil)
	out = append(out, sh...)
	out = append(out, 20, 3, 3, 0, 1, 1)
	aead, err := s.aead(expand(s, secret, "key", nil, s.keyLen))
	if err != nil {
		return err
	}
	iv := expand(s, secret, "iv", nil, 12)
	for seq := uint64(0); len(flight) > 0; seq++ {
		n := min(f.fragment, len(flight))
		inner := append(append([]byte(nil), flight[:n]...), byte(tlsmsg.TypeHandshake))
		inner = append(inner, make([]byte, f.padding)...)
		flight = flight[n:]
		nonce := append([]byte(nil), iv...)
		for i := range 8 {
			nonce[4+i] ^= byte(seq >> (56 - 8*i))
		}
		header := tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: tls.VersionTLS12, Length: len(inner) + aead.Overhead()}.Append(nil)
		out = append(out, header...)
		out = aead.Seal(out, nonce, inner, header)
	}
	if _, err := conn.Write(out); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 6)) // its change_cipher_spec; Finished follows
	return err
}

func readMessage(conn net.Conn) ([]byte, error) {
	header := make([]byte, tlsmsg.RecordHeaderLen)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	h, err := tlsmsg.ParseRecordHeader(header)
	if err != nil {
		return nil, err
	}
	msg := make([]byte, h.Length)
	_, err = io.ReadFull(conn, msg)
	return msg, err
}

func deriveSecret(s suite, secret []byte, label string, hash []byte) []byte {
	return expand(s, secret, label, hash, s.hash.Size())
}

func expand(s suite, secret []byte, label string, context []byte, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(6+len(label)))
	info = append(info, "tls13 "+label...)
	info = append(info, byte(len(context)))
	out, err := hkdf.Expand(s.new, secret, string(append(info, context...)), n)
	if err != nil {
		panic(err)
	}
	return out
}

// spec: EVD-20
func TestTranscriptOfEverySuiteAndRecordSize(t *testing.T) {
	for _, suite := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256} {
		for _, cut := range []fakeServer{{fragment: 1 << 14}, {fragment: 7, padding: 3}, {fragment: 100, padding: 0}} {
			cut.suite = suite
			t.Run(fmt.Sprintf("%s/%d", tls.CipherSuiteName(suite), cut.fragment), func(t *testing.T) {
				c := newConnect(t, testAuthority)
				d := dialServer(t, c, func(conn net.Conn) error { return cut.serve(conn, &parties().origin) })
				e, err := d.dial.Evidence(d.client, true)
				if err != nil {
					t.Fatal(err)
				}
				r, err := c.verifier.Verify(overTheWire(t, e))
				if err != nil {
					t.Fatal(err)
				}
				if r.Kind != Transcript || r.Hop.Suite != suite {
					t.Errorf("a %v of suite %04x", r.Kind, r.Hop.Suite)
				}
			})
		}
	}
}

// dialServer makes hop 2 with a server of the test's own.
func dialServer(t *testing.T, c *connect, serve func(net.Conn) error) *dialed {
	t.Helper()
	cfg := proxyConfig()
	cfg.CurvePreferences = []tls.CurveID{tls.X25519}
	dial, err := NewDial(cfg, c.req, c.req.Offer.Proxies, c.req.Offer.Authority)
	if err != nil {
		t.Fatal(err)
	}
	near, far := connPair(t)
	var wg sync.WaitGroup
	var serverErr error
	wg.Go(func() { serverErr = serve(far) })
	conn := tls.Client(dial.Tap(near), dial.Config())
	if err := conn.HandshakeContext(t.Context()); err != nil {
		near.Close()
		wg.Wait()
		t.Fatalf("%v; the server: %v", err, serverErr)
	}
	wg.Wait()
	if serverErr != nil {
		t.Fatal(serverErr)
	}
	return &dialed{dial: dial, client: conn.ConnectionState(), clientConn: conn}
}

// OpenSSL is a stock origin that is not ours.
func TestTranscriptOfOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	certFile, keyFile := writePEM(t, dir, parties().origin)
	for _, tt := range []struct {
		name string
		args []string
		want Hop
	}{
		{"AES-128", []string{"-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"}, Hop{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256}},
		{"AES-256, HelloRetryRequest", []string{"-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", "-groups", "P-384"}, Hop{Version: tls.VersionTLS13, Suite: tls.TLS_AES_256_GCM_SHA384, Group: tls.CurveP384}},
		{"ChaCha20, client certificate", []string{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "-verify", "1"}, Hop{Version: tls.VersionTLS13, Suite: tls.TLS_CHACHA20_POLY1305_SHA256}},
		{"TLS 1.2", []string{"-tls1_2"}, Hop{Version: tls.VersionTLS12}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := runOpenSSL(t, openssl, append([]string{"-cert", certFile, "-cert_chain", certFile, "-key", keyFile}, tt.args...))
			c := newConnect(t, testAuthority)
			dial, err := NewDial(proxyConfig(), c.req, c.req.Offer.Proxies, c.req.Offer.Authority)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			conn := tls.Client(dial.Tap(raw), dial.Config())
			if err := conn.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			e, err := dial.Evidence(conn.ConnectionState(), true)
			if err != nil {
				t.Fatal(err)
			}
			r, err := c.verifier.Verify(overTheWire(t, e))
			if err != nil {
				t.Fatal(err)
			}
			if r.Kind != Transcript || !r.OfferedTokens || !r.PickedNone || r.Hop.Version != tt.want.Version {
				t.Errorf("got %+v", r)
			}
			if tt.want.Suite != 0 && r.Hop.Suite != tt.want.Suite || tt.want.Group != 0 && r.Hop.Group != tt.want.Group {
				t.Errorf("suite %04x, group %v", r.Hop.Suite, r.Hop.Group)
			}
		})
	}
}

// runOpenSSL returns the address that s_server says it listens on.
func runOpenSSL(t *testing.T, openssl string, args []string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), openssl, append([]string{"s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-www"}, args...)...)
	cmd.Env = append(cmd.Environ(), "OPENSSL_CONF=/dev/null")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var seen strings.Builder
	buf := make([]byte, 256)
	for {
		n, err := out.Read(buf)
		seen.Write(buf[:n])
		if _, line, ok := strings.Cut(seen.String(), "ACCEPT "); ok {
			if addr, _, ok := strings.Cut(line, "\n"); ok {
				return strings.TrimSpace(addr)
			}
		}
		if err != nil {
			t.Fatalf("s_server said %q: %v", seen.String(), err)
		}
	}
}

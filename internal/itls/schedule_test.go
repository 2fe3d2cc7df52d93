package itls

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"vitrine/internal/tlsmsg"
)

// trace is a recorded handshake with every secret of its key schedule.
type trace struct {
	messages [][]byte
	values   map[string][]byte
}

func loadTrace(t *testing.T) *trace {
	t.Helper()
	b, err := os.ReadFile("testdata/rfc8448.json")
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	unhex := func(v any) []byte {
		b, err := hex.DecodeString(v.(string))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tr := &trace{values: map[string][]byte{}}
	for name, v := range fields {
		switch name {
		case "source":
		case "messages":
			for _, m := range v.([]any) {
				tr.messages = append(tr.messages, unhex(m))
			}
		default:
			tr.values[name] = unhex(v)
		}
	}
	return tr
}

// hash is Transcript-Hash over the first n messages.
func (tr *trace) hash(s *suite, n int) []byte {
	h := s.hash()
	for _, m := range tr.messages[:n] {
		h.Write(m)
	}
	return h.Sum(nil)
}

// The trace's suite is TLS_AES_128_GCM_SHA256. All but the record keys depends on its hash alone, which
// TLS_SHA256_SHA256 has too.
func TestKeyScheduleOfRFC8448(t *testing.T) {
	tr, s := loadTrace(t), suiteByID(tlsmsg.SuiteSHA256)
	check := func(name string) func(got []byte, err error) {
		return func(got []byte, err error) {
			t.Helper()
			if want := tr.values[name]; err != nil || len(want) == 0 || !bytes.Equal(got, want) {
				t.Errorf("%s: %x, %v; want %x", name, got, err, want)
			}
		}
	}
	client, err := ecdh.X25519().NewPrivateKey(tr.values["client private"])
	if err != nil {
		t.Fatal(err)
	}
	hello, err := tlsmsg.ParseServerHello(tr.messages[1])
	if err != nil {
		t.Fatal(err)
	}
	shared, err := (&keyExchange{group: hello.KeyShare.Group, key: client}).finish(hello.KeyShare.Data)
	check("shared")(shared, err)
	server, err := ecdh.X25519().NewPrivateKey(tr.values["server private"])
	if err != nil {
		t.Fatal(err)
	}
	offer, err := tlsmsg.ParseClientHello(tr.messages[0])
	if err != nil || offer.RecordSizeLimit != maxInner {
		t.Fatalf("record_size_limit %d, %v", offer.RecordSizeLimit, err)
	}
	check("shared")(agree(server, offer.KeyShares[0].Data))

	k := schedule{suite: s}
	check("early secret")(s.early(nil))
	if err := k.handshake(shared, tr.hash(s, 2)); err != nil {
		t.Fatal(err)
	}
	check("handshake secret")(k.secret, nil)
	check("c hs traffic")(k.client, nil)
	check("s hs traffic")(k.server, nil)
	check("s hs key")(s.expandLabel(k.server, "key", nil, 16))
	check("s hs iv")(s.expandLabel(k.server, "iv", nil, 12))
	for i, secret := range [][]byte{k.server, k.client} {
		m, err := tlsmsg.ParseFinished(tr.messages[5+i])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.finished(secret, tr.hash(s, 5+i)); err != nil || !bytes.Equal(got, m.VerifyData) {
			t.Errorf("Finished %d: %x, %v", i, got, err)
		}
	}
	check("exp master")(k.application(tr.hash(s, 6)))
	check("master secret")(k.secret, nil)
	check("c ap traffic")(k.client, nil)
	check("s ap traffic")(k.server, nil)
	check("c ap key")(s.expandLabel(k.client, "key", nil, 16))
	check("c ap iv")(s.expandLabel(k.client, "iv", nil, 12))
	resumption := k.resumption(tr.hash(s, 7))
	check("res master")(resumption, nil)
	psk, err := s.resumptionPSK(resumption, tr.values["ticket nonce"])
	check("psk")(psk, err)
	check("psk early secret")(s.early(psk))
	check("binder")(s.binder(psk, tr.values["binder hash"]))
}

// The shared parser reads the trace's messages and writes them back.
func TestMessagesOfRFC8448(t *testing.T) {
	type message interface {
		Append(b []byte) ([]byte, error)
	}
	tr := loadTrace(t)
	for i, parse := range []func(msg []byte) (message, error){
		func(msg []byte) (message, error) { return tlsmsg.ParseClientHello(msg) },
		func(msg []byte) (message, error) { return tlsmsg.ParseServerHello(msg) },
		func(msg []byte) (message, error) { return tlsmsg.ParseEncryptedExtensions(msg) },
		func(msg []byte) (message, error) { return tlsmsg.ParseCertificate(msg) },
		func(msg []byte) (message, error) { return tlsmsg.ParseCertificateVerify(msg) },
		func(msg []byte) (message, error) { return tlsmsg.ParseFinished(msg) },
		func(msg []byte) (message, error) { return tlsmsg.ParseFinished(msg) },
	} {
		m, err := parse(tr.messages[i])
		if err != nil {
			t.Errorf("message %d: %v", i, err)
			continue
		}
		if again, err := m.Append(nil); err != nil || !bytes.Equal(again, tr.messages[i]) {
			t.Errorf("message %d is written back as %x, %v", i, again, err)
		}
	}
}

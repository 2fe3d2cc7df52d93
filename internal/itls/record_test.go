package itls

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"vitrine/internal/tlsmsg"
)

// A hexString is bytes that the vectors write in hex.
type hexString []byte

func (h *hexString) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vectors struct {
	Suite   string
	Secrets map[string]hexString
	Keys    map[string]struct{ Key, IV hexString }
	Records []struct {
		Dir, Epoch             string
		Seq                    uint64
		Nonce, AAD, Inner, Tag hexString
		ContentType            tlsmsg.ContentType
	}
}

func loadVectors(t *testing.T, id uint16) *vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/" + tlsmsg.SuiteName(id) + ".json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	if v.Suite != tlsmsg.SuiteName(id) || len(v.Records) != 11 || len(v.Keys) != 4 {
		t.Fatalf("vectors of %s with %d records and %d keys", v.Suite, len(v.Records), len(v.Keys))
	}
	return v
}

// spec: TLS-10 TLS-11
func TestRecordsOfOpenSSL(t *testing.T) {
	labels := map[string]string{
		"c2s-hs": "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "c2s-app": "CLIENT_TRAFFIC_SECRET_0",
		"s2c-hs": "SERVER_HANDSHAKE_TRAFFIC_SECRET", "s2c-app": "SERVER_TRAFFIC_SECRET_0",
	}
	for _, id := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		t.Run(tlsmsg.SuiteName(id), func(t *testing.T) {
			v, s := loadVectors(t, id), suiteByID(id)
			sealers, openers := map[string]*half{}, map[string]*half{}
			for epoch, want := range v.Keys {
				secret := v.Secrets[labels[epoch]]
				key, err := s.expandLabel(secret, "key", nil, s.size)
				if err != nil || !bytes.Equal(key, want.Key) {
					t.Errorf("%s: key %x, %v", epoch, key, err)
				}
				iv, err := s.expandLabel(secret, "iv", nil, s.size)
				if err != nil || !bytes.Equal(iv, want.IV) {
					t.Errorf("%s: iv %x, %v", epoch, iv, err)
				}
				sealers[epoch], openers[epoch] = new(half), new(half)
				sealers[epoch].setSecret(s, secret)
				openers[epoch].setSecret(s, secret)
			}
			for i, r := range v.Records {
				epoch := r.Dir + "-" + r.Epoch
				seal, open := sealers[epoch], openers[epoch]
				if seal.seq != r.Seq {
					t.Fatalf("record %d: sequence %d, want %d", i, seal.seq, r.Seq)
				}
				record := bytes.Join([][]byte{r.AAD, r.Inner, r.Tag}, nil)
				// None of these records is padded.
				got, err := seal.seal(nil, r.ContentType, r.Inner[:len(r.Inner)-1])
				if err != nil || !bytes.Equal(got, record) {
					t.Errorf("record %d is sealed as %x, %v", i, got, err)
				}
				if !bytes.Equal(seal.nonce[:s.size], r.Nonce) {
					t.Errorf("record %d: nonce %x", i, seal.nonce[:s.size])
				}
				typ, content, err := open.open(bytes.Clone(record))
				if err != nil || typ != r.ContentType || !bytes.Equal(content, r.Inner[:len(r.Inner)-1]) {
					t.Errorf("record %d opens as %s %x, %v", i, typ, content, err)
				}
			}
		})
	}
}

// The flights of OpenSSL's server are messages that the shared parser takes.
func TestHandshakeMessagesOfOpenSSL(t *testing.T) {
	for _, id := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		v := loadVectors(t, id)
		var types []string
		for _, r := range v.Records {
			if r.ContentType != tlsmsg.TypeHandshake {
				continue
			}
			msg, rest, err := tlsmsg.SplitHandshake(r.Inner[:len(r.Inner)-1], tlsmsg.MaxHandshake)
			if err != nil || len(rest) > 0 {
				t.Fatal(err)
			}
			switch types = append(types, r.Dir+" "+tlsmsg.MessageType(msg).String()); tlsmsg.MessageType(msg) {
			case tlsmsg.TypeEncryptedExtensions:
				_, err = tlsmsg.ParseEncryptedExtensions(msg)
			case tlsmsg.TypeCertificate:
				_, err = tlsmsg.ParseCertificate(msg)
			case tlsmsg.TypeCertificateVerify:
				_, err = tlsmsg.ParseCertificateVerify(msg)
			case tlsmsg.TypeFinished:
				_, err = tlsmsg.ParseFinished(msg)
			case tlsmsg.TypeNewSessionTicket:
				_, err = tlsmsg.ParseNewSessionTicket(msg)
			}
			if err != nil {
				t.Error(err)
			}
		}
		want := "c2s Finished,s2c EncryptedExtensions,s2c Certificate,s2c CertificateVerify,s2c Finished,s2c NewSessionTicket,s2c NewSessionTicket"
		if got := strings.Join(types, ","); got != want {
			t.Errorf("%s: %s", v.Suite, got)
		}
	}
}

func newHalves(t testing.TB, id uint16) (sealer, opener *half) {
	t.Helper()
	s := suiteByID(id)
	sealer, opener = new(half), new(half)
	for _, h := range []*half{sealer, opener} {
		h.setSecret(s, bytes.Repeat([]byte{7}, s.size))
	}
	return sealer, opener
}

func alertOf(err error) tlsmsg.Alert {
	if a, ok := err.(*AlertError); ok && !a.Remote {
		return a.Alert
	}
	return 255
}

// spec: TLS-13
func TestRecordContents(t *testing.T) {
	for _, id := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		s := suiteByID(id)
		if want := map[uint16]int{tlsmsg.SuiteSHA256: 16337, tlsmsg.SuiteSHA384: 16321}[id]; s.maxData() != want {
			t.Errorf("at most %d bytes in a record", s.maxData())
		}
		// An inner plaintext as a peer may pad it, sealed by hand: seal itself never pads.
		padded := func(sealer *half, inner []byte) []byte {
			header := tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: tlsmsg.VersionTLS12, Length: len(inner) + s.size}
			record := append(header.Append(nil), inner...)
			b, err := sealer.sum(record, record)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for _, c := range []struct {
			name    string
			inner   []byte
			content string
			alert   tlsmsg.Alert
		}{
			{"no padding", []byte("data\x17"), "data", 0},
			{"padding", []byte("data\x17\x00\x00\x00"), "data", 0},
			{"content that ends in zeros", []byte("data\x00\x00\x17\x00"), "data\x00\x00", 0},
			{"empty", []byte("\x17"), "", 0},
			{"largest", append(make([]byte, 1<<14), 23), string(make([]byte, 1<<14)), 0},
			{"largest, all padding", append([]byte{23}, make([]byte, 1<<14)...), "", 0},
			{"one more", append(make([]byte, 1<<14+1), 23), "", tlsmsg.AlertRecordOverflow},
			{"only zeros", make([]byte, 9), "", tlsmsg.AlertUnexpectedMessage},
			{"nothing at all", nil, "", tlsmsg.AlertUnexpectedMessage},
		} {
			sealer, opener := newHalves(t, id)
			typ, content, err := opener.open(padded(sealer, c.inner))
			if c.alert != 0 {
				if alertOf(err) != c.alert {
					t.Errorf("%s: %v", c.name, err)
				}
				continue
			}
			if err != nil || typ != tlsmsg.TypeApplicationData || string(content) != c.content {
				t.Errorf("%s: %s %q, %v", c.name, typ, content, err)
			}
		}
	}
}

// spec: TLS-11
func TestEveryChangedBitOfARecordIsNoticed(t *testing.T) {
	for _, id := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		sealer, _ := newHalves(t, id)
		record, err := sealer.seal(nil, tlsmsg.TypeApplicationData, []byte("pay 100 to Alice"))
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, changed []byte) {
			_, opener := newHalves(t, id)
			_, content, err := opener.open(changed)
			record, ok := alertCause[*RecordError](err)
			if !ok || record.Sequence != 0 || alertOf(err) != tlsmsg.AlertBadRecordMAC || content != nil {
				t.Errorf("%s: %q, %v", what, content, err)
			}
		}
		for i := range len(record) * 8 {
			changed := bytes.Clone(record)
			changed[i/8] ^= 1 << (i % 8)
			check("changed", changed)
		}
		for n := range record {
			if n >= tlsmsg.RecordHeaderLen {
				check("cut short", record[:n:n])
			}
		}
		check("longer", append(bytes.Clone(record), 0))
		_, opener := newHalves(t, id)
		opener.seq = 1
		if _, _, err := opener.open(record); alertOf(err) != tlsmsg.AlertBadRecordMAC {
			t.Errorf("under another sequence number: %v", err)
		}
	}
}

func alertCause[E error](err error) (cause E, ok bool) {
	a, isAlert := err.(*AlertError)
	if !isAlert {
		return cause, false
	}
	cause, ok = a.Err.(E)
	return cause, ok
}

// spec: TLS-12
func TestSequenceNumbersDoNotWrap(t *testing.T) {
	sealer, opener := newHalves(t, tlsmsg.SuiteSHA256)
	sealer.seq, opener.seq = math.MaxUint64-1, math.MaxUint64-1
	last, err := sealer.seal(nil, tlsmsg.TypeApplicationData, []byte("last"))
	if err != nil {
		t.Fatal(err)
	}
	if _, content, err := opener.open(last); err != nil || string(content) != "last" {
		t.Fatalf("%q, %v", content, err)
	}
	if _, err := sealer.seal(nil, tlsmsg.TypeApplicationData, []byte("one more")); err != errSequence {
		t.Errorf("sealing one more: %v", err)
	}
	if _, _, err := opener.open(last); err != errSequence {
		t.Errorf("opening one more: %v", err)
	}
}

func TestRecordsAreSealedAndOpenedWithoutAllocating(t *testing.T) {
	for _, id := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		sealer, opener := newHalves(t, id)
		data := make([]byte, suiteByID(id).maxData())
		buf := make([]byte, 0, 1<<15)
		allocs := testing.AllocsPerRun(100, func() {
			record, err := sealer.seal(buf, tlsmsg.TypeApplicationData, data)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := opener.open(record); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations a record", tlsmsg.SuiteName(id), allocs)
		}
	}
}

package tlsmsg

import (
	"bytes"
	"testing"
)

// fuzzKind seeds with the encoder and asserts that parse and append are inverses.
func fuzzKind(f *testing.F, name string) {
	for _, k := range kinds() {
		if k.name != name {
			continue
		}
		for _, m := range k.samples {
			f.Add(encode(f, m))
		}
		f.Fuzz(func(t *testing.T, msg []byte) { checkInverse(t, k, msg) })
		return
	}
	f.Fatalf("no kind %s", name)
}

func FuzzClientHello(f *testing.F)         { fuzzKind(f, "ClientHello") }
func FuzzServerHello(f *testing.F)         { fuzzKind(f, "ServerHello") }
func FuzzEncryptedExtensions(f *testing.F) { fuzzKind(f, "EncryptedExtensions") }
func FuzzCertificateRequest(f *testing.F)  { fuzzKind(f, "CertificateRequest") }
func FuzzCertificate(f *testing.F)         { fuzzKind(f, "Certificate") }
func FuzzCertificateVerify(f *testing.F)   { fuzzKind(f, "CertificateVerify") }
func FuzzFinished(f *testing.F)            { fuzzKind(f, "Finished") }
func FuzzNewSessionTicket(f *testing.F)    { fuzzKind(f, "NewSessionTicket") }
func FuzzKeyUpdate(f *testing.F)           { fuzzKind(f, "KeyUpdate") }
func FuzzServerKeyExchange(f *testing.F)   { fuzzKind(f, "ServerKeyExchange") }
func FuzzCertificate12(f *testing.F)       { fuzzKind(f, "Certificate12") }

func FuzzInspectionOffer(f *testing.F) {
	data, err := sampleOffer().Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := ParseInspectionOffer(data)
		if err != nil {
			return
		}
		if b, err := o.Append(nil); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("%x was written back as %x, %v", data, b, err)
		}
	})
}

func FuzzInspectionAnswer(f *testing.F) {
	data, err := sampleAnswer().Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ParseInspectionAnswer(data)
		if err != nil {
			return
		}
		if b, err := a.Append(nil); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("%x was written back as %x, %v", data, b, err)
		}
	})
}

func FuzzRecordHeader(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 5})
	f.Add([]byte{23, 3, 3, 0x41, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := ParseRecordHeader(p)
		if err != nil {
			if (err == ErrShort) != (len(p) < RecordHeaderLen) {
				t.Fatalf("%x: %v", p, err)
			}
			return
		}
		if h.Length < 0 || h.Length > MaxCiphertext || !bytes.Equal(h.Append(nil), p[:RecordHeaderLen]) {
			t.Fatalf("%x gave %+v", p, h)
		}
	})
}

func FuzzSplitHandshake(f *testing.F) {
	f.Add(encode(f, &KeyUpdate{}), 100)
	f.Fuzz(func(t *testing.T, p []byte, max int) {
		msg, rest, err := SplitHandshake(p, max)
		if err != nil {
			return
		}
		if len(msg)-handshakeHeaderLen > max || !bytes.Equal(append(bytes.Clone(msg), rest...), p) {
			t.Fatalf("%x at most %d: %x | %x", p, max, msg, rest)
		}
	})
}

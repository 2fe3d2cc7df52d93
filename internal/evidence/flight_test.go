package evidence

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"testing"

	"vitrine/internal/tlsmsg"
)

func record(typ tlsmsg.ContentType, fragment ...byte) []byte {
	return append(tlsmsg.RecordHeader{Type: typ, Version: tls.VersionTLS12, Length: len(fragment)}.Append(nil), fragment...)
}

func TestDeframer(t *testing.T) {
	one, two := []byte{14, 0, 0, 1, 7}, []byte{16, 0, 0, 0}
	for name, in := range map[string][]byte{
		"one record":         record(tlsmsg.TypeHandshake, slices.Concat(one, two)...),
		"two records":        slices.Concat(record(tlsmsg.TypeHandshake, one...), record(tlsmsg.TypeHandshake, two...)),
		"cut in the header":  slices.Concat(record(tlsmsg.TypeHandshake, one[:2]...), record(tlsmsg.TypeHandshake, slices.Concat(one[2:], two)...)),
		"change_cipher_spec": slices.Concat(record(tlsmsg.TypeHandshake, one...), record(tlsmsg.TypeChangeCipherSpec, 1), record(tlsmsg.TypeHandshake, two...)),
		"a warning":          slices.Concat(record(tlsmsg.TypeAlert, 1, 112), record(tlsmsg.TypeHandshake, slices.Concat(one, two)...)),
		"an empty record":    slices.Concat(record(tlsmsg.TypeHandshake), record(tlsmsg.TypeHandshake, slices.Concat(one, two)...)),
	} {
		d := deframer{in: in}
		for _, want := range [][]byte{one, two} {
			if got, err := d.next(); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: got %x, %v", name, got, err)
			}
		}
		if _, err := d.next(); !errors.Is(err, tlsmsg.ErrShort) {
			t.Errorf("%s: got %v at the end", name, err)
		}
		for i := range in {
			d := deframer{in: in[:i]}
			for {
				if _, err := d.next(); err != nil {
					if !errors.Is(err, tlsmsg.ErrShort) {
						t.Errorf("%s, cut to %d bytes: %v", name, i, err)
					}
					break
				}
			}
		}
	}
	for name, in := range map[string][]byte{
		"not TLS":             []byte("HTTP/1.1 400 Bad Request"),
		"protected":           record(tlsmsg.TypeApplicationData, 1, 2, 3),
		"a long record":       {22, 3, 3, 0xff, 0xff},
		"a message of 16 MiB": record(tlsmsg.TypeHandshake, 11, 0xff, 0xff, 0xff),
	} {
		d := deframer{in: in}
		if _, err := d.next(); err == nil || errors.Is(err, tlsmsg.ErrShort) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDeframerOpensHandshakesOnly(t *testing.T) {
	s, _ := suiteOf(tls.TLS_CHACHA20_POLY1305_SHA256)
	secret := bytes.Repeat([]byte{1}, 32)
	aead, err := s.aead(expand(s, secret, "key", nil, s.keyLen))
	if err != nil {
		t.Fatal(err)
	}
	iv := expand(s, secret, "iv", nil, 12)
	seal := func(inner ...byte) []byte {
		header := tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: tls.VersionTLS12, Length: len(inner) + aead.Overhead()}.Append(nil)
		return aead.Seal(header, iv, inner, header)
	}
	msg := []byte{8, 0, 0, 2, 0, 0}
	for name, tt := range map[string]struct {
		in []byte
		ok bool
	}{
		"handshake":        {seal(append(msg, 22)...), true},
		"padded":           {seal(append(msg, 22, 0, 0, 0)...), true},
		"alert":            {seal(2, 40, 21), false},
		"application data": {seal(append(msg, 23)...), false},
		"zeros alone":      {seal(0, 0, 0), false},
		"nothing":          {seal(), false},
	} {
		o, err := s.opener(secret)
		if err != nil {
			t.Fatal(err)
		}
		d := deframer{in: tt.in, opener: o}
		got, err := d.next()
		if tt.ok && (err != nil || !bytes.Equal(got, msg)) {
			t.Errorf("%s: got %x, %v", name, got, err)
		}
		if !tt.ok && (err == nil || errors.Is(err, tlsmsg.ErrShort)) {
			t.Errorf("%s: got %x, %v", name, got, err)
		}
		lie := bytes.Clone(tt.in)
		lie[len(lie)-1] ^= 1
		o, err = s.opener(secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&deframer{in: lie, opener: o}).next(); !errors.Is(err, errRecord) {
			t.Errorf("%s, with a byte flipped: %v", name, err)
		}
	}
}

// In TLS 1.2 ClientKeyExchange follows the ClientHello in clear.
func TestClientHellosStopAtOtherMessages(t *testing.T) {
	hello, other := []byte{1, 0, 0, 0}, []byte{16, 0, 0, 1, 0}
	for name, tt := range map[string]struct {
		sent []byte
		want int
	}{
		"one":            {slices.Concat(record(tlsmsg.TypeHandshake, hello...), record(tlsmsg.TypeHandshake, other...)), 1},
		"two":            {slices.Concat(record(tlsmsg.TypeHandshake, hello...), record(tlsmsg.TypeChangeCipherSpec, 1), record(tlsmsg.TypeHandshake, hello...)), 2},
		"three":          {record(tlsmsg.TypeHandshake, slices.Concat(hello, hello, hello)...), 2},
		"then protected": {slices.Concat(record(tlsmsg.TypeHandshake, hello...), record(tlsmsg.TypeApplicationData, 1)), 1},
	} {
		got, err := clientHellos(tt.sent)
		if err != nil || len(got) != tt.want {
			t.Errorf("%s: got %d, %v", name, len(got), err)
		}
	}
	for _, sent := range [][]byte{nil, record(tlsmsg.TypeHandshake, other...), []byte("garbage")} {
		if _, err := clientHellos(sent); err == nil {
			t.Errorf("%x: no error", sent)
		}
	}
}

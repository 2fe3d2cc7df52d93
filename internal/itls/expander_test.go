package itls

import (
	"bytes"
	"crypto/hkdf"
	"fmt"
	"testing"

	"vitrine/internal/tlsmsg"
)

func TestAnExpanderIsHKDFHoweverOftenItIsUsed(t *testing.T) {
	for _, id := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		s := suiteByID(id)
		secret := bytes.Repeat([]byte{3}, s.size)
		e := s.expander(secret)
		for i := range 5 {
			label, context := fmt.Sprint("label ", i), bytes.Repeat([]byte{byte(i)}, i*s.size/2)
			want, err := hkdf.Expand(s.hash, secret, string(hkdfLabel(label, context, s.size)), s.size)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.label(label, context); !bytes.Equal(got, want) {
				t.Errorf("%s, use %d: %x, want %x", tlsmsg.SuiteName(id), i, got, want)
			}
			if got, err := s.expandLabel(secret, label, context, s.size); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, alone: %x, %v, want %x", tlsmsg.SuiteName(id), got, err, want)
			}
		}
	}
}

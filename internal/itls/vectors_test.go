package itls

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"testing"

	"vitrine/internal/tlsmsg"
	spec "vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

// spec: TLS-10 TLS-11
func TestVectorsInnerRecord(t *testing.T) {
	class := func(err error) string {
		var alert *AlertError
		if err == nil {
			return spec.Success
		}
		if !errors.As(err, &alert) {
			return "an error that is not *AlertError"
		}
		switch alert.Alert {
		case tlsmsg.AlertBadRecordMAC:
			return spec.Altered
		case tlsmsg.AlertUnexpectedMessage:
			return spec.Malformed
		case tlsmsg.AlertRecordOverflow:
			return spec.TooLarge
		}
		return alert.Alert.String()
	}
	half := func(t *testing.T, v spec.Vector) *half {
		t.Helper()
		seq, err := strconv.ParseUint(v.Inputs["sequence"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		h := new(half)
		if err := h.setSecret(suiteByID(binary.BigEndian.Uint16(vectorstest.Hex(t, v, "suite"))), vectorstest.Hex(t, v, "secret")); err != nil {
			t.Fatal(err)
		}
		h.seq = seq
		return h
	}
	vectorstest.Run(t, "inner-record", class, func(t *testing.T, v spec.Vector) (map[string]string, []byte, error) {
		inner, content, err := half(t, v).open(v.Bytes)
		if err != nil {
			return nil, nil, err
		}
		again, err := half(t, v).seal(nil, inner, content)
		if v.Name == "padded" || v.Name == "zeros" {
			again = nil // we never pad
		}
		return map[string]string{"type": strconv.Itoa(int(inner)), "content": hex.EncodeToString(content)}, again, err
	})
}

package itls

import (
	"bytes"
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
		h.setSecret(suiteByID(binary.BigEndian.Uint16(vectorstest.Hex(t, v, "suite"))), vectorstest.Hex(t, v, "secret"))
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

// spec: TLS-54
func TestVectorsInnerSchedule(t *testing.T) {
	errAltered := errors.New("does not verify")
	class := func(err error) string {
		switch err {
		case nil:
			return spec.Success
		case errAltered:
			return spec.Altered
		}
		return "an error of another kind"
	}
	vectorstest.Run(t, "inner-schedule", class, func(t *testing.T, v spec.Vector) (map[string]string, []byte, error) {
		s := suiteByID(binary.BigEndian.Uint16(vectorstest.Hex(t, v, "suite")))
		k := schedule{suite: s}
		if v.Inputs["psk"] != "" {
			k.psk = vectorstest.Hex(t, v, "psk")
		}
		transcript := s.hash()
		found := map[string]string{}
		var fromClient, fromServer []byte
		servers := true // whose Finished comes next
		for rest := v.Bytes; len(rest) > 0; {
			msg, behind, err := tlsmsg.SplitHandshake(rest, tlsmsg.MaxHandshake)
			if err != nil {
				t.Fatal(err)
			}
			rest = behind
			switch tlsmsg.MessageType(msg) {
			case tlsmsg.TypeClientHello:
				h, err := tlsmsg.ParseClientHello(msg)
				if err != nil {
					t.Fatal(err)
				}
				end := len(msg) - h.BindersLen()
				transcript.Write(msg[:end])
				if h.HasPSK {
					if binder, err := s.binder(k.psk, transcript.Sum(nil)); err != nil || !bytes.Equal(binder, h.PSKBinders[0]) {
						return nil, nil, errAltered
					}
				}
				transcript.Write(msg[end:])
				if behind[0] == byte(tlsmsg.TypeServerHello) {
					if next, err := tlsmsg.ParseServerHello(behind[:4+int(behind[2])<<8+int(behind[3])]); err == nil && next.IsHRR {
						transcript = retryTranscript(s, msg)
					}
				}
				continue
			case tlsmsg.TypeServerHello:
				transcript.Write(msg)
				if h, err := tlsmsg.ParseServerHello(msg); err != nil {
					t.Fatal(err)
				} else if h.IsHRR {
					continue
				}
				if err := k.handshake(vectorstest.Hex(t, v, "shared"), transcript.Sum(nil)); err != nil {
					t.Fatal(err)
				}
				fromClient, fromServer = k.client, k.server
				found["client handshake"], found["server handshake"] = hex.EncodeToString(k.client), hex.EncodeToString(k.server)
				continue
			case tlsmsg.TypeFinished:
				secret := fromClient
				if servers {
					secret = fromServer
				}
				want, err := s.finished(secret, transcript.Sum(nil))
				if err != nil {
					t.Fatal(err)
				}
				if m, err := tlsmsg.ParseFinished(msg); err != nil || !bytes.Equal(m.VerifyData, want) {
					return nil, nil, errAltered
				}
				transcript.Write(msg)
				if servers {
					exporter, err := k.application(transcript.Sum(nil))
					if err != nil {
						t.Fatal(err)
					}
					found["client application"], found["server application"] = hex.EncodeToString(k.client), hex.EncodeToString(k.server)
					found["exporter"] = hex.EncodeToString(exporter)
				}
				servers = false
				continue
			}
			transcript.Write(msg)
		}
		resumption := k.resumption(transcript.Sum(nil))
		next, err := s.resumptionPSK(resumption, []byte{0})
		if err != nil {
			t.Fatal(err)
		}
		found["resumption"], found["next psk"] = hex.EncodeToString(resumption), hex.EncodeToString(next)
		return found, nil, nil
	})
}

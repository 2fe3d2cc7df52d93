package itls

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"vitrine/internal/tlsmsg"
)

// fuzzConfigs makes two configs that agree, out of choices.
func fuzzConfigs(choices uint32, clientLimit, serverLimit uint16) (cc, sc *Config) {
	choose := func(n uint32) uint32 {
		c := choices % n
		choices /= n
		return c
	}
	cc, sc = clientConfig(), serverConfig()
	suites := cc.suites()
	cc.Suites = [][]uint16{suites, suites[:1], suites[1:]}[choose(3)]
	groups := []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.X25519MLKEM768}
	cc.Groups = append(groups[choose(4):], tls.X25519)
	sc.Groups = append([]tls.CurveID{cc.Groups[int(choose(2))%len(cc.Groups)]}, groups...)
	kinds := []string{"P-256", "P-384", "Ed25519", "RSA-2048"}
	sc.TLS.Certificates = []tls.Certificate{serverCertificates()[kinds[choose(4)]]}
	switch choose(3) {
	case 1:
		sc.TLS.ClientAuth = tls.RequestClientCert
	case 2:
		asking(sc)
		cc.TLS.Certificates = []tls.Certificate{clientCertificates()[kinds[choose(4)]]}
	}
	if choose(2) == 1 {
		cc.TLS.NextProtos, sc.TLS.NextProtos = []string{"a", "b"}, []string{"b"}
	}
	if choose(2) == 1 {
		cc.Inspection = testOffer(testName + ":443")
		sc.AnswerInspection = func(*tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) { return testAnswer(), nil }
	}
	if choose(2) == 1 {
		cc.Sessions, sc.Tickets = new(SessionCache), &TicketKeys{Time: certificateTime}
	}
	limit := func(n uint16) int { return tlsmsg.MinRecordSizeLimit + int(n)%(maxInner-tlsmsg.MinRecordSizeLimit+1) }
	cc.RecordSizeLimit, sc.RecordSizeLimit = limit(clientLimit), limit(serverLimit)
	return cc, sc
}

// FuzzSession is a differential oracle for whole sessions: what one role emits the other accepts, whatever
// they agree on, and what is altered anywhere fails, at one end or the other.
//
// spec: TLS-11
func FuzzSession(f *testing.F) {
	for i := range uint32(24) {
		f.Add(i*9973, uint16(i*700), uint16(i*13), i%2 == 0, i*37, byte(i%9))
	}
	f.Fuzz(func(t *testing.T, choices uint32, clientLimit, serverLimit uint16, toTheServer bool, at uint32, mask byte) {
		cc, sc := fuzzConfigs(choices, clientLimit, serverLimit)
		if cc.Sessions != nil && choices%2 == 1 {
			if o := play(t, cc, sc, func(_, _, _ int, record []byte) [][]byte { return [][]byte{record} }); o.noticed() {
				t.Fatalf("client %v, server %v", o.clientErr, o.serverErr)
			}
		}
		direction, offset := toClient, int(at%8192)
		if toTheServer {
			direction = toServer
		}
		altered := false
		o := play(t, cc, sc, func(d, _, start int, record []byte) [][]byte {
			if i := offset - start; d == direction && 0 <= i && i < len(record) && mask != 0 {
				record[i] ^= mask
				// The minor version of a plain record is the one byte that means nothing (RFC 8446, section
				// 5.1).
				altered = !(i == 2 && record[0] == byte(tlsmsg.TypeHandshake))
			}
			return [][]byte{record}
		})
		if o.noticed() != altered {
			t.Fatalf("altered %v; client %v, server %v", altered, o.clientErr, o.serverErr)
		}
	})
}

// referenceRecord is RFC 9150, sections 4 and 5, written out without the code under test.
func referenceRecord(t *testing.T, s *suite, secret []byte, seq uint64, inner []byte) []byte {
	t.Helper()
	expand := func(label string) []byte {
		info := append([]byte{0, byte(s.size), byte(6 + len(label))}, "tls13 "+label+"\x00"...)
		out, err := hkdf.Expand(s.hash, secret, string(info), s.size)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	nonce := expand("iv")
	for i := range 8 {
		nonce[s.size-1-i] ^= byte(seq >> (8 * i))
	}
	record := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(inner)+s.size))
	record = append(record, inner...)
	m := hmac.New(s.hash, expand("key"))
	m.Write(nonce)
	m.Write(record)
	return m.Sum(record)
}

// FuzzRecordLayer compares the record layer with the reference, and alters what it has made.
//
// spec: TLS-10 TLS-11
func FuzzRecordLayer(f *testing.F) {
	f.Add(false, byte(1), uint64(0), byte(23), []byte("data"), uint16(0), uint16(0), byte(0))
	f.Add(true, byte(2), uint64(1<<32), byte(22), []byte{}, uint16(9), uint16(7), byte(1))
	f.Add(true, byte(3), uint64(math.MaxUint64), byte(21), []byte{1, 0}, uint16(0), uint16(70), byte(128))
	f.Add(false, byte(4), uint64(math.MaxUint64-1), byte(0), make([]byte, 50), uint16(16384), uint16(3), byte(0))
	f.Fuzz(func(t *testing.T, long bool, seed byte, seq uint64, typ byte, content []byte, padding, at uint16, mask byte) {
		s := suiteByID(tlsmsg.SuiteSHA256)
		if long {
			s = suiteByID(tlsmsg.SuiteSHA384)
		}
		secret := bytes.Repeat([]byte{seed}, s.size)
		newHalf := func() *half {
			h := new(half)
			h.setSecret(s, secret)
			h.seq = seq
			return h
		}
		content = content[:min(len(content), tlsmsg.MaxPlaintext)]
		inner := append(append(bytes.Clone(content), typ), make([]byte, int(padding)%(maxInner+2))...)
		record := referenceRecord(t, s, secret, seq, inner)
		sealed, err := newHalf().seal(nil, tlsmsg.ContentType(typ), content)
		if seq == math.MaxUint64 {
			if err != errSequence {
				t.Fatalf("sealed under the last sequence number: %v", err)
			}
			return
		}
		if err != nil || !bytes.Equal(sealed, referenceRecord(t, s, secret, seq, inner[:len(content)+1])) {
			t.Fatalf("sealed %x, %v", sealed, err)
		}
		got, data, err := newHalf().open(bytes.Clone(record))
		meant := bytes.TrimRight(inner, "\x00")
		switch {
		case len(inner) > maxInner:
			if alertOf(err) != tlsmsg.AlertRecordOverflow {
				t.Fatalf("%d bytes: %v", len(inner), err)
			}
		case len(meant) == 0:
			if alertOf(err) != tlsmsg.AlertUnexpectedMessage {
				t.Fatalf("all padding: %v", err)
			}
		case err != nil || byte(got) != meant[len(meant)-1] || !bytes.Equal(data, meant[:len(meant)-1]):
			t.Fatalf("opened %x as %s %x, %v", inner, got, data, err)
		}
		if mask != 0 {
			record[int(at)%len(record)] ^= mask
			if _, data, err := newHalf().open(record); alertOf(err) != tlsmsg.AlertBadRecordMAC || data != nil {
				t.Fatalf("altered at %d: %x, %v", int(at)%len(record), data, err)
			}
		}
		other := newHalf()
		other.seq = seq + 1
		if other.seq != math.MaxUint64 {
			if _, _, err := other.open(referenceRecord(t, s, secret, seq, inner)); alertOf(err) != tlsmsg.AlertBadRecordMAC {
				t.Fatalf("replayed: %v", err)
			}
		}
	})
}

// FuzzState lets a peer with keys bring an end to any state and then send what it likes, in records of its
// own cutting.
func FuzzState(f *testing.F) {
	states := machineStates()
	samples := sampleMessages()
	for i, s := range states {
		for _, typ := range s.waits {
			f.Add(byte(i), byte(tlsmsg.TypeHandshake), samples[typ], uint16(0))
			f.Add(byte(i), byte(tlsmsg.TypeHandshake), samples[typ], uint16(1+i))
		}
	}
	f.Add(byte(len(states)-1), byte(tlsmsg.TypeApplicationData), []byte("data"), uint16(1))
	f.Fuzz(func(t *testing.T, state, typ byte, data []byte, cut uint16) {
		s := states[int(state)%len(states)]
		p := new(machinePeer)
		defer p.close()
		p.enter(t, t, s, nil)
		before := p.out.mac != nil
		data = data[:min(len(data), 4000)]
		for first := true; first || len(data) > 0; first = false {
			n := len(data)
			if cut > 0 {
				n = min(n, int(cut))
			}
			if err := p.record(tlsmsg.ContentType(typ), data[:n]); err != nil {
				t.Fatal(err)
			}
			data = data[n:]
		}
		err := p.end()
		_, alert := errors.AsType[*AlertError](err)
		closed := s.connected() && err == nil
		if !alert && !errors.Is(err, ErrTruncated) && !closed {
			t.Fatalf("%s, keys %v: ended with %v", s.name, before, err)
		}
		if !s.connected() && p.tested.complete.Load() {
			t.Fatalf("%s: a handshake without a Finished that verifies", s.name)
		}
	})
}

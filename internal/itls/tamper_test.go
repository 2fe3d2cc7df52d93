package itls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/tlsmsg"
)

const (
	toServer = iota
	toClient
)

// A meddler is what a relay does with one record: the records that go on in its place. at is the
// record's first byte in its direction's stream, n its number there.
type meddler func(direction, n, at int, record []byte) [][]byte

// relay carries records from one pipe to another until an end, in which it takes part.
func relay(t *testing.T, direction int, from, to *pipe, meddle meddler) {
	defer to.CloseWrite()
	at := 0
	for n := 0; ; n++ {
		record := make([]byte, tlsmsg.RecordHeaderLen)
		if _, err := io.ReadFull(from, record); err != nil {
			return
		}
		h, err := tlsmsg.ParseRecordHeader(record)
		if err != nil {
			t.Errorf("an honest end sent %x: %v", record, err)
			return
		}
		record = append(record, make([]byte, h.Length)...)
		if _, err := io.ReadFull(from, record[tlsmsg.RecordHeaderLen:]); err != nil {
			return
		}
		for _, r := range meddle(direction, n, at, record) {
			if r == nil {
				return // cut
			}
			if _, err := to.Write(r); err != nil {
				return
			}
		}
		at += len(record)
	}
}

var (
	testRequest  = []byte("GET / HTTP/1.1\r\n\r\n")
	testResponse = []byte("HTTP/1.1 200 OK\r\n\r\nbody")
)

// An outcome is what each end read, and its first error.
type outcome struct {
	request, response    []byte
	clientErr, serverErr error
}

func (o *outcome) noticed() bool { return o.clientErr != nil || o.serverErr != nil }

// play runs a whole exchange through meddling relays, in a bubble of its own, whose clock ends every
// wait that the meddling causes.
func play(t *testing.T, cc, sc *Config, meddle meddler) *outcome {
	t.Helper()
	o := new(outcome)
	synctest.Test(t, func(t *testing.T) {
		cc.TLS.Time, sc.TLS.Time = certificateTime, certificateTime
		clientEnd, a := newPipe()
		b, serverEnd := newPipe()
		var ends, relays sync.WaitGroup
		relays.Go(func() { relay(t, toServer, a, b, meddle) })
		relays.Go(func() { relay(t, toClient, b, a, meddle) })
		ends.Go(func() {
			defer clientEnd.CloseWrite()
			o.response, o.clientErr = playClient(Client(clientEnd, cc))
		})
		ends.Go(func() {
			defer serverEnd.CloseWrite()
			o.request, o.serverErr = playServer(Server(serverEnd, sc))
		})
		ends.Wait()
		for _, p := range []*pipe{clientEnd, a, b, serverEnd} {
			p.Close()
		}
		relays.Wait()
	})
	if !bytes.HasPrefix(testRequest, o.request) || !bytes.HasPrefix(testResponse, o.response) {
		t.Fatalf("WRONG BYTES ACCEPTED: server read %q, client read %q", o.request, o.response)
	}
	if o.clientErr == nil && !bytes.Equal(o.response, testResponse) || o.serverErr == nil && !bytes.Equal(o.request, testRequest) {
		t.Fatalf("LOSS ACCEPTED: server read %q, client read %q", o.request, o.response)
	}
	return o
}

func playClient(c *Conn) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(testRequest); err != nil {
		return nil, err
	}
	if err := c.CloseWrite(); err != nil {
		return nil, err
	}
	return io.ReadAll(c)
}

func playServer(c *Conn) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	request, err := io.ReadAll(c)
	if err != nil {
		return request, err
	}
	if _, err := c.Write(testResponse); err != nil {
		return request, err
	}
	return request, c.CloseWrite()
}

// measure plays honestly and returns the length and the record count of each direction.
func measure(t *testing.T, cc, sc *Config) (bytes, records [2]int) {
	t.Helper()
	o := play(t, cc, sc, func(direction, n, at int, record []byte) [][]byte {
		bytes[direction], records[direction] = at+len(record), n+1
		return [][]byte{record}
	})
	if o.noticed() {
		t.Fatalf("the honest exchange fails: client %v, server %v", o.clientErr, o.serverErr)
	}
	return bytes, records
}

func flipConfigs() (cc, sc *Config) {
	cc, sc = clientConfig(), serverConfig()
	cc.TLS.NextProtos, sc.TLS.NextProtos = []string{"http/1.1"}, []string{"http/1.1"}
	cc.Inspection = testOffer(testName + ":443")
	sc.AnswerInspection = func(*tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) { return testAnswer(), nil }
	// Ed25519 signatures are of one length, so that offsets mean the same in every play.
	sc.TLS.Certificates = []tls.Certificate{serverCertificates()["Ed25519"]}
	return cc, sc
}

// Every byte of a whole exchange is changed once, in each direction, by each of several bits over
// the suites. Only the minor version of the two records before there are keys means nothing.
//
// spec: TLS-11
func TestAFlippedBitIsNoticed(t *testing.T) {
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		t.Run(tlsmsg.SuiteName(suite), func(t *testing.T) {
			cc, sc := flipConfigs()
			cc.Suites = []uint16{suite}
			lengths, _ := measure(t, cc, sc)
			for direction, length := range lengths {
				for i := range length {
					bit := byte(1) << ((i + int(suite)) % 8)
					touched := false
					o := play(t, cc, sc, func(d, n, at int, record []byte) [][]byte {
						if d == direction && at <= i && i < at+len(record) {
							record[i-at] ^= bit
							touched = true
						}
						return [][]byte{record}
					})
					if want := i != 2; o.noticed() != want || !touched {
						t.Errorf("direction %d, byte %d, bit %02x: touched %v, client %v, server %v", direction, i, bit, touched, o.clientErr, o.serverErr)
					}
				}
			}
		})
	}
}

// spec: TLS-21
func TestACutIsNoticedAtEveryByte(t *testing.T) {
	cc, sc := flipConfigs()
	lengths, _ := measure(t, cc, sc)
	for direction, length := range lengths {
		for i := range length {
			o := play(t, cc, sc, func(d, n, at int, record []byte) [][]byte {
				if d == direction && i < at+len(record) {
					return [][]byte{record[:i-at], nil}
				}
				return [][]byte{record}
			})
			err := o.serverErr
			if direction == toClient {
				err = o.clientErr
			}
			if !errors.Is(err, ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("direction %d, cut at byte %d: %v", direction, i, err)
			}
		}
	}
}

func TestRecordsDroppedRepeatedSwappedOrReflectedAreNoticed(t *testing.T) {
	cc, sc := flipConfigs()
	_, counts := measure(t, cc, sc)
	type attack struct {
		name string
		make func(direction, target int) meddler
	}
	for _, a := range []attack{
		{"drop", func(direction, target int) meddler {
			return func(d, n, _ int, record []byte) [][]byte {
				if d == direction && n == target {
					return nil
				}
				return [][]byte{record}
			}
		}},
		{"repeat", func(direction, target int) meddler {
			return func(d, n, _ int, record []byte) [][]byte {
				if d == direction && n == target {
					return [][]byte{record, record}
				}
				return [][]byte{record}
			}
		}},
		{"swap with the next", func(direction, target int) meddler {
			var held []byte
			return func(d, n, _ int, record []byte) [][]byte {
				switch {
				case d == direction && n == target:
					held = record
					return nil
				case d == direction && n == target+1:
					return [][]byte{record, held}
				}
				return [][]byte{record}
			}
		}},
		{"reflect into the other direction", func(direction, target int) meddler {
			var mu sync.Mutex
			var held []byte
			return func(d, n, _ int, record []byte) [][]byte {
				mu.Lock()
				defer mu.Unlock()
				if d == direction && n == target {
					held = bytes.Clone(record)
				} else if d != direction && held != nil {
					r := held
					held = nil
					return [][]byte{r, record}
				}
				return [][]byte{record}
			}
		}},
		{"cut in two", func(direction, target int) meddler {
			return func(d, n, _ int, record []byte) [][]byte {
				if h, _ := tlsmsg.ParseRecordHeader(record); d == direction && n == target && h.Type == tlsmsg.TypeApplicationData {
					half := h.Length / 2
					first := tlsmsg.RecordHeader{Type: h.Type, Version: h.Version, Length: half}.Append(nil)
					second := tlsmsg.RecordHeader{Type: h.Type, Version: h.Version, Length: h.Length - half}.Append(nil)
					return [][]byte{append(first, record[5:5+half]...), append(second, record[5+half:]...)}
				}
				return [][]byte{record}
			}
		}},
	} {
		for direction, count := range counts {
			for target := range count {
				t.Run(fmt.Sprintf("%s/%d/%d", a.name, direction, target), func(t *testing.T) {
					meddle := a.make(direction, target)
					var sent, arrived [2][]byte
					o := play(t, cc, sc, func(d, n, at int, record []byte) [][]byte {
						sent[d] = append(sent[d], record...)
						out := meddle(d, n, at, record)
						arrived[d] = append(arrived[d], bytes.Join(out, nil)...)
						return out
					})
					// An attack that waits for a record that never comes has done nothing.
					meddled := !bytes.Equal(sent[toServer], arrived[toServer]) || !bytes.Equal(sent[toClient], arrived[toClient])
					if a.name == "repeat" && target == count-1 {
						meddled = false // nobody reads on after close_notify
					}
					if o.noticed() != meddled {
						t.Errorf("meddled %v, client %v, server %v", meddled, o.clientErr, o.serverErr)
					}
				})
			}
		}
	}
}

// Records of another session under the same identities do not fit, whatever their place.
func TestRecordsOfAnotherSessionAreNoticed(t *testing.T) {
	cc, sc := flipConfigs()
	var recorded [2][][]byte
	play(t, cc, sc, func(d, n, _ int, record []byte) [][]byte {
		recorded[d] = append(recorded[d], bytes.Clone(record))
		return [][]byte{record}
	})
	for direction, list := range recorded {
		for target := range list {
			o := play(t, cc, sc, func(d, n, _ int, record []byte) [][]byte {
				if d == direction && n == target {
					return [][]byte{list[target]}
				}
				return [][]byte{record}
			})
			if !o.noticed() {
				t.Errorf("direction %d, record %d: not noticed", direction, target)
			}
		}
	}
}

func TestRandomMeddlingIsNoticed(t *testing.T) {
	cc, sc := flipConfigs()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		var mu sync.Mutex
		meddled := false
		o := play(t, cc, sc, func(d, n, _ int, record []byte) [][]byte {
			mu.Lock()
			defer mu.Unlock()
			if n == 0 || r.IntN(6) > 0 {
				return [][]byte{record}
			}
			meddled = true
			switch r.IntN(4) {
			case 0:
				record[r.IntN(len(record))] ^= byte(1 + r.IntN(255))
			case 1:
				return [][]byte{record[:r.IntN(len(record))], nil}
			case 2:
				junk := make([]byte, 1+r.IntN(60))
				for i := range junk {
					junk[i] = byte(r.Uint32())
				}
				return [][]byte{junk, record}
			case 3:
				return [][]byte{nil}
			}
			return [][]byte{record}
		})
		if o.noticed() != meddled {
			t.Errorf("seed %d: meddled %v, client %v, server %v", seed, meddled, o.clientErr, o.serverErr)
		}
	}
}

// Handshake messages may be cut into records and writes of any size.
func TestHandshakeInRecordsOfOneByte(t *testing.T) {
	cc, sc := flipConfigs()
	// Plain handshake records are cut by the relay, protected ones by an end that makes them so: see
	// TestProtectedHandshakeInRecordsOfOneByte.
	o := play(t, cc, sc, func(_, _, _ int, record []byte) [][]byte {
		h, _ := tlsmsg.ParseRecordHeader(record)
		if h.Type != tlsmsg.TypeHandshake {
			var dribble [][]byte
			for i := range record {
				dribble = append(dribble, record[i:i+1])
			}
			return dribble
		}
		var list [][]byte
		for _, b := range record[tlsmsg.RecordHeaderLen:] {
			list = append(list, append(tlsmsg.RecordHeader{Type: h.Type, Version: h.Version, Length: 1}.Append(nil), b))
		}
		return list
	})
	if o.noticed() {
		t.Errorf("client %v, server %v", o.clientErr, o.serverErr)
	}
}

// A peer, or the path, that goes silent after any number of bytes is given up when ctx ends.
func TestSilenceEndsWithTheContext(t *testing.T) {
	cc, sc := flipConfigs()
	lengths, _ := measure(t, cc, sc)
	for direction, length := range lengths {
		for i := 0; i < length; i += 13 {
			o := play(t, cc, sc, func(d, n, at int, record []byte) [][]byte {
				if d != direction {
					return [][]byte{record}
				}
				return [][]byte{record[:min(len(record), max(0, i-at))]}
			})
			if !o.noticed() {
				t.Errorf("direction %d, silent after byte %d: not noticed", direction, i)
			}
			if i == 0 && !errors.Is(o.serverErr, context.DeadlineExceeded) && !errors.Is(o.clientErr, context.DeadlineExceeded) {
				t.Errorf("direction %d, silent from the start: client %v, server %v", direction, o.clientErr, o.serverErr)
			}
		}
	}
}

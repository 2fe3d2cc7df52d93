package itls

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"vitrine/internal/tlsmsg"
)

// recordScenes are those of the record layer.
func recordScenes() []scene {
	update := []byte{byte(tlsmsg.TypeKeyUpdate), 0, 0, 1, 0}
	// early sends a record of the peer as the first protected one of the handshake.
	early := func(row int, name string, typ tlsmsg.ContentType, data []byte) []scene {
		return []scene{
			{row, "client", name, clientGetsFlight(func(hs *serverHandshake) error { return hs.record(typ, data) })},
			{row, "server", name, serverGetsFlight(func(hs *clientHandshake) error { return hs.record(typ, data) })},
		}
	}
	raw := func(row int, name string, b []byte) []scene {
		return []scene{
			{row, "client", name, clientGetsFlight(func(hs *serverHandshake) error { return hs.raw(b) })},
			{row, "server", name, serverGetsFlight(func(hs *clientHandshake) error { return hs.Conn.raw(b) })},
		}
	}
	plain := func(row int, name string, b []byte) []scene {
		return []scene{
			{row, "client", name, clientGets(b)},
			{row, "server", name, serverGets(false, b)},
		}
	}
	later := func(row int, name string, peer func(t *testing.T, from, to *Conn)) []scene {
		return forBoth(row, name, func(role string) script { return afterwards(role, peer) })
	}
	send := func(typ tlsmsg.ContentType, data []byte, times int) func(t *testing.T, from, to *Conn) {
		return func(t *testing.T, from, to *Conn) {
			for range times {
				if err := from.record(typ, data); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	inject := func(b []byte) func(t *testing.T, from, to *Conn) {
		return func(t *testing.T, from, to *Conn) { from.conn.(*pipe).inject(b) }
	}
	return slices.Concat(
		forBoth(1, "Close", func(role string) script {
			return func(t *testing.T, s *stage) error {
				c, other := connect(t, clientConfig(), serverConfig())
				if role == "server" {
					c = other
				}
				s.watch(c.conn.(*pipe))
				if _, err := c.Write([]byte("last")); err != nil {
					return err
				}
				return c.Close()
			}
		}),
		plain(3, "plain", plainRecord(24, []byte{1})),
		plain(3, "no TLS", []byte("HTTP/1.1 400 Bad Request\r\n\r\n")),
		raw(3, "where there are keys", plainRecord(19, []byte{1})),
		early(3, "inside", 26, []byte{1}),
		later(3, "later", send(24, []byte{1}, 1)),
		early(4, "in the handshake", 0, make([]byte, 20)),
		later(4, "later", send(0, nil, 1)),
		plain(5, "plain", plainRecord(tlsmsg.TypeApplicationData, []byte("early"))),
		early(5, "protected", tlsmsg.TypeApplicationData, []byte("early")),
		raw(6, "handshake", plainRecord(tlsmsg.TypeHandshake, handshakeMessage(tlsmsg.TypeFinished))),
		later(6, "handshake, later", inject(plainRecord(tlsmsg.TypeHandshake, update))),
		later(6, "alert, later", inject(plainRecord(tlsmsg.TypeAlert, []byte{1, 0}))),
		[]scene{
			{6, "client", "alert", clientGetsFlight(func(hs *serverHandshake) error { return hs.raw(plainRecord(tlsmsg.TypeAlert, []byte{2, 40})) })},
			{6, "server", "alert, not the first thing", serverGetsFlight(func(hs *clientHandshake) error {
				if err := hs.record(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)}); err != nil {
					return err
				}
				return hs.Conn.raw(plainRecord(tlsmsg.TypeAlert, []byte{2, 40}))
			})},
			{7, "server", "behind ServerHello", serverGetsFlight(func(hs *clientHandshake) error {
				return hs.Conn.raw(plainRecord(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)}))
			})},
			{16, "client", "above record_size_limit", clientGetsFlight(func(hs *serverHandshake) error {
				m, err := hs.appendExtensions(nil)
				if err != nil {
					return err
				}
				hs.out.sizeLimit = 0
				return hs.send(append(m, make([]byte, 100)...))
			}, func(cc, sc *Config) { cc.RecordSizeLimit = 100 })},
			{16, "server", "above record_size_limit", serverGetsFlight(func(hs *clientHandshake) error {
				hs.out.sizeLimit = 0
				return hs.record(tlsmsg.TypeHandshake, make([]byte, 100))
			}, func(sc *Config) { sc.RecordSizeLimit = 100 })},
		},
		plain(7, "first", plainRecord(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)})),
		raw(8, "another value", []byte{20, 3, 3, 0, 1, 2}),
		raw(8, "two bytes", []byte{20, 3, 3, 0, 2, 1, 1}),
		raw(8, "empty", []byte{20, 3, 3, 0, 0}),
		early(8, "protected", tlsmsg.TypeChangeCipherSpec, []byte{1}),
		later(8, "late", inject(plainCCS)),
		[]scene{{8, "server", "before ClientHello", serverGets(false, plainCCS)}},
		[]scene{
			{9, "client", "data", clientGetsFlight(interleaved(tlsmsg.TypeApplicationData, []byte("x")))},
			{9, "client", "alert", clientGetsFlight(interleaved(tlsmsg.TypeAlert, []byte{1, 0}))},
			{9, "client", "change_cipher_spec", clientGetsFlight(func(hs *serverHandshake) error {
				if err := hs.queue([]byte{8, 0}); err != nil {
					return err
				}
				return hs.raw(plainCCS)
			})},
			{9, "server", "data", serverGetsFlight(func(hs *clientHandshake) error {
				if err := hs.record(tlsmsg.TypeHandshake, []byte{20, 0}); err != nil {
					return err
				}
				return hs.record(tlsmsg.TypeApplicationData, []byte("x"))
			})},
			{9, "server", "change_cipher_spec in ClientHello", serverGets(false, plainRecord(tlsmsg.TypeHandshake, []byte{1, 0}), plainCCS)},
		},
		later(9, "later", func(t *testing.T, from, to *Conn) {
			send(tlsmsg.TypeHandshake, update[:2], 1)(t, from, to)
			send(tlsmsg.TypeApplicationData, []byte("x"), 1)(t, from, to)
		}),
		[]scene{
			{10, "client", "behind ServerHello", clientGets(plainRecord(tlsmsg.TypeHandshake, append(mustAppend(plainHello(nil)), 8)))},
			{10, "client", "behind Finished", clientGetsFlight(func(hs *serverHandshake) error {
				list, err := hs.flightMessages()
				if err != nil {
					return err
				}
				return hs.send(append(bytes.Join(list, nil), 4, 0))
			})},
			{10, "server", "behind ClientHello", func(t *testing.T, s *stage) error {
				a, b := newPipe()
				scriptedClient(t, a, clientConfig(), nil)
				hello := b.take()
				return serverGets(false, plainRecord(tlsmsg.TypeHandshake, append(hello[tlsmsg.RecordHeaderLen:], 20)))(t, s)
			}},
			{10, "server", "behind Finished", serverGetsFlight(func(hs *clientHandshake) error {
				m, err := hs.appendFinished(nil, hs.keys.client)
				if err != nil {
					return err
				}
				return hs.record(tlsmsg.TypeHandshake, append(m, update...))
			})},
		},
		later(10, "behind KeyUpdate", send(tlsmsg.TypeHandshake, append(bytes.Clone(update), update...), 1)),
		plain(11, "plain handshake", plainRecord(tlsmsg.TypeHandshake, nil)),
		plain(11, "plain alert", plainRecord(tlsmsg.TypeAlert, nil)),
		early(11, "handshake", tlsmsg.TypeHandshake, nil),
		early(11, "alert", tlsmsg.TypeAlert, nil),
		later(11, "later handshake", send(tlsmsg.TypeHandshake, nil, 1)),
		later(11, "later alert", send(tlsmsg.TypeAlert, nil, 1)),
		raw(13, "change_cipher_spec", bytes.Repeat(plainCCS, 33)),
		later(13, "empty records", send(tlsmsg.TypeApplicationData, nil, 33)),
		later(13, "user_canceled", send(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)}, 33)),
		later(14, "with data between them", func(t *testing.T, from, to *Conn) {
			for range 65 {
				from.startKeyUpdate(t, false)
				send(tlsmsg.TypeApplicationData, []byte("x"), 1)(t, from, to)
			}
		}),
		raw(15, "in the handshake", plainRecord(tlsmsg.TypeApplicationData, make([]byte, 50))),
		raw(15, "too short", plainRecord(tlsmsg.TypeApplicationData, make([]byte, 31))),
		raw(15, "empty", plainRecord(tlsmsg.TypeApplicationData, nil)),
		later(15, "later", inject(plainRecord(tlsmsg.TypeApplicationData, make([]byte, 50)))),
		plain(16, "plain", []byte{22, 3, 3, 0x40, 1}),
		raw(16, "protected", []byte{23, 3, 3, 0x41, 1}),
		later(16, "content", send(tlsmsg.TypeApplicationData, make([]byte, 16385), 1)),
		plain(41, "plain, one byte", plainRecord(tlsmsg.TypeAlert, []byte{2})),
		plain(41, "plain, three bytes", plainRecord(tlsmsg.TypeAlert, []byte{2, 40, 0})),
		early(41, "protected", tlsmsg.TypeAlert, []byte{2, 40, 2, 40}),
		later(41, "later", send(tlsmsg.TypeAlert, []byte{1}, 1)),
		plain(48, "plain", []byte{22, 2, 0, 0, 1, 0}),
		raw(48, "protected", []byte{23, 4, 3, 0, 40}),
		later(55, "sequence numbers", func(t *testing.T, from, to *Conn) {
			to.in.Lock()
			to.in.seq = math.MaxUint64
			to.in.Unlock()
			send(tlsmsg.TypeApplicationData, []byte("x"), 1)(t, from, to)
		}),
	)
}

// interleaved puts another record between two fragments of a message.
func interleaved(typ tlsmsg.ContentType, data []byte) func(hs *serverHandshake) error {
	return func(hs *serverHandshake) error {
		if err := hs.queue([]byte{8, 0}); err != nil {
			return err
		}
		return hs.record(typ, data)
	}
}

// clientGets answers ClientHello with bytes.
func clientGets(b []byte) script {
	return func(t *testing.T, s *stage) error {
		a, other := newPipe()
		defer a.Close()
		s.watch(a)
		other.inject(b)
		other.CloseWrite()
		return Client(a, clientConfig()).Handshake()
	}
}

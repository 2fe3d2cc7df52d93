package itls

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"testing"

	"vitrine/internal/tlsmsg"
)

// innerSizes makes a pipe measure what the protected records that leave it hold of content, type and
// padding.
func innerSizes(t *testing.T, p *pipe, tag int) func() (sizes []int) {
	var sent bytes.Buffer
	p.onSend = func(b []byte) []byte {
		sent.Write(b)
		return b
	}
	return func() (sizes []int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, r := range records(t, sent.Bytes()) {
			if h, _ := tlsmsg.ParseRecordHeader(r); h.Type == tlsmsg.TypeApplicationData {
				sizes = append(sizes, h.Length-tag)
			}
		}
		return sizes
	}
}

// Each end holds every protected record to the other's limit, those of the handshake and tickets
// included, and fills it. The limit covers content, type and padding, not the tag.
//
// spec: TLS-50 TLS-51 TLS-52
func TestRecordSizeLimitIsHonoured(t *testing.T) {
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		own := suiteByID(suite).maxData() + 1
		for _, limits := range [][2]int{{64, 64}, {64, 0}, {0, 64}, {100, 1000}, {own - 1, own + 1}, {16385, 16384}} {
			t.Run(fmt.Sprintf("%s/%v", tlsmsg.SuiteName(suite), limits), func(t *testing.T) {
				cc, sc := clientConfig(), serverConfig()
				cc.Suites = []uint16{suite}
				cc.RecordSizeLimit, sc.RecordSizeLimit = limits[0], limits[1]
				cc.Sessions, sc.Tickets = new(SessionCache), new(TicketKeys)
				cc.TLS.Certificates = []tls.Certificate{identities().client}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
				for _, resumed := range []bool{false, true} {
					a, b := newPipe()
					fromClient, fromServer := innerSizes(t, a, suiteByID(suite).size), innerSizes(t, b, suiteByID(suite).size)
					client, server := Client(a, cc), Server(b, sc)
					if clientErr, serverErr := shake(client, server); clientErr != nil || serverErr != nil {
						t.Fatalf("client %v, server %v", clientErr, serverErr)
					}
					for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
						want := bytes.Repeat([]byte("0123456789"), 5000)
						way.from.startKeyUpdate(t, false)
						if _, err := way.from.Write(want); err != nil {
							t.Fatal(err)
						}
						got := make([]byte, len(want))
						if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, want) {
							t.Fatalf("read %v", err)
						}
					}
					if did := client.ConnectionState().DidResume; did != resumed {
						t.Errorf("resumed: %v", did)
					}
					for i, sizes := range [][]int{fromServer(), fromClient()} {
						limit := min(limits[i], own)
						if limit == 0 {
							limit = own
						}
						for _, n := range sizes {
							if n > limit {
								t.Errorf("a record holds %d bytes, to an end that takes %d", n, limits[i])
							}
						}
						full := 0
						for _, n := range sizes {
							if n == limit {
								full++
							}
						}
						if full < 50000/limit {
							t.Errorf("%d of %d records are full", full, len(sizes))
						}
					}
					a.Close()
					b.Close()
				}
			})
		}
	}
}

// spec: TLS-52
func TestARecordAboveTheLimitEndsTheSession(t *testing.T) {
	for _, padding := range []int{0, 30} {
		for _, toServer := range []bool{false, true} {
			cc, sc := clientConfig(), serverConfig()
			cc.RecordSizeLimit, sc.RecordSizeLimit = 100, 100
			client, server := connect(t, cc, sc)
			from, to := server, client
			if toServer {
				from, to = client, server
			}
			// An inner type of zero is padding, in front of which stands the real one.
			inner := func(n int) []byte {
				b := append(bytes.Repeat([]byte{'x'}, n-1-padding), byte(tlsmsg.TypeApplicationData))
				return append(b, make([]byte, padding)...)
			}
			send := func(n int) {
				b := inner(n)
				if err := from.record(tlsmsg.ContentType(b[n-1]), b[:n-1]); err != nil {
					t.Fatal(err)
				}
			}
			send(100)
			if _, err := io.ReadFull(to, make([]byte, 99-padding)); err != nil {
				t.Fatalf("at the limit: %v", err)
			}
			send(101)
			if _, err := to.Read(make([]byte, 200)); alertOf(err) != tlsmsg.AlertRecordOverflow {
				t.Errorf("above the limit: %v", err)
			}
		}
	}
}

// A server that ignores the extension sends what it likes; one that answers it cannot have exceeded the
// limit in the record of its answer.
//
// spec: TLS-50 TLS-52
func TestAServersAnswerToTheLimit(t *testing.T) {
	answer := func(data []byte) func(x *tlsmsg.ExtensionBuilder) {
		return func(x *tlsmsg.ExtensionBuilder) {
			if data != nil {
				x.Raw(tlsmsg.ExtensionRecordSizeLimit, data)
			}
			x.SupportedGroups(make([]tls.CurveID, 100))
		}
	}
	for _, c := range []struct {
		name  string
		data  []byte
		alert tlsmsg.Alert
	}{
		{"none", nil, 255},
		{"answered in a record above it", []byte{0x40, 1}, tlsmsg.AlertRecordOverflow},
		{"above what TLS 1.3 has", []byte{0x40, 2}, tlsmsg.AlertIllegalParameter},
		{"less than 64", []byte{0, 63}, tlsmsg.AlertIllegalParameter},
		{"malformed", []byte{0}, tlsmsg.AlertDecodeError},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := clientConfig(), serverConfig()
			cc.RecordSizeLimit = 100
			a, b := newPipe()
			defer a.Close()
			go scriptedServer(Server(b, sc), func(hs *serverHandshake) error {
				hs.out.sizeLimit = 0
				return withExtensions(answer(c.data))(hs)
			})
			// Behind an answer that is in order the script ends, and the carrier with it.
			if err := Client(a, cc).Handshake(); alertOf(err) != c.alert {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRecordSizeLimitsThatAreNone(t *testing.T) {
	for _, n := range []int{-1, 1, 63, 16386, 1 << 20} {
		cfg := clientConfig()
		cfg.RecordSizeLimit = n
		a, b := newPipe()
		if err := Client(a, cfg).Handshake(); err == nil || len(b.take()) > 0 {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// spec: TLS-50
func TestAServerTakesALimitOfAVersionToCome(t *testing.T) {
	a, b := newPipe()
	defer a.Close()
	server := Server(b, serverConfig())
	hs := scriptedClient(t, a, clientConfig(), func(h *tlsmsg.ClientHello) {
		replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) { x.RecordSizeLimit(0xffff) })...)
	})
	finishScripted(t, hs, server)
	if n := server.out.limit(); n != maxInner {
		t.Errorf("the server would send %d bytes", n)
	}
}

// A ticket that would fill more small records than a client takes without data is not sent.
//
// spec: TLS-17
func TestATicketOfManyRecordsIsNotSent(t *testing.T) {
	for each, want := range map[int]bool{0: true, 1000: false} {
		cc, sc := clientConfig(), serverConfig()
		asking(sc)
		cc.RecordSizeLimit = tlsmsg.MinRecordSizeLimit
		cc.Sessions, sc.Tickets = new(SessionCache), new(TicketKeys)
		cc.TLS.Certificates = []tls.Certificate{identities().client}
		if each > 0 {
			cc.TLS.Certificates = []tls.Certificate{largeChain(t, identities().client, 1, each)}
		}
		for _, resumed := range []bool{false, want} {
			client, server := connect(t, cc, sc)
			exchange(t, client, server)
			if got := client.ConnectionState().DidResume; got != resumed {
				t.Errorf("a chain with %d bytes more: resumed %v", each, got)
			}
		}
	}
}

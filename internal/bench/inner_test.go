//go:build unix

package bench

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"hash"
	"io"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// A run of enough rounds to tell fails beyond these.
const (
	maxHandshake = 1.3 // CPU time of a handshake, by that of crypto/tls
	minRecord    = 0.9 // speed of full records, by that of HMAC alone
	enoughRounds = 20
)

// An inner is a session of either stack.
type inner interface {
	io.ReadWriter
	ConnectionState() tls.ConnectionState
}

// A stack makes both ends of a session over both ends of a carrier.
type stack func(a, b *pipe) (client, server inner)

// BenchmarkInnerHandshake is both ends of a full handshake: ours against crypto/tls with the same group
// and certificate.
func BenchmarkInnerHandshake(b *testing.B) {
	for _, group := range []tls.CurveID{tls.X25519, tls.CurveP256, tls.X25519MLKEM768} {
		for _, suite := range innerSuites() {
			b.Run(tlsmsg.GroupName(group)+"/"+tlsmsg.SuiteName(suite), func(b *testing.B) {
				compareHandshakes(b, false, group, suite)
			})
		}
	}
}

// BenchmarkInnerResumption is BenchmarkInnerHandshake with a ticket, which makes another.
func BenchmarkInnerResumption(b *testing.B) {
	for _, group := range []tls.CurveID{tls.X25519, tls.CurveP256, tls.X25519MLKEM768} {
		for _, suite := range innerSuites() {
			b.Run(tlsmsg.GroupName(group)+"/"+tlsmsg.SuiteName(suite), func(b *testing.B) {
				compareHandshakes(b, true, group, suite)
			})
		}
	}
}

func innerSuites() []uint16 { return []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} }

func compareHandshakes(b *testing.B, resume bool, group tls.CurveID, suite uint16) {
	const each = 32
	way := func(s stack) func() time.Duration {
		session(b, s)
		return func() time.Duration {
			start := cpuTime()
			for range each {
				if client, _ := session(b, s); client.ConnectionState().DidResume != resume {
					b.Fatalf("resumed: %t", !resume)
				}
			}
			return (cpuTime() - start) / each
		}
	}
	client, server := innerConfigs(b)
	took := takeTurns(b, way(ours(client, server, group, suite, resume)), way(stock(client, server, group, resume)))
	ratio := quotient(took[0], took[1])
	b.ReportMetric(ratio, "×crypto/tls")
	b.ReportMetric(float64(median(took[0]).Nanoseconds())/1e3, "µs/handshake")
	b.ReportMetric(0, "ns/op")
	if b.N >= enoughRounds && ratio > maxHandshake {
		b.Errorf("a handshake takes %.2f times the CPU of crypto/tls's, at most %v", ratio, maxHandshake)
	}
}

// BenchmarkInnerWrite is an end that writes records of some size, into a carrier in memory: its speed
// against that of crypto/tls with AES-128-GCM, and of HMAC alone.
func BenchmarkInnerWrite(b *testing.B) { records(b, true) }

// BenchmarkInnerRead is the end that reads them.
func BenchmarkInnerRead(b *testing.B) { records(b, false) }

func records(b *testing.B, write bool) {
	for _, suite := range innerSuites() {
		for _, s := range []struct {
			name string
			size int
		}{{"64B", 64}, {"256B", 256}, {"1KiB", 1 << 10}, {"4KiB", 4 << 10}, {"16KiB", 16 << 10}} {
			b.Run(tlsmsg.SuiteName(suite)+"/"+s.name, func(b *testing.B) { compareRecords(b, write, suite, s.size) })
		}
	}
}

func compareRecords(b *testing.B, write bool, suite uint16, size int) {
	size = min(size, maxRecordData(suite))
	data := make([]byte, size)
	client, server := innerConfigs(b)
	to, from := session(b, ours(client, server, tls.X25519, suite, false))
	stockTo, stockFrom := session(b, stock(client, server, tls.X25519, false))
	if id := stockTo.ConnectionState().CipherSuite; id != tls.TLS_AES_128_GCM_SHA256 {
		b.Skipf("crypto/tls prefers %s on this machine", tls.CipherSuiteName(id))
	}
	x, y := newPipe()
	raw := &alone{pipe: x, mac: newMAC(suite)}
	rawFrom := &alone{pipe: y, mac: newMAC(suite)}
	took := takeTurns(b,
		func() time.Duration { return transfer(b, to, from, data, write) },
		func() time.Duration { return transfer(b, stockTo, stockFrom, data, write) },
		func() time.Duration { return transfer(b, raw, rawFrom, data, write) },
	)
	ofHMAC := quotient(took[2], took[0])
	b.ReportMetric(quotient(took[1], took[0]), "of-GCM")
	b.ReportMetric(ofHMAC, "of-HMAC")
	b.ReportMetric(float64(batches*(batch/size)*size)/1e6/median(took[0]).Seconds(), "MB/s")
	b.ReportMetric(0, "ns/op")
	if b.N >= enoughRounds && size == maxRecordData(suite) && ofHMAC < minRecord {
		b.Errorf("full records have %.2f of the speed of HMAC alone, at least %v", ofHMAC, minRecord)
	}
}

const (
	batch   = 256 << 10 // bytes that wait in the carrier: few enough for a cache
	batches = 8
)

// transfer sends data again and again, and returns what writing took, or reading.
func transfer(b *testing.B, to io.Writer, from io.Reader, data []byte, write bool) (took time.Duration) {
	for range batches {
		start := cpuTime()
		for range batch / len(data) {
			if _, err := to.Write(data); err != nil {
				b.Fatal(err)
			}
		}
		written := cpuTime()
		for range batch / len(data) {
			if _, err := io.ReadFull(from, data); err != nil {
				b.Fatal(err)
			}
		}
		if write {
			took += written - start
		} else {
			took += cpuTime() - written
		}
	}
	return took
}

// alone is what authenticating cannot be done without: the carrier and HMAC, once over the bytes.
type alone struct {
	*pipe
	mac hash.Hash
	tag [sha512.Size384]byte
}

func newMAC(suite uint16) hash.Hash {
	if suite == tlsmsg.SuiteSHA384 {
		return hmac.New(sha512.New384, make([]byte, sha512.Size384))
	}
	return hmac.New(sha256.New, make([]byte, sha256.Size))
}

func (a *alone) Write(p []byte) (int, error) {
	a.sum(p)
	return a.pipe.Write(p)
}

func (a *alone) Read(p []byte) (int, error) {
	n, err := a.pipe.Read(p)
	a.sum(p[:n])
	return n, err
}

func (a *alone) sum(p []byte) {
	a.mac.Reset()
	a.mac.Write(p)
	a.mac.Sum(a.tag[:0])
}

// maxRecordData is the most application bytes that a record of ours holds, 16 KiB but for what surrounds
// them in a record of the hop.
func maxRecordData(suite uint16) int {
	if suite == tlsmsg.SuiteSHA384 {
		return 16<<10 - 9 - 5 - 1 - sha512.Size384
	}
	return 16<<10 - 9 - 5 - 1 - sha256.Size
}

func innerConfigs(b *testing.B) (client, server *tls.Config) {
	origins, err := pki.NewAuthority("Bench origins", time.Now())
	if err != nil {
		b.Fatal(err)
	}
	cert, err := origins.Origin(host)
	if err != nil {
		b.Fatal(err)
	}
	return &tls.Config{RootCAs: origins.Pool().CertPool, ServerName: host}, &tls.Config{Certificates: []tls.Certificate{cert}}
}

func ours(client, server *tls.Config, group tls.CurveID, suite uint16, resume bool) stack {
	cc := &itls.Config{TLS: client, Suites: []uint16{suite}, Groups: []tls.CurveID{group}, UnprotectedForTests: true}
	sc := &itls.Config{TLS: server, Suites: cc.Suites, Groups: cc.Groups, UnprotectedForTests: true}
	if resume {
		cc.Sessions, sc.Tickets = new(itls.SessionCache), new(itls.TicketKeys)
	}
	return func(x, y *pipe) (inner, inner) { return itls.Client(x, cc), itls.Server(y, sc) }
}

// stock is crypto/tls, which prefers AES-128-GCM where the machine has instructions for it.
func stock(client, server *tls.Config, group tls.CurveID, resume bool) stack {
	client, server = client.Clone(), server.Clone()
	for _, c := range []*tls.Config{client, server} {
		c.MinVersion = tls.VersionTLS13
		c.CurvePreferences = []tls.CurveID{group}
		c.DynamicRecordSizingDisabled = true
		c.SessionTicketsDisabled = !resume
	}
	if resume {
		client.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return func(x, y *pipe) (inner, inner) { return tls.Client(x, client), tls.Server(y, server) }
}

// session runs a handshake and one byte from the server, behind which its ticket stands.
func session(b *testing.B, s stack) (client, server inner) {
	client, server = s(newPipe())
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte{0})
		done <- err
	}()
	var p [1]byte
	_, err := io.ReadFull(client, p[:])
	if serverErr := <-done; err != nil || serverErr != nil {
		b.Fatal(err, serverErr)
	}
	return client, server
}

// takeTurns runs b.N rounds and returns what each way took in each. The order moves on from round to
// round. Whatever else the machine does meets all of them alike.
func takeTurns(b *testing.B, ways ...func() time.Duration) (took [][]time.Duration) {
	took = make([][]time.Duration, len(ways))
	for i := range b.N {
		for j := range ways {
			runtime.GC() // of what the way before has left
			way := (i + j) % len(ways)
			took[way] = append(took[way], ways[way]())
		}
	}
	return took
}

// cpuTime is what the process has used: the clock on the wall measures the neighbours too.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// quotient is the median of a round's quotients.
func quotient(a, b []time.Duration) float64 {
	q := make([]float64, len(a))
	for i := range a {
		q[i] = float64(a[i]) / float64(b[i])
	}
	slices.Sort(q)
	return q[len(q)/2]
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

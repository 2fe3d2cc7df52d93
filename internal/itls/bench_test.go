package itls

import (
	"cmp"
	"crypto/hmac"
	"io"
	"slices"
	"testing"
	"time"

	"vitrine/internal/tlsmsg"
)

func benchSuites(b *testing.B, f func(b *testing.B, suite uint16)) {
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		b.Run(tlsmsg.SuiteName(suite), func(b *testing.B) { f(b, suite) })
	}
}

// BenchmarkSeal protects full records, beside HMAC over as many bytes.
func BenchmarkSeal(b *testing.B) {
	benchSuites(b, func(b *testing.B, suite uint16) {
		sealer, _ := newHalves(b, suite)
		data, buf := make([]byte, sealer.suite.maxData()), make([]byte, 0, maxRecord)
		b.ReportAllocs()
		besideHMAC(b, sealer.suite, func() {
			if _, err := sealer.seal(buf, tlsmsg.TypeApplicationData, data); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkOpen checks full records, beside HMAC over as many bytes.
func BenchmarkOpen(b *testing.B) {
	benchSuites(b, func(b *testing.B, suite uint16) {
		sealer, opener := newHalves(b, suite)
		record, err := sealer.seal(nil, tlsmsg.TypeApplicationData, make([]byte, sealer.suite.maxData()))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		besideHMAC(b, opener.suite, func() {
			opener.seq = 0
			if _, _, err := opener.open(record); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// besideHMAC times one record and one HMAC in turns, and compares the medians: an interruption then hits
// few of either, and a change of the machine's speed hits both. It fails below nine tenths.
func besideHMAC(b *testing.B, s *suite, record func()) {
	const samples = 1 << 10
	data, tag := make([]byte, s.maxData()), make([]byte, 0, s.size)
	mac := hmac.New(s.hash, make([]byte, s.size))
	took := make([][2]time.Duration, samples)
	n := 0
	for b.Loop() {
		start := time.Now()
		record()
		middle := time.Now()
		mac.Reset()
		mac.Write(data)
		mac.Sum(tag)
		took[n%samples] = [2]time.Duration{middle.Sub(start), time.Since(middle)}
		n++
	}
	took = took[:min(n, samples)]
	median := func(i int) time.Duration {
		slices.SortFunc(took, func(x, y [2]time.Duration) int { return cmp.Compare(x[i], y[i]) })
		return took[len(took)/2][i]
	}
	of := float64(median(1)) / float64(median(0))
	b.ReportMetric(0, "ns/op") // of both
	b.ReportMetric(of, "of-HMAC")
	b.ReportMetric(float64(len(data))/1e6/median(0).Seconds(), "MB/s")
	if n >= samples && of < 0.9 {
		b.Errorf("full records have %.2f of the speed of HMAC", of)
	}
}

// BenchmarkTransfer is both ends on one goroutine: what a byte costs an end that sends it and an end
// that reads it.
func BenchmarkTransfer(b *testing.B) {
	benchSuites(b, func(b *testing.B, suite uint16) {
		cc := clientConfig()
		cc.Suites = []uint16{suite}
		client, server := connect(b, cc, serverConfig())
		data := make([]byte, 1<<16)
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := client.Write(data); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(server, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	benchSuites(b, func(b *testing.B, suite uint16) {
		cc, sc := clientConfig(), serverConfig()
		cc.Suites = []uint16{suite}
		b.ReportAllocs()
		for b.Loop() {
			x, y := newPipe()
			if clientErr, serverErr := shake(Client(x, cc), Server(y, sc)); clientErr != nil || serverErr != nil {
				b.Fatal(clientErr, serverErr)
			}
		}
	})
}

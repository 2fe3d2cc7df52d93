package itls

import (
	"io"
	"testing"

	"vitrine/internal/tlsmsg"
)

func benchSuites(b *testing.B, f func(b *testing.B, suite uint16)) {
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		b.Run(tlsmsg.SuiteName(suite), func(b *testing.B) { f(b, suite) })
	}
}

func BenchmarkSeal(b *testing.B) {
	benchSuites(b, func(b *testing.B, suite uint16) {
		sealer, _ := newHalves(b, suite)
		data, buf := make([]byte, sealer.suite.maxData()), make([]byte, 0, maxRecord)
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := sealer.seal(buf, tlsmsg.TypeApplicationData, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	benchSuites(b, func(b *testing.B, suite uint16) {
		sealer, opener := newHalves(b, suite)
		record, err := sealer.seal(nil, tlsmsg.TypeApplicationData, make([]byte, sealer.suite.maxData()))
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(sealer.suite.maxData()))
		b.ReportAllocs()
		for b.Loop() {
			opener.seq = 0
			if _, _, err := opener.open(record); err != nil {
				b.Fatal(err)
			}
		}
	})
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

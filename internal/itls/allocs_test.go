package itls

import (
	"io"
	"testing"

	"vitrine/internal/tlsmsg"
)

func TestAnOpenSessionWritesAndReadsWithoutAllocating(t *testing.T) {
	for _, id := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		cc := clientConfig()
		cc.Suites = []uint16{id}
		client, server := connect(t, cc, serverConfig())
		for _, way := range []struct {
			name     string
			from, to *Conn
		}{{"to the server", client, server}, {"to the client", server, client}} {
			for _, size := range []int{1, 64, 256, 1 << 10, 4 << 10, suiteByID(id).maxData(), 64 << 10} {
				data := make([]byte, size)
				write := func() {
					if _, err := way.from.Write(data); err != nil {
						t.Fatal(err)
					}
				}
				read := func() {
					if _, err := io.ReadFull(way.to, data); err != nil {
						t.Fatal(err)
					}
				}
				// AllocsPerRun runs once more than it counts. The carrier must not grow while writes are counted.
				const runs = 20
				for range 2 {
					for range runs + 1 {
						write()
					}
					for range runs + 1 {
						read()
					}
				}
				if n := testing.AllocsPerRun(runs, write); n != 0 {
					t.Errorf("%s, %s: %v allocations to write %d bytes", tlsmsg.SuiteName(id), way.name, n, size)
				}
				if n := testing.AllocsPerRun(runs, read); n != 0 {
					t.Errorf("%s, %s: %v allocations to read %d bytes", tlsmsg.SuiteName(id), way.name, n, size)
				}
			}
		}
	}
}

// Package bench compares the main job with what people run today: direct HTTPS, and a relay that
// terminates TLS and reads. It has benchmarks only; run them with
//
//	go test -run '^$' -bench . -benchmem -count 5 ./internal/bench
//
// Client, relay and origin run in one process on loopback sockets, so the ratios between rows of one
// run say something and single figures say little.
package bench

// Package bench compares the main job with what people run today: direct HTTPS, and a relay that
// terminates TLS and reads. It has benchmarks only; run them with
//
//	go test -run '^$' -bench 'Bulk|Exchange|Fresh' -benchmem -count 3 ./internal/bench
//	go test -run '^$' -bench Tunnel -benchtime 200x -benchmem -count 3 ./internal/bench
//
// The second has a count because an origin answers 256 new tunnels of one hop at once and 256 a second
// from then on: a longer run would measure that limit.
//
// And it compares the inner session with crypto/tls, and with HMAC alone: Inner in the names, of which
// make bench-inner runs each with as many rounds as its bounds need.
//
// Client, relay and origin run in one process on loopback sockets, so the ratios between rows of one
// run say something and single figures say little.
package bench

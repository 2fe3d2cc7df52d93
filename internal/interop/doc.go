// Package interop runs the inner session of internal/itls against other stacks that have the suites of
// RFC 9150, in both roles, and prints what works with whom. Start with `make interop`; it says what it did not
// find. The package has tests only.
//
// OpenSSL from 3.4 on is named by OPENSSL; `make interop-openssl` fetches one. The example programs of wolfSSL from 5.9 on
// are named by WOLFSSL_CLIENT and WOLFSSL_SERVER. Nothing of either is part of this repository. What
// OpenSSL once said is kept as recorded flows, in internal/itls/testdata/flows, and replayed where no peer is.
package interop

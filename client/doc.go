// Package client fetches through a proxy that may read and stop an exchange and cannot change it.
//
// Most callers want a [Transport], an http.RoundTripper:
//
//	tr := &client.Transport{
//		Proxy:      "https://proxy.example:8443",
//		ProxyRoots: proxyRoots,    // who may vouch for proxies; there is no default
//		Consent:    client.Once{}, // the user agreed to be read
//	}
//	defer tr.Close()
//	resp, err := (&http.Client{Transport: tr}).Get("https://origin.example/")
//	report := client.ReportOf(resp) // level, proxies, evidence, inner session
//
// Most origins do not speak inner sessions. The proxy then refuses with evidence that it is so, and what follows
// is the user's: Levels may hold [Signed], [Attested] or [Claimed], at which a proxy ends TLS and could change
// what passes (see [Level.Words]), or Choose asks. [ReportOf] says what an exchange came to.
//
// Who speaks something other than HTTP calls [Dialer.DialTunnel] for a connection.
//
// # What is checked, and when
//
// Hop 1 is verified against ProxyRoots and the profile of a proxy's certificate. Then the user is asked
// for consent. Then a CONNECT leaves, with a fresh nonce; the proxy answers with evidence about the
// origin, and nothing more leaves before it is verified. Then the inner handshake verifies the
// origin itself, end to end; what it says of the proxy and of hop 2 is compared with the evidence. Only
// then a request leaves, once.
//
// Below intact there is no inner session. A request goes to the proxy, and names the evidence that was verified; each has a
// nonce of its own. A response that the origin signed is checked against the key in the evidence, the head before
// RoundTrip returns and the content before the body's io.EOF, and loses what is not signed.
//
// Behind the proxy may be others that read too. Evidence leads to each: it is verified as the first one was, asked
// about, and named in a new CONNECT. The report lists them with the hops between.
//
// Failures are a [*KilledError], [*LevelError], [*IntegrityError], [*TrustError] or [*UnreachableError],
// for errors.As, each with its [Report]. Nothing falls back: a level that the user did not name is never
// used.
package client

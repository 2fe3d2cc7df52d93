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
// Failures are a [*KilledError], [*LevelError], [*IntegrityError], [*TrustError] or [*UnreachableError],
// for errors.As, each with its [Report]. Nothing falls back: a level that the user did not name is never
// used.
package client

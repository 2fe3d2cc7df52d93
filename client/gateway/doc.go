// Package gateway lets programs that know nothing of Vitrine use it unchanged: curl, git, package managers,
// browsers. It runs beside them, on loopback, and does what they cannot.
//
// Fill in a [Gateway] and call [Gateway.Serve] with a listener for the programs' http_proxy, and
// [Gateway.ServeMap] with another for each origin that shall have a local address of its own:
//
//	g := &gateway.Gateway{Transport: transport, Hosts: patterns}
//	go g.ServeMap(other, "https://git.example") // git clone http://127.0.0.1:8081/repo.git
//	err := g.Serve(listener)                     // http_proxy=http://127.0.0.1:8080
//
// # What is fetched
//
// A program asks for http://shop.example/ and the gateway fetches https://shop.example/, over a tunnel at a level
// that the Transport accepts. Nothing leaves in clear: a host that is not in Hosts is refused. What arrives has the
// level in the field [LevelField]; an answer of the gateway's own has [NoLevel] there. A response that was killed, cut
// or altered on the way is broken off, and never made to look complete; this is why HTTP/1.0, which cannot tell,
// is refused.
//
// Fields that speak of https are put into the program's terms. Location, and Access-Control-Allow-Origin where it
// answers an Origin of the program, name http or the local address; Strict-Transport-Security, Alt-Svc and the
// directive upgrade-insecure-requests, which would lead the program past the gateway, are dropped. Origin and Referer
// are rewritten the other way.
//
// Set-Cookie stays as it is, Secure included: a browser does not keep such a cookie of http://shop.example, and so
// cannot send it in clear on the day it runs without the gateway. It does keep those of a loopback address, where maps
// are; there Domain is dropped, which names a host that the browser does not see. Browsers keep cookies by address
// and not by port, so each map of a site with a login wants an address of its own, as 127.0.0.2.
//
// A CONNECT cannot be read, by the gateway or the proxy. It is carried if the Transport accepts client.Blind, and else
// refused with words that say so. WebSocket is refused.
//
// # Who may ask
//
// Listeners are on loopback, any other is refused. A request must name the listener by its address or as localhost, or
// be a proxy's; a name that a web site points at 127.0.0.1 is answered with 421. At a map, and at /proxy.pac, a browser
// must say that the address was typed, or that the page that asks came from there: pages of other sites have no use of
// the user's consent and credentials. The other users of the machine are not told apart from this one.
package gateway

package main

import (
	"encoding/base64"
	"strings"

	"vitrine/spec/vectors"
)

func authority() []vectors.Vector {
	ok := func(name, comment, host, port, bytes string) vectors.Vector {
		return vector(name, vectors.Success, comment, inputs{"host": host, "port": port}, text(bytes))
	}
	bad := func(name, comment, bytes string) vectors.Vector {
		return vector(name, vectors.Malformed, comment, nil, text(bytes))
	}
	longest := strings.Repeat(strings.Repeat("a", 49)+".", 5) + "pq" // 252 bytes
	return []vectors.Vector{
		ok("name", "a name and a port", "origin.example", "443", "origin.example:443"),
		ok("single-label", "one label", "localhost", "8443", "localhost:8443"),
		ok("a-label", "an internationalised name as A-labels", "xn--bcher-kva.example", "443", "xn--bcher-kva.example:443"),
		ok("hyphens", "hyphens in the third and fourth place of a label that is no A-label", "r3---sn-abc.example", "443", "r3---sn-abc.example:443"),
		ok("underscore", "an underscore, as some origins have", "my_bucket.example", "443", "my_bucket.example:443"),
		ok("ipv4", "an IPv4 address", "192.0.2.7", "443", "192.0.2.7:443"),
		ok("ipv6", "an IPv6 address", "2001:db8::7", "443", "[2001:db8::7]:443"),
		ok("longest", "255 bytes", longest, "80", longest+":80"),
		bad("no-port", "no port", "origin.example"),
		bad("empty-port", "an empty port", "origin.example:"),
		bad("port-0", "port 0", "origin.example:0"),
		bad("port-65536", "a port that is too large", "origin.example:65536"),
		bad("port-leading-zero", "a port with a leading zero", "origin.example:0443"),
		bad("port-sign", "a port with a sign", "origin.example:+443"),
		bad("upper-case", "capitals", "Origin.example:443"),
		bad("u-label", "an internationalised name as U-labels", "bücher.example:443"),
		bad("bad-a-label", "an xn-- label that decodes to nothing", "xn--a.example:443"),
		bad("trailing-dot", "a trailing dot", "origin.example.:443"),
		bad("empty-label", "an empty label", "origin..example:443"),
		bad("leading-hyphen", "a label that begins with a hyphen", "-origin.example:443"),
		bad("long-label", "a label of 64 bytes", strings.Repeat("a", 64)+".example:443"),
		bad("userinfo", "a user in front", "user@origin.example:443"),
		bad("space", "a space", "origin.example :443"),
		bad("nul-byte", "a NUL byte", "origin.example\x00:443"),
		bad("short-ipv4", "127.0.0.1 as inet_aton would take it", "127.1:443"),
		bad("hex-ipv4", "127.0.0.1 in hexadecimal", "0x7f000001:443"),
		bad("octal-ipv4", "127.0.0.1 in octal", "0177.0.0.1:443"),
		bad("decimal-ipv4", "127.0.0.1 as one number", "2130706433:443"),
		bad("mapped-ipv4", "an IPv4 address in IPv6", "[::ffff:127.0.0.1]:443"),
		bad("long-ipv6", "an IPv6 address that is not in its shortest form", "[2001:db8:0:0:0:0:0:7]:443"),
		bad("upper-ipv6", "an IPv6 address with capitals", "[2001:DB8::7]:443"),
		bad("zone", "an IPv6 zone", "[fe80::1%eth0]:443"),
		bad("bare-ipv6", "an IPv6 address without brackets", "2001:db8::7:443"),
		bad("bracketed-name", "a name in brackets", "[origin.example]:443"),
		bad("empty-host", "no host", ":443"),
		bad("empty", "nothing", ""),
		vector("long", vectors.TooLarge, "256 bytes", nil, text(longest+":443")),
	}
}

func canonicalAuthority() []vectors.Vector {
	ok := func(name, comment, host, want string) vectors.Vector {
		return vector(name, vectors.Success, comment, inputs{"port": "443", "authority": want}, text(host))
	}
	bad := func(name, comment, host string) vectors.Vector {
		return vector(name, vectors.Malformed, comment, inputs{"port": "443"}, text(host))
	}
	return []vectors.Vector{
		ok("same", "canonical already", "origin.example", "origin.example:443"),
		ok("upper-case", "capitals become small", "ORIGIN.Example", "origin.example:443"),
		ok("u-label", "U-labels become A-labels", "Bücher.example", "xn--bcher-kva.example:443"),
		ok("sharp-s", "non-transitional: the sharp s stays itself", "straße.example", "xn--strae-oqa.example:443"),
		ok("full-width", "full-width letters and dots are mapped", "ｏｒｉｇｉｎ．example", "origin.example:443"),
		ok("upper-a-label", "an A-label with capitals", "XN--BCHER-KVA.example", "xn--bcher-kva.example:443"),
		ok("ipv4", "an IPv4 address", "192.0.2.7", "192.0.2.7:443"),
		ok("ipv6", "an IPv6 address is put in brackets", "2001:DB8:0:0::7", "[2001:db8::7]:443"),
		ok("bracketed-ipv6", "one that has them already", "[2001:db8::7]", "[2001:db8::7]:443"),
		bad("trailing-dot", "a trailing dot", "origin.example."),
		bad("zone", "an IPv6 zone", "fe80::1%eth0"),
		bad("mapped-ipv4", "an IPv4 address in IPv6", "::ffff:192.0.2.7"),
		bad("full-width-ipv4", "an address hidden from a filter that reads ASCII", "１２７.1"),
		bad("short-ipv4", "an address as inet_aton would take it", "127.1"),
		bad("open-bracket", "a bracket that does not close", "[2001:db8::7"),
		bad("with-port", "a port in the host", "origin.example:443"),
		bad("slash", "a path in the host", "origin.example/x"),
		bad("control", "a control character", "origin\r\n.example"),
		bad("not-utf-8", "bytes that are not UTF-8", "\xff.example"),
		bad("empty", "nothing", ""),
		vector("port-0", vectors.Malformed, "port 0", inputs{"port": "0"}, text("origin.example")),
		vector("port-65536", vectors.Malformed, "a port that is too large", inputs{"port": "65536"}, text("origin.example")),
	}
}

func evidenceRequest() []vectors.Vector {
	field := func(b []byte) []byte { return text(":" + base64.StdEncoding.EncodeToString(b) + ":") }
	bad := func(name, comment, bytes string) vectors.Vector {
		return vector(name, vectors.Malformed, comment, nil, text(bytes))
	}
	return []vectors.Vector{
		vector("plain", vectors.Success, "five bytes", inputs{"request": hexed(text("hello"))}, field(text("hello"))),
		vector("largest", vectors.Success, "4096 bytes", inputs{"request": hexed(fill(0x11, 4096))}, field(fill(0x11, 4096))),
		vector("over-largest", vectors.TooLarge, "4097 bytes", nil, field(fill(0x11, 4097))),
		vector("far-over", vectors.TooLarge, "8192 bytes, refused before they are decoded", nil, field(fill(0x11, 8192))),
		bad("empty-request", "a byte sequence of no bytes", "::"),
		bad("empty", "an empty value", ""),
		bad("token", "a token", "aGVsbG8="),
		bad("string", "a string", `"aGVsbG8="`),
		bad("no-end", "no closing colon", ":aGVsbG8="),
		bad("list", "two items", ":aGVsbG8=:, :aGVsbG8=:"),
		bad("parameter", "a parameter", ":aGVsbG8=:;v=1"),
		bad("no-padding", "base64 without its padding", ":aGVsbG8:"),
		bad("trailing-bits", "base64 with bits set behind the last byte", ":aGVsbG9=:"),
		bad("url-alphabet", "the other alphabet", ":-_-_:"),
		bad("line-break", "a line break inside", ":aGVs\r\nbG8=:"),
		bad("inner-space", "a space inside", ":aGVs bG8=:"),
	}
}

func inspectionOptions() []vectors.Vector {
	ok := func(name, comment, modes, bytes string) vectors.Vector {
		return vector(name, vectors.Success, comment, inputs{"modes": modes}, text(bytes))
	}
	bad := func(name, comment, bytes string) vectors.Vector {
		return vector(name, vectors.Malformed, comment, nil, text(bytes))
	}
	return []vectors.Vector{
		ok("one", "one mode", "blind", "blind"),
		ok("all", "all modes, in the proxy's order", "blind intact split", "blind, intact, split"),
		ok("none", "an empty list: nothing is allowed", "", ""),
		ok("unknown", "a mode of a later version is skipped", "intact", "sealed, intact"),
		ok("parameter", "parameters are skipped", "intact", "intact;until=5"),
		ok("twice", "a repetition is skipped", "intact blind", "intact, blind, intact"),
		ok("case", "tokens are compared with case", "", "Intact"),
		ok("sixteen", "as many members as there may be", "blind", strings.Repeat("x, ", 15)+"blind"),
		vector("seventeen", vectors.TooLarge, "one member more", nil, text(strings.Repeat("x, ", 16)+"blind")),
		vector("long", vectors.TooLarge, "a token of 2000 bytes", nil, fill('x', 2000)),
		bad("string", "a string", `"intact"`),
		bad("inner-list", "an inner list", "(intact blind)"),
		bad("trailing-comma", "a comma at the end", "intact,"),
		bad("no-comma", "a space for a comma", "intact blind"),
		bad("not-ascii", "bytes that are not ASCII", "intact\xc3\xa9"),
	}
}

func proxyStatus() []vectors.Vector {
	// Each member is six words: proxy, error, next-hop, next-protocol, received-status, details; a list is
	// their hex forms, separated by spaces, "-" for what is absent.
	of := func(name, comment, members, bytes string) vectors.Vector {
		return vector(name, vectors.Success, comment, inputs{"members": members}, text(bytes))
	}
	member := func(words ...string) string {
		out := make([]string, len(words))
		for i, w := range words {
			if out[i] = hexed(text(w)); w == "" {
				out[i] = "-"
			}
		}
		return strings.Join(out, " ")
	}
	bad := func(name, comment, bytes string) vectors.Vector {
		return vector(name, vectors.Malformed, comment, nil, text(bytes))
	}
	return []vectors.Vector{
		of("token", "a proxy that is a token, and an error", member("glass.example", "dns_error", "", "", "", ""), "glass.example; error=dns_error"),
		of("string", "a proxy that is no token", member("1 glass", "", "", "", "", ""), `"1 glass"`),
		of("everything", "every parameter of RFC 9209", member("glass.example", "http_protocol_error", "origin.example:443", "h2", "503", "it said so"),
			`glass.example; error=http_protocol_error; next-hop=origin.example:443; next-protocol=h2; received-status=503; details="it said so"`),
		of("protocol-token", "a protocol id with a slash is a token", member("glass.example", "", "", "itls-h2/1", "", ""), "glass.example; next-protocol=itls-h2/1"),
		of("protocol-bytes", "one that cannot be a token is a byte sequence", member("glass.example", "", "", "\x0a\x0a", "", ""), "glass.example; next-protocol=:Cgo=:"),
		of("quotes", "quotes in details", member("glass.example", "", "", "", "", `a "b" \c`), `glass.example; details="a \"b\" \\c"`),
		bad("inner-list", "an inner list", "(a b)"),
		bad("number", "a proxy that is a number", "5"),
		bad("error-string", "an error that is a string", `a; error="dns_error"`),
		bad("status-string", "a status that is a string", `a; received-status="503"`),
		bad("status-99", "a status of two digits", "a; received-status=99"),
		bad("details-token", "details that are a token", "a; details=b"),
		bad("comma", "a comma at the end", "a,"),
		vector("seventeen", vectors.TooLarge, "seventeen members", nil, text(strings.Repeat("a, ", 16)+"a")),
		vector("long", vectors.TooLarge, "more than 8192 bytes", nil, text(`a; details="`+strings.Repeat("x", 8192)+`"`)),
	}
}

// via has one line of the field for each line of the vector.
func via() []vectors.Vector {
	of := func(name, comment, found, bytes string) vectors.Vector {
		return vector(name, vectors.Success, comment, inputs{"pseudonym": "glass.example", "found": found}, text(bytes))
	}
	return []vectors.Vector{
		of("alone", "this proxy", "true", "2 glass.example"),
		of("case", "whatever the case", "true", "2 Glass.Example"),
		of("among", "among others", "true", "1.1 a, 2 glass.example, 1.1 b"),
		of("second-line", "in the second line", "true", "1.1 a\n2 glass.example"),
		of("commented", "with a comment behind", "true", "2 glass.example (a proxy, too)"),
		of("protocol", "with the protocol's name", "true", "HTTP/2 glass.example"),
		of("open-comment", "a comment that never ends hides nothing", "true", "1.1 a (, 2 glass.example"),
		of("other", "another proxy", "false", "2 glass.example.org"),
		of("in-comment", "in a comment only", "false", "1.1 a (2 glass.example)"),
		of("nested-comment", "in a comment inside of one", "false", "1.1 a (b (, 2 glass.example ,) c)"),
		of("as-protocol", "where the protocol is", "false", "glass.example a"),
		of("nothing", "no field", "false", ""),
	}
}

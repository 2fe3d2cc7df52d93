package inspect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vitrine/frames"
)

const ok5 = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// post is a request with the given fields, each in a line of its own.
func post(fields, body string) string {
	return "POST /p HTTP/1.1\r\nHost: origin.example\r\n" + fields + "\r\n" + body
}

// passed feeds messages, wants all of them released, and returns what a watcher saw and what was logged.
func passed(t *testing.T, cut func(int) int, steps func(w *wire) []step) (seen []string, logs []Passed) {
	t.Helper()
	cfg := config()
	watch := new(watcher)
	cfg.Inspectors = judges(watch)
	cfg.Log = func(p Passed) {
		p.Started = time.Time{}
		logs = append(logs, p)
	}
	r, w := connected(t, cfg, cut)
	r.passes(t, steps(w)...)
	for _, e := range watch.seen {
		if e.outcome == nil || e.outcome.Err != nil {
			t.Fatalf("outcome %+v", e.outcome)
		}
		var b strings.Builder
		for _, msgs := range e.msgs {
			for _, m := range msgs {
				if m.head.Status == 0 {
					fmt.Fprintf(&b, "%s %s?%s", m.head.Method, m.head.Path, m.head.Query)
				} else {
					fmt.Fprintf(&b, " %d", m.head.Status)
				}
				fmt.Fprintf(&b, " %d %q", m.head.Size, m.body)
				if m.end {
					b.WriteString(".")
				}
				if m.opaque {
					b.WriteString(" opaque")
				}
				for k, v := range m.trailer {
					fmt.Fprintf(&b, " %s=%s", k, v)
				}
				b.WriteString(";")
			}
		}
		seen = append(seen, b.String())
	}
	return seen, logs
}

// spec: RDR-12 RDR-13
func TestExchangesThatPass(t *testing.T) {
	msg := func(request, response string) func(w *wire) []step {
		return func(w *wire) []step { return []step{c(w.app(request)), o(w.app(response))} }
	}
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n000006\r\n world\r\n0\r\n\r\n"
	tests := []struct {
		name  string
		steps func(w *wire) []step
		want  []string
	}{
		{"GET and a body of declared length", msg(get, ok5), []string{`GET /? 0 "".; 200 5 "hello".;`}},
		{"keep-alive", func(w *wire) []step {
			return []step{c(w.app(get)), o(w.app(ok5)), c(w.app(get)), o(w.app(ok5))}
		}, []string{`GET /? 0 "".; 200 5 "hello".;`, `GET /? 0 "".; 200 5 "hello".;`}},
		{
			"a body of no bytes", msg(post("Content-Length: 0\r\n", ""), "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
			[]string{`POST /p? 0 "".; 201 0 "".;`},
		},
		{"a request body", msg(post("Content-Length: 3\r\n", "abc"), ok5), []string{`POST /p? 3 "abc".; 200 5 "hello".;`}},
		{
			"chunked both ways, a trailer", msg(
				post("Transfer-Encoding: Chunked\r\nTrailer: Digest\r\n", "3\r\nabc\r\n0\r\nDigest: x\r\n\r\n"), chunked),
			[]string{`POST /p? -1 "abc". Digest=[x]; 200 -1 "hello world".;`},
		},
		{
			"HEAD", msg("HEAD / HTTP/1.1\r\nHost: origin.example\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
			[]string{`HEAD /? 0 "".; 200 9 "".;`},
		},
		{
			"HEAD of something chunked", msg("HEAD / HTTP/1.1\r\nHost: origin.example\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
			[]string{`HEAD /? 0 "".; 200 -1 "".;`},
		},
		{"204", msg(get, "HTTP/1.1 204 No Content\r\n\r\n"), []string{`GET /? 0 "".; 204 0 "".;`}},
		{"204 that says 0", msg(get, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"), []string{`GET /? 0 "".; 204 0 "".;`}},
		{"205", msg(get, "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"), []string{`GET /? 0 "".; 205 0 "".;`}},
		{"304 with a length", msg(get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"), []string{`GET /? 0 "".; 304 99 "".;`}},
		{"no reason phrase", msg(get, "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"), []string{`GET /? 0 "".; 200 0 "".;`}},
		{"a body that ends with the direction", func(w *wire) []step {
			return []step{c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\n\r\n", "he", "llo")), o(w.closeNotify())}
		}, []string{`GET /? 0 "".; 200 -1 "hello".;`}},
		{"HTTP/1.0", func(w *wire) []step {
			return []step{
				c(w.app("GET / HTTP/1.0\r\nHost: origin.example\r\n\r\n")),
				o(w.app("HTTP/1.0 200 OK\r\n\r\nhello")), o(w.closeNotify()),
			}
		}, []string{`GET /? 0 "".; 200 -1 "hello".;`}},
		{"100-continue", func(w *wire) []step {
			return []step{
				c(w.app(post("Content-Length: 3\r\nExpect: 100-continue\r\n", ""))),
				o(w.app("HTTP/1.1 100 Continue\r\n\r\n")), c(w.app("abc")), o(w.app(ok5)),
			}
		}, []string{`POST /p? 3 "abc".; 100 0 ""; 200 5 "hello".;`}},
		{"100-continue that the client did not wait for", func(w *wire) []step {
			return []step{c(w.app(post("Content-Length: 3\r\nExpect: 100-continue\r\n", ""))), c(w.app("abc")), o(w.app(ok5))}
		}, []string{`POST /p? 3 "abc".; 200 5 "hello".;`}},
		{
			"103, and 102", msg(get, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"+ok5),
			[]string{`GET /? 0 "".; 103 0 ""; 102 0 ""; 200 5 "hello".;`},
		},
		{"early response", func(w *wire) []step {
			return []step{
				c(w.app(post("Content-Length: 6\r\n", "abc"))), o(w.app("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n"), w.app("no")),
				c(w.app("def")), c(w.app(get)), o(w.app(ok5)),
			}
		}, []string{`POST /p? 6 "abcdef".; 413 2 "no".;`, `GET /? 0 "".; 200 5 "hello".;`}},
		{"response that streams beside its request", func(w *wire) []step {
			return []step{
				c(w.app(post("Transfer-Encoding: chunked\r\n", "1\r\na\r\n"))), o(w.app("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n")),
				c(w.app("1\r\nb\r\n0\r\n\r\n")), o(w.app("1\r\nB\r\n0\r\n\r\n")),
			}
		}, []string{`POST /p? -1 "ab".; 200 -1 "AB".;`}},
		{
			"Upgrade that the origin ignores", msg("GET / HTTP/1.1\r\nHost: origin.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ok5),
			[]string{`GET /? 0 "".; 200 5 "hello".;`},
		},
		{
			"absolute target that agrees", msg("GET https://ORIGIN.example:443/a?b=c HTTP/1.1\r\nHost: origin.example\r\n\r\n", ok5),
			[]string{`GET /a?b=c 0 "".; 200 5 "hello".;`},
		},
		{"OPTIONS *", msg("OPTIONS * HTTP/1.1\r\nHost: origin.example:443\r\n\r\n", ok5), []string{`OPTIONS *? 0 "".; 200 5 "hello".;`}},
		{
			"white space around values, UTF-8 in them", msg("GET / HTTP/1.1\r\nHost: \t origin.example \t\r\nX: \xc3\xa9\r\nEmpty:\r\n\r\n", ok5),
			[]string{`GET /? 0 "".; 200 5 "hello".;`},
		},
		{
			"what browsers leave unescaped", msg("GET /a|b[1]?q={x}|^`\\%zz HTTP/1.1\r\nHost: origin.example\r\n\r\n", ok5),
			[]string{"GET /a|b[1]?q={x}|^`\\%zz 0 \"\".; 200 5 \"hello\".;"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []func(int) int{nil, shattered} {
				seen, logs := passed(t, cut, tt.steps)
				if strings.Join(seen, "\n") != strings.Join(tt.want, "\n") {
					t.Fatalf("saw\n%s\nwant\n%s", strings.Join(seen, "\n"), strings.Join(tt.want, "\n"))
				}
				if len(logs) != len(tt.want) {
					t.Fatalf("logged %+v", logs)
				}
				for _, l := range logs {
					if l.Err != nil || l.ToOrigin == 0 || l.ToClient == 0 || l.Status == 0 || l.Host != authority {
						t.Fatalf("logged %+v", l)
					}
				}
			}
		})
	}
}

// spec: RDR-14 RDR-15 RDR-16 RDR-17 RDR-18
func TestRequestsThatTwoParsersReadDifferently(t *testing.T) {
	line := func(s string) string { return s + "\r\nHost: origin.example\r\n\r\n" }
	field := func(s string) string { return "GET / HTTP/1.1\r\nHost: origin.example\r\n" + s + "\r\n\r\n" }
	host := func(s string) string { return "GET / HTTP/1.1\r\n" + s + "\r\n" }
	chunks := func(s string) string { return post("Transfer-Encoding: chunked\r\n", s) }
	tests := []struct{ name, rule, in string }{
		{"CL.TE", RuleLengthAndChunked, post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
		{"TE.CL", RuleLengthAndChunked, post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n")},
		{"TE.TE", RuleTransferEncoding, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n")},
		{"chunked twice", RuleTransferEncoding, post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")},
		{"chunked not last", RuleTransferEncoding, post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n")},
		{"gzip, chunked", RuleTransferEncoding, post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")},
		{"xchunked", RuleTransferEncoding, post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")},
		{"chunked with a parameter", RuleTransferEncoding, post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n")},
		{"chunked in quotes", RuleTransferEncoding, post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")},
		{"identity", RuleTransferEncoding, post("Transfer-Encoding: identity\r\n", "")},
		{"empty Transfer-Encoding", RuleTransferEncoding, post("Transfer-Encoding:\r\n", "")},
		{"vertical tab before chunked", RuleFieldValue, post("Transfer-Encoding: \x0bchunked\r\n", "")},
		{"two lengths that differ", RuleContentLength, post("Content-Length: 4\r\nContent-Length: 5\r\n", "abcd")},
		{"two lengths that agree", RuleContentLength, post("Content-Length: 4\r\nContent-Length: 4\r\n", "abcd")},
		{"a list of lengths", RuleContentLength, post("Content-Length: 4, 4\r\n", "abcd")},
		{"a signed length", RuleContentLength, post("Content-Length: +4\r\n", "abcd")},
		{"a negative length", RuleContentLength, post("Content-Length: -1\r\n", "")},
		{"a hexadecimal length", RuleContentLength, post("Content-Length: 0x4\r\n", "abcd")},
		{"an octal length", RuleContentLength, post("Content-Length: 010\r\n", "abcd")},
		{"an empty length", RuleContentLength, post("Content-Length: \r\n", "")},
		{"a length above 63 bits", RuleContentLength, post("Content-Length: 18446744073709551620\r\n", "abcd")},
		{"a length in two words", RuleContentLength, post("Content-Length: 4 5\r\n", "abcd")},
		{"chunked with HTTP/1.0", RuleChunked10, "POST / HTTP/1.0\r\nHost: origin.example\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"a bare LF ends a line", RuleBareLF, "GET / HTTP/1.1\nHost: origin.example\r\n\r\n"},
		{"a bare LF ends the section", RuleBareLF, "GET / HTTP/1.1\r\nHost: origin.example\r\n\n"},
		{"a bare CR in a value", RuleBareCR, field("X: a\rTransfer-Encoding: chunked")},
		{"CR CR LF", RuleBareCR, field("X: a\r")},
		{"obs-fold", RuleObsFold, field("X: a\r\n b")},
		{"obs-fold with a tab", RuleObsFold, field("X: a\r\n\tTransfer-Encoding: chunked")},
		{"a line of white space", RuleObsFold, field(" ")},
		{"white space before the first field", RuleObsFold, "GET / HTTP/1.1\r\n Host: origin.example\r\n\r\n"},
		{"white space before the colon", RuleFieldName, field("Transfer-Encoding : chunked")},
		{"a tab before the colon", RuleFieldName, field("Transfer-Encoding\t: chunked")},
		{"a field without a colon", RuleFieldName, field("Transfer-Encoding")},
		{"a field without a name", RuleFieldName, field(": x")},
		{"NUL in a name", RuleFieldName, field("X\x00Y: x")},
		{"a non-ASCII name", RuleFieldName, field("\xc3\xa9: x")},
		{"Transfer_Encoding", RuleFieldName, field("Transfer_Encoding: chunked")},
		{"content_length", RuleFieldName, field("content_length: 5")},
		{"NUL in a value", RuleFieldValue, field("X: a\x00b")},
		{"a control character in a value", RuleFieldValue, field("X: a\x01b")},
		{"DEL in a value", RuleFieldValue, field("X: a\x7fb")},
		{"no Host", RuleMissingHost, host("X: y\r\n")},
		{"no Host with HTTP/1.0", RuleMissingHost, "GET / HTTP/1.0\r\n\r\n"},
		{"two Hosts", RuleDuplicateHost, host("Host: origin.example\r\nHost: origin.example\r\n")},
		{"another Host", RuleHost, host("Host: other.example\r\n")},
		{"an empty Host", RuleHost, host("Host:\r\n")},
		{"another port", RuleHost, host("Host: origin.example:8443\r\n")},
		{"a port spelled differently", RuleHost, host("Host: origin.example:0443\r\n")},
		{"an empty port", RuleHost, host("Host: origin.example:\r\n")},
		{"a trailing dot", RuleHost, host("Host: origin.example.\r\n")},
		{"user information in Host", RuleHost, host("Host: user@origin.example\r\n")},
		{"a list of Hosts", RuleHost, host("Host: origin.example, other.example\r\n")},
		{"an absolute target for another host", RuleHost, line("GET https://other.example/ HTTP/1.1")},
		{"an absolute target with user information", RuleHost, line("GET https://origin.example@other.example/ HTTP/1.1")},
		{"an absolute target of http", RuleTarget, line("GET http://origin.example/ HTTP/1.1")},
		{"an absolute target without a path", RuleTarget, line("GET https://origin.example HTTP/1.1")},
		{"an authority target", RuleTarget, line("GET origin.example:443 HTTP/1.1")},
		{"GET *", RuleTarget, line("GET * HTTP/1.1")},
		{"a fragment", RuleTarget, line("GET /a#b HTTP/1.1")},
		{"a backslash", RuleTarget, line("GET /a\\b HTTP/1.1")},
		{"a broken escape", RuleTarget, line("GET /%zz HTTP/1.1")},
		{"an escape cut short", RuleTarget, line("GET /%2 HTTP/1.1")},
		{"raw UTF-8 in the target", RuleTarget, line("GET /\xc3\xa9 HTTP/1.1")},
		{"a control character in the target", RuleTarget, line("GET /a\x01 HTTP/1.1")},
		{"a quotation mark in the query", RuleTarget, line("GET /?\" HTTP/1.1")},
		{"two spaces", RuleRequestLine, line("GET  / HTTP/1.1")},
		{"a space in the target", RuleRequestLine, line("GET /a b HTTP/1.1")},
		{"a space at the end", RuleRequestLine, line("GET / HTTP/1.1 ")},
		{"a tab for a space", RuleRequestLine, line("GET\t/\tHTTP/1.1")},
		{"HTTP/0.9", RuleRequestLine, "GET /\r\n\r\n"},
		{"HTTP/2 preface", RuleVersionHTTP, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		{"HTTP/1.2", RuleVersionHTTP, line("GET / HTTP/1.2")},
		{"http/1.1", RuleVersionHTTP, line("GET / http/1.1")},
		{"HTTP/1.10", RuleVersionHTTP, line("GET / HTTP/1.10")},
		{"a method that is no token", RuleMethod, line("GE(T / HTTP/1.1")},
		{"no method", RuleMethod, line(" / HTTP/1.1")},
		{"head", RuleMethod, line("head / HTTP/1.1")},
		{"Connect", RuleMethod, line("Connect / HTTP/1.1")},
		{"CONNECT", RuleConnect, line("CONNECT origin.example:443 HTTP/1.1")},
		{"an empty line first", RuleEmptyLine, "\r\n" + get},
		{"Connection: Content-Length", RuleConnection, field("Connection: close, Content-Length")},
		{"Connection: Host", RuleConnection, field("Connection: host")},
		{"Connection that is no list", RuleConnection, field("Connection: close;x")},
		{"another expectation", RuleExpect, field("Expect: y 100-continue")},
		{"two expectations", RuleExpect, field("Expect: 100-continue\r\nExpect: 100-continue")},
		{"Trailer: Content-Length", RuleTrailer, field("Trailer: X, Content-Length")},
		{"a chunk extension", RuleChunkExtension, chunks("1;x=y\r\na\r\n0\r\n\r\n")},
		{"a chunk size with a sign", RuleChunkSize, chunks("+1\r\na\r\n0\r\n\r\n")},
		{"a chunk size of 0x", RuleChunkSize, chunks("0x1\r\na\r\n0\r\n\r\n")},
		{"a space behind a chunk size", RuleChunkSize, chunks("1 \r\na\r\n0\r\n\r\n")},
		{"a space before a chunk size", RuleChunkSize, chunks(" 1\r\na\r\n0\r\n\r\n")},
		{"an empty chunk size", RuleChunkSize, chunks("\r\na\r\n0\r\n\r\n")},
		{"a chunk size above 64 bits", RuleChunkSize, chunks("10000000000000001\r\na\r\n")},
		{"a chunk size above 31 bits", RuleChunkSize, chunks("80000000\r\na\r\n")},
		{"a bare LF behind a chunk size", RuleBareLF, chunks("1\na\r\n0\r\n\r\n")},
		{"a bare CR behind a chunk size", RuleBareCR, chunks("1\ra\r\n0\r\n\r\n")},
		{"a chunk that is longer than its size", RuleChunkEnd, chunks("1\r\nab\r\n0\r\n\r\n")},
		{"a bare LF behind a chunk", RuleChunkEnd, chunks("1\r\na\n0\r\n\r\n")},
		{"Content-Length in a trailer", RuleTrailer, chunks("0\r\nContent-Length: 5\r\n\r\n")},
		{"transfer_encoding in a trailer", RuleTrailer, chunks("0\r\ntransfer_encoding: chunked\r\n\r\n")},
		{"obs-fold in a trailer", RuleObsFold, chunks("0\r\n X: y\r\n\r\n")},
		{"a bare LF in a trailer", RuleBareLF, chunks("0\r\nX: y\n\r\n")},
		{"white space before the colon in a trailer", RuleFieldName, chunks("0\r\nX : y\r\n\r\n")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []func(int) int{nil, shattered} {
				r, w := connected(t, config(), cut)
				before := r.released
				kills(t, r.feed(t, c(w.app(tt.in))), tt.rule)
				if r.released != before {
					t.Fatalf("released %v, %v before the attack", r.released, before)
				}
				// The same bytes in records of one byte each: what was released is harmless.
				r, w = connected(t, config(), cut)
				var err error
				for i := 0; i < len(tt.in) && err == nil; i++ {
					err = r.feed(t, c(w.app(tt.in[i:i+1])))
				}
				kills(t, err, tt.rule)
			}
		})
	}
}

// spec: RDR-19
func TestResponsesThatTwoParsersReadDifferently(t *testing.T) {
	ok := func(fields string) string { return "HTTP/1.1 200 OK\r\n" + fields + "\r\n" }
	tests := []struct{ name, rule, request, in string }{
		{"CL and TE", RuleLengthAndChunked, get, ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")},
		{"two lengths", RuleContentLength, get, ok("Content-Length: 5\r\nContent-Length: 6\r\n")},
		{"gzip as a transfer coding", RuleTransferEncoding, get, ok("Transfer-Encoding: gzip\r\n")},
		{"HTTP/1.0 chunked", RuleChunked10, get, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"chunked to HTTP/1.0", RuleChunked10, "GET / HTTP/1.0\r\nHost: origin.example\r\n\r\n", ok("Transfer-Encoding: chunked\r\n")},
		{"100 to HTTP/1.0", RuleStatusLine, "GET / HTTP/1.0\r\nHost: origin.example\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"},
		{"100 of HTTP/1.0", RuleStatusLine, get, "HTTP/1.0 100 Continue\r\n\r\n"},
		{"101", RuleOpaque, "GET / HTTP/1.1\r\nHost: origin.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
		{"101 unasked", RuleOpaque, get, "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
		{"nine interim responses", RuleInterim, get, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9)},
		{"100 with a length", RuleNoBody, get, "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n"},
		{"103 chunked", RuleNoBody, get, "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"204 with a body", RuleNoBody, get, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"},
		{"204 chunked", RuleNoBody, get, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"205 with a length", RuleNoBody, get, "HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\nhello"},
		{"205 chunked", RuleNoBody, get, "HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"205 with a body to its end", RuleNoBody, get, "HTTP/1.1 205 Reset Content\r\n\r\nhello"},
		{"Trailer that is no list of tokens", RuleTrailer, get, ok("Transfer-Encoding: chunked\r\nTrailer: X Y\r\n")},
		{"HEAD with a body", RuleUnsolicited, "HEAD / HTTP/1.1\r\nHost: origin.example\r\n\r\n", ok5},
		{"304 with a body", RuleUnsolicited, get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"},
		{"two responses", RuleUnsolicited, get, ok5 + ok5},
		{"a body longer than its length", RuleUnsolicited, get, ok5 + "!"},
		{"an empty line behind a body", RuleUnsolicited, get, ok5 + "\r\n"},
		{"status of two digits", RuleStatusLine, get, "HTTP/1.1 20 OK\r\n\r\n"},
		{"status of four digits", RuleStatusLine, get, "HTTP/1.1 2000 OK\r\n\r\n"},
		{"status below 100", RuleStatusLine, get, "HTTP/1.1 099 OK\r\n\r\n"},
		{"status with a sign", RuleStatusLine, get, "HTTP/1.1 +20 OK\r\n\r\n"},
		{"no space behind the status", RuleStatusLine, get, "HTTP/1.1 200\r\n\r\n"},
		{"NUL in the reason", RuleStatusLine, get, "HTTP/1.1 200 O\x00K\r\n\r\n"},
		{"another protocol", RuleVersionHTTP, get, "ICY/1.1 200 OK\r\n\r\n"},
		{"HTTP/2", RuleVersionHTTP, get, "HTTP/2 200 OK\r\n\r\n"},
		{"no HTTP", RuleStatusLine, get, "<html>\r\n\r\n"},
		{"an empty line first", RuleEmptyLine, get, "\r\n" + ok5},
		{"bare LF", RuleBareLF, get, "HTTP/1.1 200 OK\nContent-Length: 0\n\n"},
		{"obs-fold", RuleObsFold, get, ok("X: y\r\n z\r\n")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []func(int) int{nil, shattered} {
				r, w := connected(t, config(), cut)
				r.passes(t, c(w.app(tt.request)))
				before := r.released
				kills(t, r.feed(t, o(w.app(tt.in))), tt.rule)
				if r.released != before {
					t.Fatalf("released %v, %v before the attack", r.released, before)
				}
			}
		})
	}
}

// spec: RDR-20 RDR-21
func TestOneExchangeAtATime(t *testing.T) {
	tests := []struct {
		name  string
		rule  string
		steps func(w *wire) []step // the last one is the attack
	}{
		{"pipelined in one record", RuleOpaque, func(w *wire) []step { return []step{c(w.app(get + get))} }},
		{"pipelined", RuleOpaque, func(w *wire) []step { return []step{c(w.app(get)), c(w.app(get))} }},
		{"pipelined behind half a response", RuleOpaque, func(w *wire) []step {
			return []step{c(w.app(get)), o(w.app(ok5[:len(ok5)-1])), c(w.app(get))}
		}},
		{"a byte behind a request body", RuleOpaque, func(w *wire) []step {
			return []step{c(w.app(post("Content-Length: 3\r\n", "abcd")))}
		}},
		{"an empty line behind a request", RuleOpaque, func(w *wire) []step { return []step{c(w.app(get + "\r\n"))} }},
		{"response before any request", RuleUnsolicited, func(w *wire) []step { return []step{o(w.app(ok5))} }},
		{"response to half a request head", RuleUnsolicited, func(w *wire) []step {
			return []step{c(w.app(get[:10])), o(w.app(ok5))}
		}},
		{"response to the last request again", RuleUnsolicited, func(w *wire) []step {
			return []step{c(w.app(get)), o(w.app(ok5)), o(w.app(ok5))}
		}},
		{"408 on an idle connection", RuleUnsolicited, func(w *wire) []step {
			return []step{c(w.app(get)), o(w.app(ok5)), o(w.app("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"))}
		}},
		{"request behind Connection: close of a request", RuleAfterLast, func(w *wire) []step {
			return []step{c(w.app("GET / HTTP/1.1\r\nHost: origin.example\r\nConnection: close\r\n\r\n")), o(w.app(ok5)), c(w.app(get))}
		}},
		{"request behind Connection: close of a response", RuleAfterLast, func(w *wire) []step {
			return []step{c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\nconnection: x, CLOSE\r\nContent-Length: 0\r\n\r\n")), c(w.app(get))}
		}},
		{"request behind HTTP/1.0", RuleAfterLast, func(w *wire) []step {
			return []step{c(w.app(get)), o(w.app("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")), c(w.app(get))}
		}},
		{"request behind a body that ended with the direction", RuleAfterLast, func(w *wire) []step {
			return []step{c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\n\r\nx"), w.closeNotify()), c(w.app(get))}
		}},
		{"body behind a refused expectation", RuleExpect, func(w *wire) []step {
			return []step{c(w.app(post("Content-Length: 99\r\nExpect: 100-continue\r\n", ""))), o(w.app("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")), c(w.app(get))}
		}},
		{"chunks behind a refused expectation", RuleExpect, func(w *wire) []step {
			return []step{c(w.app(post("Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\n", ""))), o(w.app("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")), c(w.app("0\r\n\r\n"))}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []func(int) int{nil, shattered} {
				r, w := connected(t, config(), cut)
				steps := tt.steps(w)
				if err := r.all(t, steps[:len(steps)-1]...); err != nil {
					t.Fatal(err)
				}
				before := r.released
				kills(t, r.feed(t, steps[len(steps)-1]), tt.rule)
				if r.released != before {
					t.Fatalf("released %v, %v before the attack", r.released, before)
				}
			}
		})
	}
}

// spec: RDR-22
func TestHTTPBudgets(t *testing.T) {
	var many strings.Builder
	for i := range 201 {
		fmt.Fprintf(&many, "X%d: y\r\n", i)
	}
	long := strings.Repeat("x", 64<<10)
	chunked := post("Transfer-Encoding: chunked\r\n", "0\r\n")
	tests := []struct{ name, rule, in string }{
		{"201 fields", RuleFields, post(many.String(), "")},
		{"201 trailers", RuleFields, chunked + many.String() + "\r\n"},
		{"a header section of 64 KiB", RuleHeadSize, post("X: "+long+"\r\n", "")},
		{"a trailer section of 64 KiB", RuleHeadSize, chunked + "X: " + long + "\r\n\r\n"},
		{"a line without end", RuleHeadSize, long + long},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, w := connected(t, config(), nil)
			var records []string
			for in := tt.in; len(in) > 0; in = in[min(len(in), 16000):] {
				records = append(records, in[:min(len(in), 16000)])
			}
			kills(t, r.feed(t, c(w.app(records...))), tt.rule)
		})
	}
	t.Run("a small budget", func(t *testing.T) {
		cfg := config()
		cfg.Limits = Limits{HeadBytes: len(get), Fields: 1, Interim: 1}
		r, w := connected(t, cfg, nil)
		r.passes(t, c(w.app(get)), o(w.app("HTTP/1.1 102 \r\n\r\nHTTP/1.1 204 \r\n\r\n")))
		kills(t, r.feed(t, c(w.app(get[:len(get)-2]+"Xyz"))), RuleHeadSize)
		r, w = connected(t, cfg, nil)
		kills(t, r.feed(t, c(w.app("GET / HTTP/1.1\r\na:\r\nb:\r\n\r\n"))), RuleFields)
	})
	t.Run("as many as allowed", func(t *testing.T) {
		r, w := connected(t, config(), nil)
		fields := many.String()
		fields = fields[:strings.LastIndex(fields[:len(fields)-2], "\r\n")+2]
		fields = fields[strings.Index(fields, "\n")+1:] // Host is the 200th
		r.passes(t, c(w.app(post(fields, ""))))
		r, w = connected(t, config(), nil)
		head := post("X: \r\n", "")
		pad := strings.Repeat("x", 64<<10-len(head))
		head = post("X: "+pad+"\r\n", "")
		var records []string
		for in := head; len(in) > 0; in = in[min(len(in), 16000):] {
			records = append(records, in[:min(len(in), 16000)])
		}
		r.passes(t, c(w.app(records...)))
	})
}

// A header section is released as a whole, a chunk-size line too, body bytes at once; all of them with
// the record that they end in.
//
// spec: RDR-23
func TestUnitsOfRelease(t *testing.T) {
	r, w := connected(t, config(), nil)
	hold := func(d frames.Direction, text string) {
		t.Helper()
		before := r.released[d]
		if err := r.feed(t, step{dir: d, p: w.app(text)}); err != nil {
			t.Fatal(err)
		}
		if r.released[d] != before {
			t.Fatalf("%q was released before its unit was whole", text)
		}
	}
	pass := func(d frames.Direction, text string) {
		t.Helper()
		if err := r.feed(t, step{dir: d, p: w.app(text)}); err != nil {
			t.Fatal(err)
		}
		if r.released[d] != r.fed[d] {
			t.Fatalf("%q was not released: %d of %d", text, r.released[d], r.fed[d])
		}
	}
	hold(toOrigin, "POST /p HT")
	hold(toOrigin, "TP/1.1\r\nHost: origin.example\r\nTransfer-Encoding: chunked\r\n\r")
	pass(toOrigin, "\n")
	hold(toOrigin, "1")
	hold(toOrigin, "0\r")
	pass(toOrigin, "\nabc")
	pass(toOrigin, "def")
	hold(toOrigin, "ghijklmnop\r")
	pass(toOrigin, "\n")
	hold(toOrigin, "1\r\na\r\n0")
	pass(toOrigin, "\r\n")
	hold(toOrigin, "Digest: x\r\n")
	hold(toOrigin, "\r")
	pass(toOrigin, "\n")
	pass(toClient, "HTTP/1.1 200 OK\r\n\r\nda")
	pass(toClient, "ta: event\n\n")
}

// A log line says what passed, also of what was cut short or killed.
//
// spec: RDR-31
func TestLogSaysWhatPassed(t *testing.T) {
	var logs []Passed
	cfg := config()
	cfg.Log = func(p Passed) { logs = append(logs, p) }
	now := time.Unix(1700000000, 0)
	cfg.Time = func() time.Time { return now }
	r, w := connected(t, cfg, nil)
	request := "GET /path?secret=1 HTTP/1.1\r\nHost: origin.example\r\n\r\n"
	r.passes(t, c(w.app(request)), o(w.app(ok5)))
	want := Passed{
		ID: 1, Started: now, Method: "GET", Host: authority, Path: "/path", Status: 200,
		ToOrigin: int64(len(request)), ToClient: int64(len(ok5)),
	}
	if len(logs) != 1 || logs[0] != want {
		t.Fatalf("logged %+v, want %+v", logs, want)
	}
	r.passes(t, c(w.app(request)))
	bad := "HTTP/1.1 101 Switching Protocols\r\n\r\n"
	kills(t, r.feed(t, o(w.app(bad))), RuleOpaque)
	var kill *KillError
	if len(logs) != 2 || logs[1].ID != 2 || logs[1].ToOrigin != int64(len(request)) || logs[1].ToClient != 0 || !errors.As(logs[1].Err, &kill) {
		t.Fatalf("logged %+v", logs)
	}
	r, w = connected(t, cfg, nil)
	r.passes(t, c(w.app(request)), o(w.app(ok5[:len(ok5)-2])))
	cause := errors.New("the hop is gone")
	r.tun.Close(cause)
	if len(logs) != 3 || logs[2].ToClient != int64(len(ok5)-2) || logs[2].Err != cause {
		t.Fatalf("logged %+v", logs)
	}
}

func TestHostOfAnIPv6Tunnel(t *testing.T) {
	tun := NewTunnel(&Config{Authority: "[2001:db8::7]:8443"})
	for host, want := range map[string]bool{
		"[2001:db8::7]:8443":           true,
		"[2001:DB8:0::7]:8443":         true,
		"[2001:db8::7]":                false,
		"[2001:db8::8]:8443":           false,
		"2001:db8::7:8443":             false,
		"[2001:db8::7%25eth0]:8443":    false,
		"[2001:db8::7%eth0]:8443":      false,
		"[::ffff:192.0.2.1]:8443":      false,
		"[2001:db8::7]x:8443":          false,
		"[2001:db8::7]:8443]":          false,
		"2001:db8::7":                  false,
		"[2001:db8::7]:8443\xc3\xa9:1": false,
	} {
		if got := tun.agrees([]byte(host)); got != want {
			t.Errorf("%q agrees: %v", host, got)
		}
	}
}

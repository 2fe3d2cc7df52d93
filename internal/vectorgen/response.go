package main

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"strings"

	"vitrine/spec/vectors"
)

// created is a second before the moment of the vectors.
const created = moment/1000 - 1

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func sfBytes(b []byte) string { return ":" + b64(b) + ":" }

func digestOf(content string) string { return "sha-256=" + sfBytes(sha256Of(text(content))) }

// A covered component is its identifier and its value, as its line of the signature base has them.
type covered [2]string

// A signedResponse is a response of section 6.7, made line by line; a generator changes what its vector is about.
type signedResponse struct {
	in      inputs // of the vector
	status  string
	fields  []string // but those of the signature
	covered []covered
	params  string // behind the components
	label   string
	content string
	stream  bool // digest and signature stand behind the content
	signer  *party
	sign    func(base []byte) []byte // nil: signer's
	more    []string                 // fields behind the signature's
	tail    []string                 // of the trailer section; nil: the right ones
}

const (
	evidenceRequestValue = ":AAECAw==:"
	targetURI            = "https://origin.example/pay?to=a"
)

func params(nonce []byte, life int64, p *party) string {
	s := fmt.Sprintf(";created=%d;expires=%d", created, created+life)
	if nonce != nil {
		s += fmt.Sprintf(";nonce=%q", b64(nonce))
	}
	return s + fmt.Sprintf(";keyid=%q;tag=\"vitrine\"", hexed(sha256Of(p.cert.RawSubjectPublicKeyInfo)))
}

func goodResponse() signedResponse {
	const content = "paid\n"
	p := origin()
	return signedResponse{
		in: inputs{
			"method": "GET", "target uri": targetURI, "evidence request": evidenceRequestValue,
			"leaf": hexed(p.cert.Raw), "nonce": hexed(fill(0xbb, 32)), "now ms": fmt.Sprint(moment),
		},
		status: "200 OK",
		fields: []string{"Content-Type: text/plain", "Cache-Control: no-store"},
		covered: []covered{
			{`"@status"`, "200"},
			{`"content-digest"`, digestOf(content)},
			{`"content-type"`, "text/plain"},
			{`"cache-control"`, "no-store"},
			{`"@method";req`, "GET"},
			{`"@target-uri";req`, targetURI},
			{`"evidence-request";req`, evidenceRequestValue},
		},
		params: params(fill(0xbb, 32), 300, p), label: "vitrine", content: content, signer: p,
	}
}

func (r signedResponse) with(change func(*signedResponse)) signedResponse {
	r.in = maps.Clone(r.in)
	r.fields = append([]string(nil), r.fields...)
	r.covered = append([]covered(nil), r.covered...)
	change(&r)
	return r
}

// cover adds a component in front of those of the request.
func (r *signedResponse) cover(id, value string) {
	at := 4
	if strings.HasSuffix(id, ";req") {
		at = len(r.covered)
	}
	r.covered = append(r.covered[:at:at], append([]covered{{id, value}}, r.covered[at:]...)...)
}

// by makes p the signer and the origin of the evidence.
func (r *signedResponse) by(p *party) {
	r.params = strings.Replace(r.params, hexed(sha256Of(r.signer.cert.RawSubjectPublicKeyInfo)), hexed(sha256Of(p.cert.RawSubjectPublicKeyInfo)), 1)
	r.signer, r.in["leaf"] = p, hexed(p.cert.Raw)
}

// streams moves the digest and the signature behind the content.
func (r *signedResponse) streams() {
	r.stream, r.covered[1][0] = true, `"content-digest";tr`
}

func (r signedResponse) input() string {
	ids := make([]string, len(r.covered))
	for i, c := range r.covered {
		ids[i] = c[0]
	}
	return "(" + strings.Join(ids, " ") + ")" + r.params
}

func (r signedResponse) base() []byte {
	var b strings.Builder
	for _, c := range r.covered {
		b.WriteString(c[0] + ": " + c[1] + "\n")
	}
	return text(b.String() + `"@signature-params": ` + r.input())
}

func (r signedResponse) signature() string {
	if r.sign != nil {
		return r.label + "=" + sfBytes(r.sign(r.base()))
	}
	return r.label + "=" + sfBytes(fixedWidth(r.signer.signBare(r.base()), r.signer))
}

// fixedWidth is r and s of an ECDSA signature, of 32 bytes each.
func fixedWidth(sig []byte, p *party) []byte {
	if p.scheme() != schemeP256 {
		return sig
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		panic(err) // no input reaches this
	}
	return join(rs.R.FillBytes(make([]byte, 32)), rs.S.FillBytes(make([]byte, 32)))
}

// bytes is the response as HTTP/1.1 sends it.
func (r signedResponse) bytes() []byte {
	lines := append([]string{"HTTP/1.1 " + r.status}, r.fields...)
	lines = append(lines, "Signature-Input: "+r.label+"="+r.input())
	digest, signature := "Content-Digest: "+r.covered[1][1], "Signature: "+r.signature()
	content := r.content
	if r.stream {
		tail := r.tail
		if tail == nil {
			tail = []string{digest, signature}
		}
		lines = append(lines, "Trailer: Content-Digest, Signature", "Transfer-Encoding: chunked")
		content = fmt.Sprintf("%x\r\n%s\r\n0\r\n%s\r\n", len(content), content, strings.Join(append(tail, ""), "\r\n"))
	} else {
		lines = append(lines, digest, signature)
		if r.in["method"] != "HEAD" && !strings.HasPrefix(r.status, "204") {
			lines = append(lines, fmt.Sprintf("Content-Length: %d", len(content)))
		}
	}
	lines = append(lines, r.more...)
	return text(strings.Join(lines, "\r\n") + "\r\n\r\n" + content)
}

// publicResponse is one that any cache may keep, without a nonce.
func publicResponse() signedResponse {
	return goodResponse().with(func(r *signedResponse) {
		r.fields[1], r.covered[3][1] = "Cache-Control: public, max-age=3600", "public, max-age=3600"
		r.covered = r.covered[:6]
		r.params = params(nil, 3600, r.signer)
	})
}

func responseSignature() []vectors.Vector {
	good := goodResponse()
	ok := func(name, comment string, r signedResponse) vectors.Vector {
		in := maps.Clone(r.in)
		in["base"], in["fresh"] = hexed(r.base()), fmt.Sprint(strings.Contains(r.params, ";nonce="))
		if in["fresh"] == "false" {
			in["replayable until"] = fmt.Sprint(created + 3600)
		}
		return vector(name, vectors.Success, comment, in, r.bytes())
	}
	bad := func(name, expect, comment string, change func(*signedResponse)) vectors.Vector {
		r := good.with(change)
		return vector(name, expect, comment, r.in, r.bytes())
	}
	list := []vectors.Vector{
		ok("plain", "Ed25519, the answer to a GET", good),
		ok("p256", "ECDSA over P-256: r and s, 32 bytes each", good.with(func(r *signedResponse) { r.by(originP256()) })),
		ok("stream", "digest and signature stand in the trailer section", good.with((*signedResponse).streams)),
		ok("algorithm", "alg names the algorithm of the key", good.with(func(r *signedResponse) { r.params += `;alg="ed25519"` })),
		ok("label", "the label is free", good.with(func(r *signedResponse) { r.label = "s1" })),
		ok("order", "components and parameters in another order", good.with(func(r *signedResponse) {
			r.covered[0], r.covered[6] = r.covered[6], r.covered[0]
			r.params = `;tag="vitrine"` + strings.TrimSuffix(r.params, `;tag="vitrine"`)
		})),
		ok("head", "the answer to a HEAD: the digest of nothing", good.with(func(r *signedResponse) {
			r.in["method"], r.content, r.covered[4][1], r.covered[1][1] = "HEAD", "", "HEAD", digestOf("")
		})),
		ok("no-content", "a 204: the digest of nothing", good.with(func(r *signedResponse) {
			r.status, r.covered[0][1], r.content, r.covered[1][1] = "204 No Content", "204", "", digestOf("")
		})),
		ok("redirect", "location is covered", good.with(func(r *signedResponse) {
			r.status, r.covered[0][1] = "303 See Other", "303"
			r.fields = append(r.fields, "Location: /paid")
			r.cover(`"location"`, "/paid")
		})),
		ok("cookies", "two cookies, as byte sequences", good.with(func(r *signedResponse) {
			r.fields = append(r.fields, "Set-Cookie: a=b, c=d", "Set-Cookie: e=f")
			r.cover(`"set-cookie";bs`, sfBytes(text("a=b, c=d"))+", "+sfBytes(text("e=f")))
		})),
		ok("two-lines", "two lines of a field are one value", good.with(func(r *signedResponse) {
			r.fields = append(r.fields, "Link: </a>", "Link:  </b> ")
			r.cover(`"link"`, "</a>, </b>")
		})),
		ok("latin-1", "a value that is not ASCII is covered as a byte sequence", good.with(func(r *signedResponse) {
			r.fields = append(r.fields, "X-Name: caf\xe9")
			r.cover(`"x-name";bs`, sfBytes(text("caf\xe9")))
		})),
		ok("credentials", "the request has content, authorization and a cookie", good.with(func(r *signedResponse) {
			r.in["method"], r.covered[4][1] = "POST", "POST"
			r.in["content digest"], r.in["authorization"], r.in["cookie"] = digestOf("pay"), "Bearer token", "a=b; c=d"
			r.cover(`"content-digest";req`, digestOf("pay"))
			r.cover(`"authorization";req`, "Bearer token")
			r.cover(`"cookie";req`, "a=b; c=d")
		})),
		ok("beside-another", "a signature of somebody else is left alone", good.with(func(r *signedResponse) {
			r.more = []string{`Signature-Input: other=("@status");tag="other"`, "Signature: other=:AAAA:"}
		})),
		ok("not-covered", "a field that is not covered does not matter: it is removed", good.with(func(r *signedResponse) {
			r.more = []string{"X-Added: 1", "Via: 2 proxy.example"}
		})),
		ok("public", "no nonce, on what any cache may keep", publicResponse()),
		ok("expires-now", "in its last second", good.with(func(r *signedResponse) { r.in["now ms"] = fmt.Sprint((created + 300) * 1000) })),
		ok("clocks", "made by a clock that is 60 seconds ahead", good.with(func(r *signedResponse) { r.in["now ms"] = fmt.Sprint((created - 60) * 1000) })),

		bad("content", vectors.Altered, "another content", func(r *signedResponse) { r.content = "Paid\n" }),
		bad("content-behind", vectors.Altered, "another content, and the signature behind it", func(r *signedResponse) { r.streams(); r.content = "Paid\n" }),
		bad("status", vectors.Altered, "another status", func(r *signedResponse) { r.status = "201 Created" }),
		bad("type", vectors.Altered, "another content-type", func(r *signedResponse) { r.fields[0] = "Content-Type: text/html" }),
		bad("type-added", vectors.Altered, "a content-encoding that was added", func(r *signedResponse) { r.more = []string{"Content-Encoding: gzip"} }),
		bad("cookie-added", vectors.Altered, "a cookie that was added", func(r *signedResponse) { r.more = []string{"Set-Cookie: a=b"} }),
		bad("covered-gone", vectors.Altered, "a covered field that is gone", func(r *signedResponse) { r.fields = r.fields[:1] }),
		bad("cookie-of-request", vectors.Altered, "the client sent a cookie that the signature leaves out", func(r *signedResponse) { r.in["cookie"] = "a=b" }),
		bad("cookie-of-proxy", vectors.Altered, "it covers a cookie that the client did not send", func(r *signedResponse) { r.cover(`"cookie";req`, "a=b") }),
		bad("target", vectors.Altered, "the answer to a request for another path", func(r *signedResponse) { r.in["target uri"] = "https://origin.example/" }),
		bad("method", vectors.Altered, "the answer to another method", func(r *signedResponse) { r.in["method"] = "DELETE" }),
		bad("no-status", vectors.Altered, "the status is left out", func(r *signedResponse) { r.covered[0] = covered{`"age"`, "0"}; r.fields = append(r.fields, "Age: 0") }),
		bad("trailers-gone", vectors.Altered, "the trailer section is gone", func(r *signedResponse) { r.streams(); r.tail = []string{} }),
		bad("asn1", vectors.Altered, "an ECDSA signature in the form of TLS", func(r *signedResponse) {
			r.by(originP256())
			r.sign = r.signer.signBare
		}),
		bad("newline", vectors.Altered, "a base with a newline behind it", func(r *signedResponse) {
			r.sign = func(base []byte) []byte { return origin().signBare(more(base, '\n')) }
		}),
		bad("other-nonce", vectors.Foreign, "a replay: the answer to another nonce", func(r *signedResponse) { r.in["nonce"] = hexed(fill(0xcc, 32)) }),
		bad("other-key", vectors.Foreign, "the evidence is another origin's", func(r *signedResponse) { r.in["leaf"] = hexed(originP256().cert.Raw) }),
		bad("private", vectors.Foreign, "no nonce, on what is not for everybody", func(r *signedResponse) {
			r.covered, r.params = r.covered[:6], params(nil, 300, r.signer)
		}),
		bad("expired", vectors.Stale, "a millisecond after its end", func(r *signedResponse) { r.in["now ms"] = fmt.Sprint((created+300)*1000 + 1) }),
		bad("future", vectors.Stale, "made by a clock that is more than 60 seconds ahead", func(r *signedResponse) { r.in["now ms"] = fmt.Sprint((created-60)*1000 - 1) }),
		bad("long", vectors.Malformed, "it holds for 301 seconds", func(r *signedResponse) { r.params = params(fill(0xbb, 32), 301, r.signer) }),
		bad("two", vectors.Malformed, "two signatures of the tag", func(r *signedResponse) {
			r.more = []string{`Signature-Input: other=("@status");tag="vitrine"`, "Signature: other=:AAAA:"}
		}),
		bad("label-twice", vectors.Malformed, "one label twice", func(r *signedResponse) { r.more = []string{"Signature: " + r.signature()} }),
		bad("component-twice", vectors.Malformed, "one component twice", func(r *signedResponse) { r.cover(`"content-type"`, "text/plain") }),
		bad("cookies-as-list", vectors.Malformed, "cookies that are covered as one list", func(r *signedResponse) {
			r.fields = append(r.fields, "Set-Cookie: a=b, c=d", "Set-Cookie: e=f")
			r.cover(`"set-cookie"`, "a=b, c=d, e=f")
		}),
		bad("structured", vectors.Malformed, "a component with the parameter sf", func(r *signedResponse) { r.covered[3][0] = `"cache-control";sf` }),
		bad("of-request", vectors.Malformed, "a component of the request that this protocol does not cover", func(r *signedResponse) { r.cover(`"@path";req`, "/pay") }),
		bad("no-expires", vectors.Malformed, "no expires", func(r *signedResponse) {
			r.params = strings.Replace(r.params, fmt.Sprintf(";expires=%d", created+300), "", 1)
		}),
		bad("keyid-base64", vectors.Malformed, "keyid in Base64", func(r *signedResponse) {
			id := sha256Of(r.signer.cert.RawSubjectPublicKeyInfo)
			r.params = strings.Replace(r.params, hexed(id), b64(id), 1)
		}),
		bad("other-algorithm", vectors.Malformed, "alg is not that of the key", func(r *signedResponse) { r.params += `;alg="ecdsa-p256-sha256"` }),
		bad("parameter", vectors.Malformed, "a parameter that nobody defined", func(r *signedResponse) { r.params += ";x" }),
		bad("md5", vectors.Malformed, "a digest that proves nothing", func(r *signedResponse) { r.covered[1][1] = "md5=:AAAAAAAAAAAAAAAAAAAAAA==:" }),
		bad("key-usage", vectors.Untrusted, "a certificate whose key is not for signatures", func(r *signedResponse) {
			t := webServer(originHost)
			t.KeyUsage = x509.KeyUsageKeyEncipherment
			r.by(issue(originRoot(), seeded(4), t))
		}),
	}
	long := publicResponse().with(func(r *signedResponse) { r.params = params(nil, 3601, r.signer) })
	return append(list, vector("public-long", vectors.Malformed, "no nonce, and a life longer than caches may keep it", long.in, long.bytes()))
}

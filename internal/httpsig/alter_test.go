package httpsig

import (
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// isKind reports whether err is an *Error of the kind.
func isKind(err, kind error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// An alteration is what somebody between does to a message.
type alteration struct {
	name string
	do   func(m *message)
	want error // nil: it changes nothing that the signature is about
}

// set changes one field of a section.
func set(section func(*message) http.Header, name string, lines ...string) func(*message) {
	return func(m *message) {
		if section(m)[name] = lines; len(lines) == 0 {
			delete(section(m), name)
		}
	}
}

func inHead(m *message) http.Header    { return m.head }
func inRequest(m *message) http.Header { return m.req.Header }

// input replaces a part of Signature-Input.
func input(before, after string) func(*message) {
	return func(m *message) {
		old := m.head.Get(SignatureInput)
		if !strings.Contains(old, before) {
			panic("nothing to replace: " + before)
		}
		m.head.Set(SignatureInput, strings.Replace(old, before, after, 1))
	}
}

// alterations are those of both forms of a message.
func alterations(k *maker) []alteration {
	rows := []alteration{
		{"nothing", func(*message) {}, nil},
		{"a field that is not covered", set(inHead, "X-Added", "1"), nil},
		{"via", set(inHead, "Via", "2 proxy.example"), nil},
		{"another's signature", func(m *message) {
			m.head[SignatureInput] = append([]string{`other=("@status");created=1;tag="other"`}, m.head[SignatureInput]...)
			m.head[SignatureHeader] = append([]string{"other=:AAAA:"}, m.head[SignatureHeader]...)
		}, nil},
		{"a list on one line", set(inHead, "Link", "</a>, </b>"), nil},
		{"space around a value", set(inHead, "Etag", ` "a"	`), nil},
		{"a cookie in pieces", set(inRequest, "Cookie", "a=b", "c=d"), nil},
		{"a request field that is not covered", set(inRequest, "User-Agent", "another"), nil},
		{"a minute early", func(m *message) { m.now = m.now.Add(-time.Minute) }, nil},
		{"at its end", func(m *message) { m.now = m.now.Add(MaxLifetime) }, nil},

		// the response
		{"status", func(m *message) { m.status = 200 }, ErrAltered},
		{"content changed", func(m *message) { m.content[0] ^= 1 }, ErrAltered},
		{"content cut", func(m *message) { m.content = m.content[:3] }, ErrAltered},
		{"content longer", func(m *message) { m.content = append(m.content, '!') }, ErrAltered},
		{"content gone", func(m *message) { m.content = nil }, ErrAltered},
		{"content-type", set(inHead, "Content-Type", "text/html"), ErrAltered},
		{"content-type gone", set(inHead, "Content-Type"), ErrUncovered},
		{"content-type twice", set(inHead, "Content-Type", "text/plain", "text/html"), ErrAltered},
		{"content-type not ASCII", set(inHead, "Content-Type", "text/plain\xff"), ErrMalformed},
		{"content-encoding", set(inHead, "Content-Encoding", "gzip"), ErrAltered},
		{"content-encoding gone", set(inHead, "Content-Encoding"), ErrUncovered},
		{"location", set(inHead, "Location", "https://attacker.example/"), ErrAltered},
		{"location gone", set(inHead, "Location"), ErrUncovered},
		{"a cookie's value", set(inHead, "Set-Cookie", "a=b, c=d", "e=g"), ErrAltered},
		{"a cookie more", set(inHead, "Set-Cookie", "a=b, c=d", "e=f", "g=h"), ErrAltered},
		{"a cookie less", set(inHead, "Set-Cookie", "a=b, c=d"), ErrAltered},
		{"a cookie split", set(inHead, "Set-Cookie", "a=b", "c=d", "e=f"), ErrAltered},
		{"cookies joined", set(inHead, "Set-Cookie", "a=b, c=d, e=f"), ErrAltered},
		{"cookies in another order", set(inHead, "Set-Cookie", "e=f", "a=b, c=d"), ErrAltered},
		{"cookies gone", set(inHead, "Set-Cookie"), ErrUncovered},
		{"a field that is covered", set(inHead, "Cache-Control", "public"), ErrAltered},
		{"a field that is covered gone", set(inHead, "Etag"), ErrUncovered},
		{"a field that is covered twice", set(inHead, "Etag", `"a"`, `"b"`), ErrAltered},
		{"a list in another order", set(inHead, "Link", "</b>", "</a>"), ErrAltered},
		{"a newline in a value", set(inHead, "Etag", "\"a\"\n\"x\": y"), ErrMalformed},
		{"a value in binary", set(inHead, "X-Name", "cafe"), ErrAltered},

		// the request: what the proxy made of it, and the client did not send
		{"method", func(m *message) { m.req.Method = "PUT" }, ErrAltered},
		{"path", func(m *message) { m.req.TargetURI = "https://origin.example/pay?to=b" }, ErrAltered},
		{"authority", func(m *message) { m.req.TargetURI = "https://other.example/pay?to=a" }, ErrAltered},
		{"port", func(m *message) { m.req.TargetURI = "https://origin.example:8443/pay?to=a" }, ErrAltered},
		{"content of the request", set(inRequest, "Content-Digest", FormatDigest(sha256.Sum256([]byte("pay 9")))), ErrAltered},
		{"content of the request that was not sent", set(inRequest, "Content-Digest"), ErrUncovered},
		{"authorization", set(inRequest, "Authorization", "Bearer another"), ErrAltered},
		{"authorization that was not sent", set(inRequest, "Authorization"), ErrUncovered},
		{"two of authorization", set(inRequest, "Authorization", "Bearer token", "Bearer token"), ErrMalformed},
		{"cookie", set(inRequest, "Cookie", "a=b; c=e"), ErrAltered},
		{"cookie that was not sent", set(inRequest, "Cookie"), ErrUncovered},
		{"evidence-request", set(inRequest, "Evidence-Request", ":AAAB:"), ErrAltered},
		{"evidence-request that was not sent", set(inRequest, "Evidence-Request"), ErrUncovered},
		{"a request that is not ASCII", set(inRequest, "Authorization", "\xff"), ErrMalformed},

		// replay and substitution
		{"another nonce: a replay", func(m *message) { m.nonce[0] ^= 1 }, ErrForeign},
		{"another key in the evidence", func(m *message) { m.leaf = newMaker(k.t, ecKey(k.t, elliptic.P256())).leaf }, ErrForeign},
		{"too late", func(m *message) { m.now = m.now.Add(MaxLifetime + time.Second) }, ErrStale},
		{"from the future", func(m *message) { m.now = m.now.Add(-time.Minute - time.Second) }, ErrStale},

		// the signature's own fields
		{"no signature-input", set(inHead, SignatureInput), ErrUnsigned},
		{"another tag", input(`tag="vitrine"`, `tag="other"`), ErrUnsigned},
		{"no tag", input(`;tag="vitrine"`, ``), ErrUnsigned},
		{"created", input(";created=1764000000", ";created=1764000001"), ErrAltered},
		{"expires", input(";expires=1764000300", ";expires=1764000299"), ErrAltered},
		{"a longer life", input(";expires=1764000300", ";expires=1764000301"), ErrMalformed},
		{"no created", input(";created=1764000000", ""), ErrMalformed},
		{"no expires", input(";expires=1764000300", ""), ErrMalformed},
		{"created that is no number", input(";created=1764000000", `;created="1764000000"`), ErrMalformed},
		{"a negative created", input(";created=1764000000", ";created=-1764000000"), ErrMalformed},
		{"expires before created", input(";expires=1764000300", ";expires=1763999999"), ErrMalformed},
		{"keyid in upper case", func(m *message) {
			id := fmt.Sprintf("%x", m.params().KeyID)
			input(id, strings.ToUpper(id))(m)
		}, ErrMalformed},
		{"another keyid", func(m *message) { input(fmt.Sprintf("%x", m.params().KeyID), fmt.Sprintf("%064x", 1))(m) }, ErrForeign},
		{"no keyid", func(m *message) { input(fmt.Sprintf(`;keyid="%x"`, m.params().KeyID), "")(m) }, ErrMalformed},
		{"no nonce", func(m *message) {
			input(`;nonce="`+base64.StdEncoding.EncodeToString(m.nonce[:])+`"`, "")(m)
		}, ErrMalformed},
		{"another nonce in it", func(m *message) {
			input(base64.StdEncoding.EncodeToString(m.nonce[:]), base64.StdEncoding.EncodeToString(make([]byte, 32)))(m)
		}, ErrForeign},
		{"a short nonce", func(m *message) { input(base64.StdEncoding.EncodeToString(m.nonce[:]), "AAAA")(m) }, ErrMalformed},
		{"another algorithm", input(`;tag=`, `;alg="hmac-sha256";tag=`), ErrMalformed},
		{"an algorithm that was not said", input(`;tag=`, `;alg="ecdsa-p256-sha256";tag=`), ErrAltered},
		{"a parameter", input(`;tag=`, `;x=1;tag=`), ErrMalformed},
		{"parameters in another order", func(m *message) {
			input(";created=1764000000;expires=1764000300", ";expires=1764000300;created=1764000000")(m)
		}, ErrAltered},
		{"components in another order", input(`"content-type" "content-encoding"`, `"content-encoding" "content-type"`), ErrAltered},
		{"a component twice", input(`"content-type"`, `"content-type" "content-type"`), ErrMalformed},
		{"a component in two forms", input(`"content-type"`, `"content-type" "content-type";bs`), ErrMalformed},
		{"a component left out", input(`"etag" `, ``), ErrAltered},
		{"a component of the request more", input(`"@method";req`, `"@method";req "user-agent";req`), ErrMalformed},
		{"a component with a parameter", input(`"content-type"`, `"content-type";sf`), ErrMalformed},
		{"a component in upper case", input(`"content-type"`, `"Content-Type"`), ErrMalformed},
		{"a component that is no string", input(`"content-type"`, `content-type`), ErrMalformed},
		{"a trailer more", input(`"etag"`, `"etag";tr`), ErrMalformed},
		{"no brackets", func(m *message) { set(inHead, SignatureInput, `vitrine="@status";tag="vitrine"`)(m) }, ErrUnsigned},
		{"no dictionary", set(inHead, SignatureInput, "(("), ErrMalformed},
		{"too large", func(m *message) {
			m.head.Add(SignatureInput, `other=("@status");x="`+strings.Repeat("x", maxField)+`"`)
		}, ErrMalformed},
		{"too many components", func(m *message) {
			list := strings.Builder{}
			for i := range maxComponents {
				fmt.Fprintf(&list, `"x-%d" `, i)
			}
			input(`"etag" `, list.String())(m)
		}, ErrMalformed},
		{"the label twice", func(m *message) { m.head.Add(SignatureInput, m.head.Get(SignatureInput)) }, ErrMalformed},
		{"two signatures of ours", func(m *message) {
			m.head.Add(SignatureInput, "second"+strings.TrimPrefix(m.head.Get(SignatureInput), Label))
		}, ErrMalformed},
		{"two that verify", func(m *message) {
			m.head.Add(SignatureInput, "second"+strings.TrimPrefix(m.head.Get(SignatureInput), Label))
			section := m.head
			if m.trailer != nil {
				section = m.trailer
			}
			section.Add(SignatureHeader, "second"+strings.TrimPrefix(section.Get(SignatureHeader), Label))
		}, ErrMalformed},
		{"a component of the request in binary", input(`"cookie";req`, `"cookie";req;bs`), ErrMalformed},
		{"a component of the request's trailer section", input(`"content-digest";req`, `"content-digest";req;tr`), ErrMalformed},
		{"another label", func(m *message) {
			set(inHead, SignatureInput, "second"+strings.TrimPrefix(m.head.Get(SignatureInput), Label))(m)
		}, ErrMalformed},
	}
	for _, c := range []string{
		`"@status"`, `"content-type"`, `"content-encoding"`, `"location"`, `"set-cookie";bs`, `"@method";req`, `"@target-uri";req`,
		`"content-digest";req`, `"authorization";req`, `"cookie";req`, `"evidence-request";req`,
	} {
		rows = append(rows, alteration{"without " + c, func(m *message) {
			m.head.Set(SignatureInput, strings.Replace(strings.Replace(m.head.Get(SignatureInput), c+" ", "", 1), " "+c, "", 1))
		}, ErrUncovered})
	}
	return rows
}

// Whatever is altered, left out, added, replayed or put in another's place is found, and what a proxy may do is not.
//
// spec: SIG-3 SIG-4 SIG-5 SIG-7 SIG-8 SIG-10 SIG-11 SIG-15
func TestEveryAlterationIsFound(t *testing.T) {
	k := newMaker(t, ecKey(t, elliptic.P256()))
	for form, fresh := range map[string]*message{"head": k.signedHead(), "stream": k.signedStream()} {
		for _, tc := range alterations(k) {
			t.Run(form+": "+tc.name, func(t *testing.T) {
				m := fresh.clone()
				tc.do(m)
				_, err := m.verify()
				if tc.want == nil && err != nil || tc.want != nil && !isKind(err, tc.want) {
					t.Errorf("%v, want %v", err, tc.want)
				}
			})
		}
	}
}

// What stands in the head alone, or in the trailer section alone.
//
// spec: SIG-3 SIG-13 SIG-16
func TestAlterationsOfEachForm(t *testing.T) {
	k := newMaker(t, ecKey(t, elliptic.P256()))
	inTrailer := func(m *message) http.Header { return m.trailer }
	other := k.signedStream()
	digest := func(content string) string { return FormatDigest(sha256.Sum256([]byte(content))) }
	sum := sha512.Sum512([]byte("paid"))
	for _, tc := range []struct {
		stream bool
		alteration
	}{
		{false, alteration{"digest", set(inHead, ContentDigest, digest("paix")), ErrAltered}},
		{false, alteration{"digest and content", func(m *message) { m.content = []byte("paix"); set(inHead, ContentDigest, digest("paix"))(m) }, ErrAltered}},
		{false, alteration{"no digest", set(inHead, ContentDigest), ErrUncovered}},
		{false, alteration{"digest of another algorithm", set(inHead, ContentDigest, "md5=:AAAA:"), ErrMalformed}},
		{false, alteration{"digest too short", set(inHead, ContentDigest, "sha-256=:AAAA:"), ErrMalformed}},
		{false, alteration{"digest left out", input(` "content-digest"`, ``), ErrUncovered}},
		{false, alteration{"digest in binary", input(` "content-digest"`, ` "content-digest";bs`), ErrMalformed}},
		{false, alteration{"digest moved behind", input(` "content-digest"`, ` "content-digest";tr`), ErrUncovered}},
		{false, alteration{"no signature", set(inHead, SignatureHeader), ErrMalformed}},
		{false, alteration{"signature of another label", set(inHead, SignatureHeader, "other=:AAAA:"), ErrMalformed}},
		{false, alteration{"signature twice", func(m *message) { m.head.Add(SignatureHeader, m.head.Get(SignatureHeader)) }, ErrMalformed}},
		{false, alteration{"signature that is a string", set(inHead, SignatureHeader, `vitrine="a"`), ErrMalformed}},
		{false, alteration{"signature of another", set(inHead, SignatureHeader, other.trailer[SignatureHeader]...), ErrAltered}},
		{false, alteration{"signature with a zero before s", func(m *message) {
			s, err := Read(&m.req, m.status, m.head)
			if err != nil {
				panic(err)
			}
			m.head.Set(SignatureHeader, Label+"=:"+base64.StdEncoding.EncodeToString(slices.Insert(s.signature, 32, 0))+":")
		}, ErrAltered}},
		{false, alteration{"signature cut", set(inHead, SignatureHeader, "vitrine=:AAAA:"), ErrAltered}},

		{true, alteration{"digest", set(inTrailer, ContentDigest, digest("paix")), ErrAltered}},
		{true, alteration{"digest and content", func(m *message) { m.content = []byte("paix"); set(inTrailer, ContentDigest, digest("paix"))(m) }, ErrAltered}},
		{true, alteration{"no digest", set(inTrailer, ContentDigest), ErrUncovered}},
		{true, alteration{"digest in the head", func(m *message) { m.head[ContentDigest] = m.trailer[ContentDigest]; delete(m.trailer, ContentDigest) }, ErrUncovered}},
		{true, alteration{"digest of another algorithm", set(inTrailer, ContentDigest, "md5=:AAAA:"), ErrMalformed}},
		{true, alteration{"another digest that is right, too", set(inTrailer, ContentDigest, digest("paid")+", sha-512=:"+base64.StdEncoding.EncodeToString(sum[:])+":"), ErrAltered}},
		{true, alteration{"digest that is not ASCII", func(m *message) { m.trailer[ContentDigest][0] += "\xff" }, ErrMalformed}},
		{true, alteration{"digest not behind", input(`"content-digest";tr`, `"content-digest"`), ErrUncovered}},
		{true, alteration{"digest in binary", input(`"content-digest";tr`, `"content-digest";bs;tr`), ErrMalformed}},
		{true, alteration{"no signature", set(inTrailer, SignatureHeader), ErrMalformed}},
		{true, alteration{"signature in the head", func(m *message) {
			m.head[SignatureHeader] = m.trailer[SignatureHeader]
			delete(m.trailer, SignatureHeader)
		}, ErrMalformed}},
		{true, alteration{"signature of another", set(inTrailer, SignatureHeader, other.trailer[SignatureHeader]...), ErrAltered}},
		{true, alteration{"no trailer section", func(m *message) { m.trailer = nil }, ErrUncovered}},
		{true, alteration{"a trailer that is not covered", set(inTrailer, "X-Sum", "1"), nil}},
	} {
		t.Run(fmt.Sprintf("stream %v: %s", tc.stream, tc.name), func(t *testing.T) {
			m := k.signedHead()
			if tc.stream {
				m = k.signedStream()
			}
			tc.do(m)
			s, err := m.verify()
			if tc.want == nil && err != nil || tc.want != nil && !isKind(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if err != nil && s != nil && s.Verified() && errors.Is(err, ErrAltered) && strings.Contains(err.Error(), "verify") {
				t.Error("the signature is reported as verified")
			}
		})
	}
}

// An answer without a nonce is taken where any cache may have kept it, and nowhere else.
//
// spec: SIG-9
func TestWithoutANonce(t *testing.T) {
	k := newMaker(t, ecKey(t, elliptic.P256()))
	m := k.public()
	s, err := m.verify()
	if err != nil {
		t.Fatal(err)
	}
	if s.Fresh || !s.ReplayableUntil.Equal(now().Add(time.Hour)) {
		t.Errorf("fresh %v, replayable until %v", s.Fresh, s.ReplayableUntil)
	}
	for name, do := range map[string]func(*message){
		"a POST":                    func(m *message) { m.req.Method = http.MethodPost },
		"authorization":             set(inRequest, "Authorization", "Bearer a"),
		"cookie":                    set(inRequest, "Cookie", "a=b"),
		"content":                   set(inRequest, "Content-Digest", FormatDigest([32]byte{})),
		"a part":                    func(m *message) { m.status = http.StatusPartialContent },
		"an error":                  func(m *message) { m.status = http.StatusInternalServerError },
		"not public":                set(inHead, "Cache-Control", "max-age=3600"),
		"no time":                   set(inHead, "Cache-Control", "public"),
		"no-store":                  set(inHead, "Cache-Control", "public, max-age=3600, no-store"),
		"no-cache":                  set(inHead, "Cache-Control", `public, max-age=3600, no-cache="x"`),
		"private":                   set(inHead, "Cache-Control", "public, max-age=3600", "private"),
		"nothing for shared caches": set(inHead, "Cache-Control", "public, max-age=3600, s-maxage=0"),
		"max-age that is no number": set(inHead, "Cache-Control", "public, max-age=-1"),
		"any request":               set(inHead, "Vary", "accept, *"),
		"a cookie":                  set(inHead, "Set-Cookie", "a=b"),
	} {
		m := k.plain()
		m.req, m.status, m.head = k.public().req, http.StatusOK, http.Header{"Cache-Control": {"public, max-age=3600"}}
		do(m)
		p := m.params()
		p.Nonce = nil
		k.sign(m, p)
		if _, err := m.verify(); !isKind(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m = k.public()
	m.now = m.now.Add(time.Hour + time.Second)
	if _, err := m.verify(); !isKind(err, ErrStale) {
		t.Errorf("after its time: %v", err)
	}
	m = k.public()
	if _, err := k.resign(m, strings.Replace(m.input(), ";expires=1764003600", ";expires=1764003601", 1)).verify(); !isKind(err, ErrMalformed) {
		t.Errorf("longer than caches may keep it: %v", err)
	}
	m = k.public()
	if _, err := k.resign(m, strings.Replace(m.input(), `"@method";req`, `"@method";req "evidence-request";req`, 1)).verify(); !isKind(err, ErrMalformed) {
		t.Errorf("the answer to one request for everybody: %v", err)
	}
	m = k.plain()
	m.req, m.status, m.head = k.public().req, http.StatusOK, http.Header{"Cache-Control": {"public, max-age=99999999"}}
	p := m.params()
	p.Nonce, p.Expires = nil, p.Created.Add(MaxPublicLifetime+time.Second)
	if _, err := k.sign(m, p).verify(); !isKind(err, ErrMalformed) {
		t.Errorf("longer than any: %v", err)
	}
}

// A client cannot take the end of the content before it checked the head.
func TestFinishWithoutCheck(t *testing.T) {
	for _, m := range []*message{newMaker(t, ecKey(t, elliptic.P256())).signedHead(), newMaker(t, ecKey(t, elliptic.P256())).signedStream()} {
		s, err := Read(&m.req, m.status, m.head)
		if err != nil {
			t.Fatal(err)
		}
		s.Body().Write(m.content)
		if err := s.Finish(m.trailer); err == nil || s.Verified() {
			t.Errorf("%v, verified %v", err, s.Verified())
		}
	}
}

// One spelling for what is one URI.
func TestTargetURI(t *testing.T) {
	for _, tc := range []struct{ authority, target, want string }{
		{"origin.example", "/", "https://origin.example/"},
		{"Origin.Example:443", "/A?b=%2f", "https://origin.example/A?b=%2f"},
		{"origin.example:8443", "", "https://origin.example:8443/"},
		{"origin.example", "?a", "https://origin.example/?a"},
		{"origin.example", "*", "https://origin.example"},
		{"origin.example", "https://origin.example/a?b", "https://origin.example/a?b"},
		{"origin.example", "https://origin.example", "https://origin.example/"},
		{"origin.example", "/a?u=https://other.example/", "https://origin.example/a?u=https://other.example/"},
		{"[2001:db8::7]:443", "//a", "https://[2001:db8::7]//a"},
	} {
		if got := TargetURI(tc.authority, tc.target); got != tc.want {
			t.Errorf("%q %q: %q, want %q", tc.authority, tc.target, got, tc.want)
		}
	}
}

// What cannot be signed is an error, and nothing is added.
func TestWhatCannotBeSigned(t *testing.T) {
	k := newMaker(t, ecKey(t, elliptic.P256()))
	for name, do := range map[string]func(*message){
		"no digest":                   set(inHead, ContentDigest),
		"signed already":              set(inHead, SignatureInput, `a=();tag="vitrine"`),
		"our label":                   set(inHead, SignatureHeader, `vitrine=:AAAA:`),
		"another's that is broken":    set(inHead, SignatureInput, `((`),
		"two of authorization":        set(inRequest, "Authorization", "a", "b"),
		"a request that is not ASCII": set(inRequest, "Cookie", "\xff"),
		"too many fields": func(m *message) {
			for i := range maxComponents {
				m.head.Set(fmt.Sprintf("X-%d", i), "1")
			}
		},
	} {
		m := k.plain()
		m.head.Set(ContentDigest, FormatDigest([32]byte{}))
		do(m)
		before := len(m.head)
		if err := Sign(k.key, m.params(), &m.req, m.status, m.head); err == nil || len(m.head) != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := k.plain()
	m.head.Set(SignatureHeader, "other=:AAAA:")
	if _, err := Begin(k.key, m.params(), &m.req, m.status, m.head); err == nil {
		t.Error("a field in two sections")
	}
}

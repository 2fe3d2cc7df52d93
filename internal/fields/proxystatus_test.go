package fields_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"vitrine/internal/fields"
)

// spec: FLD-13
func TestProxyStatusOnTheWire(t *testing.T) {
	for _, c := range []struct {
		name string
		s    fields.ProxyStatus
		want string
	}{
		{"name alone", fields.ProxyStatus{Proxy: "proxy.example"}, `proxy.example`},
		{"a name that is no token", fields.ProxyStatus{Proxy: "10.0.0.1"}, `"10.0.0.1"`},
		{"no name", fields.ProxyStatus{}, `""`},
		{
			"everything",
			fields.ProxyStatus{
				Proxy: "proxy.example", Error: fields.ErrorTLSCertificate, NextHop: "[2001:db8::7]:443", NextProtocol: "itls-h2/1",
				ReceivedStatus: 502, Details: `says "no" \ never`,
			},
			`proxy.example; error=tls_certificate_error; next-hop="[2001:db8::7]:443"; next-protocol=itls-h2/1; received-status=502; details="says \"no\" \\ never"`,
		},
		{"a protocol id that is no token", fields.ProxyStatus{Proxy: "p", NextProtocol: "\x0a\x0a"}, `p; next-protocol=:Cgo=:`},
		{"an error that is no token", fields.ProxyStatus{Proxy: "p", Error: "no; details=x"}, `p`},
		{"a status of two digits", fields.ProxyStatus{Proxy: "p", ReceivedStatus: 99}, `p`},
		{"header injection", fields.ProxyStatus{Proxy: "p", Details: "a\r\nset-cookie: b"}, `p; details="a??set-cookie: b"`},
		{"not ASCII", fields.ProxyStatus{Proxy: "bücher", Details: "é"}, `"b?cher"; details="?"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.s.String(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if _, err := fields.ParseProxyStatus([]string{c.s.String()}); err != nil {
				t.Errorf("not read back: %v", err)
			}
		})
	}
	long := fields.ProxyStatus{Proxy: "p", Details: strings.Repeat("d", 1<<20)}.String()
	if len(long) > 1024 {
		t.Errorf("details of a megabyte give %d bytes", len(long))
	}
}

// spec: FLD-14 FLD-15
func TestParseProxyStatus(t *testing.T) {
	got, err := fields.ParseProxyStatus([]string{
		`origin-side; error=connection_refused; unknown=?0; alone`,
		`"proxy.example"; next-hop=origin.example; next-protocol=:Cgo=:; received-status=200; details="d", last`,
	})
	want := []fields.ProxyStatus{
		{Proxy: "origin-side", Error: "connection_refused"},
		{Proxy: "proxy.example", NextHop: "origin.example", NextProtocol: "\x0a\x0a", ReceivedStatus: 200, Details: "d"},
		{Proxy: "last"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := fields.ParseProxyStatus(nil); err != nil || len(got) != 0 {
		t.Errorf("absent: %+v, %v", got, err)
	}
	for _, value := range []string{
		`p; error="dns_error"`, `p; error`, `p; next-hop=1`, `p; next-protocol="h2"`, `p; received-status="200"`,
		`p; received-status=20`, `p; received-status=1000`, `p; received-status=200.5`, `p; details=token`, `p; details=:aGk=:`,
		`1`, `(p q)`, `?1`, `:aGk=:`, `p;`, `p,`, `"p`, "p; details=\"\xc3\xa9\"",
	} {
		if got, err := fields.ParseProxyStatus([]string{value}); !errors.Is(err, fields.ErrMalformed) {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
	if _, err := fields.ParseProxyStatus([]string{strings.Repeat("p, ", 15) + "p"}); err != nil {
		t.Errorf("16 members: %v", err)
	}
	for _, value := range []string{strings.Repeat("p, ", 16) + "p", strings.Repeat("p", 8<<10)} {
		if _, err := fields.ParseProxyStatus([]string{value}); !errors.Is(err, fields.ErrTooLarge) {
			t.Errorf("%.20s…: %v", value, err)
		}
	}
}

func FuzzProxyStatus(f *testing.F) {
	f.Add(fields.ProxyStatus{Proxy: "p", Error: fields.ErrorDNSError, NextHop: "origin.example:443", NextProtocol: "h2", ReceivedStatus: 502, Details: "d"}.String())
	f.Add(`"10.0.0.1"; next-protocol=:Cgo=:; details="a\"b", q`)
	f.Add(`p; received-status=100; unknown=@5, (a b)`)
	f.Fuzz(func(t *testing.T, value string) {
		list, err := fields.ParseProxyStatus([]string{value})
		if err != nil {
			return
		}
		for _, s := range list {
			if len(s.Details) > 512 {
				continue // written shorter, on purpose
			}
			again, err := fields.ParseProxyStatus([]string{s.String()})
			if err != nil || !reflect.DeepEqual(again, []fields.ProxyStatus{s}) {
				t.Fatalf("%+v became %s, then %+v, %v", s, s, again, err)
			}
		}
	})
}

func ExampleProxyStatus() {
	fmt.Println(fields.ProxyStatus{Proxy: "proxy.example", Error: fields.ErrorHTTPRequestDenied, Details: "only intact is allowed"})
	// Output: proxy.example; error=http_request_denied; details="only intact is allowed"
}

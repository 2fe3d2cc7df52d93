package evidence

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"vitrine/internal/tlsmsg"
)

// spec: EVD-4
func TestRequest(t *testing.T) {
	for authority, name := range map[string]string{
		testAuthority: testHost, "127.0.0.1:443": "", "[2001:db8::1]:8443": "", "xn--bcher-kva.example:443": "xn--bcher-kva.example",
	} {
		c := newConnect(t, authority)
		r := c.req
		if r.ServerName != name || r.Offer.Authority != authority || r.Nonce != r.Offer.Nonce {
			t.Errorf("%s: %+v", authority, r)
		}
		if len(r.Raw) > 512 {
			t.Errorf("%s: %d bytes for a header field", authority, len(r.Raw))
		}
		if !r.msg.OCSP || !r.msg.SCT {
			t.Errorf("%s: no staple or timestamps are asked for", authority)
		}
		for i := range r.Raw {
			if _, err := ParseRequest(r.Raw[:i]); err == nil {
				t.Errorf("%s: accepted when cut to %d of %d bytes", authority, i, len(r.Raw))
			}
		}
	}
}

// spec: EVD-4
func TestNewRequestRefusesWhatOthersWould(t *testing.T) {
	for name, tt := range map[string]struct {
		offer tlsmsg.InspectionOffer
		name  string
	}{
		"no proxies":     {tlsmsg.InspectionOffer{Authority: testAuthority}, testHost},
		"another name":   {tlsmsg.InspectionOffer{Proxies: make([][32]byte, 1), Authority: testAuthority}, "other.example"},
		"no name":        {tlsmsg.InspectionOffer{Proxies: make([][32]byte, 1), Authority: testAuthority}, ""},
		"name for an IP": {tlsmsg.InspectionOffer{Proxies: make([][32]byte, 1), Authority: "127.0.0.1:443"}, "127.0.0.1"},
		"no port":        {tlsmsg.InspectionOffer{Proxies: make([][32]byte, 1), Authority: testHost}, testHost},
		"upper case":     {tlsmsg.InspectionOffer{Proxies: make([][32]byte, 1), Authority: "Origin.example:443"}, "Origin.example"},
	} {
		if _, err := NewRequest(&tt.offer, tt.name); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}

// spec: EVD-3 EVD-4
func TestMalformedRequests(t *testing.T) {
	offer := newConnect(t, testAuthority).req.Offer
	whole := func(x *tlsmsg.ExtensionBuilder) {
		x.SignatureAlgorithms(tlsmsg.Schemes())
		x.ServerName(testHost)
		x.InspectionOffer(offer)
	}
	build := func(typ tlsmsg.HandshakeType, context []byte, f func(x *tlsmsg.ExtensionBuilder)) []byte {
		return encode(t, &tlsmsg.CertificateRequest{Type: typ, Context: context, Extensions: extensions(t, f)})
	}
	const ccr = tlsmsg.TypeClientCertificateRequest
	if _, err := ParseRequest(build(ccr, offer.Nonce[:], func(x *tlsmsg.ExtensionBuilder) {
		whole(x)
		x.Raw(0x0a0a, []byte("an extension of tomorrow"))
	})); err != nil {
		t.Errorf("an unknown extension: %v", err)
	}
	for name, raw := range map[string][]byte{
		"a server's request": build(tlsmsg.TypeCertificateRequest, offer.Nonce[:], func(x *tlsmsg.ExtensionBuilder) {
			x.SignatureAlgorithms(tlsmsg.Schemes())
		}),
		"no context":      build(ccr, nil, whole),
		"another context": build(ccr, make([]byte, 32), whole),
		"a long context":  build(ccr, append(offer.Nonce[:], 0), whole),
		"no offer": build(ccr, offer.Nonce[:], func(x *tlsmsg.ExtensionBuilder) {
			x.SignatureAlgorithms(tlsmsg.Schemes())
			x.ServerName(testHost)
		}),
		"no schemes": build(ccr, offer.Nonce[:], func(x *tlsmsg.ExtensionBuilder) {
			x.ServerName(testHost)
			x.InspectionOffer(offer)
		}),
		"PKCS #1 v1.5 alone": build(ccr, offer.Nonce[:], func(x *tlsmsg.ExtensionBuilder) {
			x.SignatureAlgorithms([]tls.SignatureScheme{tls.PKCS1WithSHA256})
			x.ServerName(testHost)
			x.InspectionOffer(offer)
		}),
		"another name": build(ccr, offer.Nonce[:], func(x *tlsmsg.ExtensionBuilder) {
			x.SignatureAlgorithms(tlsmsg.Schemes())
			x.ServerName("other.example")
			x.InspectionOffer(offer)
		}),
		"oversized": build(ccr, offer.Nonce[:], func(x *tlsmsg.ExtensionBuilder) {
			whole(x)
			x.Raw(0x0a0a, make([]byte, MaxRequest))
		}),
		"bytes behind it": append(build(ccr, offer.Nonce[:], whole), 0),
	} {
		_, err := ParseRequest(raw)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantReason(t, err, ReasonMalformed)
	}
}

// spec: EVD-5
func TestRequestForAnotherConnectIsRefused(t *testing.T) {
	offer := &tlsmsg.InspectionOffer{Proxies: [][32]byte{{1}, {2}}, Authority: testAuthority, Nonce: [32]byte{3}}
	r := connectWith(t, offer).req
	for name, tt := range map[string]struct {
		authority string
		leaf      [32]byte
		ok        bool
	}{
		"its own":              {testAuthority, [32]byte{2}, true},
		"no certificate shown": {testAuthority, [32]byte{}, true},
		"another port":         {"origin.example:444", [32]byte{2}, false},
		"another host":         {"other.example:443", [32]byte{2}, false},
		"another proxy":        {testAuthority, [32]byte{4}, false},
		"not the last proxy":   {testAuthority, [32]byte{1}, false},
	} {
		err := r.CheckProxy(tt.authority, tt.leaf)
		if tt.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !tt.ok {
			wantReason(t, err, ReasonForeign)
		}
	}
}

func TestVerifierThatContradictsItsRequest(t *testing.T) {
	c := newConnect(t, testAuthority)
	e := transcriptOf(t, c)
	v := *c.verifier
	v.Authority = "origin.example:444"
	if _, err := v.Verify(e); err == nil || !strings.Contains(err.Error(), "verifier") {
		t.Errorf("got %v", err)
	}
	v = *c.verifier
	v.Proxies = [][32]byte{{1}}
	if _, err := v.Verify(e); err == nil || !strings.Contains(err.Error(), "verifier") {
		t.Errorf("got %v", err)
	}
	v = *c.verifier
	v.Request = nil
	var typed *Error
	if _, err := v.Verify(e); !errors.As(err, &typed) {
		t.Errorf("got %v", err)
	}
}

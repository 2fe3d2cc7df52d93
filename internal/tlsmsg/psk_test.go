package tlsmsg

import (
	"bytes"
	"testing"
)

func helloWithPSKs(t *testing.T, size int, identities ...string) *ClientHello {
	t.Helper()
	var x ExtensionBuilder
	x.PSKModes(PSKModeDHE)
	if identities != nil {
		var list []PSKIdentity
		for i, id := range identities {
			list = append(list, PSKIdentity{Identity: []byte(id), ObfuscatedTicketAge: 0xfffffff0 + uint32(i)})
		}
		x.PreSharedKey(size, list...)
	}
	extensions, err := x.Extensions()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := (&ClientHello{LegacyVersion: VersionTLS12, CipherSuites: []uint16{SuiteSHA256}, Compression: []byte{0}, Extensions: extensions}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseClientHello(msg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestPreSharedKeys(t *testing.T) {
	h := helloWithPSKs(t, 48, "one", "two")
	if !h.HasPSK || len(h.PSKIdentities) != 2 || string(h.PSKIdentities[1].Identity) != "two" || h.PSKIdentities[1].ObfuscatedTicketAge != 0xfffffff1 {
		t.Errorf("%+v", h.PSKIdentities)
	}
	n := h.BindersLen()
	if n != 2+2*49 || !bytes.Equal(h.Raw[len(h.Raw)-n:][:3], []byte{0, 98, 48}) || !bytes.Equal(h.PSKBinders[1], make([]byte, 48)) {
		t.Errorf("binders of %d bytes: %x", n, h.PSKBinders)
	}
	if n := helloWithPSKs(t, 32).BindersLen(); n != 0 {
		t.Errorf("no binders are %d bytes", n)
	}
	var x ExtensionBuilder
	x.PreSharedKey(32, PSKIdentity{Identity: make([]byte, 1<<16)})
	if _, err := x.Extensions(); err == nil {
		t.Error("an identity that fits nowhere")
	}
}

func TestSelectedPSK(t *testing.T) {
	var x ExtensionBuilder
	x.SelectedPSK(0x0102)
	list, err := x.Extensions()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := (&ServerHello{LegacyVersion: VersionTLS12, CipherSuite: SuiteSHA256, Extensions: list}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := ParseServerHello(msg); err != nil || h.SelectedPSK == nil || *h.SelectedPSK != 0x0102 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestPSKsBehindAHelloRetryRequest(t *testing.T) {
	for _, c := range []struct {
		first, second []string
		same          bool
	}{
		{nil, nil, true},
		{[]string{"a"}, nil, true},
		{[]string{"a"}, []string{"a"}, true},
		{[]string{"a", "b", "c"}, []string{"a", "c"}, true},
		{[]string{"a", "b"}, []string{"b", "a"}, false},
		{[]string{"a"}, []string{"a", "a"}, false},
		{[]string{"a"}, []string{"b"}, false},
		{nil, []string{"a"}, false},
	} {
		if same := helloWithPSKs(t, 32, c.second...).SamePSKs(helloWithPSKs(t, 32, c.first...)); same != c.same {
			t.Errorf("%q behind %q: %v", c.second, c.first, same)
		}
	}
}

package tlsmsg

import "testing"

// spec: TLS-24
func TestRecordSizeLimitIsANumberFrom64(t *testing.T) {
	for _, c := range []struct {
		data  []byte
		limit int
		alert Alert
	}{
		{[]byte{0, 64}, 64, 0},
		{[]byte{0x40, 1}, 16385, 0},
		{[]byte{0xff, 0xff}, 65535, 0},
		{[]byte{0, 63}, 0, AlertIllegalParameter},
		{[]byte{0, 0}, 0, AlertIllegalParameter},
		{[]byte{64}, 0, AlertDecodeError},
		{[]byte{0, 64, 0}, 0, AlertDecodeError},
		{nil, 0, AlertDecodeError},
	} {
		list := []Extension{{ExtensionRecordSizeLimit, c.data}}
		if c.alert != 0 {
			refused(t, "ClientHello", clientHelloWith(list...), c.alert, "record_size_limit")
			refused(t, "EncryptedExtensions", &EncryptedExtensions{Extensions: list}, c.alert, "record_size_limit")
			continue
		}
		h, err := ParseClientHello(encode(t, clientHelloWith(list...)))
		if err != nil || h.RecordSizeLimit != c.limit {
			t.Errorf("%x in ClientHello: %v", c.data, err)
		}
		m, err := ParseEncryptedExtensions(encode(t, &EncryptedExtensions{Extensions: list}))
		if err != nil || m.RecordSizeLimit != c.limit {
			t.Errorf("%x in EncryptedExtensions: %v", c.data, err)
		}
	}
}

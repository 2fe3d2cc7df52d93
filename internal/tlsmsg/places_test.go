package tlsmsg

import "testing"

// What each message may hold, of all that have a number below 100 or above 0xff00, where the private ones
// are; from RFC 8446, section 4.2, RFC 8879 and RFC 9345, and not from the code.
//
// spec: TLS-55
func TestExtensionsAreRefusedWhereTheyDoNotBelong(t *testing.T) {
	schemes := Extension{ExtensionSignatureAlgorithms, []byte{0, 2, 8, 7}}
	for _, c := range []struct {
		name    string
		message func(e Extension) message
		may     map[uint16]bool
	}{
		{"CertificateRequest", func(e Extension) message {
			if e.Type == schemes.Type {
				return &CertificateRequest{Extensions: []Extension{schemes}}
			}
			return &CertificateRequest{Extensions: []Extension{schemes, e}}
		}, map[uint16]bool{5: true, 13: true, 18: true, 27: true, 34: true, 47: true, 50: true}},
		{"NewSessionTicket", func(e Extension) message {
			return &NewSessionTicket{Ticket: []byte("t"), Extensions: []Extension{e}}
		}, map[uint16]bool{42: true}},
	} {
		parse := parserOf(t, c.name)
		named := 0
		for id := range uint16(0xffff) {
			if id >= 100 && id < 0xf000 {
				continue
			}
			data := map[uint16][]byte{42: {0, 0, 0, 0}, 47: {0, 3, 0, 1, 0}, 50: schemes.Data}[id]
			_, err := parse(encode(t, c.message(Extension{id, data})))
			if !known(id) || c.may[id] {
				if err != nil {
					t.Errorf("%s with extension %d: %v", c.name, id, err)
				}
				continue
			}
			named++
			refused(t, c.name, c.message(Extension{id, data}), AlertIllegalParameter, "belong")
		}
		if want := 24 - len(c.may); named != want {
			t.Errorf("%s: %d extensions are refused, want %d", c.name, named, want)
		}
	}
}

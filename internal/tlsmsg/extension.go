package tlsmsg

import (
	"crypto/tls"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// An Extension is one extension as it stands on the wire.
type Extension struct {
	Type uint16
	Data []byte
}

// A KeyShare is one entry of key_share (RFC 8446, section 4.2.8).
type KeyShare struct {
	Group tls.CurveID
	Data  []byte
}

// readExtensions reads a whole extension block: its length, then extensions to the end of s.
func readExtensions(s *cryptobyte.String) ([]Extension, error) {
	var block cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&block) {
		return nil, malformed("extensions are cut short")
	}
	list := []Extension{}
	for !block.Empty() {
		var e Extension
		if !block.ReadUint16(&e.Type) || !readVector16(&block, &e.Data) {
			return nil, malformed("extension is cut short")
		}
		if HasExtension(list, e.Type) {
			return nil, illegal("extension occurs twice")
		}
		if len(list) == maxExtensions {
			return nil, illegal("more extensions than the limit")
		}
		list = append(list, e)
	}
	return list, nil
}

func addExtensions(b *cryptobyte.Builder, list []Extension) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, e := range list {
			b.AddUint16(e.Type)
			addVector16(b, e.Data)
		}
	})
}

// HasExtension says whether list has an extension of type t.
func HasExtension(list []Extension, t uint16) bool {
	return slices.ContainsFunc(list, func(e Extension) bool { return e.Type == t })
}

func parseServerName(data cryptobyte.String) (string, error) {
	var list cryptobyte.String
	var kind uint8
	var name []byte
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() ||
		!list.ReadUint8(&kind) || !readVector16(&list, &name) || !list.Empty() || len(name) == 0 {
		return "", malformed("server_name is not one name")
	}
	if kind != 0 {
		return "", illegal("server_name is not a host name")
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return "", illegal("server_name is not ASCII")
		}
	}
	if name[len(name)-1] == '.' {
		return "", illegal("server_name ends in a dot")
	}
	return string(name), nil
}

func parseALPN(data cryptobyte.String) ([]string, error) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() || list.Empty() {
		return nil, malformed("malformed application_layer_protocol_negotiation")
	}
	var protocols []string
	for !list.Empty() {
		var p []byte
		if !readVector8(&list, &p) || len(p) == 0 {
			return nil, malformed("malformed application_layer_protocol_negotiation")
		}
		protocols = append(protocols, string(p))
	}
	return protocols, nil
}

// parseOneALPN reads a server's choice, which is a list of one (RFC 7301, section 3.1).
func parseOneALPN(data cryptobyte.String) (string, error) {
	list, err := parseALPN(data)
	if err != nil {
		return "", err
	}
	if len(list) != 1 {
		return "", illegal("more than one application protocol chosen")
	}
	return list[0], nil
}

func parseSchemes(data cryptobyte.String) ([]tls.SignatureScheme, error) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
		return nil, malformed("malformed signature_algorithms")
	}
	schemes, ok := readUint16s[tls.SignatureScheme](list)
	if !ok {
		return nil, malformed("malformed signature_algorithms")
	}
	return schemes, nil
}

func parseGroups(data cryptobyte.String) ([]tls.CurveID, error) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
		return nil, malformed("malformed supported_groups")
	}
	groups, ok := readUint16s[tls.CurveID](list)
	if !ok {
		return nil, malformed("malformed supported_groups")
	}
	return groups, nil
}

// parseStatusRequest says whether an OCSP response is asked for (RFC 6066, section 8).
func parseStatusRequest(data cryptobyte.String) (bool, error) {
	var kind uint8
	if !data.ReadUint8(&kind) {
		return false, malformed("malformed status_request")
	}
	if kind != 1 {
		return false, nil
	}
	var responders, extensions cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&responders) || !data.ReadUint16LengthPrefixed(&extensions) || !data.Empty() {
		return false, malformed("malformed status_request")
	}
	return true, nil
}

func parseCookie(data cryptobyte.String) ([]byte, error) {
	var cookie []byte
	if !readVector16(&data, &cookie) || !data.Empty() || len(cookie) == 0 {
		return nil, malformed("malformed cookie")
	}
	return cookie, nil
}

func parseAuthorities(data cryptobyte.String) ([][]byte, error) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() || list.Empty() {
		return nil, malformed("malformed certificate_authorities")
	}
	var names [][]byte
	for !list.Empty() {
		var name []byte
		if !readVector16(&list, &name) || len(name) == 0 {
			return nil, malformed("malformed certificate_authorities")
		}
		names = append(names, name)
	}
	return names, nil
}

func mustBeEmpty(data []byte, name string) error {
	if len(data) != 0 {
		return malformed(name + " is not empty")
	}
	return nil
}

// An ExtensionBuilder makes the Extensions of a message, in the order of the calls. The zero value
// is ready. Its methods write one extension each; [ExtensionBuilder.Extensions] returns them, or the
// first error.
type ExtensionBuilder struct {
	list []Extension
	err  error
}

// Extensions returns what was added. The error says which value does not fit its extension.
func (x *ExtensionBuilder) Extensions() ([]Extension, error) { return x.list, x.err }

// Raw adds an extension as it is.
func (x *ExtensionBuilder) Raw(t uint16, data []byte) {
	x.list = append(x.list, Extension{t, data})
}

func (x *ExtensionBuilder) build(t uint16, f func(b *cryptobyte.Builder)) {
	var b cryptobyte.Builder
	f(&b)
	data, err := b.Bytes()
	if err != nil {
		if x.err == nil {
			x.err = malformed("an extension's value does not fit it")
		}
		return
	}
	x.Raw(t, data)
}

// ServerName adds server_name with one host name.
func (x *ExtensionBuilder) ServerName(name string) {
	x.build(ExtensionServerName, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint8(0)
			addVector16(b, []byte(name))
		})
	})
}

// ALPN adds the protocols a client offers, or the one a server chose.
func (x *ExtensionBuilder) ALPN(protocols ...string) {
	x.build(ExtensionALPN, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, p := range protocols {
				addVector8(b, []byte(p))
			}
		})
	})
}

// SupportedVersions adds a client's list of versions.
func (x *ExtensionBuilder) SupportedVersions(versions ...uint16) {
	x.build(ExtensionSupportedVersions, func(b *cryptobyte.Builder) {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { addUint16s(b, versions) })
	})
}

// SelectedVersion adds a server's version.
func (x *ExtensionBuilder) SelectedVersion(version uint16) {
	x.build(ExtensionSupportedVersions, func(b *cryptobyte.Builder) { b.AddUint16(version) })
}

// SupportedGroups adds a client's list of groups.
func (x *ExtensionBuilder) SupportedGroups(groups []tls.CurveID) {
	x.build(ExtensionSupportedGroups, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addUint16s(b, groups) })
	})
}

// SignatureAlgorithms adds the schemes the sender takes in CertificateVerify.
func (x *ExtensionBuilder) SignatureAlgorithms(schemes []tls.SignatureScheme) {
	x.build(ExtensionSignatureAlgorithms, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addUint16s(b, schemes) })
	})
}

// SignatureAlgorithmsCert adds the schemes the sender takes in certificates.
func (x *ExtensionBuilder) SignatureAlgorithmsCert(schemes []tls.SignatureScheme) {
	x.build(ExtensionSignatureAlgorithmsCert, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addUint16s(b, schemes) })
	})
}

// KeyShares adds a client's shares.
func (x *ExtensionBuilder) KeyShares(shares ...KeyShare) {
	x.build(ExtensionKeyShare, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, s := range shares {
				b.AddUint16(uint16(s.Group))
				addVector16(b, s.Data)
			}
		})
	})
}

// KeyShare adds a server's share.
func (x *ExtensionBuilder) KeyShare(s KeyShare) {
	x.build(ExtensionKeyShare, func(b *cryptobyte.Builder) {
		b.AddUint16(uint16(s.Group))
		addVector16(b, s.Data)
	})
}

// SelectedGroup adds the group that a HelloRetryRequest asks for.
func (x *ExtensionBuilder) SelectedGroup(group tls.CurveID) {
	x.build(ExtensionKeyShare, func(b *cryptobyte.Builder) { b.AddUint16(uint16(group)) })
}

// PSKModes adds psk_key_exchange_modes.
func (x *ExtensionBuilder) PSKModes(modes ...uint8) {
	x.build(ExtensionPSKKeyExchangeModes, func(b *cryptobyte.Builder) { addVector8(b, modes) })
}

// Cookie adds a cookie.
func (x *ExtensionBuilder) Cookie(cookie []byte) {
	x.build(ExtensionCookie, func(b *cryptobyte.Builder) { addVector16(b, cookie) })
}

// StatusRequest asks for an OCSP response.
func (x *ExtensionBuilder) StatusRequest() {
	x.Raw(ExtensionStatusRequest, []byte{1, 0, 0, 0, 0})
}

// OCSP adds an OCSP response, in a CertificateEntry.
func (x *ExtensionBuilder) OCSP(response []byte) {
	x.build(ExtensionStatusRequest, func(b *cryptobyte.Builder) {
		b.AddUint8(1)
		addVector24(b, response)
	})
}

// SCTRequest asks for signed certificate timestamps.
func (x *ExtensionBuilder) SCTRequest() { x.Raw(ExtensionSCT, nil) }

// SCTs adds signed certificate timestamps, in a CertificateEntry.
func (x *ExtensionBuilder) SCTs(scts [][]byte) {
	x.build(ExtensionSCT, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, s := range scts {
				addVector16(b, s)
			}
		})
	})
}

// CertificateAuthorities adds the DER names of the authorities the sender accepts.
func (x *ExtensionBuilder) CertificateAuthorities(names [][]byte) {
	x.build(ExtensionCertificateAuthorities, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, n := range names {
				addVector16(b, n)
			}
		})
	})
}

// InspectionOffer adds the client's `inspection`.
func (x *ExtensionBuilder) InspectionOffer(o *InspectionOffer) {
	data, err := o.Append(nil)
	if err != nil && x.err == nil {
		x.err = err
	}
	x.Raw(ExtensionInspection, data)
}

// InspectionAnswer adds the origin's `inspection`.
func (x *ExtensionBuilder) InspectionAnswer(a *InspectionAnswer) {
	data, err := a.Append(nil)
	if err != nil && x.err == nil {
		x.err = err
	}
	x.Raw(ExtensionInspection, data)
}

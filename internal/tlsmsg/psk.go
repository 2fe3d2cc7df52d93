package tlsmsg

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// PreSharedKey adds pre_shared_key, which must be the last extension, with binders of size zero bytes
// each. They cover the message as it is before them: append it, compute them over all but its last
// [ClientHello.BindersLen] bytes, and write them there.
func (x *ExtensionBuilder) PreSharedKey(size int, identities ...PSKIdentity) {
	x.build(ExtensionPreSharedKey, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, id := range identities {
				addVector16(b, id.Identity)
				b.AddUint32(id.ObfuscatedTicketAge)
			}
		})
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for range identities {
				addVector8(b, make([]byte, size))
			}
		})
	})
}

// SelectedPSK adds the place of the identity that a server takes.
func (x *ExtensionBuilder) SelectedPSK(place uint16) {
	x.build(ExtensionPreSharedKey, func(b *cryptobyte.Builder) { b.AddUint16(place) })
}

// BindersLen is how many bytes at the end of a parsed message its list of binders takes, the list's
// length included: what comes before them is what they cover (RFC 8446, section 4.2.11.2). It is zero
// without pre_shared_key.
func (h *ClientHello) BindersLen() int {
	if !h.HasPSK {
		return 0
	}
	n := 2
	for _, b := range h.PSKBinders {
		n += 1 + len(b)
	}
	return n
}

// SamePSKs says whether h, a ClientHello behind a HelloRetryRequest, offers no pre-shared key that
// first does not: it may leave some out, and computes ages and binders anew (RFC 8446, section 4.1.2).
func (h *ClientHello) SamePSKs(first *ClientHello) bool {
	rest := first.PSKIdentities
	for _, id := range h.PSKIdentities {
		i := slices.IndexFunc(rest, func(o PSKIdentity) bool { return slices.Equal(o.Identity, id.Identity) })
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
	}
	return true
}

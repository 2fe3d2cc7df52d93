package tlsmsg

import (
	"crypto/sha256"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

const (
	inspectionVersion = 1

	// MaxProxies is how many proxies an [InspectionOffer] can name.
	MaxProxies = 5

	maxTimeMillis = 253402300799999 // the last millisecond of the year 9999
)

// Exporter labels of RFC 9261, section 5.1, for what a server signs.
const (
	ExporterServerHandshakeContext = "EXPORTER-server authenticator handshake context"
	ExporterServerFinishedKey      = "EXPORTER-server authenticator finished key"
)

// An InspectionOffer is the client's `inspection` extension, in a ClientHello and in an
// authenticator request: who will read this session, on the way to whom.
type InspectionOffer struct {
	Proxies   [][32]byte // SHA-256 of each proxy's leaf certificate, client side first; 1 to 5
	Authority string     // "host:port" in canonical form, 1 to 255 bytes of ASCII without upper case
	Nonce     [32]byte   // N of the CONNECT
}

// ParseInspectionOffer reads the extension's data.
func ParseInspectionOffer(data []byte) (*InspectionOffer, error) {
	s := cryptobyte.String(data)
	var version uint8
	if !s.ReadUint8(&version) {
		return nil, malformed("empty inspection offer")
	}
	if version != inspectionVersion {
		return nil, illegal("inspection offer of an unknown version")
	}
	var proxies, authority cryptobyte.String
	o := new(InspectionOffer)
	if !s.ReadUint8LengthPrefixed(&proxies) || !s.ReadUint8LengthPrefixed(&authority) ||
		!s.CopyBytes(o.Nonce[:]) || !s.Empty() ||
		len(proxies) == 0 || len(proxies)%32 != 0 || len(proxies) > 32*MaxProxies || authority.Empty() {
		return nil, malformed("malformed inspection offer")
	}
	for !proxies.Empty() {
		var p [32]byte
		proxies.CopyBytes(p[:])
		o.Proxies = append(o.Proxies, p)
	}
	o.Authority = string(authority)
	if !validAuthority(o.Authority) {
		return nil, illegal("authority of an inspection offer is not canonical")
	}
	return o, nil
}

// Append appends the extension's data to b.
func (o *InspectionOffer) Append(b []byte) ([]byte, error) {
	if len(o.Proxies) == 0 || len(o.Proxies) > MaxProxies {
		return nil, malformed("an inspection offer names 1 to 5 proxies")
	}
	if !validAuthority(o.Authority) {
		return nil, malformed("authority of an inspection offer is not canonical")
	}
	bb := cryptobyte.NewBuilder(b)
	bb.AddUint8(inspectionVersion)
	bb.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, p := range o.Proxies {
			b.AddBytes(p[:])
		}
	})
	addVector8(bb, []byte(o.Authority))
	bb.AddBytes(o.Nonce[:])
	return bb.Bytes()
}

// validAuthority refuses what no canonical authority contains, so that two readers of an offer
// cannot disagree about it. The full form is the business of whoever has a host to compare with.
func validAuthority(s string) bool {
	if len(s) == 0 || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// Who the origin saw on hop 2, in [InspectionAnswer].
const (
	HopPeerNone  uint8 = 0 // no certificate
	HopPeerProxy uint8 = 1 // the last of the offer's proxies
)

// An InspectionAnswer is the origin's `inspection` extension, in EncryptedExtensions and in an
// authenticator's leaf entry: "I know that this proxy reads, on this hop 2, and allow it".
type InspectionAnswer struct {
	HopPeer    uint8 // HopPeerNone or HopPeerProxy
	HopVersion uint16
	HopSuite   uint16
	HopALPN    string        // at most 255 bytes
	HopID      [32]byte      // see [HopID]
	Time       time.Time     // the origin's clock, in milliseconds on the wire
	Lifetime   time.Duration // how long the statement holds, in whole seconds on the wire
}

// ParseInspectionAnswer reads the extension's data.
func ParseInspectionAnswer(data []byte) (*InspectionAnswer, error) {
	s := cryptobyte.String(data)
	var version uint8
	if !s.ReadUint8(&version) {
		return nil, malformed("empty inspection answer")
	}
	if version != inspectionVersion {
		return nil, illegal("inspection answer of an unknown version")
	}
	var alpn cryptobyte.String
	var millis uint64
	var lifetime uint32
	a := new(InspectionAnswer)
	if !s.ReadUint8(&a.HopPeer) || !s.ReadUint16(&a.HopVersion) || !s.ReadUint16(&a.HopSuite) ||
		!s.ReadUint8LengthPrefixed(&alpn) || !s.CopyBytes(a.HopID[:]) ||
		!s.ReadUint64(&millis) || !s.ReadUint32(&lifetime) || !s.Empty() {
		return nil, malformed("malformed inspection answer")
	}
	if a.HopPeer > HopPeerProxy || millis > maxTimeMillis {
		return nil, illegal("inspection answer out of range")
	}
	a.HopALPN = string(alpn)
	a.Time = time.UnixMilli(int64(millis)).UTC()
	a.Lifetime = time.Duration(lifetime) * time.Second
	return a, nil
}

// Append appends the extension's data to b.
func (a *InspectionAnswer) Append(b []byte) ([]byte, error) {
	millis := a.Time.UnixMilli()
	seconds := int64(a.Lifetime / time.Second)
	if a.HopPeer > HopPeerProxy || len(a.HopALPN) > 255 || millis < 0 || millis > maxTimeMillis ||
		seconds < 0 || seconds > 1<<32-1 {
		return nil, malformed("inspection answer out of range")
	}
	bb := cryptobyte.NewBuilder(b)
	bb.AddUint8(inspectionVersion)
	bb.AddUint8(a.HopPeer)
	bb.AddUint16(a.HopVersion)
	bb.AddUint16(a.HopSuite)
	addVector8(bb, []byte(a.HopALPN))
	bb.AddBytes(a.HopID[:])
	bb.AddUint64(uint64(millis))
	bb.AddUint32(uint32(seconds))
	return bb.Bytes()
}

// HopID names a hop by its exporter value under [ExporterServerHandshakeContext] (empty context, as
// long as the hash of the hop's suite). Only the ends of that hop, and whom they show it to, can
// compute it.
func HopID(handshakeContext []byte) [32]byte {
	return sha256.Sum256(append([]byte("vitrine hop v1\x00"), handshakeContext...))
}

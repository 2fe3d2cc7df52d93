package tlsmsg

import "encoding/binary"

const (
	// RecordHeaderLen is the length of a record header.
	RecordHeaderLen = 5
	// MaxPlaintext is the largest content of a record (RFC 8446, section 5.1).
	MaxPlaintext = 1 << 14
	// MaxCiphertext is the largest length a protected record may declare (section 5.2).
	MaxCiphertext = 1<<14 + 256
)

// A RecordHeader is the first five bytes of a record.
type RecordHeader struct {
	Type    ContentType
	Version uint16 // legacy_record_version; only its major byte, 3, is checked
	Length  int    // of the fragment that follows
}

// ParseRecordHeader reads the header at the start of p, of which it looks at five bytes. The error
// is [ErrShort] when there are fewer. A content type that TLS 1.3 does not use, another major
// version or a length above [MaxCiphertext] is a [ParseError].
func ParseRecordHeader(p []byte) (RecordHeader, error) {
	if len(p) < RecordHeaderLen {
		return RecordHeader{}, ErrShort
	}
	h := RecordHeader{
		Type:    ContentType(p[0]),
		Version: binary.BigEndian.Uint16(p[1:]),
		Length:  int(binary.BigEndian.Uint16(p[3:])),
	}
	switch {
	case h.Type < TypeChangeCipherSpec || h.Type > TypeApplicationData:
		return RecordHeader{}, &ParseError{What: "unknown record type", Alert: AlertUnexpectedMessage}
	case h.Version>>8 != 3:
		return RecordHeader{}, &ParseError{What: "record of another protocol", Alert: AlertProtocolVersion}
	case h.Length > MaxCiphertext:
		return RecordHeader{}, &ParseError{What: "record is longer than the limit", Alert: AlertRecordOverflow}
	}
	return h, nil
}

// Append appends the five bytes to b.
func (h RecordHeader) Append(b []byte) []byte {
	b = append(b, byte(h.Type))
	b = binary.BigEndian.AppendUint16(b, h.Version)
	return binary.BigEndian.AppendUint16(b, uint16(h.Length))
}

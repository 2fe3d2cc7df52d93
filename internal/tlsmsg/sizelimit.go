package tlsmsg

import "golang.org/x/crypto/cryptobyte"

// MinRecordSizeLimit is the least that record_size_limit may say (RFC 8449, section 4).
const MinRecordSizeLimit = 64

// parseRecordSizeLimit reads record_size_limit, in which a limit above what a version allows is no error
// here: a client may mean a version that we do not know.
func parseRecordSizeLimit(data cryptobyte.String) (int, error) {
	var limit uint16
	if !data.ReadUint16(&limit) || !data.Empty() {
		return 0, malformed("malformed record_size_limit")
	}
	if limit < MinRecordSizeLimit {
		return 0, illegal("record_size_limit is less than 64")
	}
	return int(limit), nil
}

// RecordSizeLimit adds record_size_limit: the most bytes of content, type and padding of a protected
// record that the sender takes.
func (x *ExtensionBuilder) RecordSizeLimit(limit int) {
	x.build(ExtensionRecordSizeLimit, func(b *cryptobyte.Builder) { b.AddUint16(uint16(limit)) })
}

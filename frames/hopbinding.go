package frames

import "encoding/binary"

// Labels of the exporter (RFC 8446 section 7.5) whose first [HopBindingLen] bytes, with an empty context,
// make SETTINGS_HOP_BINDING: each side sends the one of its own role and expects the other.
const (
	ExporterHopClient = "EXPORTER-vitrine-hop-client"
	ExporterHopServer = "EXPORTER-vitrine-hop-server"

	// HopBindingLen is how many bytes to export.
	HopBindingLen = 4
)

// HopBinding is the value of SETTINGS_HOP_BINDING: 31 bits of the exporter below a top bit that is always
// set, so that no value is 0.
func HopBinding(exported [HopBindingLen]byte) uint32 {
	return binary.BigEndian.Uint32(exported[:]) | 1<<31
}

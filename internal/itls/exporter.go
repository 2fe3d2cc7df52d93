package itls

import "errors"

// ExportKeyingMaterial returns length bytes that only the two ends of this session can compute
// (RFC 8446, section 7.5). A nil context equals an empty one. It fails before the handshake is
// complete, and above 255 times the length of the suite's hash.
func (c *Conn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	if !c.complete.Load() {
		return nil, errors.New("itls: exporter before the handshake is complete")
	}
	if length < 0 || len(label) > 249 {
		return nil, errors.New("itls: exporter label or length out of range")
	}
	s := c.suite
	secret, err := s.derive(c.exporter, label, s.emptyHash())
	if err != nil {
		return nil, err
	}
	h := s.hash()
	h.Write(context)
	return s.expandLabel(secret, "exporter", h.Sum(nil), length)
}

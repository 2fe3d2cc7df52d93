package itls

import (
	"fmt"

	"vitrine/internal/tlsmsg"
)

// maxInner is the most content, type and padding that a protected record of TLS 1.3 can hold, and so the
// largest record_size_limit (RFC 8449, section 4). It does not cover the tag: RFC 9150 changes how
// TLSInnerPlaintext is protected, and not what it is.
const maxInner = tlsmsg.MaxPlaintext + 1

func (c *Config) recordSizeLimit() int {
	if c.RecordSizeLimit == 0 {
		return maxInner
	}
	return c.RecordSizeLimit
}

func (c *Config) checkRecordSizeLimit() error {
	if n := c.recordSizeLimit(); n < tlsmsg.MinRecordSizeLimit || n > maxInner {
		return fmt.Errorf("itls: RecordSizeLimit is %d, not between %d and %d", n, tlsmsg.MinRecordSizeLimit, maxInner)
	}
	return nil
}

// limit is what a protected record may hold of content, type and padding.
func (h *half) limit() int {
	if h.sizeLimit == 0 {
		return maxInner
	}
	return h.sizeLimit
}

// maxHandshakeData is the most bytes of handshake messages in a record. Plain records know no limit but
// TLS's own.
func (c *Conn) maxHandshakeData() int {
	n := tlsmsg.MaxPlaintext - tlsmsg.RecordHeaderLen - 1 - maxTag
	if c.out.mac != nil {
		n = min(n, c.out.limit()-1)
	}
	return n
}

// peerSizeLimit takes the limit that the peer told, 0 for none. A larger one than ours is of a version to
// come, and allows no more.
func (c *Conn) peerSizeLimit(n int) {
	if n > 0 {
		c.out.sizeLimit = min(n, maxInner)
	}
}

// answeredSizeLimit is a client's, once EncryptedExtensions has answered its own limit, or has not. The
// records that brought the answer are held to it too.
func (c *Conn) answeredSizeLimit(n int) error {
	if n == 0 {
		return nil
	}
	if n > maxInner {
		return abort(tlsmsg.AlertIllegalParameter, "the server takes records that TLS 1.3 does not have")
	}
	c.peerSizeLimit(n)
	c.in.sizeLimit = c.cfg.recordSizeLimit()
	if c.in.largest > c.in.limit() {
		return abort(tlsmsg.AlertRecordOverflow, "record holds more than record_size_limit")
	}
	return nil
}

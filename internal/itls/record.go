package itls

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"hash"
	"math"

	"vitrine/internal/tlsmsg"
)

// maxTag is the longest tag, key and IV of the suites.
const maxTag = 48

var errSequence = errors.New("the sequence number of a key is used up")

// A half protects the records of one direction. Before setSecret records are plain.
type half struct {
	suite  *suite
	secret []byte
	mac    hash.Hash // HMAC under write_key; Reset between records, so that none is allocated
	fresh  bool      // mac was not used: a Reset would compute its start again, for epochs of one record
	nonce  [maxTag]byte
	ivTail uint64 // the last 8 bytes of write_iv, which the sequence number is XORed into
	seq    uint64
	tag    [maxTag]byte

	sizeLimit int // see limit; 0 is the largest
	largest   int // the most that a record of the peer has held
}

// setSecret takes the traffic secret of a new epoch. Key and IV are as long as the hash: an IV of 12
// bytes, as AEAD suites have it, does not interoperate (RFC 9150, section 4).
func (h *half) setSecret(s *suite, secret []byte) {
	from := s.expander(secret)
	key, iv := from.label("key", nil), from.label("iv", nil)
	h.suite, h.secret = s, secret
	h.mac, h.fresh = hmac.New(s.hash, key), true
	copy(h.nonce[:], iv)
	h.ivTail = binary.BigEndian.Uint64(iv[s.size-8:])
	h.seq = 0
}

// sum appends the tag of header ‖ inner under the next sequence number.
func (h *half) sum(b, record []byte) ([]byte, error) {
	// A sequence number must not wrap (RFC 8446, section 5.3): the nonce would repeat and an old
	// record would verify again.
	if h.seq == math.MaxUint64 {
		return nil, errSequence
	}
	nonce := h.nonce[:h.suite.size]
	binary.BigEndian.PutUint64(nonce[len(nonce)-8:], h.ivTail^h.seq)
	h.seq++
	if !h.fresh {
		h.mac.Reset()
	}
	h.fresh = false
	h.mac.Write(nonce)
	h.mac.Write(record)
	return h.mac.Sum(b), nil
}

// seal appends one record with data, which the caller cut to size.
func (h *half) seal(b []byte, t tlsmsg.ContentType, data []byte) ([]byte, error) {
	header := tlsmsg.RecordHeader{Type: t, Version: tlsmsg.VersionTLS12, Length: len(data)}
	if h.mac == nil {
		return append(header.Append(b), data...), nil
	}
	start := len(b)
	header.Type = tlsmsg.TypeApplicationData
	header.Length += 1 + h.suite.size
	b = append(header.Append(b), data...)
	b = append(b, byte(t))
	return h.sum(b, b[start:])
}

// open checks a protected record, header included, and returns its inner type and content, which
// alias it.
func (h *half) open(record []byte) (tlsmsg.ContentType, []byte, error) {
	end := len(record) - h.suite.size
	if end < tlsmsg.RecordHeaderLen {
		return 0, nil, &AlertError{Alert: tlsmsg.AlertBadRecordMAC, Err: &RecordError{h.seq}}
	}
	tag, err := h.sum(h.tag[:0], record[:end])
	if err != nil {
		return 0, nil, err
	}
	if !hmac.Equal(tag, record[end:]) {
		return 0, nil, &AlertError{Alert: tlsmsg.AlertBadRecordMAC, Err: &RecordError{h.seq - 1}}
	}
	inner := record[tlsmsg.RecordHeaderLen:end]
	h.largest = max(h.largest, len(inner))
	if len(inner) > h.limit() {
		return 0, nil, abort(tlsmsg.AlertRecordOverflow, "record holds more than its limit")
	}
	for i := len(inner) - 1; i >= 0; i-- {
		if inner[i] != 0 {
			return tlsmsg.ContentType(inner[i]), inner[:i], nil
		}
	}
	return 0, nil, abort(tlsmsg.AlertUnexpectedMessage, "record without a content type")
}

// update moves to the next traffic secret (RFC 8446, section 7.2).
func (h *half) update() error {
	next, err := h.suite.nextSecret(h.secret)
	if err != nil {
		return err
	}
	h.setSecret(h.suite, next)
	return nil
}

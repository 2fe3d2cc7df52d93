package itls

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"vitrine/internal/tlsmsg"
)

// A suite is one of RFC 9150: the hash of the key schedule is that of the records too.
type suite struct {
	id   uint16
	size int // of the hash, the key, the IV and the tag
	hash func() hash.Hash
}

func suiteByID(id uint16) *suite {
	switch id {
	case tlsmsg.SuiteSHA256:
		return &suite{id, sha256.Size, sha256.New}
	case tlsmsg.SuiteSHA384:
		return &suite{id, sha512.Size384, sha512.New384}
	}
	return nil
}

// maxData is the most application bytes in a record: with its header, type and tag, and the 9 bytes
// of an HTTP/2 frame around it, the record fills one record of the hop exactly.
func (s *suite) maxData() int { return tlsmsg.MaxPlaintext - 9 - tlsmsg.RecordHeaderLen - 1 - s.size }

// expandLabel is HKDF-Expand-Label (RFC 8446, section 7.1).
func (s *suite) expandLabel(secret []byte, label string, context []byte, length int) ([]byte, error) {
	if length == s.size {
		return s.expander(secret).label(label, context), nil
	}
	return hkdf.Expand(s.hash, secret, string(hkdfLabel(label, context, length)), length)
}

func hkdfLabel(label string, context []byte, length int) []byte {
	info := make([]byte, 0, 2+1+6+len(label)+1+len(context)+1) // with room for HKDF's counter
	info = binary.BigEndian.AppendUint16(info, uint16(length))
	info = append(info, byte(6+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	info = append(info, byte(len(context)))
	return append(info, context...)
}

// An expander is expandLabel of one secret, as long as the hash: a single HMAC then (RFC 5869, section
// 2.3), of which all that is derived from the secret shares the key's set-up. With SHA-384 that is a
// tenth of a resumed handshake.
type expander struct {
	mac  hash.Hash
	used bool
}

func (s *suite) expander(secret []byte) *expander { return &expander{mac: hmac.New(s.hash, secret)} }

func (e *expander) label(label string, context []byte) []byte {
	if e.used {
		e.mac.Reset()
	}
	e.used = true
	e.mac.Write(append(hkdfLabel(label, context, e.mac.Size()), 1))
	return e.mac.Sum(nil)
}

// derive is Derive-Secret, over a transcript hash.
func (s *suite) derive(secret []byte, label string, transcript []byte) ([]byte, error) {
	return s.expandLabel(secret, label, transcript, s.size)
}

func (s *suite) emptyHash() []byte { return s.hash().Sum(nil) }

// A schedule is the state of RFC 8446's key schedule.
type schedule struct {
	suite  *suite
	psk    []byte    // nil in a full handshake
	secret []byte    // the Handshake Secret, then the Master Secret
	from   *expander // of secret

	client, server []byte // traffic secrets of the current epoch
}

// handshake enters the handshake epoch with the (EC)DHE secret and the hash of the messages up to
// ServerHello.
func (k *schedule) handshake(shared, transcript []byte) error {
	early, err := k.suite.early(k.psk)
	if err != nil {
		return err
	}
	if err := k.extract(k.suite.expander(early), shared); err != nil {
		return err
	}
	k.traffic("c hs traffic", "s hs traffic", transcript)
	return nil
}

// application enters the application epoch with the hash of the messages up to the server's
// Finished, and returns the exporter's secret.
func (k *schedule) application(transcript []byte) (exporter []byte, err error) {
	if err := k.extract(k.from, make([]byte, k.suite.size)); err != nil {
		return nil, err
	}
	k.traffic("c ap traffic", "s ap traffic", transcript)
	return k.from.label("exp master", transcript), nil
}

// early is the Early Secret; psk is nil in a full handshake.
func (s *suite) early(psk []byte) ([]byte, error) {
	if psk == nil {
		psk = make([]byte, s.size)
	}
	return hkdf.Extract(s.hash, psk, nil)
}

// resumption is the resumption secret, with the hash of the messages up to the client's Finished.
func (k *schedule) resumption(transcript []byte) []byte {
	return k.from.label("res master", transcript)
}

// resumptionPSK is the pre-shared key of a ticket (section 4.6.1).
func (s *suite) resumptionPSK(secret, nonce []byte) ([]byte, error) {
	return s.expandLabel(secret, "resumption", nonce, s.size)
}

// binder proves a pre-shared key, over the hash of the messages up to the binders (section 4.2.11.2).
func (s *suite) binder(psk, transcript []byte) ([]byte, error) {
	early, err := s.early(psk)
	if err != nil {
		return nil, err
	}
	key, err := s.derive(early, "res binder", s.emptyHash())
	if err != nil {
		return nil, err
	}
	return s.finished(key, transcript)
}

func (k *schedule) extract(previous *expander, input []byte) (err error) {
	salt := previous.label("derived", k.suite.emptyHash())
	if k.secret, err = hkdf.Extract(k.suite.hash, input, salt); err != nil {
		return err
	}
	k.from = k.suite.expander(k.secret)
	return nil
}

func (k *schedule) traffic(client, server string, transcript []byte) {
	k.client = k.from.label(client, transcript)
	k.server = k.from.label(server, transcript)
}

// finished is the verify_data of the side whose handshake traffic secret this is (section 4.4.4).
func (s *suite) finished(secret, transcript []byte) ([]byte, error) {
	key, err := s.expandLabel(secret, "finished", nil, s.size)
	if err != nil {
		return nil, err
	}
	m := hmac.New(s.hash, key)
	m.Write(transcript)
	return m.Sum(nil), nil
}

// nextSecret is the traffic secret after a KeyUpdate (section 7.2).
func (s *suite) nextSecret(secret []byte) ([]byte, error) {
	return s.expandLabel(secret, "traffic upd", nil, s.size)
}

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
	info := make([]byte, 0, 2+1+6+len(label)+1+len(context))
	info = binary.BigEndian.AppendUint16(info, uint16(length))
	info = append(info, byte(6+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	info = append(info, byte(len(context)))
	info = append(info, context...)
	return hkdf.Expand(s.hash, secret, string(info), length)
}

// derive is Derive-Secret, over a transcript hash.
func (s *suite) derive(secret []byte, label string, transcript []byte) ([]byte, error) {
	return s.expandLabel(secret, label, transcript, s.size)
}

func (s *suite) emptyHash() []byte { return s.hash().Sum(nil) }

// A schedule is the state of RFC 8446's key schedule.
type schedule struct {
	suite  *suite
	psk    []byte // nil in a full handshake
	secret []byte // the Handshake Secret, then the Master Secret

	client, server []byte // traffic secrets of the current epoch
}

// handshake enters the handshake epoch with the (EC)DHE secret and the hash of the messages up to
// ServerHello.
func (k *schedule) handshake(shared, transcript []byte) error {
	early, err := k.suite.early(k.psk)
	if err != nil {
		return err
	}
	if err := k.extract(early, shared); err != nil {
		return err
	}
	return k.traffic("c hs traffic", "s hs traffic", transcript)
}

// application enters the application epoch with the hash of the messages up to the server's
// Finished, and returns the exporter's secret.
func (k *schedule) application(transcript []byte) (exporter []byte, err error) {
	if err := k.extract(k.secret, make([]byte, k.suite.size)); err != nil {
		return nil, err
	}
	if err := k.traffic("c ap traffic", "s ap traffic", transcript); err != nil {
		return nil, err
	}
	return k.suite.derive(k.secret, "exp master", transcript)
}

// early is the Early Secret; psk is nil in a full handshake.
func (s *suite) early(psk []byte) ([]byte, error) {
	if psk == nil {
		psk = make([]byte, s.size)
	}
	return hkdf.Extract(s.hash, psk, nil)
}

// resumption is the resumption secret, with the hash of the messages up to the client's Finished.
func (k *schedule) resumption(transcript []byte) ([]byte, error) {
	return k.suite.derive(k.secret, "res master", transcript)
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

func (k *schedule) extract(previous, input []byte) error {
	salt, err := k.suite.derive(previous, "derived", k.suite.emptyHash())
	if err != nil {
		return err
	}
	k.secret, err = hkdf.Extract(k.suite.hash, input, salt)
	return err
}

func (k *schedule) traffic(client, server string, transcript []byte) (err error) {
	if k.client, err = k.suite.derive(k.secret, client, transcript); err != nil {
		return err
	}
	k.server, err = k.suite.derive(k.secret, server, transcript)
	return err
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

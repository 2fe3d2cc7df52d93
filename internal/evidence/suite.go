package evidence

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// A suite is one of the cipher suites that hop 2 can have with TLS 1.3 (RFC 8446, section B.4).
type suite struct {
	hash   crypto.Hash
	keyLen int
	aead   func(key []byte) (cipher.AEAD, error)
}

// suiteOf returns false for a suite that is none of TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384 and
// TLS_CHACHA20_POLY1305_SHA256.
func suiteOf(id uint16) (suite, bool) {
	switch id {
	case tls.TLS_AES_128_GCM_SHA256:
		return suite{crypto.SHA256, 16, gcm}, true
	case tls.TLS_AES_256_GCM_SHA384:
		return suite{crypto.SHA384, 32, gcm}, true
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return suite{crypto.SHA256, chacha20poly1305.KeySize, chacha20poly1305.New}, true
	}
	return suite{}, false
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (s suite) new() hash.Hash {
	if s.hash == crypto.SHA384 {
		return sha512.New384()
	}
	return sha256.New()
}

func (s suite) sum(parts ...[]byte) []byte {
	h := s.new()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// An opener decrypts the records of one direction under one traffic secret.
type opener struct {
	aead cipher.AEAD
	iv   []byte
	seq  uint64
}

func (s suite) opener(secret []byte) (*opener, error) {
	key, err := s.expandLabel(secret, "key", s.keyLen)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	iv, err := s.expandLabel(secret, "iv", 12)
	if err != nil {
		return nil, err
	}
	aead, err := s.aead(key)
	if err != nil {
		return nil, err
	}
	return &opener{aead: aead, iv: iv}, nil
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
func (s suite) expandLabel(secret []byte, label string, n int) ([]byte, error) {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(s.new, secret, string(info), n)
}

var errRecord = errors.New("a record does not decrypt")

// open returns content and type of a protected record (RFC 8446, section 5.2).
func (o *opener) open(header, fragment []byte) (content []byte, contentType byte, err error) {
	nonce := append([]byte(nil), o.iv...)
	tail := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^o.seq)
	o.seq++
	plain, err := o.aead.Open(nil, nonce, fragment, header)
	if err != nil {
		return nil, 0, errRecord
	}
	for i := len(plain) - 1; i >= 0; i-- {
		if plain[i] != 0 {
			return plain[:i], plain[i], nil
		}
	}
	return nil, 0, errRecord
}

package itls

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"slices"

	"vitrine/internal/tlsmsg"
)

var errKeyShare = errors.New("key share is not one of its group")

func curve(g tls.CurveID) ecdh.Curve {
	switch g {
	case tls.X25519, tls.X25519MLKEM768:
		return ecdh.X25519()
	case tls.CurveP256:
		return ecdh.P256()
	case tls.CurveP384:
		return ecdh.P384()
	}
	return nil
}

func knownGroup(g tls.CurveID) bool { return curve(g) != nil }

// A keyExchange is the client's half of a key exchange. X25519MLKEM768 puts an ML-KEM encapsulation
// in front of X25519, in the shares and in the secret (draft-ietf-tls-ecdhe-mlkem).
type keyExchange struct {
	group tls.CurveID
	key   *ecdh.PrivateKey
	kem   *mlkem.DecapsulationKey768
}

func newKeyExchange(g tls.CurveID) (*keyExchange, error) {
	key, err := curve(g).GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	x := &keyExchange{group: g, key: key}
	if g == tls.X25519MLKEM768 {
		if x.kem, err = mlkem.GenerateKey768(); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (x *keyExchange) share() tlsmsg.KeyShare {
	var data []byte
	if x.kem != nil {
		data = x.kem.EncapsulationKey().Bytes()
	}
	return tlsmsg.KeyShare{Group: x.group, Data: append(data, x.key.PublicKey().Bytes()...)}
}

// finish computes the secret from the server's share.
func (x *keyExchange) finish(share []byte) ([]byte, error) {
	var secret []byte
	if x.kem != nil {
		if len(share) < mlkem.CiphertextSize768 {
			return nil, errKeyShare
		}
		var err error
		if secret, err = x.kem.Decapsulate(share[:mlkem.CiphertextSize768]); err != nil {
			return nil, errKeyShare
		}
		share = share[mlkem.CiphertextSize768:]
	}
	z, err := agree(x.key, share)
	if err != nil {
		return nil, err
	}
	return append(secret, z...), nil
}

// respond is the server's half: it answers the client's share.
func respond(k tlsmsg.KeyShare) (share tlsmsg.KeyShare, secret []byte, err error) {
	peer := k.Data
	share.Group = k.Group
	if k.Group == tls.X25519MLKEM768 {
		if len(peer) < mlkem.EncapsulationKeySize768 {
			return share, nil, errKeyShare
		}
		kem, err := mlkem.NewEncapsulationKey768(peer[:mlkem.EncapsulationKeySize768])
		if err != nil {
			return share, nil, errKeyShare
		}
		secret, share.Data = kem.Encapsulate()
		peer = peer[mlkem.EncapsulationKeySize768:]
	}
	key, err := curve(k.Group).GenerateKey(rand.Reader)
	if err != nil {
		return share, nil, err
	}
	z, err := agree(key, peer)
	if err != nil {
		return share, nil, err
	}
	share.Data = append(share.Data, key.PublicKey().Bytes()...)
	return share, append(secret, z...), nil
}

// agree refuses points off the curve and X25519's all-zero result, as crypto/ecdh does.
func agree(key *ecdh.PrivateKey, peer []byte) ([]byte, error) {
	pub, err := key.Curve().NewPublicKey(peer)
	if err != nil {
		return nil, errKeyShare
	}
	z, err := key.ECDH(pub)
	if err != nil {
		return nil, errKeyShare
	}
	return z, nil
}

// pickGroup chooses among groups, ours and best first: one the client sent a share of if there is
// one, else one it supports, which then needs a HelloRetryRequest.
func pickGroup(groups []tls.CurveID, hello *tlsmsg.ClientHello) (share *tlsmsg.KeyShare, retry tls.CurveID, ok bool) {
	for _, g := range groups {
		for i := range hello.KeyShares {
			if hello.KeyShares[i].Group == g {
				return &hello.KeyShares[i], 0, true
			}
		}
	}
	for _, g := range groups {
		if slices.Contains(hello.SupportedGroups, g) {
			return nil, g, true
		}
	}
	return nil, 0, false
}

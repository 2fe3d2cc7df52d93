package hostile

import "crypto/x509"

const (
	MaxConnections = maxConnections
	Patience       = patience
)

// ImpostorRoot vouches for the certificates that l puts in the place of origins'.
func (l *Liar) ImpostorRoot() (*x509.Certificate, error) {
	if err := l.start(); err != nil {
		return nil, err
	}
	return l.forger.impostors.Root, nil
}

package itls

import (
	"fmt"
	"sync"
)

// keyLogMutex keeps lines whole where sessions share a KeyLogWriter, as crypto/tls does.
var keyLogMutex sync.Mutex

// logSecret writes one line of the NSS key log format.
func (c *Conn) logSecret(label string, secret []byte) error {
	w := c.tls.KeyLogWriter
	if w == nil {
		return nil
	}
	keyLogMutex.Lock()
	defer keyLogMutex.Unlock()
	_, err := fmt.Fprintf(w, "%s %x %x\n", label, c.clientRandom, secret)
	return err
}

func (c *Conn) logSecrets(k *schedule, client, server string) error {
	if err := c.logSecret(client, k.client); err != nil {
		return err
	}
	return c.logSecret(server, k.server)
}

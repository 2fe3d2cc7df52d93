package itls

import (
	"bytes"
	"testing"
)

func TestUpdateKeysChangesTheKeysOfBothDirections(t *testing.T) {
	for _, role := range []string{"client", "server"} {
		t.Run(role, func(t *testing.T) {
			client, server := connect(t, clientConfig(), serverConfig())
			from, to := client, server
			if role == "server" {
				from, to = server, client
			}
			sent, answered := from.outSecret(), to.outSecret()
			if err := from.UpdateKeys(); err != nil {
				t.Fatal(err)
			}
			exchange(t, client, server)
			exchange(t, client, server)
			if bytes.Equal(from.outSecret(), sent) || !bytes.Equal(from.outSecret(), to.inSecret()) {
				t.Error("the keys that were to change did not")
			}
			if bytes.Equal(to.outSecret(), answered) || !bytes.Equal(to.outSecret(), from.inSecret()) {
				t.Error("the keys that the peer was asked to change did not")
			}
		})
	}
}

func TestUpdateKeysNeedsAnOpenSession(t *testing.T) {
	client, _ := newPipe()
	if err := Client(client, clientConfig()).UpdateKeys(); err == nil {
		t.Error("before the handshake")
	}
	a, _ := connect(t, clientConfig(), serverConfig())
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := a.UpdateKeys(); err != ErrClosedWrite {
		t.Errorf("after CloseWrite: %v", err)
	}
}

package itls

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	client, server := connect(t, clientConfig(), serverConfig())
	exchange(t, client, server)
}

//go:build deps

package deps

import (
	_ "github.com/dunglas/httpsfv"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/urfave/cli/v2"
	_ "go.uber.org/goleak"
	_ "golang.org/x/crypto/chacha20poly1305"
	_ "golang.org/x/crypto/cryptobyte"
	_ "golang.org/x/net/http2"
	_ "golang.org/x/net/http2/hpack"
	_ "golang.org/x/net/idna"
	_ "golang.org/x/time/rate"
	_ "pgregory.net/rapid"
)

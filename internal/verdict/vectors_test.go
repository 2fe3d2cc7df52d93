package verdict

import (
	"crypto/x509"
	"errors"
	"testing"

	"vitrine/frames"
	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

// spec: VRD-1 VRD-2 VRD-3 VRD-4
func TestVectorsSignedVerdict(t *testing.T) {
	class := func(err error) string {
		switch {
		case err == nil:
			return vectors.Success
		case errors.Is(err, ErrForeign):
			return vectors.Foreign
		case errors.Is(err, ErrSignature):
			return vectors.Altered
		case errors.Is(err, frames.ErrMalformed):
			return vectors.Malformed
		case errors.Is(err, frames.ErrTruncated):
			return vectors.Truncated
		}
		return "an error of no class"
	}
	vectorstest.Run(t, "signed-verdict", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		proxy, err := x509.ParseCertificate(vectorstest.Hex(t, v, "proxy"))
		if err != nil {
			t.Fatal(err)
		}
		_, signed, err := frames.SplitVerdict(v.Bytes)
		if err != nil {
			return nil, nil, err
		}
		_, err = Verify(signed, Expect{
			Proxy: proxy, Nonce: [32]byte(vectorstest.Hex(t, v, "nonce")), Authority: v.Inputs["authority"], CheckLeaf: v.Inputs["role"] == "client",
		})
		return nil, nil, err
	})
}

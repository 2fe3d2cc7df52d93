package httpsig

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

// The keys of RFC 9421, appendix B.1: what comes between the lines of their PEM.
const (
	rfcPSS = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+" +
		"oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHqgDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W" +
		"Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI2wIDAQAB"
	rfcP256           = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ=="
	rfcEd25519        = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
	rfcEd25519Private = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF"
)

const (
	rfcRequestDigest  = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
	rfcResponseDigest = "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:"
	rfcBusyDigest     = "sha-512=:0Y6iCBzGg5rZtoXS95Ijz03mslf6KAMCloESHObfwnHJDbkkWWQz6PhhU9kxsTbARtY2PTBOzq24uJFpHsMuAg==:"
)

func rfcKey(t *testing.T, text string) crypto.PublicKey {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// known are the examples of RFC 9421, sections 2.4, B.2 and B.3, that have an algorithm of ours: the covered
// components with their values, and the signature as published.
func known() map[string]struct{ key, input, signature, lines string } {
	return map[string]struct{ key, input, signature, lines string }{
		"2.4": {
			rfcP256,
			`("@status" "content-digest" "content-type" "@authority";req "@method";req "@path";req "content-digest";req);created=1618884479;keyid="test-key-ecc-p256"`,
			"dMT/A/76ehrdBTD/2Xx8QuKV6FoyzEP/I9hdzKN8LQJLNgzU4W767HK05rx1i8meNQQgQPgQp8wq2ive3tV5Ag==",
			`"@status": 503
"content-digest": ` + rfcBusyDigest + `
"content-type": application/json
"@authority";req: example.com
"@method";req: POST
"@path";req: /foo
"content-digest";req: ` + rfcRequestDigest,
		},
		"B.2.1": {
			rfcPSS, `();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"`,
			"d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==",
			"",
		},
		"B.2.2": {
			rfcPSS, `("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example"`,
			"LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==",
			`"@authority": example.com
"content-digest": ` + rfcRequestDigest + `
"@query-param";name="Pet": dog`,
		},
		"B.2.3": {
			rfcPSS, `("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss"`,
			"bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==",
			`"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@query": ?param=Value&Pet=dog
"@authority": example.com
"content-type": application/json
"content-digest": ` + rfcRequestDigest + `
"content-length": 18`,
		},
		"B.2.4": {
			rfcP256, `("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256"`,
			"wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==",
			`"@status": 200
"content-type": application/json
"content-digest": ` + rfcResponseDigest + `
"content-length": 23`,
		},
		"B.2.6": {
			rfcEd25519, `("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
			"wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
			`"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18`,
		},
	}
}

// knownBase puts an example's values into our builder.
func knownBase(t *testing.T, input, lines string) []byte {
	t.Helper()
	dict, err := httpsfv.UnmarshalDictionary([]string{"sig=" + input})
	if err != nil {
		t.Fatal(err)
	}
	member, _ := dict.Get("sig")
	list := member.(httpsfv.InnerList)
	var components []component
	values := strings.Split(lines, "\n")
	for i, item := range list.Items {
		id, err := httpsfv.Marshal(item)
		if err != nil {
			t.Fatal(err)
		}
		_, value, _ := strings.Cut(values[i], ": ")
		components = append(components, component{id: id, value: value})
	}
	params, err := httpsfv.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return base(components, params)
}

// The signature bases that RFC 9421 prints are ours, byte for byte, and its signatures verify.
func TestTheExamplesOfTheRFC(t *testing.T) {
	for section, tc := range known() {
		t.Run(section, func(t *testing.T) {
			want := `"@signature-params": ` + tc.input
			if tc.lines != "" {
				want = tc.lines + "\n" + want
			}
			got := knownBase(t, tc.input, tc.lines)
			if string(got) != want {
				t.Fatalf("the base is\n%s\nwant\n%s", got, want)
			}
			sig, err := base64.StdEncoding.DecodeString(tc.signature)
			if err != nil {
				t.Fatal(err)
			}
			key := rfcKey(t, tc.key)
			if err := verify(key, got, sig); err != nil {
				t.Error(err)
			}
			if err := verify(key, append(got, '\n'), sig); !errors.Is(err, ErrAltered) {
				t.Errorf("with one byte more: %v", err)
			}
		})
	}
}

// Ed25519 is deterministic: our signature is the published one.
func TestTheExampleOfTheRFCIsMade(t *testing.T) {
	der, err := base64.StdEncoding.DecodeString(rfcEd25519Private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	tc := known()["B.2.6"]
	sig, err := sign(key.(ed25519.PrivateKey), knownBase(t, tc.input, tc.lines))
	if err != nil {
		t.Fatal(err)
	}
	if got := base64.StdEncoding.EncodeToString(sig); got != tc.signature {
		t.Errorf("the signature is %s, want %s", got, tc.signature)
	}
}

// The digests of RFC 9421's messages are those of their content, and the values of its section 2.1 are ours.
func TestTheValuesOfTheRFC(t *testing.T) {
	for content, want := range map[string]string{
		`{"hello": "world"}`: rfcRequestDigest, `{"message": "good dog"}`: rfcResponseDigest,
		`{"busy": true, "message": "Your call is very important to us"}`: rfcBusyDigest,
	} {
		sum := sha512.Sum512([]byte(content))
		if got := "sha-512=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"; got != want {
			t.Errorf("%s: %s, want %s", content, got, want)
		}
		d, err := ParseDigest([]string{want})
		if err != nil {
			t.Fatal(err)
		}
		d.Write([]byte(content))
		if err := d.Check(); err != nil {
			t.Errorf("%s: %v", content, err)
		}
	}
	for _, tc := range []struct {
		lines []string
		bs    bool
		want  string
	}{
		{[]string{"   Leading and trailing whitespace.   "}, false, "Leading and trailing whitespace."},
		{[]string{"max-age=60", "    must-revalidate"}, false, "max-age=60, must-revalidate"},
		{[]string{" a=1,    b=2;x=1;y=2,   c=(a   b   c)"}, false, "a=1,    b=2;x=1;y=2,   c=(a   b   c)"},
		{[]string{""}, false, ""},
		{[]string{"value, with, lots", "of, commas"}, true, ":dmFsdWUsIHdpdGgsIGxvdHM=:, :b2YsIGNvbW1hcw==:"},
		{[]string{"value, with, lots, of, commas"}, true, ":dmFsdWUsIHdpdGgsIGxvdHMsIG9mLCBjb21tYXM=:"},
	} {
		if got, err := fieldValue(tc.lines, tc.bs); err != nil || got != tc.want {
			t.Errorf("%q: %q, %v, want %q", tc.lines, got, err, tc.want)
		}
	}
	if id := newComponent("set-cookie", "bs").id; id != `"set-cookie";bs` {
		t.Error(id)
	}
}

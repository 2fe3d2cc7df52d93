package client

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// credentialFields are the fields whose content opens doors for whoever knows it.
func credentialFields() []string {
	return []string{
		"Authorization", "Proxy-Authorization", "Cookie", "Cookie2", "Dpop",
		"X-Auth", "X-Auth-Key", "X-Authorization", "X-Forwarded-Authorization",
		"X-Api-Key", "Api-Key", "Apikey", "X-Apikey", "X-Functions-Key", "Ocp-Apim-Subscription-Key",
		"X-Goog-Iap-Jwt-Assertion", "X-Session-Id", "X-Session",
	}
}

// isCredential also takes names that say what they carry: a token kept back by mistake costs a flag, one
// that leaves by mistake cannot be called back.
func isCredential(name string) bool {
	name = http.CanonicalHeaderKey(name)
	if slices.Contains(credentialFields(), name) {
		return true
	}
	lower := strings.ToLower(name)
	return slices.ContainsFunc([]string{"token", "secret", "passw", "credential", "api-key", "apikey"}, func(word string) bool {
		return strings.Contains(lower, word)
	})
}

var errCredentials = errors.New("it leaves at a readable level only if the user allows it: --allow-credentials, or AllowCredentials in a program")

// refuseCredentials returns the error for the first credential in req, in a stable order.
func refuseCredentials(req *http.Request) error {
	if req.URL.User != nil {
		return &TrustError{Party: PartyCredentials, Field: "the user name in the URL", Err: errCredentials}
	}
	var found []string
	for _, h := range []http.Header{req.Header, req.Trailer} {
		for name := range h {
			if isCredential(name) {
				found = append(found, http.CanonicalHeaderKey(name))
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &TrustError{Party: PartyCredentials, Field: slices.Min(found), Err: errCredentials}
}

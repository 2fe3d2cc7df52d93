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

var errCredentials = errors.New("the user's consent does not include credentials")

// userInURL is what net/http makes an Authorization of.
const userInURL = "the user name in the URL"

// credentialsOf names the credentials in req, sorted; nil for none.
func credentialsOf(req *http.Request) []string {
	var found []string
	if req.URL.User != nil {
		found = append(found, userInURL)
	}
	for _, h := range []http.Header{req.Header, req.Trailer} {
		for name, values := range h {
			if isCredential(name) || http.CanonicalHeaderKey(name) == "Referer" && slices.ContainsFunc(values, namesUser) {
				found = append(found, http.CanonicalHeaderKey(name))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// namesUser says whether there is a user name, and maybe a password, in a URL.
func namesUser(u string) bool {
	_, rest, found := strings.Cut(u, "//")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return found && strings.Contains(rest, "@")
}

// keptBack is the error for the first of the credentials in fields; why is nil when the user was asked about
// reading alone.
func keptBack(fields []string, why error) error {
	if why == nil {
		why = errCredentials
	}
	return &TrustError{Party: PartyCredentials, Field: fields[0], Err: why}
}

package client

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// hopByHop are the fields of one connection (RFC 9110, section 7.6.1), beside those that Connection names, and
// those that the carrier writes.
func hopByHop() []string {
	return []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Transfer-Encoding", "Upgrade",
		"Host", "Content-Length", "Trailer",
	}
}

// splitRequest is req as it leaves on hop 1, in the way in which net/http would send it over HTTP/2. announced are the
// names in its trailer, which a Read of an earlier send may be filling.
func splitRequest(req *http.Request, announced []string, authority string) (*hop.Request, error) {
	if len(req.Header["Upgrade"]) > 0 {
		return nil, errors.New("client: a request for another protocol, which this transport does not carry")
	}
	host := hostOf(req, authority)
	if host != strings.TrimSuffix(authority, ":443") {
		return nil, errors.New("client: the request's Host is not that of its URL")
	}
	h := make(http.Header, len(req.Header)+4)
	drop := append(hopByHop(), http.CanonicalHeaderKey(fields.EvidenceID), http.CanonicalHeaderKey(fields.EvidenceRequest))
	for _, line := range req.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			drop = append(drop, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	for name, values := range req.Header {
		if name = http.CanonicalHeaderKey(name); !slices.Contains(drop, name) {
			h[name] = append(h[name], values...)
		}
	}
	if httpguts.HeaderValuesContainsToken(req.Header["Te"], "trailers") {
		h.Set("Te", "trailers")
	}
	if line := cookieLine(h["Cookie"]); line != "" {
		h.Set("Cookie", line)
	} else {
		h.Del("Cookie")
	}
	switch agent, ok := h["User-Agent"]; {
	case !ok:
		h.Set("User-Agent", "Go-http-client/2.0")
	case len(agent) == 0 || agent[0] == "":
		h.Del("User-Agent")
	}
	method := req.Method
	if method == "" {
		method = http.MethodGet
	}
	none := req.Body == nil || req.Body == http.NoBody
	switch {
	case !none && req.ContentLength > 0:
		h.Set("Content-Length", strconv.FormatInt(req.ContentLength, 10))
	case none && (method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch):
		h.Set("Content-Length", "0")
	}
	if names := slices.Sorted(slices.Values(announced)); len(names) > 0 && !none {
		if slices.ContainsFunc(names, func(name string) bool { return !httpguts.ValidTrailerHeader(name) }) {
			return nil, errors.New("client: a trailer field that may not be one")
		}
		h.Set("Trailer", strings.Join(names, ", "))
	}
	return &hop.Request{Method: method, Authority: host, Path: req.URL.RequestURI(), Header: h}, nil
}

// cookieLine is a request's cookie on one line, with "; " between its pairs and nowhere else (RFC 6265, section 4.2.1).
// HTTP/2 may carry it in pieces, which would not always be put together as they were, and what the origin signs would
// be another cookie.
func cookieLine(lines []string) string {
	var pairs []string
	for pair := range strings.SplitSeq(strings.Join(lines, ";"), ";") {
		if pair = strings.Trim(pair, " \t"); pair != "" {
			pairs = append(pairs, pair)
		}
	}
	return strings.Join(pairs, "; ")
}

// splitTrailer is a trailer section without the fields that never got a value.
func splitTrailer(h http.Header) http.Header {
	h = h.Clone()
	maps.DeleteFunc(h, func(_ string, values []string) bool { return len(values) == 0 })
	return h
}

// announced takes the names in h's Trailer, as [http.Response] has them.
func announced(h http.Header) http.Header {
	var trailer http.Header
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if !httpguts.ValidTrailerHeader(name) {
				continue
			}
			if trailer == nil {
				trailer = make(http.Header)
			}
			trailer[name] = nil
		}
	}
	h.Del("Trailer")
	return trailer
}

// contentLength is that of a response; -1 for unknown. The carrier checks content against it.
func contentLength(h http.Header) int64 {
	values := h["Content-Length"]
	if len(values) == 0 {
		return -1
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil {
		return -1
	}
	return int64(n)
}

// headerSize is that of RFC 9113, section 6.5.2.
func headerSize(h http.Header) int64 {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 32
		}
	}
	return int64(n)
}

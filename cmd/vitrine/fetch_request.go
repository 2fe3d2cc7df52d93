package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// requestOptions are the flags that say what to send, with curl's meanings.
type requestOptions struct {
	url, method   string
	headers, data []string
	head, follow  bool
	stdin         io.Reader

	body []byte // of data, read once: standard input has no second time
	read bool
}

// build makes the request. Every error is about the command line.
func (o *requestOptions) build(ctx context.Context) (*http.Request, error) {
	u, err := url.Parse(o.url)
	if err != nil { // which quotes the URL, and in it may be a password
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = parse.Err
		}
		if strings.Contains(o.url, "@") {
			return nil, usagef("the URL cannot be read; a user name or password in it has to be percent-encoded")
		}
		return nil, usagef("the URL cannot be read: %v", err)
	}
	if u.Scheme != "https" {
		return nil, usagef("the URL %q does not begin with https://", u.Redacted())
	}
	if u.Hostname() == "" {
		return nil, usagef("the URL %q has no host", u.Redacted())
	}
	if o.head && o.data != nil {
		return nil, usagef("-I sends no body and -d sends one: choose one of them")
	}
	method := o.method
	switch {
	case method != "":
	case o.head:
		method = http.MethodHead
	case o.data != nil:
		method = http.MethodPost
	default:
		method = http.MethodGet
	}
	if method == http.MethodConnect {
		return nil, usagef("-X CONNECT is not a request to an origin")
	}
	if err := o.readData(); err != nil {
		return nil, err
	}
	var body io.Reader
	if o.data != nil {
		body = bytes.NewReader(o.body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, usagef("the request cannot be made: %v", err)
	}
	req.Header.Set("User-Agent", "vitrine/"+readVersion().Version)
	req.Header.Set("Accept", "*/*")
	if o.data != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, o.setHeaders(req)
}

// setHeaders applies -H: "K: V" sets or adds, "K:" removes, "K;" sends the field empty.
func (o *requestOptions) setHeaders(req *http.Request) error {
	given := map[string]bool{}
	for _, h := range o.headers {
		name, value, colon := strings.Cut(h, ":")
		value = strings.TrimSpace(value)
		empty := false
		if !colon {
			name, empty = strings.CutSuffix(h, ";")
			if !empty {
				return usagef("-H %q has no colon; write 'Name: value'", redactField(h))
			}
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return usagef("-H: %q is not a field name", redactField(name))
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			return usagef("-H: the value of %s has a character that no field may have", name)
		}
		key := http.CanonicalHeaderKey(name)
		switch {
		case key == "Host" && value != "":
			req.Host = value
		case key == "Host":
			return usagef("-H: HTTP/1.1 needs a Host")
		case key == "Content-Length" || key == "Transfer-Encoding" || key == "Trailer":
			return usagef("-H: %s is set by the framing of the message", key)
		case value == "" && !empty && key == "User-Agent":
			req.Header[key] = []string{""} // net/http would put its own name there
		case value == "" && !empty:
			req.Header.Del(key)
		case given[key]:
			req.Header.Add(key, value)
		default:
			req.Header.Set(key, value)
			given[key] = true
		}
	}
	return nil
}

// readData reads -d's values: DATA, @FILE, or @- for standard input.
func (o *requestOptions) readData() error {
	if o.read {
		return nil
	}
	for i, d := range o.data {
		if i > 0 {
			o.body = append(o.body, '&')
		}
		name, isFile := strings.CutPrefix(d, "@")
		if !isFile {
			o.body = append(o.body, d...)
			continue
		}
		var content []byte
		var err error
		if name == "-" {
			content, err = io.ReadAll(o.stdin)
		} else {
			content, err = os.ReadFile(name)
		}
		if err != nil {
			return usagef("-d: %v", err)
		}
		for _, b := range content {
			if b != '\n' && b != '\r' && b != 0 {
				o.body = append(o.body, b)
			}
		}
	}
	o.read = true
	return nil
}

// redactField keeps what may be a secret out of an error message.
func redactField(h string) string {
	if len(h) > 8 {
		return fmt.Sprintf("%s...", h[:8])
	}
	return h
}

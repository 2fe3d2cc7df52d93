package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vitrine/internal/fields"
	"vitrine/internal/hosts"
)

// errNoLevel cannot come from a client.Transport. What has no level is not passed on.
var errNoLevel = errors.New("gateway: a response without a level")

// rewriteResponse puts a response into the program's terms.
func (g *Gateway) rewriteResponse(resp *http.Response) error {
	x := exchangeOf(resp.Request.Context())
	level := string(g.up.levelOf(resp))
	if level == "" {
		return errNoLevel
	}
	if resp.StatusCode < 200 || resp.StatusCode > 999 { // net/http, which reads such, does not write it
		return fmt.Errorf("the origin answers with status %d, which is none of a response", resp.StatusCode)
	}
	x.level = level
	h := resp.Header
	h.Set(LevelField, level)
	h.Del(ErrorField)
	// They would lead a browser past the gateway.
	h.Del("Strict-Transport-Security")
	h.Del("Alt-Svc")
	stayHere(h, "Content-Security-Policy")
	for _, name := range []string{"Location", "Content-Location"} {
		if to := h.Get(name); to != "" {
			h.Set(name, x.inward(to))
		}
	}
	if allowed := h.Get("Access-Control-Allow-Origin"); x.origin != "" && allowed == x.outward(x.origin) {
		h.Set("Access-Control-Allow-Origin", x.origin)
	}
	if x.endpoint.origin != "" {
		for i, cookie := range h["Set-Cookie"] {
			h["Set-Cookie"][i] = withoutDomain(cookie)
		}
	}
	fields.AppendVia(h, version(resp.Proto), pseudonym)
	resp.Body = &body{ReadCloser: resp.Body, x: x, resp: resp}
	delete(resp.Trailer, LevelField)
	delete(resp.Trailer, ErrorField)
	return nil
}

// inward is a URL of the origin's as the program reaches it through the gateway, or as it is.
func (x *exchange) inward(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.HasPrefix(x.asked, "https:") {
		return s
	}
	authority, err := authorityOf(u.Hostname(), u.Port())
	if err != nil {
		return s
	}
	if x.endpoint.origin == "" {
		// http and port 80 is what https and port 443 is asked for as.
		if !hosts.MatchAny(x.g.Hosts, authority) || strings.HasSuffix(authority, ":80") {
			return s
		}
		u.Scheme, u.Host = "http", trim443(authority)
		return u.String()
	}
	switch e := x.g.mapOf(authority); {
	case e == x.endpoint:
		u.Scheme, u.Host = "http", strings.TrimPrefix(x.asked, "http://") // by the name that the program knows it by
		return u.String()
	case e != nil:
		u.Scheme, u.Host = "http", e.host()
		return u.String()
	}
	return s
}

// stayHere drops the directive that makes a browser ask for https in the place of http. A line may have several policies:
// at signed, where the origin sent several lines, it does.
func stayHere(h http.Header, name string) {
	const upgrade = "upgrade-insecure-requests"
	var kept []string
	for _, line := range h.Values(name) {
		if !strings.Contains(strings.ToLower(line), upgrade) {
			kept = append(kept, line)
			continue
		}
		var policies []string
		for policy := range strings.SplitSeq(line, ",") {
			var directives []string
			for d := range strings.SplitSeq(policy, ";") {
				if words := strings.Fields(d); len(words) > 0 && !strings.EqualFold(words[0], upgrade) {
					directives = append(directives, d)
				}
			}
			if directives != nil {
				policies = append(policies, strings.TrimSpace(strings.Join(directives, ";")))
			}
		}
		if policies != nil {
			kept = append(kept, strings.Join(policies, ", "))
		}
	}
	if kept == nil {
		h.Del(name)
		return
	}
	h[http.CanonicalHeaderKey(name)] = kept
}

// withoutDomain drops a cookie's Domain. A browser that asked an address refuses a cookie of a name.
func withoutDomain(cookie string) string {
	parts := strings.Split(cookie, ";")
	kept := parts[:1]
	for _, p := range parts[1:] {
		name, _, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "Domain") {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ";")
}

// A body is a response's. Its error is why a response was broken off.
type body struct {
	io.ReadCloser
	x    *exchange
	resp *http.Response
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		// In a trailer too the level is for the gateway to say.
		delete(b.resp.Trailer, LevelField)
		delete(b.resp.Trailer, ErrorField)
		if err != io.EOF {
			b.x.err = err
		}
	}
	return n, err
}

// A stallWriter answers a program that may hang, and counts.
type stallWriter struct {
	http.ResponseWriter
	rc     *http.ResponseController
	most   time.Duration
	status int
	bytes  int64
}

func newStallWriter(w http.ResponseWriter, most time.Duration) *stallWriter {
	s := &stallWriter{ResponseWriter: w, rc: http.NewResponseController(w), most: most}
	s.extend()
	return s
}

// extend gives the program time for what is written next.
func (w *stallWriter) extend() { _ = w.rc.SetWriteDeadline(time.Now().Add(w.most)) }

// Unwrap is for http.ResponseController.
func (w *stallWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *stallWriter) WriteHeader(status int) {
	if status < 200 {
		w.Header().Del(LevelField) // the origin's word
		w.Header().Del(ErrorField)
		w.Header().Del("Alt-Svc")
	} else if w.status == 0 {
		w.status = status
	}
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

func (w *stallWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.extend()
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// FlushError is what ReverseProxy flushes by.
func (w *stallWriter) FlushError() error {
	w.extend()
	return w.rc.Flush()
}

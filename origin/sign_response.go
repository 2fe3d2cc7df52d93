package origin

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"hash"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"vitrine/internal/fields"
	"vitrine/internal/httpsig"
)

// A signedExchange is the ResponseWriter of an answer that is to be signed. It keeps the beginning of the content until
// it knows whether that is all.
type signedExchange struct {
	s     *signer
	w     http.ResponseWriter
	r     *http.Request
	req   *httpsig.Request
	nonce []byte // nil: the request asked for no signature
	body  *checkedBody

	header http.Header // the handler's
	head   http.Header // as it was when the handler sent it
	status int         // 0 until then

	declared int64 // Content-Length of the handler, -1 without
	written  int64
	kept     []byte
	sent     bool // the head has left

	pending *httpsig.Pending // nil unless a signature is to follow the content
	sum     hash.Hash
}

// Header implements http.ResponseWriter.
func (x *signedExchange) Header() http.Header { return x.header }

// WriteHeader implements http.ResponseWriter. The final head waits for content.
func (x *signedExchange) WriteHeader(status int) {
	if x.status != 0 {
		if x.sent {
			x.w.WriteHeader(status) // net/http says in the log that it is one too many
		}
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		x.replace(x.header)
		x.w.WriteHeader(status)
		return
	}
	x.status, x.head = status, canonical(x.header)
	x.frame()
}

// canonical returns a copy of h as net/http writes it. A name in another form would be sent, and missed by whoever
// looks for it. A value that HTTP does not have would be signed, and is sent in another form, or not at all.
func canonical(h http.Header) http.Header {
	out := make(http.Header, len(h))
	lineEnds := strings.NewReplacer("\n", " ", "\r", " ")
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if h[name] == nil {
			out[name] = nil // it keeps net/http from adding the field
			continue
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		for _, line := range h[name] {
			if line = lineEnds.Replace(line); httpguts.ValidHeaderFieldValue(line) {
				out[key] = append(out[key], line)
			}
		}
	}
	return out
}

// frame leaves out of the head what net/http would, and writes what it would write in another way: a signature that
// covers it would not hold.
func (x *signedExchange) frame() {
	if lines := x.head["Content-Length"]; len(lines) > 0 {
		x.head.Del("Content-Length")
		if n, err := strconv.ParseInt(strings.Trim(lines[0], " \t"), 10, 64); err == nil && n >= 0 {
			x.declared = n
			x.head.Set("Content-Length", strconv.FormatInt(n, 10))
		}
	}
	if x.r.ProtoMajor > 1 {
		x.head.Del("Transfer-Encoding")
		if x.head.Get("Connection") != "close" { // which net/http takes for a word to itself
			x.head.Del("Connection")
		}
		return
	}
	coding := x.head.Get("Transfer-Encoding")
	if coding != "" && coding != "identity" || !x.bodied() {
		x.head.Del("Content-Length")
	}
	if x.status == http.StatusNotModified {
		x.head.Del("Content-Type")
	}
}

// replace makes h the header that net/http sends.
func (x *signedExchange) replace(h http.Header) {
	clear(x.w.Header())
	maps.Copy(x.w.Header(), h)
}

// Write implements http.ResponseWriter.
func (x *signedExchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if !x.bodied() {
		return 0, http.ErrBodyNotAllowed
	}
	if x.written += int64(len(p)); x.declared >= 0 && x.written > x.declared {
		return 0, http.ErrContentLength
	}
	if !x.sent {
		if len(x.kept)+len(p) <= x.s.cfg.BufferBytes {
			x.kept = append(x.kept, p...)
			return len(p), nil
		}
		if err := x.begin(p); err != nil {
			return 0, err
		}
	}
	return x.pass(p)
}

// pass hands content to net/http.
func (x *signedExchange) pass(p []byte) (int, error) {
	if x.pending != nil {
		x.sum.Write(p)
	}
	return x.w.Write(p)
}

// begin sends the head of a response whose end is not there yet, and what was kept. next is what will follow.
func (x *signedExchange) begin(next []byte) error {
	if sniffed := x.kept; len(sniffed) < sniffBytes {
		x.sniff(append(sniffed[:len(sniffed):len(sniffed)], next[:min(len(next), sniffBytes-len(sniffed))]...))
	} else {
		x.sniff(sniffed)
	}
	switch {
	case x.nonce == nil:
		// Ordinary clients want the length more than trailers, and caches may drop these: it stays unsigned.
	case !x.hasContent():
		x.unsigned(x.signHead())
	case !x.r.ProtoAtLeast(1, 1):
		x.unsigned(errors.New("origin: HTTP/1.0 has no trailer section for the signature"))
	default:
		x.unsigned(x.signLater())
	}
	x.send()
	kept := x.kept
	x.kept = nil
	if len(kept) == 0 {
		return nil
	}
	_, err := x.pass(kept)
	return err
}

// bodied reports whether the status lets a response have content.
func (x *signedExchange) bodied() bool {
	return x.status >= 200 && x.status != http.StatusNoContent && x.status != http.StatusNotModified
}

func (x *signedExchange) hasContent() bool { return x.bodied() && x.r.Method != http.MethodHead }

const sniffBytes = 512

// sniff sets what net/http would set later, which would then be missing in the signature.
func (x *signedExchange) sniff(content []byte) {
	if _, has := x.head["Content-Type"]; !has && len(content) > 0 && x.head.Get("Content-Encoding") == "" && x.head.Get("Transfer-Encoding") == "" {
		x.head.Set("Content-Type", http.DetectContentType(content))
	}
	if _, has := x.head["Date"]; !has {
		x.head.Set("Date", x.s.cfg.Time().UTC().Format(http.TimeFormat))
	}
}

// finish ends the response; the handler has returned.
func (x *signedExchange) finish() {
	if x.status == 0 && x.body.altered() {
		clear(x.header)
		http.Error(x, "the content of the request is not that of its Content-Digest", http.StatusBadRequest)
	}
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if !x.sent {
		x.complete()
	}
	x.trailers()
	if x.pending == nil {
		return
	}
	if x.declared >= 0 && x.written != x.declared && x.r.ProtoMajor == 1 {
		panic(http.ErrAbortHandler) // as net/http does where the length is in the head
	}
	x.unsigned(x.signTrailer())
}

// complete sends a response that fits the buffer.
func (x *signedExchange) complete() {
	x.sniff(x.kept)
	_, streams := x.head["Trailer"]
	streams = streams || x.head.Get("Transfer-Encoding") != ""
	if x.declared < 0 && !streams && x.bodied() && (x.written > 0 || x.hasContent()) {
		x.head.Set("Content-Length", strconv.FormatInt(x.written, 10))
	}
	x.unsigned(x.signHead())
	x.send()
	if len(x.kept) > 0 {
		x.w.Write(x.kept)
	}
}

func (x *signedExchange) send() {
	x.replace(x.head)
	x.w.WriteHeader(x.status)
	x.sent = true
}

// trailers hands on those of the handler, but for what the signature is to say.
func (x *signedExchange) trailers() {
	for _, line := range x.head["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t"))
			if lines, ok := x.header[name]; ok {
				x.w.Header()[name] = lines
			}
		}
	}
	for name, lines := range x.header {
		key, trailer := strings.CutPrefix(name, http.TrailerPrefix)
		if trailer && (x.pending == nil || !slices.Contains(x.pending.Trailers(), textproto.CanonicalMIMEHeaderKey(key))) {
			x.w.Header()[name] = lines
		}
	}
}

// errUnasked says that a response is neither for a nonce nor for everybody.
var errUnasked = errors.New("origin: no signature was asked for")

// unsigned tells who wants to know why a response that should be signed is not.
func (x *signedExchange) unsigned(err error) {
	if err != nil && err != errUnasked && x.s.cfg.OnUnsigned != nil {
		x.s.cfg.OnUnsigned(x.r, err)
	}
}

// params are those of the signature of the response with the header section h.
func (x *signedExchange) params(h http.Header) (key crypto.Signer, p httpsig.Params, err error) {
	life := x.s.cfg.Lifetime
	if x.nonce == nil {
		public, ok := httpsig.Cacheable(x.req, x.status, h.Values("Cache-Control"), h.Values("Vary"), len(h.Values("Set-Cookie")) > 0)
		if !ok {
			return nil, p, errUnasked
		}
		life = max(life, public)
	}
	key, id, err := x.s.key(x.r)
	now := x.s.cfg.Time().Truncate(time.Second)
	return key, httpsig.Params{Created: now, Expires: now.Add(life), Nonce: x.nonce, KeyID: id}, err
}

// vary keeps caches from showing an answer to one nonce to another (RFC 9421, section 5).
func (x *signedExchange) vary(h http.Header) {
	if x.nonce != nil {
		h.Add("Vary", fields.EvidenceRequest)
	}
}

var (
	errContent = errors.New("origin: the request's content is not what its Content-Digest says, or has none")
	// errUnread says that the answer rests on content that was not judged. Its end may be another than the digest's.
	errUnread = errors.New("origin: the answer was complete before the request's content was, and the rest of that did not come in time or is too long to wait for")
)

// signHead signs a response of which the whole content is there. Without success it stays as it is: the client judges.
func (x *signedExchange) signHead() error {
	key, p, err := x.params(x.head)
	if err != nil {
		return err
	}
	if x.nonce != nil && !x.body.judged(x.w) {
		return x.body.unjudged()
	}
	content := x.kept
	if !x.hasContent() {
		content = nil
	}
	signed := x.head.Clone()
	x.vary(signed)
	if !matches(signed.Values(httpsig.ContentDigest), content) {
		signed.Set(httpsig.ContentDigest, httpsig.FormatDigest(sha256.Sum256(content)))
	}
	release, err := x.s.slot(x.r)
	if err != nil {
		return err
	}
	defer release()
	if err := httpsig.Sign(key, p, x.req, x.status, signed); err != nil {
		return err
	}
	x.head = signed
	return nil
}

// matches reports whether the handler's own digest is right. One that is wrong is replaced.
func matches(lines []string, content []byte) bool {
	d, err := httpsig.ParseDigest(lines)
	if err != nil {
		return false
	}
	d.Write(content)
	return d.Check() == nil
}

// signLater announces a signature behind the content.
func (x *signedExchange) signLater() error {
	key, p, err := x.params(x.head)
	if err != nil {
		return err
	}
	later := x.head.Clone()
	x.vary(later)
	later.Del(httpsig.ContentDigest)
	pending, err := httpsig.Begin(key, p, x.req, x.status, later)
	if err != nil {
		return err
	}
	for _, name := range pending.Trailers() {
		later.Add("Trailer", name)
	}
	if x.r.ProtoMajor == 1 {
		later.Del("Content-Length") // with it HTTP/1.1 has no trailer section
	}
	x.head, x.pending, x.sum = later, pending, sha256.New()
	return nil
}

func (x *signedExchange) signTrailer() error {
	if !x.body.judged(x.w) {
		return x.body.unjudged()
	}
	release, err := x.s.slot(x.r)
	if err != nil {
		return err
	}
	defer release()
	return x.pending.Finish([32]byte(x.sum.Sum(nil)), x.w.Header())
}

// FlushError sends what there is, as http.ResponseController wants it. The rest streams.
func (x *signedExchange) FlushError() error {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if !x.sent {
		if err := x.begin(nil); err != nil {
			return err
		}
	}
	return http.NewResponseController(x.w).Flush()
}

// Flush implements http.Flusher.
func (x *signedExchange) Flush() { x.FlushError() }

// SetReadDeadline, SetWriteDeadline and EnableFullDuplex are for http.ResponseController. There is no Unwrap: what
// is written past the signature would not be signed.
func (x *signedExchange) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(x.w).SetReadDeadline(t)
}

func (x *signedExchange) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(x.w).SetWriteDeadline(t)
}

func (x *signedExchange) EnableFullDuplex() error {
	return http.NewResponseController(x.w).EnableFullDuplex()
}

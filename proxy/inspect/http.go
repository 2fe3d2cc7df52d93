package inspect

import (
	"bytes"
	"net/http"

	"vitrine/frames"
)

// reading is what a direction's HTTP reader is in.
type reading uint8

const (
	between reading = iota // no message has begun
	inHead
	inLength // a body of declared length
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
	inRest // a body that ends with the direction
)

const (
	// maxChunkDigits and maxChunk keep a chunk's size inside 31 bits, which some parsers overflow.
	maxChunkDigits = 8
	maxChunk       = 1<<31 - 1
)

// message reads the messages of one direction.
type message struct {
	reading   reading
	section   section
	remaining int64 // bytes of the body or the chunk
	size      int64 // of the chunk whose line is being read
	digits    int   // of its size
	seen      int   // bytes of a line end
	decoder   *decoder
	opaque    bool // the body has a content coding that is not undone
}

// http reads application data. What it reads it neither keeps, but for an incomplete section, nor
// changes.
func (t *Tunnel) http(s *side, p []byte) *KillError {
	for len(p) > 0 {
		n, err := t.read(s, p)
		if err != nil {
			return err
		}
		s.app += int64(n)
		p = p[n:]
	}
	return nil
}

// read takes at least one byte of p. s.app is the offset of p. A unit that it completes moves s.boundary
// to its end, after the inspectors saw it: a hold begins where the unit does.
func (t *Tunnel) read(s *side, p []byte) (n int, err *KillError) {
	m := &s.reader
	switch m.reading {
	case between, inHead:
		if m.reading == between {
			if err := t.begin(s); err != nil {
				return 0, err
			}
			m.reading = inHead
		}
		n, sec, rule := m.section.add(p, t.limits.HeadBytes, t.limits.Fields, false)
		if rule != "" {
			return 0, s.kill(rule, "in a header section")
		}
		if sec == nil {
			return n, nil
		}
		end := s.app + int64(n)
		if s.dir == frames.ToOrigin {
			err = t.requestHead(s, sec, end)
		} else {
			err = t.responseHead(s, sec, end)
		}
		if err != nil {
			return 0, err
		}
		s.boundary = end
		return n, nil
	case inLength, inChunk, inRest:
		return t.readBody(s, p)
	case inChunkSize:
		return t.chunkSize(s, p)
	case inChunkEnd:
		for n < len(p) && m.seen < 2 {
			if p[n] != "\r\n"[m.seen] {
				return 0, s.kill(RuleChunkEnd, "no CRLF behind a chunk")
			}
			m.seen++
			n++
		}
		if m.seen == 2 {
			m.reading, m.seen = inChunkSize, 0
			s.boundary = s.app + int64(n)
		}
		return n, nil
	}
	n, sec, rule := m.section.add(p, t.limits.HeadBytes, t.limits.Fields, true)
	if rule != "" {
		return 0, s.kill(rule, "in a trailer section")
	}
	if sec == nil {
		return n, nil
	}
	if err := t.trailer(s, sec); err != nil {
		return 0, err
	}
	s.boundary = s.app + int64(n)
	t.complete(s, s.boundary)
	return n, nil
}

// begin is called when a byte arrives where a message would begin.
func (t *Tunnel) begin(s *side) *KillError {
	x := t.x
	if s.dir == frames.ToOrigin {
		switch {
		case x != nil:
			return s.kill(RuleOpaque, "a request before the response to the last one was complete")
		case t.last:
			return s.kill(RuleAfterLast, "a request behind the connection's last exchange")
		}
		return nil
	}
	if x == nil || x.response.done || t.sides[frames.ToOrigin].releasedApp < x.headEnd {
		return s.kill(RuleUnsolicited, "a response without a request")
	}
	return nil
}

// requestHead reads a complete header section that ends at application offset end.
func (t *Tunnel) requestHead(s *side, sec []byte, end int64) *KillError {
	line, fs := firstLine(sec)
	r, rule := parseRequestLine(line)
	if rule != "" {
		return s.kill(rule, "in a request line")
	}
	f := framing{http10: r.http10, plain: t.cfg.Plain}
	if rule := f.read(fs, true); rule != "" {
		return s.kill(rule, "in a request")
	}
	switch {
	case !f.hasHost:
		return s.kill(RuleMissingHost, "a request without Host")
	case !t.agrees(f.host):
		return s.kill(RuleHost, "Host %q in a tunnel to %s", cut(string(f.host), 100), t.cfg.Authority)
	case r.authority != nil && !t.agrees(r.authority):
		return s.kill(RuleHost, "target for %q in a tunnel to %s", cut(string(r.authority), 100), t.cfg.Authority)
	}
	inspectors, err := t.judges()
	if err != nil {
		return err
	}
	t.last = t.last || f.close || f.http10
	x := t.newExchange(r, &f)
	x.request.start = s.boundary
	x.headEnd = end

	m := &s.reader
	size := max(f.length, 0)
	switch {
	case f.chunked:
		m.reading, size = inChunkSize, f.length
	case f.length > 0:
		m.reading, m.remaining = inLength, f.length
	default:
		m.reading = between
	}
	for _, in := range inspectors {
		if err := t.watch(in); err != nil {
			return err
		}
	}
	if t.watched() {
		h := t.header(fs)
		h.Del("Host")
		m.decode(t, s, h, 0)
		head := &Head{
			Method: r.method, Scheme: "https", Host: t.cfg.Authority, Path: r.path, Query: r.query,
			Header: h, Size: size,
		}
		if err := t.show(s, Part{Head: head, End: m.reading == between, Opaque: m.opaque}); err != nil {
			return err
		}
	}
	if m.reading == between {
		t.complete(s, end)
	}
	return nil
}

// responseHead reads a complete header section that ends at application offset end.
func (t *Tunnel) responseHead(s *side, sec []byte, end int64) *KillError {
	x, m := t.x, &s.reader
	line, fs := firstLine(sec)
	status, http10, rule := parseStatusLine(line)
	if rule != "" {
		return s.kill(rule, "in a status line")
	}
	f := framing{http10: http10, plain: t.cfg.Plain}
	if rule := f.read(fs, false); rule != "" {
		return s.kill(rule, "in a response")
	}
	bodiless := status < 200 || status == http.StatusNoContent
	switch {
	case status == http.StatusSwitchingProtocols:
		return s.kill(RuleOpaque, "101: the protocol changes")
	case bodiless && (f.chunked || f.length > 0), status < 200 && f.length >= 0:
		return s.kill(RuleNoBody, "status %d with a body", status)
	case f.chunked && x.http10:
		return s.kill(RuleChunked10, "chunked to a client of HTTP/1.0")
	case status < 200 && (x.http10 || http10):
		return s.kill(RuleStatusLine, "status %d in HTTP/1.0, which has no interim responses", status)
	}
	if x.status == 0 && x.interim == 0 {
		x.response.start = s.boundary
	}
	if status < 200 {
		if x.interim++; x.interim > t.limits.Interim {
			return s.kill(RuleInterim, "more than %d", t.limits.Interim)
		}
		x.continued = x.continued || status == http.StatusContinue
		m.reading = between
		return t.showResponse(s, fs, status, 0, false)
	}
	x.status = status
	t.last = t.last || f.close || f.http10
	request := &t.sides[frames.ToOrigin]
	if x.expects && !x.continued && !f.close && !x.request.done && request.app == x.headEnd && !t.cfg.Plain {
		// The client may now leave the body out and go on with a request, or send it: bytes that follow
		// have two readings.
		x.refused = true
	}
	size := f.length
	switch {
	case x.method == http.MethodHead, status == http.StatusNotModified:
		m.reading = between
	case status == http.StatusNoContent:
		m.reading, size = between, 0
	case status == http.StatusResetContent && (f.chunked || f.length > 0):
		return s.kill(RuleNoBody, "status 205 with a body")
	case f.chunked:
		m.reading = inChunkSize
	case f.length > 0:
		m.reading, m.remaining = inLength, f.length
	case f.length == 0:
		m.reading = between
	default:
		t.last = true
		m.reading = inRest
	}
	end0 := m.reading == between
	if err := t.showResponse(s, fs, status, size, end0); err != nil {
		return err
	}
	if end0 {
		t.complete(s, end)
	}
	return nil
}

func (t *Tunnel) showResponse(s *side, fs fields, status int, size int64, end bool) *KillError {
	if !t.watched() {
		return nil
	}
	h := t.header(fs)
	if status >= 200 {
		s.reader.decode(t, s, h, status)
	}
	return t.show(s, Part{Head: &Head{Status: status, Header: h, Size: size}, End: end, Opaque: s.reader.opaque})
}

// readBody reads body bytes. They are a unit each: they leave as inspectors allow.
func (t *Tunnel) readBody(s *side, p []byte) (n int, err *KillError) {
	m := &s.reader
	switch {
	case s.dir == frames.ToOrigin && t.x.refused:
		return 0, s.kill(RuleExpect, "a body behind a final response that did not ask for it")
	case s.dir == frames.ToClient && t.x.status == http.StatusResetContent:
		return 0, s.kill(RuleNoBody, "status 205 with a body")
	}
	n = len(p)
	if m.reading != inRest {
		n = int(min(int64(n), m.remaining))
		m.remaining -= int64(n)
	}
	end := m.reading == inLength && m.remaining == 0
	if t.watched() {
		if err := t.body(s, p[:n], end); err != nil {
			return 0, err
		}
	} else {
		m.decoder = nil
	}
	s.boundary = s.app + int64(n)
	switch {
	case end:
		t.complete(s, s.boundary)
	case m.reading == inChunk && m.remaining == 0:
		m.reading = inChunkEnd
	}
	return n, nil
}

// chunkSize reads a chunk-size line: hexadecimal digits, CRLF, and nothing else. White space, signs and
// extensions are where chunk parsers differ.
func (t *Tunnel) chunkSize(s *side, p []byte) (n int, err *KillError) {
	m := &s.reader
	if s.dir == frames.ToOrigin && t.x.refused {
		return 0, s.kill(RuleExpect, "a body behind a final response that did not ask for it")
	}
	for n < len(p) {
		c := p[n]
		n++
		if m.seen > 0 {
			if c != '\n' {
				return 0, s.kill(RuleBareCR, "in a chunk-size line")
			}
			s.boundary = s.app + int64(n)
			m.remaining = m.size
			m.reading = inChunk
			if m.size == 0 {
				m.reading = inTrailer
			}
			m.size, m.digits, m.seen = 0, 0, 0
			return n, nil
		}
		switch {
		case isHex(c):
			if m.digits++; m.digits > maxChunkDigits {
				return 0, s.kill(RuleChunkSize, "more than %d digits", maxChunkDigits)
			}
			m.size = m.size<<4 | int64(hexValue(c))
			if m.size > maxChunk {
				return 0, s.kill(RuleChunkSize, "a chunk of more than %d bytes", maxChunk)
			}
		case m.digits == 0:
			return 0, s.kill(RuleChunkSize, "no digit where a chunk size begins")
		case c == '\r':
			m.seen = 1
		case c == '\n':
			return 0, s.kill(RuleBareLF, "in a chunk-size line")
		case c == ';':
			return 0, s.kill(RuleChunkExtension, "a chunk extension")
		default:
			return 0, s.kill(RuleChunkSize, "byte %#02x in a chunk size", c)
		}
	}
	return n, nil
}

func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// trailer reads a complete trailer section and ends the message.
func (t *Tunnel) trailer(s *side, sec []byte) *KillError {
	fs := fields{sec}
	for {
		name, _, rule, ok := fs.next()
		if rule != "" {
			return s.kill(rule, "in a trailer section")
		}
		if !ok {
			break
		}
		if framesMessage(bytes.ReplaceAll(name, []byte("_"), []byte("-"))) {
			return s.kill(RuleTrailer, "%s in a trailer section", name)
		}
	}
	if !t.watched() {
		return nil
	}
	if err := s.reader.decoder.finish(s); err != nil {
		return err
	}
	var trailers http.Header
	if len(sec) > len("\r\n") {
		trailers = header(fields{sec})
	}
	return t.show(s, Part{End: true, Opaque: s.reader.opaque, Trailer: trailers})
}

// complete ends the message of s at application offset end.
func (t *Tunnel) complete(s *side, end int64) {
	span := t.x.span(s.dir)
	span.end, span.done = end, true
	s.reader = message{}
}

// header makes the map for an inspector.
func (t *Tunnel) header(fs fields) http.Header {
	h := header(fs)
	if t.cfg.Plain {
		h.Del("Transfer-Encoding") // the caller's, and no field of the message
	}
	return h
}

// closeNotify ends a body that had no other end.
func (t *Tunnel) closeNotify(s *side) *KillError {
	if s.reader.reading != inRest {
		return t.cutShort(s)
	}
	if t.watched() {
		if err := s.reader.decoder.finish(s); err != nil {
			return err
		}
		if err := t.show(s, Part{End: true, Opaque: s.reader.opaque}); err != nil {
			return err
		}
	}
	t.complete(s, s.app)
	return nil
}

// cutShort is called when a direction ends otherwise. An inspector that waits for the end of what it
// holds would wait in vain.
func (t *Tunnel) cutShort(s *side) *KillError {
	if t.x == nil || t.x.span(s.dir).done {
		return nil
	}
	for _, w := range t.x.watches {
		if w.hold[s.dir] >= 0 {
			return s.kill(RuleTruncated, "the message ends before its framing does")
		}
	}
	return nil
}

package inspect

import "bytes"

// section collects a header or trailer section until its empty line. Lines end in CRLF and in nothing
// else: a reader that also takes a bare LF or CR sees other lines than one that does not.
type section struct {
	buf     []byte // what came in earlier pieces
	scanned int    // bytes of buf that hold no further line end
	line    int    // where the current line begins
	lines   int
}

// add looks at p and takes n bytes of it. sec is the section with its empty line once it is whole, and
// is valid until p or the section changes. rule names what is wrong. A trailer section may be empty.
func (c *section) add(p []byte, maxBytes, maxFields int, trailer bool) (n int, sec []byte, rule string) {
	if len(c.buf) == 0 {
		b := p[:min(len(p), maxBytes)]
		end, rule := c.scan(b, maxFields, trailer)
		switch {
		case rule != "":
			return 0, nil, rule
		case end > 0:
			*c = section{}
			return end, b[:end], ""
		case len(b) == maxBytes:
			return 0, nil, RuleHeadSize
		}
		c.buf = append(c.buf, b...)
		return len(b), nil, ""
	}
	before := len(c.buf)
	c.buf = append(c.buf, p[:min(len(p), maxBytes-before)]...)
	end, rule := c.scan(c.buf, maxFields, trailer)
	switch {
	case rule != "":
		return 0, nil, rule
	case end > 0:
		sec = c.buf[:end]
		*c = section{}
		return end - before, sec, ""
	case len(c.buf) == maxBytes:
		return 0, nil, RuleHeadSize
	}
	return len(c.buf) - before, nil, ""
}

// scan goes on at c.scanned and returns where the section ends, or zero.
func (c *section) scan(b []byte, maxFields int, trailer bool) (end int, rule string) {
	for {
		i := bytes.IndexByte(b[c.scanned:], '\n')
		if i < 0 {
			c.scanned = len(b)
			return 0, ""
		}
		i += c.scanned
		if i == c.line || b[i-1] != '\r' {
			return 0, RuleBareLF
		}
		line := b[c.line : i-1]
		c.scanned, c.line = i+1, i+1
		switch {
		case len(line) == 0 && c.lines == 0 && !trailer:
			return 0, RuleEmptyLine
		case len(line) == 0:
			return i + 1, ""
		case bytes.IndexByte(line, '\r') >= 0:
			return 0, RuleBareCR
		case (c.lines > 0 || trailer) && (line[0] == ' ' || line[0] == '\t'):
			return 0, RuleObsFold
		}
		c.lines++
		fields := c.lines
		if !trailer {
			fields--
		}
		if fields > maxFields {
			return 0, RuleFields
		}
	}
}

// fields goes through the fields of a whole section.
type fields struct{ rest []byte }

// firstLine cuts the start line off a header section.
func firstLine(sec []byte) (line []byte, f fields) {
	i := bytes.IndexByte(sec, '\r')
	return sec[:i], fields{sec[i+2:]}
}

// next returns the next field, or ok false at the empty line or when rule says what is wrong.
func (f *fields) next() (name, value []byte, rule string, ok bool) {
	i := bytes.IndexByte(f.rest, '\r')
	if i <= 0 {
		return nil, nil, "", false
	}
	line := f.rest[:i]
	f.rest = f.rest[i+2:]
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !isToken(line[:colon]) {
		return nil, nil, RuleFieldName, false
	}
	name, value = line[:colon], bytes.Trim(line[colon+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, RuleFieldValue, false
		}
	}
	return name, value, "", true
}

func isToken(p []byte) bool {
	for _, c := range p {
		if !isTokenByte(c) {
			return false
		}
	}
	return len(p) > 0
}

// isTokenByte is tchar of RFC 9110, section 5.6.2.
func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}

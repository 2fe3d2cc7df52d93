package inspect

import (
	"errors"
	"net/http"
	"strings"

	"vitrine/proxy/inspect/internal/inflate"
)

// A decoder undoes the content codings of one body, outermost first.
type decoder struct {
	t      *Tunnel
	s      *side
	stages []*stage
	in     int64  // bytes of the body so far
	coded  []byte // what is being decoded, until it was shown
}

type stage struct {
	inflate *inflate.Decoder
	out     int64
}

// decode prepares the reader for a body with the fields h; status is zero for a request.
func (m *message) decode(t *Tunnel, s *side, h http.Header, status int) {
	if m.reading == between {
		return
	}
	var formats []inflate.Format
	for _, value := range h["Content-Encoding"] {
		for coding := range strings.SplitSeq(value, ",") {
			switch strings.ToLower(strings.Trim(coding, " \t")) {
			case "", "identity":
			case "gzip", "x-gzip":
				formats = append(formats, inflate.Gzip)
			case "deflate":
				formats = append(formats, inflate.Zlib)
			default:
				m.opaque = true
			}
		}
	}
	// A range of a coded representation does not begin where its decoder must.
	if len(formats) > t.limits.DecodeDepth || status == http.StatusPartialContent && len(formats) > 0 {
		m.opaque = true
	}
	if m.opaque || len(formats) == 0 {
		return
	}
	d := &decoder{t: t, s: s}
	m.decoder = d
	next := func(p []byte) error {
		if err := t.show(s, Part{Body: View{p}, Coded: d.take()}); err != nil {
			return err
		}
		return nil
	}
	// The field lists codings in the order in which they were applied; the last one comes off first.
	for _, f := range formats {
		next = d.add(f, next)
	}
}

func (d *decoder) add(f inflate.Format, next func([]byte) error) func([]byte) error {
	st := new(stage)
	st.inflate = inflate.New(f, func(p []byte) error {
		l := &d.t.limits
		st.out += int64(len(p))
		if st.out > int64(l.DecodeFree) && st.out/int64(l.DecodeRatio) >= d.in {
			return d.s.kill(RuleRatio, "a body of %d bytes becomes more than %d times as many", d.in, l.DecodeRatio)
		}
		return next(p)
	})
	d.stages = append(d.stages, st)
	return st.inflate.Write
}

// take is what was not shown yet of the bytes that are being decoded.
func (d *decoder) take() View {
	v := View{d.coded}
	d.coded = nil
	return v
}

// write shows the inspectors what p decodes to. Where that is nothing, p itself remains to be shown.
func (d *decoder) write(p []byte) *KillError {
	d.in += int64(len(p))
	d.coded = p
	return d.failed(d.stages[len(d.stages)-1].inflate.Write(p))
}

// finish is called at the end of the body, on a nil decoder too. An empty body has no coding.
func (d *decoder) finish(s *side) *KillError {
	if d == nil || d.in == 0 {
		return nil
	}
	for _, st := range d.stages {
		if !st.inflate.Complete() {
			return s.kill(RuleContentCoding, "the content coding is cut short")
		}
	}
	return nil
}

func (d *decoder) failed(err error) *KillError {
	if err == nil {
		return nil
	}
	var kill *KillError
	if errors.As(err, &kill) {
		return kill
	}
	return d.s.kill(RuleContentCoding, "%v", err)
}

// body shows the inspectors the body bytes p, the last ones of the message when end is set.
func (t *Tunnel) body(s *side, p []byte, end bool) *KillError {
	m := &s.reader
	if m.decoder == nil {
		return t.show(s, Part{Body: View{p}, End: end, Opaque: m.opaque})
	}
	if err := m.decoder.write(p); err != nil {
		return err
	}
	if end {
		if err := m.decoder.finish(s); err != nil {
			return err
		}
	}
	coded := m.decoder.take()
	if coded.Len() == 0 && !end {
		return nil
	}
	return t.show(s, Part{Coded: coded, End: end})
}

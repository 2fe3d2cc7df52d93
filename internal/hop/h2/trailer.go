package h2

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http2"

	"vitrine/internal/hop"
)

// headOnly are fields that frame a message or say where it goes. A trailer section with one of them could
// change, for whoever merges it into the head, what was already acted upon (RFC 9110 section 6.5.1).
var headOnly = map[string]bool{
	"content-length": true, "host": true, "te": true, "trailer": true,
	fieldEvidenceRequest: true, fieldEvidenceID: true,
}

// onTrailer takes HEADERS that end a message. The Framer, and onHeaders, have checked what is true of every
// header list.
func (s *session) onTrailer(st *stream, mh *http2.MetaHeadersFrame) error {
	_, h, err := parseFields(mh.Fields)
	if err != nil {
		return s.fault(st.id, http2.ErrCodeProtocol, err.Error())
	}
	for _, f := range mh.Fields {
		if headOnly[f.Name] {
			return s.fault(st.id, http2.ErrCodeProtocol, fmt.Sprintf("field %q in trailers", f.Name))
		}
	}
	if !s.roomFor(st.incoming, listSize(mh.Fields)) {
		return s.fault(st.id, http2.ErrCodeEnhanceYourCalm, fmt.Sprintf("the header lists of open requests are over %d bytes", s.lim.HeaderTotal))
	}
	if st.rx.content {
		st.mu.Lock()
		st.trailer = h
		st.mu.Unlock()
	}
	return s.onRecvEnd(st)
}

// roomFor counts a request's trailers with its header list.
func (s *session) roomFor(in *incoming, size int) bool {
	if in == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.settled {
		return true
	}
	if s.headerSize+size > s.lim.HeaderTotal {
		return false
	}
	in.size += size
	s.headerSize += size
	return true
}

func (st *stream) sendTrailer(h http.Header) error {
	if len(h) == 0 {
		return st.CloseSend()
	}
	fields, err := appendFields(nil, h)
	if err != nil {
		return err
	}
	for _, f := range fields {
		if headOnly[f.Name] {
			return fmt.Errorf("h2: field %q cannot be sent in trailers", f.Name)
		}
	}
	if err := st.s.checkPeerLimit(fields); err != nil {
		return err
	}
	return st.badContent(st.s.w.finishWith(st, fields))
}

func (st *stream) receivedTrailer() http.Header {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.trailer
}

var (
	_ hop.Requester       = (*session)(nil)
	_ hop.IncomingRequest = incomingRequest{}
)

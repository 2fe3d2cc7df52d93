package h1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"vitrine/internal/hop"
	"vitrine/internal/hop/raw"
)

var errAnswered = errors.New("h1: the request was answered already")

type incoming struct {
	session *session
	stream  *raw.Stream
	req     *hop.Request
	ctx     context.Context

	mu       sync.Mutex
	answered bool
}

func (in *incoming) ID() uint64 { return in.stream.ID() }

func (in *incoming) Request() *hop.Request { return in.req }

func (in *incoming) Session() hop.Session { return in.session }

// Context ends when the client has closed its sending side, too: a client that waits for an answer
// to CONNECT has nothing to end yet.
func (in *incoming) Context() context.Context { return in.ctx }

func (in *incoming) answer() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.answered {
		return errAnswered
	}
	in.answered = true
	return nil
}

// Accept answers a CONNECT with a 2xx; what follows on the connection is the tunnel. Evidence has no
// place in HTTP/1.1 and is not sent.
func (in *incoming) Accept(r *hop.Response) (hop.Stream, error) {
	if r.Status < 200 || r.Status > 299 {
		return nil, fmt.Errorf("h1: status %d does not accept", r.Status)
	}
	if in.req.Method != http.MethodConnect {
		return nil, fmt.Errorf("h1: a %s request opens no tunnel", in.req.Method)
	}
	if err := in.answer(); err != nil {
		return nil, err
	}
	var head bytes.Buffer
	writeHead(&head, r)
	head.WriteString("\r\n")
	if err := in.send(head.Bytes()); err != nil {
		return nil, err
	}
	return in.stream, nil
}

// Reject sends r and closes the connection once the client has it.
func (in *incoming) Reject(r *hop.Response) error {
	if err := in.answer(); err != nil {
		return err
	}
	return in.refuse(r)
}

func (in *incoming) refuse(r *hop.Response) error {
	var msg bytes.Buffer
	writeHead(&msg, r)
	empty := r.Status < 200 || r.Status == http.StatusNoContent || r.Status == http.StatusNotModified
	if !empty {
		if len(r.Body) > 0 && r.Header.Get("Content-Type") == "" {
			msg.WriteString("Content-Type: text/plain; charset=utf-8\r\n")
		}
		msg.WriteString("Content-Length: " + strconv.Itoa(len(r.Body)) + "\r\n")
	}
	msg.WriteString("Connection: close\r\n\r\n")
	if !empty && (in.req == nil || in.req.Method != http.MethodHead) {
		msg.Write(r.Body)
	}
	// What the client still sends is read and dropped until it has taken the answer: closing on
	// unread bytes makes TCP throw the answer away.
	defer close(in.session.refused)
	if err := in.send(msg.Bytes()); err != nil {
		return err
	}
	in.stream.CloseSend()
	in.stream.Start(raw.Discard{})
	return nil
}

// Refuse implements [hop.Incoming].
func (in *incoming) Refuse(code hop.ErrorCode) {
	if in.answer() == nil {
		in.stream.Reset(code)
	}
}

func (in *incoming) send(p []byte) error {
	for len(p) > 0 {
		b := hop.NewBuffer()
		p = p[b.Append(p):]
		if err := in.stream.Send(b); err != nil {
			return err
		}
	}
	return nil
}

// writeHead writes the status line and the fields of r, without those that frame the message.
func writeHead(w *bytes.Buffer, r *hop.Response) {
	text := http.StatusText(r.Status)
	if text == "" && r.Status == 470 {
		text = "Inspection Required"
	}
	fmt.Fprintf(w, "HTTP/1.1 %03d %s\r\n", r.Status, text)
	r.Header.WriteSubset(w, map[string]bool{
		"Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Trailer": true,
	})
}

package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"testing"

	"vitrine/internal/hop"
)

// take accepts the next ordinary request of s.
func take(t testing.TB, s *session) hop.IncomingRequest {
	t.Helper()
	in, err := s.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	or, ok := in.(hop.IncomingRequest)
	if !ok {
		t.Fatalf("%+v is no ordinary request", in.Request())
	}
	return or
}

// exchanged is a request that was sent and taken over, before any answer.
func exchanged(t testing.TB, client, server *session, req *hop.Request, end bool) (hop.Asked, hop.Answering) {
	t.Helper()
	near, err := client.Request(context.Background(), req, end)
	if err != nil {
		t.Fatal(err)
	}
	in := take(t, server)
	if in.End() != end {
		t.Errorf("End is %v", in.End())
	}
	far, err := in.Answer()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

func post(fields ...string) *hop.Request {
	r := &hop.Request{Method: "POST", Authority: "origin.example", Path: "/form", Header: make(http.Header)}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func TestExchangeWithAllItsParts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		near, far := exchanged(t, client, server, post("Content-Length", "5"), false)
		in, out := hop.NewConn(far), hop.NewConn(near)
		io.WriteString(out, "hello")
		if err := near.SendTrailer(http.Header{"Checksum": {"a"}}); err != nil {
			t.Fatal(err)
		}
		if p, err := io.ReadAll(in); err != nil || string(p) != "hello" {
			t.Fatalf("%q, %v", p, err)
		}
		if got := far.Trailer(); !reflect.DeepEqual(got, http.Header{"Checksum": {"a"}}) {
			t.Errorf("trailer %v", got)
		}
		for _, status := range []int{100, 103} {
			if err := far.Interim(status, http.Header{"Link": {"x"}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := far.Respond(&hop.Response{Status: 201, Header: http.Header{"Location": {"/x"}}}, false); err != nil {
			t.Fatal(err)
		}
		var interims []int
		r, err := near.Response(context.Background(), func(status int, h http.Header) {
			interims = append(interims, status)
			if h.Get("Link") != "x" {
				t.Errorf("%d with %v", status, h)
			}
		})
		if err != nil || r.Status != 201 || r.Header.Get("Location") != "/x" || !reflect.DeepEqual(interims, []int{100, 103}) {
			t.Fatalf("%+v, %v after %v", r, err, interims)
		}
		io.WriteString(in, "world")
		if err := far.SendTrailer(http.Header{"Sum": {"b"}}); err != nil {
			t.Fatal(err)
		}
		if p, err := io.ReadAll(out); err != nil || string(p) != "world" {
			t.Fatalf("%q, %v", p, err)
		}
		if got := near.Trailer(); !reflect.DeepEqual(got, http.Header{"Sum": {"b"}}) {
			t.Errorf("trailer %v", got)
		}
		settled(t, client, server)
	})
}

// settled checks that nothing is left of streams that are over.
func settled(t testing.TB, ss ...*session) {
	t.Helper()
	for _, s := range ss {
		s.mu.Lock()
		if n := len(s.streams) + len(s.pending) + s.work + s.headerSize + s.active; n != 0 {
			t.Errorf("left: %d streams, %d pending, %d at work, %d bytes of header lists, %d active (server: %v)",
				len(s.streams), len(s.pending), s.work, s.headerSize, s.active, s.server)
		}
		s.mu.Unlock()
	}
}

func TestExchangeWithoutContent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		near, far := exchanged(t, client, server, &hop.Request{Method: "GET", Authority: "o.example"}, true)
		if err := far.Respond(&hop.Response{Status: 204}, true); err != nil {
			t.Fatal(err)
		}
		r, err := near.Response(context.Background(), nil)
		if err != nil || r.Status != 204 {
			t.Fatal(r, err)
		}
		for _, st := range []hop.Stream{near, far} {
			sink := newCollector()
			st.Start(sink)
			if err := sink.wait(t); err != io.EOF || len(sink.bytes()) > 0 {
				t.Errorf("%q, %v", sink.bytes(), err)
			}
		}
		settled(t, client, server)
	})
}

func TestResponseBeforeTheRequestHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		near, far := exchanged(t, client, server, post(), false)
		far.Respond(&hop.Response{Status: 413}, false)
		send(t, far, []byte("too large"))
		far.CloseSend()
		r, err := near.Response(context.Background(), nil)
		if err != nil || r.Status != 413 {
			t.Fatal(r, err)
		}
		sink := newCollector()
		near.Start(sink)
		if err := sink.wait(t); err != io.EOF || string(sink.bytes()) != "too large" {
			t.Errorf("%q, %v", sink.bytes(), err)
		}
		var reset *hop.ResetError
		for err == nil {
			b := hop.NewBufferSize(1)
			b.Append([]byte("x"))
			err = near.Send(b)
		}
		if !errors.As(err, &reset) || reset.Code != hop.NoError || !reset.Remote {
			t.Error(err)
		}
	})
}

func TestContentThatDiffersFromItsLength(t *testing.T) {
	for name, content := range map[string][]byte{"less": []byte("four"), "more": []byte("sixsix")} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				client, server := sessions(t, nil, &Config{Ordinary: true})
				near, far := exchanged(t, client, server, post("Content-Length", "5"), false)
				sink := newCollector()
				far.Start(sink)
				b := hop.NewBuffer()
				b.Append(content)
				if err := errors.Join(near.Send(b), near.CloseSend()); !errors.Is(err, errContentLength) {
					t.Error(err)
				}
				var reset *hop.ResetError
				if err := sink.wait(t); !errors.As(err, &reset) || !reset.Remote {
					t.Errorf("what is not whole ended with %v", err)
				}
				far.Reset(hop.Cancel)
			})
		})
	}
}

func TestLargeContentBothWays(t *testing.T) {
	client, server := sessions(t, nil, &Config{Ordinary: true})
	near, far := exchanged(t, client, server, post(), false)
	far.Respond(&hop.Response{Status: 200}, false)
	if _, err := near.Response(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	out, echo := hop.NewConn(near), hop.NewConn(far)
	go func() {
		io.Copy(echo, echo)
		echo.CloseWrite()
	}()
	const size = 8 << 20
	go func() {
		out.Write(bytes.Repeat([]byte("0123456789abcdef"), size/16))
		out.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, out); n != size || err != nil {
		t.Fatal(n, err)
	}
}

package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"vitrine/internal/itls"
)

// bulk is how many bytes go each way. They are digits, of which no peer's console makes a command.
const bulk = 100 << 20

// A digits reader returns the same digits each time, and then io.EOF.
type digits struct {
	left int
	rng  *rand.ChaCha8
}

func newDigits(n int) *digits { return &digits{n, rand.NewChaCha8([32]byte{1})} }

func (d *digits) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), d.left)
	_, _ = d.rng.Read(p[:n]) // it never fails
	for i := range p[:n] {
		p[i] = '0' + p[i]%10
	}
	d.left -= n
	return n, nil
}

// A sink takes what a peer prints: what stands between two @ is hashed, and the rest goes to out.
type sink struct {
	out     io.Writer
	sum     hash.Hash
	n       int
	started bool
	ended   bool
	done    chan struct{} // closed at the second
}

func newSink() *sink { return &sink{sum: sha256.New(), done: make(chan struct{})} }

func (s *sink) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '@')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if s.started && !s.ended {
			s.sum.Write(part)
			s.n += len(part)
		} else if _, err := s.out.Write(part); err != nil {
			return 0, err
		}
		if i < 0 {
			break
		}
		p = p[i+1:]
		if s.started {
			s.ended = true
			close(s.done)
		}
		s.started = true
	}
	return all, nil
}

func digest(n int) string {
	h := sha256.New()
	_, _ = io.Copy(h, newDigits(n)) // neither fails
	return hex.EncodeToString(h.Sum(nil))
}

func (o *openssl) streams() (rows []row) {
	add := func(name string, role role, test func(r *run)) { rows = append(rows, row{name, role, test}) }
	want := sync.OnceValue(func() string { return digest(bulk) })
	// s_client says when it waits, between the data, unless it is quiet; s_server would not even say its address.
	quiet := []string{"-quiet"}

	add("100 MB from us", either, func(r *run) {
		l := o.link(r, setup{})
		l.sink = newSink()
		s, err := l.try(quiet...)
		if err != nil {
			r.Fatal(err)
		}
		n, err := io.Copy(s, io.MultiReader(strings.NewReader("@"), newDigits(bulk), strings.NewReader("@")))
		if err != nil {
			r.Fatalf("after %d bytes: %v", n, err)
		}
		select {
		case <-l.sink.done:
		case <-time.After(patience):
			r.Fatal("they did not arrive")
		}
		if l.sink.n != bulk || hex.EncodeToString(l.sink.sum.Sum(nil)) != want() {
			r.Errorf("%d bytes arrived, and not those that were sent", l.sink.n)
		}
	})
	add("100 MB to us", either, func(r *run) {
		l := o.link(r, setup{})
		s, err := l.try(quiet...)
		if err != nil {
			r.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(l.peer.stdin, newDigits(bulk))
			sent <- err
		}()
		h := sha256.New()
		n, err := io.CopyN(h, s, bulk)
		if err := errors.Join(err, <-sent); err != nil {
			r.Fatalf("after %d bytes: %v", n, err)
		}
		if hex.EncodeToString(h.Sum(nil)) != want() {
			r.Error("not the bytes that were sent")
		}
		l.finish(s)
	})
	add("close_notify, ours first", either, func(r *run) {
		l := o.link(r, setup{})
		l.finish(l.open())
	})
	add("close_notify, theirs first", either, func(r *run) {
		s := setup{theirs: []string{"-rev"}} // at "CLOSE" it closes; at its console's Q it would cut off
		if r.role == asServer {
			s.theirs = nil
		}
		l := o.link(r, s)
		conn, err := l.try()
		if err != nil {
			r.Fatal(err)
		}
		if r.role == asClient {
			conn.send(r.T, "abc\n")
			conn.want(r.T, "cba\n")
			conn.send(r.T, "CLOSE\n")
		} else {
			l.exchange(conn)
			l.peer.write("Q\n")
		}
		conn.wantEnd(r.T)
		if err := conn.Close(); err != nil {
			r.Error(err)
		}
		if r.role == asServer && l.peer.exit() != 0 {
			r.Errorf("it exits with %d", l.peer.exit())
		}
	})
	add("cut off by them", either, func(r *run) {
		l := o.link(r, setup{})
		s := l.open()
		text := strings.Repeat("0123456789", 1000) + "\n"
		l.peer.write(text)
		s.want(r.T, text)
		l.peer.kill()
		if rest, err := io.ReadAll(s); !cutOff(err) || len(rest) > 0 {
			r.Errorf("%q and then %v", rest, err)
		}
	})
	add("cut off by us", either, func(r *run) {
		l := o.link(r, setup{})
		s := l.open()
		if err := s.NetConn().Close(); err != nil {
			r.Fatal(err)
		}
		l.peer.says("unexpected eof while reading")
	})
	add("KeyUpdate, ours", either, func(r *run) {
		l := o.link(r, setup{})
		s := l.open()
		if err := s.UpdateKeys(); err != nil {
			r.Fatal(err)
		}
		l.keysUpdated(s, func() {})
	})
	for _, command := range []struct{ name, key string }{{"KeyUpdate, theirs", "k\n"}, {"KeyUpdate, theirs, ours asked for", "K\n"}} {
		add(command.name, either, func(r *run) {
			l := o.link(r, setup{})
			s := l.open()
			l.keysUpdated(s, func() {
				before := s.flow.received()
				l.peer.write(command.key)
				if !s.flow.waitFor(before + 1) {
					r.Fatal("it sent no KeyUpdate")
				}
			})
		})
	}
	return rows
}

// keysUpdated expects that a session goes on after a KeyUpdate, or that the peer breaks it and says so: then we
// see a clean failure, and the next session is as good as any.
func (l *link) keysUpdated(s *session, update func()) {
	l.r.Helper()
	const words = "internal error" // of its own record layer
	const text = "from them, updated\n"
	var got string
	var err error
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, len(text))
		var n int
		n, err = io.ReadFull(s, buf)
		got = string(buf[:n])
	}()
	update()
	_, _ = io.WriteString(s, "from us, updated\n") // where it is broken this may fail, and Read says why
	_, _ = io.WriteString(l.peer.stdin, text)
	<-read // within patience, as the connection's deadline has it
	if err == nil {
		if got != text {
			l.r.Fatalf("read %q", got)
		}
		if l.peer.expect(words + "|from us, updated")[0] != words {
			l.r.say("ok there too")
			l.exchange(s)
			return
		}
		_, err = s.Read(make([]byte, 1))
	}
	l.peer.says(words)
	alert, ok := errors.AsType[*itls.AlertError](err)
	if !(ok && alert.Remote) && !cutOff(err) {
		l.r.Fatalf("%q, %v; want the peer's alert, or its end", got, err)
	}
	l.r.say("broken there")
	s.Close()
	if l.r.role == asClient {
		l.peer.kill() // s_server may be stuck with what it could not write
		l.peer = nil
	}
	l.finish(l.open())
}

package hostile

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"

	"vitrine/internal/hop"
)

// record is a TLS record of type t.
func record(t byte, fragment string) []byte {
	return append([]byte{t, 3, 3, 0, byte(len(fragment))}, fragment...)
}

// run sends stream through m in buffers of n bytes, and then its end.
func run(m Mangler, stream []byte, n int) []byte {
	var out []byte
	collect := func(buffers []*hop.Buffer) {
		for _, b := range buffers {
			out = append(out, b.Bytes()...)
			b.Release()
		}
	}
	for chunk := range slices.Chunk(stream, n) {
		if c, ok := m.(Cutter); ok && c.Ended() {
			break
		}
		b := hop.NewBuffer()
		b.Append(chunk)
		collect(m.Mangle(b))
	}
	if h, ok := m.(Holder); ok {
		collect(h.Flush())
	}
	return out
}

func TestAttacksHitWhatTheyAimAt(t *testing.T) {
	a, b, c := record(22, "first"), record(23, "second"), record(23, "third")
	stream := slices.Concat(a, b, c)
	flipped := bytes.Clone(b)
	flipped[6] ^= 4
	last := bytes.Clone(c)
	last[len(last)-1] ^= 1
	for _, x := range []struct {
		name   string
		attack func() Mangler
		want   []byte
		fired  bool
	}{
		{"nothing", func() Mangler { return NewAttack(func(_ int, r []byte) [][]byte { return [][]byte{r} }) }, stream, false},
		{"flip", func() Mangler { return FlipRecord(1, 6, 4) }, slices.Concat(a, flipped, c), true},
		{"flip the last", func() Mangler { return FlipRecord(2, -1, 1) }, slices.Concat(a, b, last), true},
		{"flip a byte", func() Mangler { return FlipByte(int64(len(a)+6), 4) }, slices.Concat(a, flipped, c), true},
		{"flip a byte that does not come", func() Mangler { return FlipByte(1000, 4) }, stream, false},
		{"flip a needle", func() Mangler { return Flip([]byte("hird")) }, bytes.Replace(stream, []byte("hird"), []byte("iird"), 1), true},
		{"drop", func() Mangler { return Drop(1) }, slices.Concat(a, c), true},
		{"drop one that does not come", func() Mangler { return Drop(3) }, stream, false},
		{"insert", func() Mangler { return Insert(1, c) }, slices.Concat(a, c, b, c), true},
		{"replace", func() Mangler { return Replace(0, c) }, slices.Concat(c, b, c), true},
		{"replay", func() Mangler { return Replay(1) }, slices.Concat(a, b, b, c), true},
		{"cut in it", func() Mangler { return Cut(1, 7) }, slices.Concat(a, b[:7]), true},
		{"cut behind it", func() Mangler { return Cut(1, 1000) }, slices.Concat(a, b), true},
		{"stall", func() Mangler { return Stall(1) }, a, true},
		{"split", func() Mangler { return Split(1, 2) }, slices.Concat(a, record(23, "se"), record(23, "cond"), c), true},
		{"swap", func() Mangler { return Swap(1) }, slices.Concat(a, c, b), true},
		{"swap with what does not come", func() Mangler { return Swap(2) }, stream, false},
	} {
		for _, n := range []int{1, 4, 16, len(stream)} {
			m := x.attack()
			if _, needle := m.(*flip); needle && n < len(stream) {
				continue // it wants its needle in one buffer
			}
			if got := run(m, stream, n); !bytes.Equal(got, x.want) {
				t.Errorf("%s, in buffers of %d: %q, want %q", x.name, n, got, x.want)
			}
			if f, ok := m.(interface{ Fired() bool }); ok && f.Fired() != x.fired {
				t.Errorf("%s: fired %v", x.name, f.Fired())
			}
		}
	}
}

func TestAnAttackPassesOnWhatIsNoRecord(t *testing.T) {
	for _, stream := range []string{"GET / HTTP/1.1\r\n\r\n", "\x17\x03\x03\x00\x10short"} {
		if got := run(Drop(5), []byte(stream), 3); string(got) != stream {
			t.Errorf("%q became %q", stream, got)
		}
	}
}

func TestATapeKeepsWhatPassed(t *testing.T) {
	a, b := record(22, "first"), record(23, "second")
	var tape Tape
	if got := run(tape.Mangler(), slices.Concat(a, b), 3); !bytes.Equal(got, slices.Concat(a, b)) {
		t.Errorf("%q", got)
	}
	if got := tape.Records(); len(got) != 2 || !bytes.Equal(got[0], a) || !bytes.Equal(got[1], b) {
		t.Errorf("%q", got)
	}
}

// fake is a session, a request and a stream that note what is done to them.
type fake struct {
	hop.Session
	hop.Incoming
	hop.Stream
	did []string
	req *hop.Request
}

func (f *fake) note(s string) { f.did = append(f.did, s) }

func (f *fake) Request() *hop.Request { return f.req }

type fakeSession struct{ *fake }

func (f fakeSession) Open(_ context.Context, req *hop.Request) (*hop.Response, hop.Stream, error) {
	f.note("open " + req.Authority)
	return &hop.Response{Status: 200, Evidence: []byte("true")}, fakeStream(f), nil
}
func (f fakeSession) Accept(context.Context) (hop.Incoming, error) { return fakeIncoming(f), nil }
func (f fakeSession) SendVerdict(_ uint64, v []byte) error {
	f.note("verdict " + string(v))
	return nil
}
func (f fakeSession) Peer() *hop.Peer                   { return nil }
func (f fakeSession) Ready(context.Context) error       { return nil }
func (f fakeSession) Drain(context.Context) error       { return nil }
func (f fakeSession) Close(hop.ErrorCode, string) error { return nil }
func (f fakeSession) Done() <-chan struct{}             { return nil }
func (f fakeSession) Err() error                        { return nil }

type fakeIncoming struct{ *fake }

func (f fakeIncoming) ID() uint64               { return 1 }
func (f fakeIncoming) Session() hop.Session     { return fakeSession(f) }
func (f fakeIncoming) Context() context.Context { return context.Background() }
func (f fakeIncoming) Request() *hop.Request    { return f.req }
func (f fakeIncoming) Refuse(hop.ErrorCode)     {}
func (f fakeIncoming) Reject(r *hop.Response) error {
	f.note("reject " + http.StatusText(r.Status))
	return nil
}

func (f fakeIncoming) Accept(r *hop.Response) (hop.Stream, error) {
	f.note("accept " + string(r.Evidence))
	return fakeStream(f), nil
}

type fakeStream struct{ *fake }

func (f fakeStream) ID() uint64           { return 1 }
func (f fakeStream) Session() hop.Session { return fakeSession(f) }
func (f fakeStream) Start(hop.Sink)       { f.note("start") }
func (f fakeStream) Queued() int          { return 0 }
func (f fakeStream) CloseSend() error     { f.note("end"); return nil }
func (f fakeStream) Reset(hop.ErrorCode)  { f.note("reset") }
func (f fakeStream) Kill(v []byte)        { f.note("kill " + string(v)) }
func (f fakeStream) Send(b *hop.Buffer) error {
	f.note(string(b.Bytes()))
	b.Release()
	return nil
}

func TestLies(t *testing.T) {
	ctx := context.Background()
	for _, x := range []struct {
		name string
		lies Lies
		do   func(s hop.Session) error
		want []string
	}{
		{"the truth", Lies{}, func(s hop.Session) error {
			in, _ := s.Accept(ctx)
			st, err := in.Accept(&hop.Response{Status: 200, Evidence: []byte("true")})
			st.Send(Buffers([]byte("bytes"))[0])
			st.CloseSend()
			st.Kill([]byte("why"))
			return err
		}, []string{"accept true", "bytes", "end", "kill why"}},
		{"another request", Lies{Request: func(r *hop.Request) { r.Authority = "other" }}, func(s hop.Session) error {
			_, _, err := s.Open(ctx, &hop.Request{Authority: "asked"})
			return err
		}, []string{"open other"}},
		{"another answer to us", Lies{Answer: func(_ *hop.Request, r *hop.Response) { r.Evidence = []byte("lie") }}, func(s hop.Session) error {
			r, _, err := s.Open(ctx, &hop.Request{})
			if string(r.Evidence) != "lie" {
				return errors.New("the truth came through")
			}
			return err
		}, []string{"open "}},
		{"a refusal in the place of a tunnel", Lies{Answer: func(_ *hop.Request, r *hop.Response) { r.Status = 404 }}, func(s hop.Session) error {
			in, _ := s.Accept(ctx)
			if _, err := in.Accept(&hop.Response{Status: 200}); err == nil {
				return errors.New("there is a tunnel")
			}
			return nil
		}, []string{"reject Not Found"}},
		{"a tunnel in the place of a refusal", Lies{Answer: func(_ *hop.Request, r *hop.Response) { r.Status = 200 }}, func(s hop.Session) error {
			in, _ := s.Accept(ctx)
			return in.Reject(&hop.Response{Status: 404})
		}, []string{"accept ", "start", "end"}},
		{"another verdict", Lies{Verdict: func(uint64, []byte) []byte { return []byte("lie") }}, func(s hop.Session) error {
			_, st, err := s.Open(ctx, &hop.Request{})
			st.Kill([]byte("why"))
			return err
		}, []string{"open ", "kill lie"}},
		{"no verdict", Lies{Verdict: func(uint64, []byte) []byte { return nil }}, func(s hop.Session) error {
			_, st, err := s.Open(ctx, &hop.Request{})
			st.Kill([]byte("why"))
			return err
		}, []string{"open ", "reset"}},
		{"the verdict last", Lies{ResetFirst: true}, func(s hop.Session) error {
			_, st, err := s.Open(ctx, &hop.Request{})
			st.Kill([]byte("why"))
			return err
		}, []string{"open ", "reset", "verdict why"}},
		{"a cut", Lies{Mangler: func(uint64) Mangler { return Cut(0, 6) }}, func(s hop.Session) error {
			_, st, err := s.Open(ctx, &hop.Request{})
			st.Send(Buffers(record(22, "first"))[0])
			st.Send(Buffers(record(22, "next"))[0])
			st.CloseSend()
			return err
		}, []string{"open ", string(record(22, "first")[:6]), "end"}},
		{"what was kept back, at the end", Lies{Mangler: func(uint64) Mangler { return Swap(0) }}, func(s hop.Session) error {
			_, st, err := s.Open(ctx, &hop.Request{})
			st.Send(Buffers(record(22, "first"))[0])
			st.CloseSend()
			return err
		}, []string{"open ", string(record(22, "first")), "end"}},
	} {
		f := &fake{req: &hop.Request{}}
		if err := x.do(Lie(fakeSession{f}, x.lies)); err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
		if !slices.Equal(f.did, x.want) {
			t.Errorf("%s: %q, want %q", x.name, f.did, x.want)
		}
	}
}

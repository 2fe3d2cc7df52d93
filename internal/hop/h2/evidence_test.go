package h2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"vitrine/frames"
	"vitrine/internal/hop"
)

// spec: HOP-9 HOP-10 HOP-11 HOP-12
func TestEvidenceInBothPlaces(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, size := range []int{1, 100, 16383, 16384, frames.MaxEvidence} {
			for _, status := range []int{200, 470} {
				for _, body := range []string{"", "why"} {
					bubble(t, func(t *testing.T) {
						client, server := sessions(t, &Config{Late: late}, nil)
						evidence := bytes.Repeat([]byte("e"), size)
						answered := make(chan hop.Stream, 1)
						go func() {
							in, err := server.Accept(context.Background())
							if err != nil {
								t.Error(err)
								return
							}
							var st hop.Stream
							r := &hop.Response{Status: status, Evidence: evidence}
							if status == 200 {
								st, err = in.Accept(r)
							} else {
								r.Body = []byte(body)
								err = in.Reject(r)
							}
							if err != nil {
								t.Error(err)
							}
							answered <- st
						}()
						r, near, err := client.Open(context.Background(), connectRequest())
						if err != nil {
							t.Fatal(late, size, status, err)
						}
						if !bytes.Equal(r.Evidence, evidence) {
							t.Fatalf("late %v, status %d: %d bytes of evidence, want %d", late, status, len(r.Evidence), size)
						}
						far := <-answered
						if status != 200 {
							if string(r.Body) != body {
								t.Errorf("body %q", r.Body)
							}
							return
						}
						b := hop.NewConn(far)
						if _, err := b.Write([]byte("tunnel")); err != nil {
							t.Fatal(err)
						}
						got := make([]byte, 6)
						if _, err := io.ReadFull(hop.NewConn(near), got); err != nil || string(got) != "tunnel" {
							t.Errorf("behind the evidence: %q, %v", got, err)
						}
					})
				}
			}
		}
	}
}

// spec: HOP-11
func TestLateEvidenceThatIsNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, &Config{Late: true}, nil)
		near, far := tunnel(t, client, server)
		if _, err := hop.NewConn(far).Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1)
		if _, err := io.ReadFull(hop.NewConn(near), got); err != nil || got[0] != 'x' {
			t.Error(got, err)
		}
	})
}

// spec: HOP-9
func TestEvidenceOnlyForARequestThatAsks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		go client.Open(context.Background(), &hop.Request{Authority: "o.example:443"})
		in, err := server.Accept(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Reject(&hop.Response{Status: 470, Evidence: []byte("e")}); err == nil {
			t.Error("evidence was sent to a request that did not ask")
		}
		if err := in.Reject(&hop.Response{Status: 470}); err != nil {
			t.Error(err)
		}
	})
}

// What the server writes, frame by frame.
// spec: HOP-10 HOP-11 HOP-12
func TestEvidenceOnTheWire(t *testing.T) {
	evidence := bytes.Repeat([]byte("e"), 20_000)
	answer := func(p *rawPeer, status int) {
		p.t.Helper()
		p.connect(1)
		in, err := p.s.Accept(context.Background())
		p.must(err)
		r := &hop.Response{Status: status, Evidence: evidence}
		if status == 200 {
			_, err = in.Accept(r)
		} else {
			r.Body = []byte("why")
			err = in.Reject(r)
		}
		p.must(err)
	}
	frameEvidence := func(p *rawPeer) {
		p.t.Helper()
		var a frames.EvidenceAssembler
		for {
			f := p.want(frames.TypeEvidence).(*http2.UnknownFrame)
			e, err := frames.ParseEvidence(f.Payload())
			p.must(err)
			got, done, err := a.Add(e)
			p.must(err)
			if done {
				if !bytes.Equal(got, evidence) {
					p.t.Error("the evidence changed")
				}
				return
			}
		}
	}
	lateSetting := func(p *rawPeer) http2.Setting {
		return http2.Setting{ID: frames.SettingITLS, Val: frames.TakesEvidence | frames.LateEvidence}
	}
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		answer(p, 200)
		frameEvidence(p)
		p.want(http2.FrameHeaders)
	})
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil)
		p.greet(lateSetting(p))
		answer(p, 200)
		p.want(http2.FrameHeaders)
		var data []byte
		for len(data) < 4+len(evidence) {
			data = append(data, p.want(http2.FrameData).(*http2.DataFrame).Data()...)
		}
		if binary.BigEndian.Uint32(data) != uint32(len(evidence)) || !bytes.Equal(data[4:], evidence) {
			t.Error("the evidence changed")
		}
	})
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil)
		p.greet(lateSetting(p))
		answer(p, 470)
		if p.want(http2.FrameHeaders).(*http2.HeadersFrame).StreamEnded() {
			t.Error("END_STREAM in HEADERS")
		}
		frameEvidence(p)
		if f := p.want(http2.FrameData).(*http2.DataFrame); string(f.Data()) != "why" || f.StreamEnded() {
			t.Errorf("%v", f)
		}
		if f := p.want(http2.FrameData).(*http2.DataFrame); len(f.Data()) != 0 || !f.StreamEnded() {
			t.Errorf("%v", f)
		}
	})
}

// spec: HOP-13
func TestEvidenceOutOfPlaceEndsTheStream(t *testing.T) {
	one := frames.Evidence{Last: true, Fragment: []byte("e")}.Append(nil)
	part := frames.Evidence{Fragment: []byte("e")}.Append(nil)
	ev := func(p *rawPeer, payload []byte) { p.must(p.fr.WriteRawFrame(frames.TypeEvidence, 0, 1, payload)) }
	ok := func(p *rawPeer) { p.headers(1, false, ":status", "200") }
	no := func(p *rawPeer, end bool) { p.headers(1, end, ":status", "470") }
	for name, c := range map[string]struct {
		late, silent bool // silent: the request does not ask
		do           func(p *rawPeer)
	}{
		"not asked":                 {silent: true, do: func(p *rawPeer) { ev(p, one) }},
		"twice":                     {do: func(p *rawPeer) { ev(p, one); ev(p, one) }},
		"empty fragment":            {do: func(p *rawPeer) { ev(p, []byte{1}) }},
		"unknown flags":             {do: func(p *rawPeer) { ev(p, []byte{2, 'x'}) }},
		"no flags":                  {do: func(p *rawPeer) { ev(p, nil) }},
		"seventeen fragments":       {do: func(p *rawPeer) { fragments(p, 17, part) }},
		"HEADERS inside":            {do: func(p *rawPeer) { ev(p, part); ok(p) }},
		"behind HEADERS":            {do: func(p *rawPeer) { ok(p); ev(p, one) }},
		"late, before HEADERS":      {late: true, do: func(p *rawPeer) { ev(p, one) }},
		"late, in a tunnel":         {late: true, do: func(p *rawPeer) { ok(p); ev(p, one) }},
		"late, DATA inside":         {late: true, do: func(p *rawPeer) { no(p, false); ev(p, part); p.must(p.fr.WriteData(1, false, []byte("x"))) }},
		"late, behind DATA":         {late: true, do: func(p *rawPeer) { no(p, false); p.must(p.fr.WriteData(1, false, []byte("x"))); ev(p, one) }},
		"late, end inside":          {late: true, do: func(p *rawPeer) { no(p, false); ev(p, part); p.must(p.fr.WriteData(1, true, nil)) }},
		"late, tunnel ends inside":  {late: true, do: func(p *rawPeer) { ok(p); p.must(p.fr.WriteData(1, true, []byte{0, 0, 0, 2, 'x'})) }},
		"late, tunnel without any":  {late: true, do: func(p *rawPeer) { p.headers(1, true, ":status", "200") }},
		"late, more than 64 KiB":    {late: true, do: func(p *rawPeer) { ok(p); p.must(p.fr.WriteData(1, false, []byte{0, 1, 0, 1})) }},
		"late, an absurd length":    {late: true, do: func(p *rawPeer) { ok(p); p.must(p.fr.WriteData(1, false, []byte{0xff, 0xff, 0xff, 0xff})) }},
		"late, in HEADERS with end": {late: true, do: func(p *rawPeer) { ev(p, part); no(p, true) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawServer(t, &Config{Late: c.late}).greet()
				req := connectRequest()
				if c.silent {
					req.Header = http.Header{}
				}
				go p.s.Open(context.Background(), req)
				p.want(http2.FrameHeaders)
				c.do(p)
				p.wantReset(1, http2.ErrCodeProtocol)
				p.alive()
			})
		})
	}
}

func fragments(p *rawPeer, n int, payload []byte) {
	for range n {
		p.must(p.fr.WriteRawFrame(frames.TypeEvidence, 0, 1, payload))
	}
}

// spec: HOP-14
func TestOurFramesOnTheWrongStreamEndTheConnection(t *testing.T) {
	verdict := append(make([]byte, 8), signedVerdict...)
	for name, c := range map[string]struct {
		typ    http2.FrameType
		stream uint32
		data   []byte
		settle bool // after SETTINGS_ITLS
	}{
		"EVIDENCE on stream 0":           {frames.TypeEvidence, 0, []byte{1, 'e'}, true},
		"VERDICT on a stream":            {frames.TypeVerdict, 1, verdict, true},
		"EVIDENCE on an idle stream":     {frames.TypeEvidence, 9, []byte{1, 'e'}, true},
		"EVIDENCE without SETTINGS_ITLS": {frames.TypeEvidence, 1, []byte{1, 'e'}, false},
		"VERDICT without SETTINGS_ITLS":  {frames.TypeVerdict, 0, verdict, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawServer(t, nil)
				if c.settle {
					p.greet()
				} else {
					p.preface()
					p.must(p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}))
				}
				go p.s.Open(context.Background(), connectRequest())
				p.want(http2.FrameHeaders)
				p.must(p.fr.WriteRawFrame(c.typ, 0, c.stream, c.data))
				p.wantGoAway(http2.ErrCodeProtocol)
			})
		})
	}
}

// spec: HOP-6
func TestNoFrameOfOursToAPeerThatDidNotSayItTakesThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil)
		p.preface()
		p.must(p.fr.WriteSettings())
		p.connect(1)
		in, err := p.s.Accept(context.Background())
		p.must(err)
		if _, err := in.Accept(&hop.Response{Status: 200, Evidence: []byte("e")}); err == nil {
			t.Error("evidence was sent")
		}
		if err := p.s.SendVerdict(1, signedVerdict); err == nil {
			t.Error("a verdict was sent")
		}
		st, err := in.Accept(&hop.Response{Status: 200})
		p.must(err)
		st.Kill(signedVerdict)
		for {
			f, err := p.next()
			p.must(err)
			switch f := f.(type) {
			case *http2.UnknownFrame:
				t.Fatalf("frame %v", f)
			case *http2.RSTStreamFrame:
				if f.ErrCode != frames.CodeKilled {
					t.Errorf("%v", f)
				}
				return
			}
		}
	})
}

// spec: HOP-15
func TestVerdictPrecedesTheReset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		st := p.open(1)
		send(t, st, make([]byte, 100<<10)) // most of it waits for a window
		st.Kill(signedVerdict)
		verdict := false
		for {
			f, err := p.next()
			p.must(err)
			switch f := f.(type) {
			case *http2.UnknownFrame:
				id, signed, err := frames.SplitVerdict(f.Payload())
				if err != nil || id != 1 || f.StreamID != 0 || !bytes.Equal(signed, signedVerdict) {
					t.Errorf("%v: %d %x %v", f, id, signed, err)
				}
				verdict = true
			case *http2.RSTStreamFrame:
				if !verdict || f.ErrCode != frames.CodeKilled {
					t.Errorf("%v; a verdict before it: %v", f, verdict)
				}
				p.must(p.fr.WriteWindowUpdate(0, 1<<20))
				p.alive() // and no DATA comes behind it
				return
			}
		}
	})
}

// spec: HOP-16
func TestVerdictsOfOthersAreIgnored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil).greet()
		opened := make(chan hop.Stream, 1)
		go func() {
			_, st, err := p.s.Open(context.Background(), connectRequest())
			if err != nil {
				t.Error(err)
			}
			opened <- st
		}()
		p.want(http2.FrameHeaders)
		p.headers(1, false, ":status", "200")
		sink := newCollector()
		(<-opened).Start(sink)
		verdict := func(id uint64, signed []byte) {
			p.must(p.fr.WriteRawFrame(frames.TypeVerdict, 0, 0, frames.AppendVerdict(nil, id, signed)))
		}
		other := []byte{0, 1, 'w', 8, 7, 0, 1, 's'}
		verdict(3, other)
		verdict(1<<40, other)
		verdict(0, other)
		verdict(1<<62, other)                                                 // which is no stream
		p.must(p.fr.WriteRawFrame(frames.TypeVerdict, 0, 0, []byte{0, 0, 0})) // which ends inside one
		verdict(1, signedVerdict)
		verdict(1, other) // the second for this stream
		p.must(p.fr.WriteRSTStream(1, frames.CodeKilled))
		var reset *hop.ResetError
		if err := sink.wait(t); !errors.As(err, &reset) || !bytes.Equal(reset.Verdict, signedVerdict) {
			t.Errorf("%v %x", err, reset.Verdict)
		}
		if !p.log.has("VERDICT for stream 3") || !p.log.has("second VERDICT") {
			t.Error("what was ignored was not told")
		}
	})
}

func TestVerdictWithoutResetEndsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		near, far := tunnel(t, client, server)
		if err := server.SendVerdict(far.ID(), signedVerdict); err != nil {
			t.Fatal(err)
		}
		if err := server.SendVerdict(99, signedVerdict); err == nil {
			t.Error("a verdict for a stream that there never was")
		}
		if err := server.SendVerdict(far.ID(), make([]byte, 16384)); err == nil {
			t.Error("a verdict that fits no frame")
		}
		synctest.Wait()
		if near.(*stream).over() {
			t.Error("the stream is over")
		}
	})
}

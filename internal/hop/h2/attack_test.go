package h2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/internal/hop"
)

// flood writes frames until the session gives up or n were written, while it reads what comes back. It
// returns how many frames the session has read.
func (p *rawPeer) flood(n int, frame func(i int) error) int {
	p.t.Helper()
	before, written := p.s.inFrames.Load(), 0
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			if _, err := p.next(); err != nil {
				return
			}
		}
	}()
	for written < n && p.s.Err() == nil && frame(written) == nil {
		written++
	}
	if written == n {
		synctest.Wait()
	}
	if p.s.Err() == nil {
		p.t.Fatalf("the session survived %d frames", written)
	}
	p.conn.NetConn().Close()
	<-read
	<-p.s.Done()
	return int(p.s.inFrames.Load()-before) / 2
}

// wantEnd checks how the session ended.
func (p *rawPeer) wantEnd(code http2.ErrCode, reason string) {
	p.t.Helper()
	var err *hop.SessionError
	if !errors.As(p.s.Err(), &err) || err.Code != hop.ErrorCode(code) || err.Remote || !strings.Contains(err.Reason, reason) {
		p.t.Fatalf("the session ended with %v, want %v %q", p.s.Err(), code, reason)
	}
}

// CVE-2023-44487
func TestRapidReset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		id := uint32(1)
		n := p.flood(10_000, func(int) error {
			p.connect(id)
			err := p.fr.WriteRSTStream(id, http2.ErrCodeCancel)
			id += 2
			return err
		})
		p.wantEnd(http2.ErrCodeEnhanceYourCalm, "RST_STREAM")
		if n > 2*600 {
			t.Errorf("%d frames before the session ended", n)
		}
	})
}

// Rapid reset against slow handlers: a reset does not make room for more work.
func TestRapidResetBuysNoWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Limits: hop.Limits{Streams: 10}}).greet()
		for id := uint32(1); id <= 19; id += 2 {
			p.connect(id)
			if _, err := p.s.Accept(context.Background()); err != nil { // and works on
				t.Fatal(err)
			}
			p.must(p.fr.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		p.connect(21)
		p.wantReset(21, http2.ErrCodeRefusedStream)
		if n := open(p.s); n != 0 {
			t.Fatalf("%d streams are open", n)
		}
		p.alive()
	})
}

func TestAnsweredWorkMakesRoomAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Limits: hop.Limits{Streams: 1}}).greet()
		for id := uint32(1); id < 20; id += 2 {
			p.connect(id)
			in, err := p.s.Accept(context.Background())
			p.must(err)
			p.must(p.fr.WriteRSTStream(id, http2.ErrCodeCancel))
			<-in.Context().Done()
			if err := in.Reject(&hop.Response{Status: 502}); err == nil {
				t.Error("an answer to a request that was reset")
			}
		}
		p.open(21)
	})
}

// CVE-2025-8671
func TestMadeYouReset(t *testing.T) {
	for name, provoke := range map[string]func(p *rawPeer, id uint32) error{
		"zero WINDOW_UPDATE": func(p *rawPeer, id uint32) error {
			return p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
		},
		"window overflow": func(p *rawPeer, id uint32) error { return p.fr.WriteWindowUpdate(id, maxWindow) },
		"HEADERS inside a tunnel": func(p *rawPeer, id uint32) error {
			p.headers(id, true, "a", "b")
			return nil
		},
		"malformed request": func(p *rawPeer, id uint32) error {
			p.headers(id+2, false, ":method", "GET", "Connection", "close")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, nil).greet()
				id := uint32(1)
				n := p.flood(10_000, func(int) error {
					p.connect(id)
					err := provoke(p, id)
					id += 4
					return err
				})
				p.wantEnd(http2.ErrCodeEnhanceYourCalm, "")
				if n > 2*600 {
					t.Errorf("%d frames before the session ended", n)
				}
			})
		})
	}
}

// CVE-2023-45288
func TestContinuationFlood(t *testing.T) {
	fragments := map[string][]byte{"empty": nil, "one byte": {0x82}, "full": bytes.Repeat([]byte{0x82}, 16384)}
	for name, fragment := range fragments {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, nil).greet()
				p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(connectFields...)}))
				n := p.flood(100_000, func(int) error { return p.fr.WriteContinuation(1, false, fragment) })
				if n > 17 {
					t.Errorf("%d CONTINUATION frames before the session ended", n)
				}
				var err *hop.SessionError
				if !errors.As(p.s.Err(), &err) || err.Remote || err.Code == hop.NoError {
					t.Error(p.s.Err())
				}
			})
		})
	}
}

// A field that is fine, a byte at a time: nothing but the number of frames is wrong with it.
func TestContinuationFloodOfOneLongField(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		block := p.encode(append(connectFields, "long", strings.Repeat("x", 3000))...)
		p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]}))
		n := p.flood(len(block)-1, func(i int) error { return p.fr.WriteContinuation(1, false, block[i+1:i+2]) })
		if n > 17 {
			t.Errorf("%d CONTINUATION frames before the session ended", n)
		}
	})
}

// CVE-2016-6581: one entry of the dynamic table, named again and again.
func TestHPACKBomb(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		block := p.encode(append(connectFields, "bomb", strings.Repeat("x", 3000))...)
		block = append(block, bytes.Repeat([]byte{0xbe}, 8000)...) // index 62: the newest entry
		p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}))
		p.wantReset(1, http2.ErrCodeEnhanceYourCalm)
		p.alive()
	})
}

func TestHPACKTableIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: []byte{0x3f, 0xe2, 0x1f}, EndHeaders: true, // a table of 4,097 bytes
		}))
		p.wantGoAway(http2.ErrCodeCompression)
	})
}

// CVE-2026-49975: many fields that are small on the wire.
func TestFieldCountBomb(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		fields := append([]string(nil), connectFields...)
		for range 200 {
			fields = append(fields, "a", "")
		}
		p.headers(1, false, fields...)
		p.wantReset(1, http2.ErrCodeEnhanceYourCalm)
		p.connect(3)
		p.accept()
	})
}

// CVE-2026-47774: large lists, each within its limit, over many streams.
func TestHeaderListsOfAllStreamsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Limits: hop.Limits{HeaderTotal: 100 << 10}}).greet()
		for id := uint32(1); ; id += 2 {
			if id > 21 {
				t.Fatal("no stream was refused")
			}
			p.headers(id, false, append(connectFields, "x", strings.Repeat("y", 12000))...)
			synctest.Wait()
			if p.log.has("header lists") {
				p.wantReset(id, http2.ErrCodeRefusedStream)
				return
			}
		}
	})
}

// CVE-2019-9512, 9515, 9518, 9513 and their kin.
func TestControlFloods(t *testing.T) {
	one := func(p *rawPeer) { p.open(1) }
	for name, c := range map[string]struct {
		prepare func(p *rawPeer)
		frame   func(p *rawPeer, i int) error
		most    int
		reason  string
	}{
		"PING": {
			frame: func(p *rawPeer, i int) error { return p.fr.WritePing(false, [8]byte{byte(i)}) }, most: 200, reason: "PING",
		},
		"PING acknowledgements": {
			frame: func(p *rawPeer, i int) error { return p.fr.WritePing(true, [8]byte{byte(i)}) }, most: 1200, reason: "without effect",
		},
		"SETTINGS": {
			frame: func(p *rawPeer, i int) error { return p.fr.WriteSettings() }, most: 100, reason: "SETTINGS",
		},
		"empty DATA": {
			prepare: one,
			frame:   func(p *rawPeer, i int) error { return p.fr.WriteData(1, false, nil) }, most: 1200, reason: "empty DATA",
		},
		"DATA of padding": {
			prepare: one,
			frame:   func(p *rawPeer, i int) error { return p.fr.WriteDataPadded(1, false, nil, make([]byte, 255)) }, most: 1200, reason: "empty DATA",
		},
		"PRIORITY": {
			frame: func(p *rawPeer, i int) error {
				return p.fr.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: 0})
			}, most: 1200, reason: "PRIORITY",
		},
		"unknown type": {
			frame: func(p *rawPeer, i int) error { return p.fr.WriteRawFrame(0xfa, 0, 0, make([]byte, 100)) }, most: 1200, reason: "without effect",
		},
		"WINDOW_UPDATE of the connection": {
			frame: func(p *rawPeer, i int) error { return p.fr.WriteWindowUpdate(0, 1) }, most: 1200, reason: "WINDOW_UPDATE",
		},
		"WINDOW_UPDATE of a closed stream": {
			prepare: func(p *rawPeer) {
				p.open(1).Reset(hop.Cancel)
				p.wantReset(1, http2.ErrCodeCancel)
			},
			frame: func(p *rawPeer, i int) error { return p.fr.WriteWindowUpdate(1, 1) }, most: 1200, reason: "WINDOW_UPDATE",
		},
		"GOAWAY": {
			prepare: one,
			frame:   func(p *rawPeer, i int) error { return p.fr.WriteGoAway(0, http2.ErrCodeNo, nil) }, most: 1200, reason: "GOAWAY",
		},
		"DATA on a stream that the peer has closed": {
			prepare: func(p *rawPeer) {
				p.open(1)
				p.must(p.fr.WriteRSTStream(1, http2.ErrCodeCancel))
			},
			frame: func(p *rawPeer, i int) error { return p.fr.WriteData(1, false, []byte("x")) }, most: 700, reason: "errors on streams",
		},
		"DATA on a stream that we have reset": {
			prepare: func(p *rawPeer) {
				p.open(1).Reset(hop.Cancel)
				p.wantReset(1, http2.ErrCodeCancel)
			},
			frame: func(p *rawPeer, i int) error { return p.fr.WriteData(1, false, nil) }, most: 1200, reason: "without effect",
		},
		"VERDICT for unknown streams": {
			frame: func(p *rawPeer, i int) error {
				payload := append(binary.BigEndian.AppendUint64(nil, 77), signedVerdict...)
				return p.fr.WriteRawFrame(0xe2, 0, 0, payload)
			}, most: 1200, reason: "without effect",
		},
		"EVIDENCE to a server": {
			prepare: one,
			frame:   func(p *rawPeer, i int) error { return p.fr.WriteRawFrame(0xe1, 0, 1, []byte{0, 1}) }, most: 1200, reason: "without effect",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, nil).greet()
				if c.prepare != nil {
					c.prepare(p)
				}
				n := p.flood(20_000, func(i int) error { return c.frame(p, i) })
				p.wantEnd(http2.ErrCodeEnhanceYourCalm, c.reason)
				if n > c.most {
					t.Errorf("%d frames before the session ended", n)
				}
			})
		})
	}
}

func TestInterimResponseFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil).greet()
		go p.s.Open(context.Background(), connectRequest())
		p.want(http2.FrameHeaders)
		p.flood(20_000, func(int) error {
			p.headers(1, false, ":status", "103")
			return nil
		})
		p.wantEnd(http2.ErrCodeEnhanceYourCalm, "interim")
	})
}

func TestManyParametersInOneSettingsFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		p.must(p.fr.WriteSettings(make([]http2.Setting, 101)...))
		p.wantGoAway(http2.ErrCodeEnhanceYourCalm)
	})
}

// Duplicates are legal (RFC 9113 section 6.5.3).
func TestDuplicateSettingsAreTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		p.must(p.fr.WriteSettings(
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1},
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2}))
		p.alive()
	})
}

// A peer that provokes frames and does not read them: the queue is bounded before any rate is.
func TestAnswersThatNobodyReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Limits: hop.Limits{ControlQueue: 100, Pings: hop.Rate{PerSecond: 1e9, Burst: 1e9}}}).greet()
		begin := time.Now()
		for p.s.Err() == nil {
			if p.fr.WritePing(false, [8]byte{}) != nil {
				break
			}
		}
		<-p.s.Done()
		p.wantEnd(http2.ErrCodeEnhanceYourCalm, "does not read")
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// CVE-2016-1546: a window of zero.
func TestZeroWindowStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		st := p.open(1)
		sink := newCollector()
		st.Start(sink)
		begin := time.Now()
		send(t, st, make([]byte, 100<<10))
		p.want(http2.FrameData)
		p.wantReset(1, http2.ErrCodeCancel)
		if d := time.Since(begin); d < 5*time.Minute || d > 7*time.Minute {
			t.Errorf("it was reset after %v", d)
		}
		sink.wait(t)
		if st.Queued() != 0 {
			t.Error("the queue was kept")
		}
		p.alive()
	})
}

// A window that is opened byte by byte is not progress.
func TestTrickledWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		st := p.open(1)
		sink := newCollector()
		st.Start(sink)
		send(t, st, make([]byte, 100<<10))
		reset := make(chan struct{})
		go func() {
			defer close(reset)
			p.want(http2.FrameData)
			for {
				f, err := p.next()
				if err != nil {
					t.Error(err)
					return
				}
				if _, ok := f.(*http2.RSTStreamFrame); ok {
					return
				}
			}
		}()
		tick := time.NewTicker(20 * time.Second)
		defer tick.Stop()
		for i := 0; ; i++ {
			if i > 100 {
				t.Fatal("the stream lives on")
			}
			select {
			case <-tick.C:
				p.must(p.fr.WriteWindowUpdate(1, 1))
				continue
			case <-reset:
			}
			return
		}
	})
}

func TestZeroWindowConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		st := p.open(1)
		st.Start(newCollector())
		send(t, st, make([]byte, 100<<10)) // the connection's window is 65,535
		p.wantGoAway(http2.ErrCodeEnhanceYourCalm)
		p.wantEnd(http2.ErrCodeEnhanceYourCalm, "window")
	})
}

// A peer that does not read its socket at all.
func TestPeerThatDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		p.must(p.fr.WriteWindowUpdate(0, 1<<20))
		st := p.open(1)
		sink := newCollector()
		st.Start(sink)
		begin := time.Now()
		send(t, st, make([]byte, 500<<10))
		<-p.s.Done()
		if d := time.Since(begin); d > time.Minute {
			t.Errorf("it took %v", d)
		}
		if err := sink.wait(t); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// CVE-2026-56853, and the other ways to say nothing.
func TestSilence(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(p *rawPeer)
		most time.Duration
		code http2.ErrCode
	}{
		"no preface":     {func(p *rawPeer) {}, 15 * time.Second, http2.ErrCodeSettingsTimeout},
		"half a preface": {func(p *rawPeer) { p.write([]byte(http2.ClientPreface[:10])) }, 15 * time.Second, http2.ErrCodeSettingsTimeout},
		"no SETTINGS":    {func(p *rawPeer) { p.preface() }, 15 * time.Second, http2.ErrCodeSettingsTimeout},
		"no acknowledgement": {func(p *rawPeer) {
			p.preface()
			p.must(p.fr.WriteSettings())
		}, 15 * time.Second, http2.ErrCodeSettingsTimeout},
		"half a header block": {func(p *rawPeer) {
			p.greet()
			p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(connectFields...)}))
		}, 30 * time.Second, http2.ErrCodeEnhanceYourCalm},
		"half a frame": {func(p *rawPeer) {
			p.greet()
			p.open(1)
			p.write([]byte{0, 1, 0, 0, 0, 0, 0, 0, 1, 'x'})
		}, 30 * time.Second, http2.ErrCodeEnhanceYourCalm},
		"gone": {func(p *rawPeer) {
			p.greet()
			p.open(1)
		}, time.Minute, http2.ErrCodeNo},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, nil)
				begin := time.Now()
				c.do(p)
				go io.Copy(io.Discard, p.conn.NetConn()) // from here on it reads and says nothing
				<-p.s.Done()
				if d := time.Since(begin); d > c.most {
					t.Errorf("it took %v", d)
				}
				p.wantEnd(c.code, "")
			})
		})
	}
}

// spec: HOP-22
func TestIdleSessionEndsInSpiteOfPings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		begin := time.Now()
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for p.s.Err() == nil {
			<-tick.C
			if p.fr.WritePing(false, [8]byte{}) != nil {
				break
			}
		}
		if d := time.Since(begin); d < 5*time.Minute || d > 6*time.Minute {
			t.Errorf("it took %v", d)
		}
		p.wantGoAway(http2.ErrCodeNo)
		<-p.s.Done()
		p.wantEnd(http2.ErrCodeNo, "idle")
	})
}

func TestKeepaliveKeepsAnAnsweringPeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		near, far := tunnel(t, client, server)
		a, b := hop.NewConn(near), hop.NewConn(far)
		timer := time.NewTimer(time.Hour)
		<-timer.C
		if _, err := a.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	})
}

// CVE-2019-9511: a byte a frame, of a window that nobody drains.
func TestDataDribble(t *testing.T) {
	dribble := func(p *rawPeer) error {
		var frames bytes.Buffer
		fr := http2.NewFramer(&frames, nil)
		for range 1000 {
			fr.WriteData(1, false, []byte{'x'})
		}
		_, err := p.conn.Write(frames.Bytes())
		return err
	}
	t.Run("kept by the carrier", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, nil).greet()
			st := p.open(1).(*stream)
			for range 200 {
				p.must(dribble(p))
			}
			p.alive()
			if n := st.memory.Load(); n > 2*256<<10 {
				t.Errorf("200,000 bytes take %d", n)
			}
		})
	})
	t.Run("kept by a sink", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, nil).greet()
			st := p.open(1).(*stream)
			sink := newCollector()
			sink.hold = true
			st.Start(sink)
			for range 10 {
				p.must(dribble(p))
			}
			p.wantReset(1, http2.ErrCodeEnhanceYourCalm)
			p.alive()
			if n := st.memory.Load(); n > 5*256<<10 {
				t.Errorf("it took %d bytes", n)
			}
			sink.release()
			if n := st.memory.Load(); n != 0 {
				t.Errorf("%d bytes are still charged", n)
			}
		})
	})
}

// CVE-2022-27664: Close of a session whose peer does not read.
func TestCloseDoesNotHang(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		p.must(p.fr.WriteWindowUpdate(0, 1<<20))
		st := p.open(1)
		st.Start(newCollector())
		send(t, st, make([]byte, 500<<10))
		synctest.Wait() // the writer is stuck
		begin := time.Now()
		p.s.Close(hop.NoError, "")
		<-p.s.Done()
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// CVE-2026-33814
func TestBadSettingsValues(t *testing.T) {
	for _, c := range []struct {
		set  http2.Setting
		code http2.ErrCode
	}{
		{http2.Setting{ID: http2.SettingMaxFrameSize, Val: 0}, http2.ErrCodeProtocol},
		{http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 24}, http2.ErrCodeProtocol},
		{http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}, http2.ErrCodeFlowControl},
		{http2.Setting{ID: http2.SettingEnablePush, Val: 2}, http2.ErrCodeProtocol},
		{http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 2}, http2.ErrCodeProtocol},
	} {
		t.Run(c.set.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, nil).greet()
				p.must(p.fr.WriteSettings(c.set))
				p.wantGoAway(c.code)
			})
		})
	}
}

func TestBodyThatNobodyReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true}).greet()
		p.headers(1, false, ":method", "POST", ":scheme", "https", ":path", "/", ":authority", "p.example")
		go func() {
			for range 100 {
				if p.fr.WriteData(1, false, make([]byte, 16384)) != nil {
					return
				}
			}
		}()
		p.wantReset(1, http2.ErrCodeFlowControl)
	})
}

func TestRequestThatDoesNotEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, &Config{Ordinary: true}).greet()
		p.headers(1, false, ":method", "POST", ":scheme", "https", ":path", "/", ":authority", "p.example")
		p.wantReset(1, http2.ErrCodeCancel)
	})
}

func TestRefusalThatDoesNotEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil).greet()
		errc := make(chan error, 1)
		go func() {
			_, _, err := p.s.Open(context.Background(), connectRequest())
			errc <- err
		}()
		p.want(http2.FrameHeaders)
		p.headers(1, false, ":status", "403")
		p.wantReset(1, http2.ErrCodeCancel)
		if err := <-errc; err == nil {
			t.Error("no error")
		}
	})
}

func TestClientThatKeepsARefusedRequestOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		p.connect(1)
		in, err := p.s.Accept(context.Background())
		p.must(err)
		p.must(in.Reject(&hop.Response{Status: 403}))
		p.want(http2.FrameHeaders)
		p.wantReset(1, http2.ErrCodeNo)
		if n := open(p.s); n != 0 {
			t.Errorf("%d streams are open", n)
		}
	})
}

// signedVerdict has the form of one: tbs<1..2^14> ‖ SignatureScheme ‖ signature<0..2^16-1>.
var signedVerdict = []byte{0, 1, 'v', 8, 7, 0, 1, 's'}

// spec: HOP-18
func TestFrameOverTheLimitIsNotRead(t *testing.T) {
	for _, typ := range []http2.FrameType{http2.FrameData, http2.FrameHeaders, http2.FrameSettings, 0xe1, 0xe2, 0xfa} {
		t.Run(strconv.Itoa(int(typ)), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := rawClient(t, nil).greet()
				p.write([]byte{0, 0x40, 1, byte(typ), 0, 0, 0, 0, 1}) // 16,385 bytes, of which none come
				p.wantGoAway(http2.ErrCodeFrameSize)
			})
		})
	}
}

func TestHeaderValuesAreNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		before := len(p.s.past.kinds)
		for id := uint32(1); id < 2001; id += 2 {
			p.headers(id, false, append(connectFields, "x-"+strconv.Itoa(int(id)), "v")...)
			st := p.accept()
			st.Reset(hop.Cancel)
			p.wantReset(id, http2.ErrCodeCancel)
		}
		if n := len(p.s.past.kinds) - before; n > 512 {
			t.Errorf("%d closed streams are remembered", n)
		}
		if n := len(p.s.streams) + len(p.s.pending) + p.s.work + p.s.headerSize; n != 0 {
			t.Errorf("%d things are left of streams that are closed", n)
		}
	})
}

var _ = hpack.HeaderField{}

package h2

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"vitrine/internal/hop"
)

func TestDrainSaysGoAwayTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		st := p.open(1)
		drained := make(chan error, 1)
		go func() { drained <- p.s.Drain(context.Background()) }()
		f := p.want(http2.FrameGoAway).(*http2.GoAwayFrame)
		if f.LastStreamID != maxStreamID || f.ErrCode != http2.ErrCodeNo {
			t.Errorf("first: %v", f)
		}
		p.open(3) // it was on its way
		f = p.want(http2.FrameGoAway).(*http2.GoAwayFrame)
		if f.LastStreamID != 3 || f.ErrCode != http2.ErrCodeNo {
			t.Errorf("second: %v", f)
		}
		p.connect(5)
		p.wantReset(5, http2.ErrCodeRefusedStream)
		p.must(p.fr.WriteRSTStream(3, http2.ErrCodeCancel))
		st.Start(newCollector())
		p.must(p.fr.WriteData(1, true, []byte("the last")))
		p.must(st.CloseSend())
		p.want(http2.FrameData)
		f = p.want(http2.FrameGoAway).(*http2.GoAwayFrame)
		if f.LastStreamID != 3 {
			t.Errorf("last: %v", f)
		}
		p.must(<-drained)
	})
}

func TestDrainWithoutAnAnswerGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		p.open(1)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		if err := p.s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestDrainFinishesWhatIsOpen(t *testing.T) {
	for _, drainServer := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			client, server := sessions(t, nil, nil)
			near, far := tunnel(t, client, server)
			a, b := hop.NewConn(near), hop.NewConn(far)
			drained := make(chan error, 1)
			drainer := client
			if drainServer {
				drainer = server
			}
			go func() { drained <- drainer.Drain(context.Background()) }()
			synctest.Wait()
			var retry *hop.RetryError
			if _, _, err := client.Open(context.Background(), connectRequest()); !errors.As(err, &retry) {
				t.Errorf("Open while draining: %v", err)
			}
			if _, err := a.Write([]byte("still here")); err != nil {
				t.Fatal(err)
			}
			a.CloseWrite()
			if got, err := io.ReadAll(b); err != nil || string(got) != "still here" {
				t.Errorf("%q, %v", got, err)
			}
			b.CloseWrite()
			if _, err := io.ReadAll(a); err != nil {
				t.Error(err)
			}
			if err := <-drained; err != nil {
				t.Error(err)
			}
			<-client.Done()
			<-server.Done()
		})
	}
}

func TestDrainWaitsForWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		p.connect(1)
		in, err := p.s.Accept(context.Background())
		p.must(err)
		p.must(p.fr.WriteRSTStream(1, http2.ErrCodeCancel))
		<-in.Context().Done()
		answered, drained := false, make(chan error, 1)
		go func() {
			err := p.s.Drain(context.Background())
			if !answered {
				t.Error("drained while a request was worked on")
			}
			drained <- err
		}()
		p.want(http2.FrameGoAway)
		p.want(http2.FrameGoAway)
		synctest.Wait()
		answered = true
		in.Refuse(hop.Cancel)
		p.must(<-drained)
	})
}

func TestSessionEndReachesEveryone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		near, far := tunnel(t, client, server)
		sink, farSink := newCollector(), newCollector()
		near.Start(sink)
		far.Start(farSink)
		near2, _ := tunnel(t, client, server)
		errc := make(chan error, 2)
		go func() {
			_, err := server.Accept(context.Background())
			for err == nil {
				_, err = server.Accept(context.Background())
			}
			errc <- err
		}()
		go func() {
			_, _, err := client.Open(context.Background(), connectRequest())
			errc <- err
		}()
		synctest.Wait()
		server.Close(hop.InternalError, "broken")
		for range 2 {
			if err := <-errc; err == nil {
				t.Error("no error")
			}
		}
		var end *hop.SessionError
		if err := sink.wait(t); !errors.As(err, &end) || end.Code != hop.InternalError || !end.Remote || end.Reason != "broken" {
			t.Errorf("the client's stream ended with %v", err)
		}
		if err := farSink.wait(t); !errors.As(err, &end) || end.Remote {
			t.Errorf("the server's stream ended with %v", err)
		}
		<-client.Done()
		<-server.Done()
		late := newCollector()
		near2.Start(late) // after the end
		if err := late.wait(t); err == nil {
			t.Error("no error")
		}
		near2.Reset(hop.Cancel)
		near2.Kill([]byte("x"))
		if err := near2.CloseSend(); err == nil {
			t.Error("CloseSend after the end")
		}
		if server.Err() == nil || client.Err() == nil {
			t.Error("Err is nil")
		}
	})
}

func TestLocalResetIsToldEvenAfterTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		near, _ := tunnel(t, client, server)
		sink := newCollector()
		near.Start(sink)
		client.Close(hop.NoError, "")
		near.Reset(hop.Cancel)
		if err := sink.wait(t); err == nil {
			t.Error("no error")
		}
	})
}

func TestGoAwayWithoutStreamsEndsTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawServer(t, nil).greet()
		p.must(p.fr.WriteGoAway(0, http2.ErrCodeNo, []byte("maintenance")))
		<-p.s.Done()
		var end *hop.SessionError
		if err := p.s.Err(); !errors.As(err, &end) || !end.Remote || end.Reason != "maintenance" {
			t.Error(err)
		}
	})
}

func TestConnectionIsCutMidFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet()
		st := p.open(1)
		sink := newCollector()
		st.Start(sink)
		p.write([]byte{0, 1, 0, 0, 0, 0, 0, 0, 1, 'x'})
		p.conn.NetConn().Close()
		if err := sink.wait(t); err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && err == io.EOF {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// The last bytes of a drained session are not lost to a reset of the connection: it waits for the peer to
// close first, for a while.
func TestDrainLetsThePeerCloseFirst(t *testing.T) {
	for _, closes := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			p := rawClient(t, nil).greet()
			begin := time.Now()
			drained := make(chan error, 1)
			go func() { drained <- p.s.Drain(context.Background()) }()
			for range 3 {
				p.want(http2.FrameGoAway)
			}
			if _, err := p.next(); err == nil {
				t.Error("a frame behind the last GOAWAY")
			}
			p.must(p.fr.WriteData(1, false, []byte("on its way"))) // it is still read
			want := time.Second
			if closes {
				p.conn.Close()
				want = 0
			}
			p.must(<-drained)
			if d := time.Since(begin); d != want {
				t.Errorf("it took %v, want %v", d, want)
			}
		})
	}
}

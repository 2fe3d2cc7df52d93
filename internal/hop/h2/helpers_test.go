package h2

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"hop.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// tlsPair is the two ends of a hop in memory, after the handshake.
func tlsPair(t testing.TB) (client, server *tls.Conn) {
	t.Helper()
	a, b := pipe.New()
	client = tls.Client(hop.NewBatchConn(a), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true})
	server = tls.Server(hop.NewBatchConn(b), &tls.Config{
		Certificates: []tls.Certificate{testCertificate()}, NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true,
	})
	errc := make(chan error, 1)
	go func() { errc <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-errc); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// sessions is a hop with our code at both ends.
func sessions(t testing.TB, clientCfg, serverCfg *Config) (client, server *session) {
	t.Helper()
	c, s := tlsPair(t)
	cs, err := Client(c, clientCfg)
	if err != nil {
		t.Fatal(err)
	}
	ss, err := Server(s, serverCfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cs.Close(hop.NoError, "")
		ss.Close(hop.NoError, "")
		<-cs.Done()
		<-ss.Done()
	})
	return cs.(*session), ss.(*session)
}

// tunnel opens one over a hop and returns its two ends.
func tunnel(t testing.TB, client, server *session) (near, far hop.Stream) {
	t.Helper()
	accepted := make(chan hop.Stream, 1)
	go func() {
		in, err := server.Accept(context.Background())
		if err != nil {
			t.Error(err)
			accepted <- nil
			return
		}
		st, err := in.Accept(&hop.Response{Status: 200})
		if err != nil {
			t.Error(err)
		}
		accepted <- st
	}()
	r, near, err := client.Open(context.Background(), connectRequest())
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != 200 {
		t.Fatalf("status %d", r.Status)
	}
	return near, <-accepted
}

func connectRequest() *hop.Request {
	return &hop.Request{Protocol: frames.Protocol, Authority: "origin.example:443", Header: http.Header{"Evidence-Request": {":YQ==:"}}}
}

// A rawPeer is the other end of a session, driven frame by frame.
type rawPeer struct {
	t      *testing.T
	s      *session
	conn   *tls.Conn
	fr     *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
	dec    *hpack.Decoder
	values map[http2.SettingID]uint32 // of the session's SETTINGS
	log    *anomalies
}

// anomalies collects what a session ignored.
type anomalies struct {
	mu   sync.Mutex
	list []string
}

func (a *anomalies) add(s string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, s)
}

func (a *anomalies) has(part string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.list, func(s string) bool { return strings.Contains(s, part) })
}

// rawClient is a peer of our server that has sent nothing yet, not even the preface.
func rawClient(t *testing.T, cfg *Config) *rawPeer { return newRawPeer(t, cfg, true) }

// rawServer is a peer of our client that has sent nothing yet.
func rawServer(t *testing.T, cfg *Config) *rawPeer { return newRawPeer(t, cfg, false) }

func newRawPeer(t *testing.T, cfg *Config, sessionIsServer bool) *rawPeer {
	t.Helper()
	c, s := tlsPair(t)
	p := &rawPeer{t: t, values: make(map[http2.SettingID]uint32), log: new(anomalies)}
	full := Config{}
	if cfg != nil {
		full = *cfg
	}
	full.OnAnomaly = p.log.add
	var session hop.Session
	var err error
	if sessionIsServer {
		p.conn = c
		session, err = Server(s, &full)
	} else {
		p.conn = s
		session, err = Client(c, &full)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.setup(session)
	return p
}

func (p *rawPeer) setup(s hop.Session) {
	p.s = s.(*session)
	p.fr = http2.NewFramer(p.conn, p.conn)
	p.fr.AllowIllegalWrites = true
	p.fr.AllowIllegalReads = true
	p.enc = hpack.NewEncoder(&p.block)
	p.dec = hpack.NewDecoder(4096, nil)
	p.t.Cleanup(func() {
		p.conn.NetConn().Close()
		p.s.Close(hop.NoError, "")
		<-p.s.Done()
	})
}

// settings are right for this hop, with extra parameters behind them.
func (p *rawPeer) settings(extra ...http2.Setting) []http2.Setting {
	label := frames.ExporterHopServer
	if p.s.server {
		label = frames.ExporterHopClient
	}
	cs := p.conn.ConnectionState()
	v, err := cs.ExportKeyingMaterial(label, nil, 4)
	if err != nil {
		p.t.Fatal(err)
	}
	set := []http2.Setting{
		{ID: frames.SettingITLS, Val: frames.TakesEvidence},
		{ID: frames.SettingHopBinding, Val: frames.HopBinding([4]byte(v))},
	}
	if !p.s.server {
		set = append(set, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	}
	return append(set, extra...)
}

// greet does all that comes before the first stream.
func (p *rawPeer) greet(extra ...http2.Setting) *rawPeer {
	p.t.Helper()
	p.preface()
	p.must(p.fr.WriteSettings(p.settings(extra...)...))
	f := p.want(http2.FrameSettings).(*http2.SettingsFrame)
	f.ForeachSetting(func(s http2.Setting) error { p.values[s.ID] = s.Val; return nil })
	p.must(p.fr.WriteSettingsAck())
	for {
		if f := p.want(http2.FrameSettings).(*http2.SettingsFrame); f.IsAck() {
			return p
		}
	}
}

func (p *rawPeer) preface() {
	p.t.Helper()
	if p.s.server {
		p.write([]byte(http2.ClientPreface))
		return
	}
	got := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(p.conn, got); err != nil || string(got) != http2.ClientPreface {
		p.t.Fatalf("preface %q, %v", got, err)
	}
}

func (p *rawPeer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *rawPeer) write(b []byte) {
	p.t.Helper()
	_, err := p.conn.Write(b)
	p.must(err)
}

// next reads one frame, or reports that the connection has ended. It answers PING.
func (p *rawPeer) next() (http2.Frame, error) {
	f, err := p.fr.ReadFrame()
	if ping, ok := f.(*http2.PingFrame); ok && !ping.IsAck() {
		p.fr.WritePing(true, ping.Data)
	}
	return f, err
}

// want reads until a frame of that type; WINDOW_UPDATE, PING and SETTINGS may come before it.
func (p *rawPeer) want(typ http2.FrameType) http2.Frame {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatalf("waiting for %v: %v (session: %v)", typ, err, p.s.Err())
		}
		if f.Header().Type == typ {
			return f
		}
		switch f := f.(type) {
		case *http2.WindowUpdateFrame, *http2.SettingsFrame, *http2.PingFrame:
		case *http2.GoAwayFrame:
			p.t.Fatalf("waiting for %v: GOAWAY %v %q", typ, f.ErrCode, f.DebugData())
		default:
			p.t.Fatalf("waiting for %v: got %v", typ, f)
		}
	}
}

// wantGoAway reads until the session says goodbye with code.
func (p *rawPeer) wantGoAway(code http2.ErrCode) string {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatalf("waiting for GOAWAY %v: %v (session: %v)", code, err, p.s.Err())
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode != code {
				p.t.Fatalf("GOAWAY %v %q, want %v", g.ErrCode, g.DebugData(), code)
			}
			return string(g.DebugData())
		}
	}
}

// wantReset reads until the session resets a stream.
func (p *rawPeer) wantReset(id uint32, code http2.ErrCode) {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatalf("waiting for RST_STREAM %v: %v (session: %v)", code, err, p.s.Err())
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			p.t.Fatalf("waiting for RST_STREAM %v: GOAWAY %v %q", code, f.ErrCode, f.DebugData())
		case *http2.RSTStreamFrame:
			if f.StreamID != id || f.ErrCode != code {
				p.t.Fatalf("RST_STREAM of %d with %v, want %d with %v", f.StreamID, f.ErrCode, id, code)
			}
			return
		}
	}
}

// alive proves that the session still answers.
func (p *rawPeer) alive() {
	p.t.Helper()
	data := [8]byte{'a', 'l', 'i', 'v', 'e'}
	p.must(p.fr.WritePing(false, data))
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatalf("the session is gone: %v (%v)", err, p.s.Err())
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if f.IsAck() && f.Data == data {
				return
			}
		case *http2.GoAwayFrame:
			p.t.Fatalf("GOAWAY %v %q", f.ErrCode, f.DebugData())
		}
	}
}

// encode is a header block; fields are name, value, name, value …
func (p *rawPeer) encode(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.must(p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(p.block.Bytes())
}

func (p *rawPeer) headers(id uint32, end bool, fields ...string) {
	p.t.Helper()
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: p.encode(fields...), EndHeaders: true, EndStream: end,
	}))
}

var connectFields = []string{
	":method", "CONNECT", ":protocol", "itls", ":scheme", "https", ":path", "/", ":authority", "origin.example:443",
	"evidence-request", ":YQ==:",
}

// connect sends an Extended CONNECT.
func (p *rawPeer) connect(id uint32) {
	p.t.Helper()
	p.headers(id, false, connectFields...)
}

// accept takes the next request of the session and answers 200.
func (p *rawPeer) accept() hop.Stream {
	p.t.Helper()
	in, err := p.s.Accept(context.Background())
	p.must(err)
	st, err := in.Accept(&hop.Response{Status: 200})
	p.must(err)
	return st
}

// open makes a tunnel that the raw client has opened, and its answer is read.
func (p *rawPeer) open(id uint32) hop.Stream {
	p.t.Helper()
	p.connect(id)
	st := p.accept()
	p.want(http2.FrameHeaders)
	return st
}

// fields decodes a HEADERS frame's block.
func (p *rawPeer) fields(f http2.Frame) map[string]string {
	p.t.Helper()
	list, err := p.dec.DecodeFull(f.(*http2.HeadersFrame).HeaderBlockFragment())
	p.must(err)
	m := make(map[string]string)
	for _, hf := range list {
		m[hf.Name] = hf.Value
	}
	return m
}

// A collector is a Sink that keeps what it gets, and its Buffers until they are released.
type collector struct {
	hold bool

	mu       sync.Mutex
	busy     bool
	overlap  bool
	held     []*hop.Buffer
	got      []byte
	writable int
	end      error
	ends     int
	done     chan struct{}
}

func newCollector() *collector { return &collector{done: make(chan struct{})} }

func (c *collector) enter() {
	c.mu.Lock()
	c.overlap = c.overlap || c.busy
	c.busy = true
}

func (c *collector) leave() {
	c.busy = false
	c.mu.Unlock()
}

func (c *collector) Data(b *hop.Buffer) {
	c.enter()
	c.got = append(c.got, b.Bytes()...)
	hold := c.hold
	if hold {
		c.held = append(c.held, b)
	}
	c.leave()
	if !hold {
		b.Release()
	}
}

func (c *collector) Writable() {
	c.enter()
	c.writable++
	c.leave()
}

func (c *collector) End(err error) {
	c.enter()
	c.end = err
	if c.ends++; c.ends == 1 {
		close(c.done)
	}
	c.leave()
}

func (c *collector) release() {
	c.mu.Lock()
	held := c.held
	c.held = nil
	c.mu.Unlock()
	for _, b := range held {
		b.Release()
	}
}

func (c *collector) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.got)
}

func (c *collector) wait(t testing.TB) error {
	t.Helper()
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends != 1 || c.overlap {
		t.Errorf("End was called %d times; calls overlapped: %v", c.ends, c.overlap)
	}
	return c.end
}

// send queues p on st in chunks.
func send(t testing.TB, st hop.Stream, p []byte) {
	t.Helper()
	for len(p) > 0 {
		b := hop.NewBufferSize(min(len(p), hop.MaxChunk))
		p = p[b.Append(p):]
		if err := st.Send(b); err != nil {
			t.Fatal(err)
		}
	}
}

// bubble runs f with a clock of its own.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	testCertificate()
	synctest.Test(t, f)
}

var _ net.Conn = (*hop.Conn)(nil)

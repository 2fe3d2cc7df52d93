package testnet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/tlsmsg"
	"vitrine/proxy"
)

const (
	question = "what is the combination of the safe?"
	answer   = "it is 4711, and the vase costs 100 crowns"
)

// A shape is how the messages of an exchange say where they end.
type shape int

const (
	lengths    shape = iota // Content-Length
	chunks                  // chunked, with a trailer section
	untilClose              // the response ends with its connection: close_notify is part of the message
)

func (s shape) String() string {
	return [...]string{"lengths", "chunks and trailers", "until close"}[s]
}

// behind is the trailer field of a body: whoever takes the message has it whole.
func behind(body string) string { return fmt.Sprintf("behind %d bytes", len(body)) }

// A lab does one small exchange again and again, each on a tunnel of its own, while the proxy lies about its
// bytes.
type lab struct {
	*Net
	shape            shape
	question, answer string
	mu               sync.Mutex
	attack           [2]hostile.Mangler   // on the next tunnel, by direction
	asked            []string             // the question of each exchange
	served           map[string][]service // by the exchange's number
}

// service is what the origin made of one request.
type service struct {
	question, trailer string
	err               error
}

// lie says what of a request with the body question the origin took that was not sent.
func (l *lab) lie(question string, s service) string {
	switch {
	case s.err != nil: // it did not take it
	case s.question != question:
		return fmt.Sprintf("the origin took %.100q", s.question)
	case l.shape == chunks && s.trailer != behind(question):
		return fmt.Sprintf("the origin took the trailer %q", s.trailer)
	}
	return ""
}

func (l *lab) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	l.mu.Lock()
	id := r.Header.Get("X-Exchange")
	l.served[id] = append(l.served[id], service{string(body), r.Trailer.Get("X-After"), err})
	l.mu.Unlock()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	switch l.shape {
	case chunks:
		w.Header().Set("Trailer", "X-Behind")
		half := len(l.answer) / 2
		io.WriteString(w, l.answer[:half])
		http.NewResponseController(w).Flush()
		io.WriteString(w, l.answer[half:])
		w.Header().Set("X-Behind", behind(l.answer))
	case untilClose:
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			l.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+l.answer)
	default:
		io.WriteString(w, l.answer)
	}
}

func newLab(t *testing.T, s shape, change func(cfg *Config)) *lab {
	l := &lab{shape: s, question: question, answer: answer, served: make(map[string][]service)}
	t.Cleanup(func() { // behind New's, so that the origin is done
		for id, question := range l.asked {
			for _, s := range l.served[strconv.Itoa(id)] {
				if lie := l.lie(question, s); lie != "" {
					t.Errorf("exchange %d: %s in the end", id, lie)
				}
			}
		}
	})
	cfg := Config{
		Handler: http.HandlerFunc(l.serve),
		// Each exchange is as long as the others: none is resumed, but where a test says so.
		Client: func(_ *Net, tr *client.Transport) { tr.IdleTimeout, tr.NoResumption = -1, true },
		Proxy: func(_ *Net, p *proxy.Proxy) {
			// The attacks break hundreds of tunnels in no time.
			p.Limits.Hop.Resets = hop.Rate{PerSecond: 1e6, Burst: 1e6}
		},
		Hop1: func(s hop.Session) hop.Session {
			return hostile.Wrap(s, func(uint64) hostile.Mangler { return l.take(frames.ToClient) })
		},
		Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
			return hostile.Wrap(s, func(uint64) hostile.Mangler { return l.take(frames.ToOrigin) })
		},
	}
	if change != nil {
		change(&cfg)
	}
	l.Net = New(t, cfg)
	return l
}

func (l *lab) take(d frames.Direction) hostile.Mangler {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.attack[d]
	l.attack[d] = nil
	return m
}

func (l *lab) set(d frames.Direction, m hostile.Mangler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attack[d] = m
}

// result is how an exchange under attack ended.
type result struct {
	class string
	err   error
	// lie is set when one end took bytes for true that the other did not send.
	lie string
}

// exchange asks the question.
func (l *lab) exchange() result {
	id := strconv.Itoa(len(l.asked))
	l.asked = append(l.asked, l.question)
	ctx, cancel := context.WithTimeout(l.ctx, 5*time.Minute)
	defer cancel()
	var body io.Reader = bytes.NewReader([]byte(l.question))
	if l.shape == chunks {
		body = struct{ io.Reader }{body} // of a length that nobody knows
	}
	req := l.request(ctx, http.MethodPost, "/", body)
	req.Header.Set("X-Exchange", id)
	if l.shape == chunks {
		req.Trailer = http.Header{"X-After": {behind(l.question)}}
	}
	resp, got, err := fetch(l.Client, req)
	r := result{class: class(err), err: err}
	switch {
	case err == nil && (string(got) != l.answer || resp.StatusCode != http.StatusOK):
		r.lie = fmt.Sprintf("the client took %.100q", got)
	case err == nil && l.shape == chunks && resp.Trailer.Get("X-Behind") != behind(l.answer):
		r.lie = fmt.Sprintf("the client took the trailer %v", resp.Trailer)
	case !bytes.HasPrefix([]byte(l.answer), got):
		r.lie = fmt.Sprintf("the client was given %.100q", got)
	}
	synctest.Wait() // the client may know before the origin does
	l.mu.Lock()
	defer l.mu.Unlock()
	served := l.served[id]
	for _, s := range served {
		if lie := l.lie(l.question, s); lie != "" {
			r.lie = lie
		}
	}
	switch {
	case len(served) > 1:
		r.lie = "the origin was asked twice"
	case err == nil && len(served) != 1:
		r.lie = "the origin was not asked"
	}
	return r
}

// tapes records an honest exchange.
func (l *lab) tapes() (tapes [2][][]byte) {
	l.Helper()
	var reels [2]hostile.Tape
	for d := range reels {
		l.set(frames.Direction(d), reels[d].Mangler())
	}
	if r := l.exchange(); r.err != nil || r.lie != "" {
		l.Fatalf("honest exchange: %+v", r)
	}
	for d := range reels {
		tapes[d] = reels[d].Records()
	}
	return tapes
}

// lastData is the number of the last record with application data: what follows is the goodbye.
func lastData(records [][]byte) int {
	// The goodbye is one protected alert: two bytes, the type, and a tag.
	last := len(records) - 1
	if last >= 0 && len(records[last]) == tlsmsg.RecordHeaderLen+2+1+32 {
		last--
	}
	return last
}

// A witness is a Mangler that keeps what went into another one and what came out.
type witness struct {
	hostile.Mangler
	goodbye bool // is part of the message
	mu      sync.Mutex
	in, out []byte
}

// watch returns the witness of an attack in direction d.
func (l *lab) watch(d frames.Direction, m hostile.Mangler) *witness {
	return &witness{Mangler: m, goodbye: l.shape == untilClose && d == frames.ToClient}
}

func (w *witness) Mangle(b *hop.Buffer) []*hop.Buffer {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in = append(w.in, b.Bytes()...)
	out := w.Mangler.Mangle(b)
	for _, b := range out {
		w.out = append(w.out, b.Bytes()...)
	}
	return out
}

func (w *witness) Flush() []*hop.Buffer {
	h, ok := w.Mangler.(hostile.Holder)
	if !ok {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := h.Flush()
	for _, b := range out {
		w.out = append(w.out, b.Bytes()...)
	}
	return out
}

func (w *witness) Ended() bool {
	c, ok := w.Mangler.(hostile.Cutter)
	return ok && c.Ended()
}

// intact says whether the message that went in came out whole, whatever was put behind it. What nothing
// authenticates and nothing needs does not count: how unprotected handshake messages are cut into
// records, the version in the header of those records, and change_cipher_spec (RFC 8446, sections 5.1 and D.4).
func (w *witness) intact() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := records(w.in)
	if !w.goodbye {
		in = in[:lastData(in)+1]
	}
	return bytes.HasPrefix(essence(records(w.out)), essence(in))
}

func records(p []byte) (list [][]byte) {
	for {
		h, err := tlsmsg.ParseRecordHeader(p)
		if err != nil || len(p) < tlsmsg.RecordHeaderLen+h.Length {
			return list
		}
		list = append(list, p[:tlsmsg.RecordHeaderLen+h.Length])
		p = p[tlsmsg.RecordHeaderLen+h.Length:]
	}
}

func essence(list [][]byte) (e []byte) {
	for _, r := range list {
		switch tlsmsg.ContentType(r[0]) {
		case tlsmsg.TypeChangeCipherSpec:
		case tlsmsg.TypeHandshake:
			e = append(e, r[tlsmsg.RecordHeaderLen:]...)
		default:
			e = append(e, r...)
		}
	}
	return e
}

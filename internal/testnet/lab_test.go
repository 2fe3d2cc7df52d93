package testnet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
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

// A lab does one small exchange again and again, each on a tunnel of its own, while the proxy lies about its
// bytes.
type lab struct {
	*Net
	question, answer string
	mu               sync.Mutex
	attack           [2]hostile.Mangler // on the next tunnel, by direction
	served           []service
}

// service is what the origin made of one request.
type service struct {
	question string
	err      error
}

func newLab(t *testing.T, change func(cfg *Config)) *lab {
	l := &lab{question: question, answer: answer}
	cfg := Config{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			l.mu.Lock()
			l.served = append(l.served, service{string(body), err})
			l.mu.Unlock()
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			io.WriteString(w, l.answer)
		}),
		Client: func(_ *Net, tr *client.Transport) { tr.IdleTimeout = -1 },
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
	l.mu.Lock()
	before := len(l.served)
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(l.ctx, 5*time.Minute)
	defer cancel()
	resp, body, err := fetch(l.Client, l.request(ctx, http.MethodPost, "/", bytes.NewReader([]byte(l.question))))
	r := result{class: class(err), err: err}
	switch {
	case err == nil && (string(body) != l.answer || resp.StatusCode != http.StatusOK):
		r.lie = fmt.Sprintf("the client took %.100q", body)
	case !bytes.HasPrefix([]byte(l.answer), body):
		r.lie = fmt.Sprintf("the client was given %.100q", body)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	served := l.served[before:]
	for _, s := range served {
		if s.err == nil && s.question != l.question {
			r.lie = fmt.Sprintf("the origin took %.100q", s.question)
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
	mu      sync.Mutex
	in, out []byte
}

func watch(m hostile.Mangler) *witness { return &witness{Mangler: m} }

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
	return bytes.HasPrefix(essence(records(w.out)), essence(in[:lastData(in)+1]))
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

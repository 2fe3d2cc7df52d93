package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"testing"
)

// silentBody says when it is read, and then nothing more.
type silentBody struct {
	read  chan struct{}
	after chan struct{}
}

func (b *silentBody) Read([]byte) (int, error) {
	select {
	case b.read <- struct{}{}:
	default:
	}
	<-b.after
	return 0, io.EOF
}

// A body that comes to no end holds nobody whose context has ended, although its digest is wanted first.
func TestAContextEndsTheWaitForContentToHash(t *testing.T) {
	for name, again := range map[string]bool{"once": false, "again": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.signing(t, new(tls.Config))
			tr := w.transport(func(tr *Transport) { tr.Levels, tr.MaxTunnels = []Level{Signed}, 1 })
			ctx, cancel := context.WithCancelCause(t.Context())
			body := &silentBody{read: make(chan struct{}, 1), after: make(chan struct{})}
			defer close(body.after)
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://origin.example/", body)
			if again {
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body), nil }
			}
			enough := errors.New("enough")
			go func() {
				<-body.read
				cancel(enough)
			}()
			if _, err := tr.RoundTrip(req); !errors.Is(err, enough) || ReportOfError(err) == nil {
				t.Error(err)
			}
			if w.took() != 0 {
				t.Error("it was sent")
			}
			get(t, tr, "https://origin.example/") // there is one slot, and it is free
		})
	}
}

// What is agreed to while content is hashed, or sent, is looked at again behind it.
func TestConsentThatEndsInTheRequestsContent(t *testing.T) {
	for _, level := range []Level{Signed, Attested} {
		t.Run(string(level), func(t *testing.T) {
			w := newWorld(t)
			sp := w.signing(t, new(tls.Config))
			sp.toOrigin = func([]byte) { t.Error("content was sent") }
			end := &lateEnd{Context: context.Background()}
			body := io.MultiReader(endingReader{end}) // to be had once
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", body)
			_, _, err := do(w.transport(func(tr *Transport) {
				tr.Levels = []Level{level}
				tr.Consent = ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) { return &Agreement{Ends: end}, nil })
			}), req)
			wantTakenBack(t, err)
			sp.mu.Lock()
			defer sp.mu.Unlock()
			if level == Signed && len(sp.asks) > 0 {
				t.Error("it was sent")
			}
		})
	}
}

// An endingReader ends consent and then has content.
type endingReader struct{ end *lateEnd }

func (r endingReader) Read(p []byte) (int, error) {
	r.end.over.Store(true)
	return copy(p, "content"), io.EOF
}

// Close ends a request whose content is still awaited, too.
func TestCloseEndsTheWaitForContentToHash(t *testing.T) {
	w := newWorld(t)
	w.signing(t, new(tls.Config))
	tr := w.transport(accepting(Signed))
	body := &silentBody{read: make(chan struct{}, 1), after: make(chan struct{})}
	defer close(body.after)
	go func() {
		<-body.read
		tr.Close()
	}()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", body)
	if _, err := tr.RoundTrip(req); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

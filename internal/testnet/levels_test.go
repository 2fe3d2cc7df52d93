package testnet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/internal/fields"
	"vitrine/proxy"
)

// outcomeFor is what a user who accepts levels has to come to, with an origin of kind k behind a proxy that allows
// modes: a level, or the class of an error.
func outcomeFor(k kind, modes []fields.Mode, levels []client.Level) string {
	accepts := func(list ...client.Level) bool {
		return slices.ContainsFunc(list, func(l client.Level) bool { return slices.Contains(levels, l) })
	}
	allows := func(m fields.Mode) bool { return slices.Contains(modes, m) }
	sealed := func() string {
		carried := accepts(client.Blind) && allows(fields.Blind)
		switch {
		case k == kindRSA12 && (carried || accepts(client.Direct)):
			return "unreachable:origin" // with whom nobody speaks TLS any more who wants to be alone with it
		case carried:
			return string(client.Blind)
		case accepts(client.Direct):
			return string(client.Direct)
		}
		return "level"
	}
	readable := accepts(client.Intact, client.Signed, client.Attested, client.Claimed)
	switch {
	case !readable && !accepts(client.Blind):
		return sealed()
	case len(modes) == 0:
		return "unreachable:proxy"
	case !readable:
		return sealed()
	}
	switch k {
	case kindToken:
		switch {
		case accepts(client.Intact) && allows(fields.Intact):
			return string(client.Intact)
		case accepts(client.Intact):
			return "level" // the proxy's doing, and the origin's evidence says so
		}
	case kindRSA12:
		switch {
		case !allows(fields.Split):
			return "unreachable:origin" // nothing else would come of its key exchange, so the proxy offers none
		case accepts(client.Intact):
			return "level" // that it is the origin's doing is the proxy's word
		case accepts(client.Claimed):
			return string(client.Claimed)
		}
	default:
		switch {
		case !allows(fields.Split):
		case accepts(client.Signed) && k == kindSigning:
			return string(client.Signed)
		case accepts(client.Attested):
			return string(client.Attested)
		case accepts(client.Signed):
			return "level" // which turns out when the response comes without a signature
		}
	}
	return sealed()
}

// subsets are all of them, the empty one first.
func subsets[T any](all ...T) (out [][]T) {
	for mask := range 1 << len(all) {
		set := []T{}
		for i, v := range all {
			if mask>>i&1 == 1 {
				set = append(set, v)
			}
		}
		out = append(out, set)
	}
	return out
}

// A mirror is an origin's handler that keeps what it was asked and answers something of every kind.
type mirror struct {
	mu    sync.Mutex
	asked []*http.Request
	sent  []byte // the last body that came
}

// taken returns what was asked since it was called last.
func (m *mirror) taken() (asked []*http.Request, sent []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked, sent = m.asked, m.sent
	m.asked, m.sent = nil, nil
	return asked, sent
}

const mirrored = 70_000 // bytes of content: more than an origin holds back to sign

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	m.mu.Lock()
	m.asked, m.sent = append(m.asked, r), body
	m.mu.Unlock()
	w.Header().Set("Content-Type", "text/x-mirror")
	w.Header().Add("Set-Cookie", "a=1; Secure")
	w.Header().Add("Set-Cookie", "b=2, 3")
	w.Header().Set("Trailer", "X-Behind")
	w.WriteHeader(http.StatusAccepted)
	p := pattern(mirrored)
	w.Write(p[:mirrored/2])
	http.NewResponseController(w).Flush()
	w.Write(p[mirrored/2:])
	w.Header().Set("X-Behind", behind(string(p)))
}

// Every kind of origin, every policy of a proxy, every set of levels that a user can accept: what comes is the
// level that it has to be or the error that it has to be, and both ends have seen the same bytes.
func TestEveryLevelIsTheOneThatItHasToBe(t *testing.T) {
	t.Parallel()
	all := []client.Level{client.Intact, client.Signed, client.Attested, client.Claimed, client.Blind, client.Direct}
	for _, k := range kinds() {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			step := 1
			if raceEnabled || testing.Short() {
				step = 5
			}
			for first, modes := range subsets(fields.Intact, fields.Split, fields.Blind) {
				bubble(t, func(t *testing.T) {
					m := new(mirror)
					n := New(t, k.as(t, Config{
						Handler: m, Proxy: func(_ *Net, p *proxy.Proxy) { p.Policy.Modes = modes },
					}))
					sets := subsets(all...)[1:]
					for i := first % step; i < len(sets); i += step {
						n.tryLevels(m, k, modes, sets[i])
					}
				})
			}
		})
	}
}

func (n *Net) tryLevels(m *mirror, k kind, modes []fields.Mode, levels []client.Level) {
	n.Helper()
	want := outcomeFor(k, modes, levels)
	tr := n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = levels })
	defer tr.Close()
	question := pattern(9_000)
	ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
	defer cancel()
	req := n.request(ctx, http.MethodPost, "/a%2Fb?c=d", bytes.NewReader(question))
	req.Header.Set("X-Question", "yes")
	resp, body, err := fetch(tr, req)
	all, sent := m.taken()
	where := fmt.Sprintf("%s, proxy %v, user %v", k, modes, levels)
	if err != nil {
		if c := class(err); c != want {
			n.Errorf("%s: %s, want %s: %v", where, c, want, err)
		}
		// The one way in which a request leaves and its response is refused.
		unsigned := slices.Contains(modes, fields.Split) && slices.Contains(levels, client.Signed)
		if len(all) > 0 && !unsigned {
			n.Errorf("%s: the request left: %v", where, err)
		}
		return
	}
	rep := client.ReportOf(resp)
	if string(rep.Level) != want {
		n.Errorf("%s: level %s, want %s", where, rep.Level, want)
	}
	switch {
	case len(all) != 1 || !bytes.Equal(sent, question):
		n.Errorf("%s: the origin was asked %d times, %d bytes at last", where, len(all), len(sent))
	case resp.StatusCode != http.StatusAccepted || !bytes.Equal(body, pattern(mirrored)):
		n.Errorf("%s: status %d, %d bytes", where, resp.StatusCode, len(body))
	case resp.Header.Get("Content-Type") != "text/x-mirror" || !slices.Equal(resp.Header.Values("Set-Cookie"), []string{"a=1; Secure", "b=2, 3"}):
		n.Errorf("%s: %v", where, resp.Header)
	case rep.Level != client.Signed && resp.Trailer.Get("X-Behind") != behind(string(body)):
		n.Errorf("%s: trailer %v", where, resp.Trailer)
	case rep.Level == client.Signed && resp.Trailer.Get("X-Behind") != "":
		n.Errorf("%s: the trailer %v is covered by no signature", where, resp.Trailer)
	}
	if len(all) == 0 {
		return
	}
	asked := all[0]
	switch {
	case asked.Method != http.MethodPost || asked.RequestURI != "/a%2Fb?c=d" || asked.Host != OriginHost:
		n.Errorf("%s: the origin was asked %s %s of %s", where, asked.Method, asked.RequestURI, asked.Host)
	case asked.Header.Get("X-Question") != "yes" || asked.ContentLength != int64(len(question)):
		n.Errorf("%s: %d bytes announced, %v", where, asked.ContentLength, asked.Header)
	case asked.Header.Get(fields.EvidenceID) != "":
		n.Errorf("%s: the origin learnt what the proxy calls its connection", where)
	}
	via := strings.Join(asked.Header.Values("Via"), ",") != "" && len(resp.Header.Values("Via")) > 0
	if split := slices.Contains([]client.Level{client.Signed, client.Attested, client.Claimed}, rep.Level); via != split {
		n.Errorf("%s: via %q, %q", where, asked.Header.Values("Via"), resp.Header.Values("Via"))
	}
	n.checkReport(where, k, rep)
}

// checkReport looks at what the report says of how it is known.
func (n *Net) checkReport(where string, k kind, rep *client.Report) {
	n.Helper()
	kind := ""
	if rep.Evidence != nil {
		kind = rep.Evidence.Kind
	}
	proofs := map[client.Level][]string{
		client.Intact: {"authenticator"}, client.Signed: {"transcript"}, client.Attested: {"transcript"}, client.Claimed: {"claim"},
		client.Blind: {"", "transcript", "claim", "authenticator"}, client.Direct: {"", "transcript", "claim", "authenticator"},
	}
	if !slices.Contains(proofs[rep.Level], kind) {
		n.Errorf("%s: at %s with evidence %q", where, rep.Level, kind)
	}
	if rep.Evidence != nil && rep.Evidence.Verified == (kind == "claim") {
		n.Errorf("%s: evidence %s verified: %t", where, kind, rep.Evidence.Verified)
	}
	if s := rep.Signature; (s != nil) != (rep.Level == client.Signed) {
		n.Errorf("%s: at %s with signature %+v", where, rep.Level, s)
	} else if s != nil && (!s.Verified || !s.Fresh || !s.ReplayableUntil.IsZero() || s.KeyID != rep.Evidence.OriginSPKI) {
		n.Errorf("%s: signature %+v", where, s)
	}
	if ends := rep.Level == client.Intact || !rep.Level.Readable(); (rep.Inner != nil) != ends {
		n.Errorf("%s: at %s with an inner session %+v", where, rep.Level, rep.Inner)
	}
}

package hostile

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/httpsig"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/proxy"
)

// maxEarlier is how much of a response of its own a Liar keeps to show it again: an origin that answers without
// end must not fill memory.
const maxEarlier = 1 << 20

// A splitVictim is one ordinary request on hop 1, and what is lied about it.
type splitVictim struct {
	hop.IncomingRequest
	v *victim
}

func (v *splitVictim) Session() hop.Session { return v.v.Session() }

func (v *splitVictim) Reject(resp *hop.Response) error { return v.v.Reject(resp) }

// struck reports a lie about the answer.
func (v *splitVictim) struck(what string) { v.v.struck(-1, -1, what) }

func (v *splitVictim) missed(err error) { v.v.s.l.missed(v.v.authority(), err) }

// rests says whether the request rests on evidence, as those of split mode do.
func (v *splitVictim) rests() bool {
	_, err := fields.ParseEvidenceID(v.Request().Header.Values(fields.EvidenceID))
	return err == nil
}

// takenOver answers the request without the proxy where the mode is to do that.
func (v *splitVictim) takenOver() bool {
	l := v.v.s.l
	return l.Mode == ModeSplitOtherConnection && v.rests() && l.spawn(v.impersonate)
}

func (v *splitVictim) Answer() (hop.Answering, error) {
	a, err := v.IncomingRequest.Answer()
	if err != nil || !v.rests() {
		return a, err
	}
	switch l := v.v.s.l; l.Mode {
	case ModeSplitAlter:
		return &altered{Answering: a, v: v}, nil
	case ModeSplitReplay:
		ctx, cancel := context.WithTimeout(v.v.s.ctx, patience)
		defer cancel()
		old, err := l.forger.earlier(ctx, v.Request(), v.End())
		if err != nil {
			v.missed(err)
			return a, nil
		}
		return &replaced{Answering: a, v: v, old: old}, nil
	}
	return a, nil
}

// altered is an exchange of which the answer is changed on its way.
type altered struct {
	hop.Answering
	v    *splitVictim
	body atomic.Bool // the next content is to be changed
}

func (x *altered) Respond(r *hop.Response, end bool) error {
	if r.Header.Get(fields.EvidenceID) == "" {
		return x.Answering.Respond(r, end) // the proxy's own, of which nobody believes that an origin made it
	}
	lie := *r
	lie.Header = r.Header.Clone()
	kind := "text/html; charset=utf-8"
	if was := lie.Header.Get("Content-Type"); was == kind {
		kind = "text/plain; charset=utf-8"
	}
	lie.Header.Set("Content-Type", kind)
	what := "content-type changed"
	if !end {
		what = "content-type and one bit of the content changed"
	}
	x.v.struck(what)
	x.body.Store(!end)
	return x.Answering.Respond(&lie, end)
}

func (x *altered) Send(b *hop.Buffer) error {
	if p := b.Bytes(); len(p) > 0 && x.body.Swap(false) {
		p[len(p)/2] ^= 1
	}
	return x.Answering.Send(b)
}

// replaced is an exchange of which the answer is thrown away, for an older one.
type replaced struct {
	hop.Answering
	v    *splitVictim
	old  *page
	over atomic.Bool
}

func (x *replaced) Respond(r *hop.Response, end bool) error {
	if r.Header.Get(fields.EvidenceID) == "" {
		return x.Answering.Respond(r, end)
	}
	x.over.Store(true)
	h := x.old.header.Clone()
	for _, own := range []string{fields.EvidenceID, fields.Via} {
		h[http.CanonicalHeaderKey(own)] = r.Header.Values(own)
	}
	x.v.struck("the response to a request that the proxy made before, in the place of the response")
	return x.old.send(x.Answering, h)
}

func (x *replaced) Send(b *hop.Buffer) error {
	if x.over.Load() {
		b.Release()
		return nil
	}
	return x.Answering.Send(b)
}

func (x *replaced) CloseSend() error { return x.SendTrailer(nil) }

func (x *replaced) SendTrailer(h http.Header) error {
	if x.over.Load() {
		return nil
	}
	return x.Answering.SendTrailer(h)
}

// A page is a whole response.
type page struct {
	status          int
	header, trailer http.Header
	body            []byte
}

// send answers with p, under the fields h.
func (p *page) send(a hop.Answering, h http.Header) error {
	end := len(p.body) == 0 && len(p.trailer) == 0
	if err := a.Respond(&hop.Response{Status: p.status, Header: h}, end); err != nil || end {
		return err
	}
	for _, b := range Buffers(p.body) {
		if err := a.Send(b); err != nil {
			return err
		}
	}
	return a.SendTrailer(p.trailer)
}

// earlier is the origin's response to a request like req that is the Liar's own: over a connection of its own,
// with a nonce of its own. end says that req has no content; what has some is not to be had twice.
func (f *forger) earlier(ctx context.Context, req *hop.Request, end bool) (*page, error) {
	if !end {
		return nil, errors.New("hostile: a request with content is the client's to make")
	}
	authority, err := fields.CanonicalAuthority(hostPort(req.Authority))
	if err != nil {
		return nil, err
	}
	own, err := newRequest(&tlsmsg.InspectionOffer{Proxies: [][32]byte{f.leaf}, Authority: authority})
	if err != nil {
		return nil, err
	}
	host, _, err := fields.ParseAuthority(authority)
	if err != nil {
		return nil, err
	}
	up, err := f.proxy.Dial(ctx, &proxy.Target{Mode: fields.Blind, Authority: authority, Client: ownClient})
	if err != nil {
		return nil, err
	}
	defer up.Close()
	defer up.Conn.Close()
	tr := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			tc := tls.Client(up.Conn, &tls.Config{
				RootCAs: f.proxy.Roots, ServerName: host, NextProtos: []string{"http/1.1"}, Time: f.proxy.Time, CipherSuites: anySuite(),
			})
			return tc, tc.HandshakeContext(ctx)
		},
		DisableKeepAlives: true, DisableCompression: true,
	}
	r, err := httpRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	r.Header.Del(fields.EvidenceID)
	r.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(own.Raw))
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readPage(resp)
}

// anySuite is what crypto/tls knows, RSA key exchange included: an origin that has nothing better is lied about, too.
func anySuite() (ids []uint16) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, s.ID)
	}
	return ids
}

// hostPort are the parts of the authority of an ordinary request, whose port may be missing.
func hostPort(authority string) (host string, port int) {
	host, digits, err := net.SplitHostPort(authority)
	if err != nil {
		return strings.Trim(authority, "[]"), 443
	}
	port, _ = strconv.Atoi(digits) // 0 is no port either
	return host, port
}

// httpRequest is req for net/http, without its content.
func httpRequest(ctx context.Context, req *hop.Request) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, req.Method, "https://"+req.Authority+req.Path, nil)
	if err != nil {
		return nil, err
	}
	r.Header = req.Header.Clone()
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	return r, nil
}

func readPage(resp *http.Response) (*page, error) {
	p := &page{status: resp.StatusCode, header: resp.Header}
	var err error
	if p.body, err = io.ReadAll(io.LimitReader(resp.Body, maxEarlier+1)); err != nil {
		return nil, err
	}
	if len(p.body) > maxEarlier {
		return nil, fmt.Errorf("hostile: a response of more than %d bytes is not kept", maxEarlier)
	}
	p.trailer = resp.Trailer
	p.header.Del("Connection")
	return p, nil
}

// impersonate answers in the place of the origin, which is not asked.
func (v *splitVictim) impersonate() {
	l := v.v.s.l
	a, err := v.IncomingRequest.Answer()
	if err != nil {
		l.log.Info("the request was not answered", "why", err.Error())
		return
	}
	a.Start(sink{})
	p, err := l.impostorPage(v.Request())
	if err != nil {
		v.missed(err)
		a.Reset(hop.RefusedStream)
		return
	}
	h := p.header
	h[http.CanonicalHeaderKey(fields.EvidenceID)] = v.Request().Header.Values(fields.EvidenceID)
	fields.AppendVia(h, "2", l.Proxy.Name)
	v.struck("the request taken to a server of the proxy's own, over another connection than the evidence's")
	if err := p.send(a, h); err != nil {
		l.log.Info("the client did not take the forged page", "why", err.Error())
	}
}

// impostorPage is what a server of the Liar's own answers to req: signed as well as it can be without the origin's key.
func (l *Liar) impostorPage(req *hop.Request) (*page, error) {
	host, _ := hostPort(req.Authority)
	cert, err := l.forger.impostors.Origin(host)
	if err != nil {
		return nil, err
	}
	p := &page{status: http.StatusOK, header: make(http.Header)}
	p.header.Set("Content-Type", "text/plain; charset=utf-8")
	p.header.Set("Content-Length", strconv.Itoa(len(forgedText)))
	p.header.Set(httpsig.ContentDigest, httpsig.FormatDigest(sha256.Sum256([]byte(forgedText))))
	if req.Method != http.MethodHead {
		p.body = []byte(forgedText)
	}
	request, err := requestIn(req.Header)
	if err != nil {
		return nil, err
	}
	now := l.now()
	return p, httpsig.Sign(cert.PrivateKey.(crypto.Signer), httpsig.Params{
		Created: now, Expires: now.Add(httpsig.MaxLifetime), Nonce: request.Nonce[:], KeyID: pki.SPKIHash(cert.Leaf),
	}, &httpsig.Request{
		Method: req.Method, TargetURI: httpsig.TargetURI(req.Authority, req.Path), Header: req.Header,
	}, p.status, p.header)
}

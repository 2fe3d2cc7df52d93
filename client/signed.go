package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/httpsig"
)

// A signature is what is known of the origin's over one response.
type signature struct {
	req     *httpsig.Request
	read    *httpsig.Signature
	content io.Writer
}

// newSignature is for req, as it leaves.
func newSignature(req *hop.Request) *signature {
	sent := req.Header.Clone()
	sent.Del(fields.EvidenceID) // the proxy's, and no business of the origin's
	return &signature{
		req:     &httpsig.Request{Method: req.Method, TargetURI: httpsig.TargetURI(req.Authority, req.Path), Header: sent},
		content: io.Discard,
	}
}

// sign finds the origin's signature in the head of answer, and decides the level. What is not covered goes.
func (e *splitExchange) sign(a *attempt, answer *hop.Response) error {
	if e.signature == nil {
		return nil
	}
	h := answer.Header
	read, err := httpsig.Read(e.signature.req, answer.Status, h)
	if errors.Is(err, httpsig.ErrUnsigned) {
		e.signature = nil
		return e.unsigned(a)
	}
	e.x.rep.Level = "" // unless it holds
	if err != nil {
		return &IntegrityError{What: "the signature of the response does not hold", Err: err}
	}
	rep := &SignatureReport{
		KeyID: hex.EncodeToString(read.Params.KeyID[:]), Created: read.Params.Created, Expires: read.Params.Expires, Covered: read.Covered(),
	}
	e.x.rep.Signature = rep
	if err := read.Check(e.route.origin, e.probe.offer.Nonce, e.d.now()); err != nil {
		return &IntegrityError{What: "the signature of the response does not hold", Err: err}
	}
	rep.Fresh, rep.ReplayableUntil = read.Fresh, read.ReplayableUntil
	read.Strip(h)
	e.signature.read, e.signature.content = read, read.Body()
	e.x.rep.Level = Signed
	return nil
}

// unsigned is for a response without a signature to a user who accepts signed.
func (e *splitExchange) unsigned(a *attempt) error {
	below := e.route.level
	why := "the origin did not sign its response, and has had the request"
	switch {
	case e.d.reached(e.route.authority, Signed) && a.chosen != below:
		why += "; it was reached at a better level before, so less than that is the user's to judge"
		return e.levelError(a, why, string(below))
	case a.accepts(below):
		return nil
	}
	return e.levelError(a, why, join(append(append([]Level(nil), a.levels...), below), ","))
}

func (e *splitExchange) levelError(a *attempt, why, option string) error {
	e.x.rep.Level = ""
	l := &LevelError{Authority: a.authority, Accepted: a.levels, Why: why, Option: option}
	for _, m := range e.route.options {
		l.Offered = append(l.Offered, string(m))
	}
	return l
}

// declared is the length of a signed response, -1 where there is none.
func (e *splitExchange) declared(resp *http.Response) int64 {
	if e.signature == nil {
		return -1
	}
	return resp.ContentLength
}

// pointsElsewhere says whether the response is a redirect. Whoever follows it asks for no more of its content, and so
// would never learn that the signature does not hold.
func pointsElsewhere(resp *http.Response) bool {
	return resp.StatusCode/100 == 3 && resp.Header.Get("Location") != ""
}

// actedOn says whether the head is acted on at once, and the signature over it is still to come: a redirect is followed,
// and cookies are kept, whatever then becomes of the content.
func (e *splitExchange) actedOn() bool {
	return e.signature != nil && !e.signature.read.Verified() && (pointsElsewhere(e.resp) || len(e.resp.Header["Set-Cookie"]) > 0)
}

// maxAhead bounds the content of such a response, which is kept until its signature is there, in bytes.
const maxAhead = 1 << 20

// readAhead has the response's content, which is b, come and be judged before anybody gets the head. Where that is too
// much a redirect fails, and other responses lose their cookies.
func (e *splitExchange) readAhead(b *responseBody) error {
	p, err := io.ReadAll(io.LimitReader(b, maxAhead+1))
	switch {
	case err != nil:
		return err
	case len(p) <= maxAhead:
		e.resp.Body = io.NopCloser(bytes.NewReader(p))
	case pointsElsewhere(e.resp):
		e.x.rep.Level = ""
		return &IntegrityError{What: fmt.Sprintf("a redirect is longer than %d bytes, and its signature comes behind that", maxAhead)}
	default:
		e.resp.Header.Del("Set-Cookie")
		e.resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(p), b), b}
	}
	return nil
}

// finish judges the whole response, with the trailer section h, of which only what is signed is left.
func (s *signature) finish(h http.Header) error {
	switch err := s.read.Finish(h); {
	case err == nil:
	case !s.read.Verified() && len(h.Values(httpsig.ContentDigest)) == 0 && len(h.Values(httpsig.SignatureHeader)) == 0:
		return &IntegrityError{
			What: "the response came to its end without the signature that was announced to follow it: the origin could not make it, or somebody took it away",
			Err:  fmt.Errorf("%w: %w", ErrNoSignature, err),
		}
	default:
		return &IntegrityError{What: "the response is not what the origin signed", Err: err}
	}
	s.read.StripTrailer(h)
	return nil
}

// verified is called when the signature over the whole response holds.
func (e *splitExchange) verified() {
	e.x.rep.Signature.Verified = true
	e.d.memory().Remember(e.route.authority, Signed)
}

// digestBody gives the request the digest of its content, which the origin signs with its response: without it a
// proxy could change what the response answers.
func (x *exchange) digestBody(ctx context.Context) error {
	if x.digested || x.body == nil || x.body == http.NoBody || len(x.req.Header.Values(httpsig.ContentDigest)) > 0 {
		return nil
	}
	sum := sha256.New()
	req := x.req.WithContext(x.req.Context())
	if x.req.GetBody != nil {
		body, err := x.req.GetBody()
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = whileWanted(ctx, func() (int64, error) {
			return io.Copy(sum, readerFunc(func(p []byte) (int, error) {
				if err := ctx.Err(); err != nil {
					return 0, err
				}
				return body.Read(p)
			}))
		})
		if err != nil {
			return fmt.Errorf("client: the request's content: %w", err)
		}
	} else {
		src := x.body
		p, err := whileWanted(ctx, func() ([]byte, error) { return readSpool(src) })
		switch {
		case err != nil:
			return fmt.Errorf("client: the request's content: %w", err)
		case x.req.ContentLength > 0 && x.req.ContentLength != int64(len(p)): // 0 is an unknown one
			return fmt.Errorf("client: the request has ContentLength %d, and its body %d bytes", x.req.ContentLength, len(p))
		}
		x.closeBody()
		sum.Write(p)
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(p)), nil }
		req.ContentLength = int64(len(p))
	}
	req.Header = x.req.Header.Clone()
	req.Header.Set(httpsig.ContentDigest, httpsig.FormatDigest([32]byte(sum.Sum(nil))))
	spooled := x.req.GetBody == nil
	x.req, x.digested = req, true
	if !spooled {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return err
	}
	req.Body = body
	x.setBody(body)
	return nil
}

// whileWanted is read, which a caller's body may keep waiting, unless ctx ends. What goes on then ends with the body's
// Read, which is the caller's.
func whileWanted[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type outcome struct {
		t   T
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		t, err := read()
		done <- outcome{t, err}
	}()
	select {
	case o := <-done:
		return o.t, o.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// A readerFunc is an [io.Reader].
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

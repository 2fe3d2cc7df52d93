package hostile

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/internal/verdict"
	"vitrine/proxy"
)

// ownClient names the connections to origins that a Liar makes for itself, in the place of a client's.
const ownClient = "the liar itself"

// A forger makes what a Liar shows.
type forger struct {
	proxy *proxy.Proxy
	name  string // the proxy's own
	leaf  [32]byte
	// key signs what the proxy's key and the origins' did not.
	key *ecdsa.PrivateKey
	// impostors vouches for the origins that the Liar plays itself: nobody trusts it.
	impostors *pki.Authority
	// accomplice is another proxy, in whose name evidence is asked for.
	accomplice *proxy.Proxy
	other      [32]byte // its leaf
}

func newForger(p *proxy.Proxy, now time.Time) (*forger, error) {
	leaf, err := pki.Leaf(&p.Certificate)
	if err != nil {
		return nil, err
	}
	f := &forger{proxy: p, name: p.Name, leaf: pki.LeafHash(leaf)}
	if f.name == "" && len(leaf.DNSNames) > 0 {
		f.name = strings.ToLower(leaf.DNSNames[0])
	} else if f.name == "" && len(leaf.IPAddresses) > 0 {
		f.name = leaf.IPAddresses[0].String()
	}
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if f.impostors, err = pki.NewAuthority("HOSTILE origins", now); err != nil {
		return nil, err
	}
	accomplices, err := pki.NewAuthority("HOSTILE proxies", now)
	if err != nil {
		return nil, err
	}
	cert, err := accomplices.Proxy("accomplice.invalid")
	if err != nil {
		return nil, err
	}
	f.other = pki.LeafHash(cert.Leaf)
	f.accomplice = &proxy.Proxy{
		Certificate: cert, Name: NamePrefix + "accomplice", Roots: p.Roots, Targets: p.Targets, ConnectTo: p.ConnectTo,
		Limits: p.Limits, Time: p.Time,
	}
	return f, nil
}

func (f *forger) close() error { return f.accomplice.Close() }

// forge returns what is shown in the place of resp's evidence, and what it is; nil where the truth is.
func (l *Liar) forge(ctx context.Context, request *evidence.Request, resp *hop.Response) (forged []byte, what string, err error) {
	f := l.forger
	var e *evidence.Evidence
	switch l.Mode {
	case ModeFakeEvidence:
		what = "the evidence signed with a key of the proxy's own"
		e, err = f.fake(request, resp.Evidence)
	case ModeStaleEvidence:
		what = "evidence of an earlier CONNECT, with a new date"
		e, err = f.stale(ctx, request.Offer.Authority)
		if err == nil {
			e.Time = l.now()
		}
	case ModeOtherProxy:
		what = "evidence that the origin made for another proxy"
		e, err = f.otherProxy(ctx, request)
	case ModeOtherHop:
		if resp.Status >= http.StatusMultipleChoices {
			return nil, "", nil // no tunnel, so there is no hop that it could be another than
		}
		what = "evidence of another connection to the origin than carries the tunnel"
		e, err = borrow(ctx, f.proxy, request)
	default:
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	forged, err = e.Append(nil)
	return forged, what, err
}

// fake is the evidence in truth with the proxy's own signature where the origin's was.
func (f *forger) fake(request *evidence.Request, truth []byte) (*evidence.Evidence, error) {
	e, err := evidence.Parse(truth)
	if err != nil {
		return nil, err
	}
	switch e.Kind {
	case evidence.Authenticator:
		e.Authenticator, err = f.resign(e.Authenticator, hashOf(e.Hop.Suite), "Exported Authenticator", e.HandshakeContext, request.Raw)
	case evidence.Transcript:
		if e.Hop.Version == tls.VersionTLS12 {
			e.Messages, err = f.resignExchange(e.Messages)
			break
		}
		e.Messages, err = f.resign(e.Messages, hashOf(e.Hop.Suite), "TLS 1.3, server CertificateVerify")
	default:
		err = errors.New("hostile: a claim is signed by nobody")
	}
	return e, err
}

// resign replaces the CertificateVerify among messages; before is what the signature covers besides those that come
// before it.
func (f *forger) resign(messages []byte, h crypto.Hash, context string, before ...[]byte) ([]byte, error) {
	covered := bytes.Join(before, nil)
	var out []byte
	signed := false
	for len(messages) > 0 {
		msg, rest, err := tlsmsg.SplitHandshake(messages, tlsmsg.MaxHandshake)
		if err != nil {
			return nil, err
		}
		if tlsmsg.MessageType(msg) == tlsmsg.TypeCertificateVerify {
			digest := h.New()
			digest.Write(covered)
			sig, err := tlsmsg.Sign(rand.Reader, f.key, tls.ECDSAWithP256AndSHA256, tlsmsg.SignedContent(context, digest.Sum(nil)))
			if err != nil {
				return nil, err
			}
			if msg, err = (&tlsmsg.CertificateVerify{Scheme: tls.ECDSAWithP256AndSHA256, Signature: sig}).Append(nil); err != nil {
				return nil, err
			}
			signed = true
		}
		covered = append(covered, msg...)
		out = append(out, msg...)
		messages = rest
	}
	if !signed {
		return nil, errors.New("hostile: the evidence has no signature to replace")
	}
	return out, nil
}

// resignExchange is resign for TLS 1.2, where the signature is in the ServerKeyExchange and covers both randoms.
func (f *forger) resignExchange(messages []byte) ([]byte, error) {
	var covered, out []byte
	signed := false
	for len(messages) > 0 {
		msg, rest, err := tlsmsg.SplitHandshake(messages, tlsmsg.MaxHandshake)
		if err != nil {
			return nil, err
		}
		switch tlsmsg.MessageType(msg) {
		case tlsmsg.TypeClientHello, tlsmsg.TypeServerHello:
			const at = 4 + 2 // behind the message's header and the version
			covered = append(covered, msg[at:at+32]...)
		case tlsmsg.TypeServerKeyExchange:
			m, err := tlsmsg.ParseServerKeyExchange(msg)
			if err != nil {
				return nil, err
			}
			m.Scheme = tls.ECDSAWithP256AndSHA256
			if m.Signature, err = tlsmsg.Sign(rand.Reader, f.key, m.Scheme, append(covered, m.Params...)); err != nil {
				return nil, err
			}
			if msg, err = m.Append(nil); err != nil {
				return nil, err
			}
			signed = true
		}
		out = append(out, msg...)
		messages = rest
	}
	if !signed {
		return nil, errors.New("hostile: the evidence has no signature to replace")
	}
	return out, nil
}

func hashOf(suite uint16) crypto.Hash {
	if suite == tls.TLS_AES_256_GCM_SHA384 {
		return crypto.SHA384
	}
	return crypto.SHA256
}

// stale is evidence for a CONNECT of the Liar's own, in which it was its own client.
func (f *forger) stale(ctx context.Context, authority string) (*evidence.Evidence, error) {
	request, err := newRequest(&tlsmsg.InspectionOffer{Proxies: [][32]byte{f.leaf}, Authority: authority})
	if err != nil {
		return nil, err
	}
	return borrow(ctx, f.proxy, request)
}

// otherProxy is evidence for the client's nonce and another proxy.
func (f *forger) otherProxy(ctx context.Context, r *evidence.Request) (*evidence.Evidence, error) {
	request, err := newRequest(&tlsmsg.InspectionOffer{Proxies: [][32]byte{f.other}, Authority: r.Offer.Authority, Nonce: r.Nonce})
	if err != nil {
		return nil, err
	}
	return borrow(ctx, f.accomplice, request)
}

// newRequest is a client's request for evidence, with a nonce of its own where the offer has none.
func newRequest(offer *tlsmsg.InspectionOffer) (*evidence.Request, error) {
	if offer.Nonce == [32]byte{} {
		rand.Read(offer.Nonce[:]) // it never fails
	}
	host, _, err := fields.ParseAuthority(offer.Authority)
	if err != nil {
		return nil, err
	}
	raw, err := evidence.NewRequest(offer, sni(host))
	if err != nil {
		return nil, err
	}
	return evidence.ParseRequest(raw)
}

// borrow gets true evidence for request, over a connection that no client's tunnel is on.
func borrow(ctx context.Context, p *proxy.Proxy, request *evidence.Request) (*evidence.Evidence, error) {
	return Borrow(ctx, p.Dial, &proxy.Target{
		Mode: fields.Intact, Authority: request.Offer.Authority, Request: request, Client: ownClient, Fresh: true,
	})
}

// Borrow gets the origin's true evidence for t's request, from a tunnel that it opens for that alone and resets: an
// authenticator, or the transcript of an origin that makes none. A liar shows it where it does not belong.
func Borrow(ctx context.Context, dial proxy.DialFunc, t *proxy.Target) (*evidence.Evidence, error) {
	up, err := dial(ctx, t)
	if err != nil {
		return nil, err
	}
	defer up.Close()
	if up.Session == nil {
		return transcriptOf(up)
	}
	resp, st, err := openTunnel(ctx, up, t.Request)
	if err != nil {
		return nil, err
	}
	st.Start(sink{})
	st.Reset(hop.Cancel)
	if len(resp.Evidence) == 0 {
		return transcriptOf(up)
	}
	return evidence.FromAuthenticator(resp.Evidence, t.Request, up.State, up.Verified)
}

func transcriptOf(up *proxy.Upstream) (*evidence.Evidence, error) {
	if up.Transcript == nil {
		return nil, errors.New("hostile: the connection to the origin proves nothing")
	}
	return up.Transcript, nil
}

// openTunnel opens a tunnel of the Liar's own.
func openTunnel(ctx context.Context, up *proxy.Upstream, request *evidence.Request) (*hop.Response, hop.Stream, error) {
	h := http.Header{}
	h.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(request.Raw))
	resp, st, err := up.Session.Open(ctx, &hop.Request{Protocol: frames.Protocol, Authority: request.Offer.Authority, Path: "/", Header: h})
	if err != nil {
		return nil, nil, err
	}
	if st == nil {
		return nil, nil, fmt.Errorf("hostile: the origin answered %d", resp.Status)
	}
	return resp, st, nil
}

// dialWithoutToken makes hop 2 as a proxy would for an origin that it would rather not be watched with: no itls
// token is offered, so the origin picks none.
func (f *forger) dialWithoutToken(ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
	host, _, err := fields.ParseAuthority(t.Authority)
	if err != nil {
		return nil, err
	}
	way, err := f.proxy.Dial(ctx, &proxy.Target{Mode: fields.Blind, Authority: t.Authority, Client: t.Client})
	if err != nil {
		return nil, err
	}
	end := sync.OnceFunc(func() {
		way.Conn.Close()
		way.Close()
	})
	up, err := f.shakeWithoutToken(ctx, way, host, t)
	if err != nil {
		end()
		return nil, err
	}
	up.Done = end
	return up, nil
}

func (f *forger) shakeWithoutToken(ctx context.Context, way *proxy.Upstream, host string, t *proxy.Target) (*proxy.Upstream, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := evidence.NewDial(&tls.Config{
		RootCAs: f.proxy.Roots, ServerName: host, NextProtos: []string{"http/1.1"}, Time: f.proxy.Time,
		Certificates: []tls.Certificate{f.proxy.Certificate}, KeyLogWriter: f.proxy.KeyLog,
	}, t.Request, t.Request.Offer.Proxies, t.Authority)
	if err != nil {
		return nil, err
	}
	defer d.Discard()
	tc := tls.Client(d.Tap(way.Conn), d.Config())
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	up := &proxy.Upstream{State: tc.ConnectionState(), Verified: true}
	up.Transcript, err = d.Evidence(up.State, true)
	return up, err
}

// falseVerdict names the right proxy and the right tunnel, and is signed with another key.
func (f *forger) falseVerdict(request *evidence.Request, now time.Time) ([]byte, error) {
	forged := f.proxy.Certificate
	forged.PrivateKey = f.key
	return verdict.Sign(&forged, &frames.VerdictTBS{
		Nonce:     request.Nonce,
		Authority: request.Offer.Authority,
		Time:      now,
		Direction: frames.ToClient,
		Reason:    frames.ReasonPolicy,
		Rule:      "hostile.false-verdict",
		Detail:    "a rule that nobody wrote",
	})
}

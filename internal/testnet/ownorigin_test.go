package testnet

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/itls"
	"vitrine/internal/tlsmsg"
)

// An ownOrigin is an origin that is not package origin. The zero value does as that one does and answers
// each request with "own".
type ownOrigin struct {
	silentEvidence, silentInner bool // it has not heard of `inspection` there
	// inner is the certificate of the inner session. Default: that of hop 2.
	inner *tls.Certificate
	// carrier is what the inner session runs on. keys are those of the session.
	carrier func(c *hop.Conn, keys *keyLog) net.Conn
	// talk serves a session until it ends. It may expect that everything fails.
	talk func(session net.Conn)
	// stock is whether it is an ordinary origin now.
	stock atomic.Bool
	// opened, if set, is given each tunnel that is to have an inner session; true keeps it from having one.
	opened func(st hop.Stream) bool
}

// say answers every request of a session with text.
func say(text string) func(session net.Conn) {
	return func(session net.Conn) {
		for r := bufio.NewReader(session); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			fmt.Fprintf(session, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	}
}

// sayRaw answers every request of a session with the bytes of text, whatever they are.
func sayRaw(text string) func(session net.Conn) {
	return func(session net.Conn) {
		for r := bufio.NewReader(session); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			io.WriteString(session, text)
		}
	}
}

// serveOwnOrigin serves OriginHost, which must not be New's.
func (n *Net) serveOwnOrigin(o *ownOrigin) {
	n.Helper()
	cert := n.certificate(n.Origins.Origin(OriginHost))
	if o.inner == nil {
		o.inner = &cert
	}
	if o.talk == nil {
		o.talk = say("own")
	}
	ln := n.Listen(OriginHost)
	var wg sync.WaitGroup
	n.run(func() error {
		defer wg.Wait()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return err
			}
			wg.Go(func() {
				defer conn.Close()
				if err := n.serveOwnHop(o, conn, &cert); err != nil {
					n.Error(err)
				}
			})
		}
	}, ln.Close)
}

// serveOwnHop serves one connection of a proxy.
func (n *Net) serveOwnHop(o *ownOrigin, conn net.Conn, cert *tls.Certificate) error {
	cfg := &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1"}}
	if !o.stock.Load() {
		cfg.NextProtos, cfg.MinVersion, cfg.ClientAuth = []string{frames.ALPNH2}, tls.VersionTLS13, tls.RequestClientCert
	}
	tc := tls.Server(conn, cfg)
	if err := tc.HandshakeContext(n.ctx); err != nil {
		return err
	}
	if o.stock.Load() {
		o.talk(tc)
		tc.Close() // the peer may be gone
		return nil
	}
	s, err := h2.Server(tc, nil)
	if err != nil {
		return err
	}
	state := tc.ConnectionState()
	var tunnels sync.WaitGroup
	defer tunnels.Wait()
	for {
		in, err := s.Accept(n.ctx)
		if err != nil {
			s.Close(hop.NoError, "")
			<-s.Done()
			return nil
		}
		tunnels.Go(func() {
			if err := n.serveOwnTunnel(o, in, &state, cert); err != nil {
				n.Error(err)
			}
		})
	}
}

func (n *Net) serveOwnTunnel(o *ownOrigin, in hop.Incoming, state *tls.ConnectionState, cert *tls.Certificate) error {
	raw, err := fields.ParseEvidenceRequest(in.Request().Header.Values(fields.EvidenceRequest))
	if err != nil {
		return err
	}
	req, err := evidence.ParseRequest(raw)
	if err != nil {
		return err
	}
	full, err := evidence.NewAnswer(state, time.Now(), time.Minute)
	if err != nil {
		return err
	}
	pick := func(silent bool) *tlsmsg.InspectionAnswer {
		if silent {
			return nil
		}
		return full
	}
	proof, err := evidence.Authenticate(req, state, cert, pick(o.silentEvidence))
	if err != nil {
		return err
	}
	st, err := in.Accept(&hop.Response{Status: 200, Evidence: proof})
	if err != nil {
		return err
	}
	if o.opened != nil && o.opened(st) {
		return nil
	}
	keys := new(keyLog)
	carrier := net.Conn(hop.NewConn(st))
	if o.carrier != nil {
		carrier = o.carrier(carrier.(*hop.Conn), keys)
	}
	inner := itls.Server(carrier, &itls.Config{
		TLS:              &tls.Config{Certificates: []tls.Certificate{*o.inner}, NextProtos: []string{"http/1.1"}, KeyLogWriter: keys},
		RequireALPN:      true,
		AnswerInspection: func(*tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) { return pick(o.silentInner), nil },
	})
	defer inner.Close()
	o.talk(inner)
	return nil
}

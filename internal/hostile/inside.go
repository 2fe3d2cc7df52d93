package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw"
	"vitrine/internal/itls"
	"vitrine/internal/tlsmsg"
	"vitrine/proxy"
)

// maxTaped is how much of its own tunnel a Liar keeps: a handshake and the first record behind it. An origin that
// answers without end must not fill memory.
const maxTaped = 128 << 10

// inside is a connection that runs in a hop, as itls demands. In memory it is the hop's word.
type inside struct {
	net.Conn
	hop  tls.ConnectionState
	tape []byte // of what was read, at most maxTaped
}

func (c *inside) HopState() tls.ConnectionState { return c.hop }

func (c *inside) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tape = append(c.tape, p[:min(n, maxTaped-len(c.tape))]...)
	return n, err
}

// sni is host as server_name has it: empty for an address.
func sni(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return host
}

// foreignRecord is the first record of application data that authority's origin sends in a tunnel of the Liar's
// own, in which it is an honest client.
func (f *forger) foreignRecord(ctx context.Context, authority string) ([]byte, error) {
	offer := &tlsmsg.InspectionOffer{Proxies: [][32]byte{f.leaf}, Authority: authority}
	request, err := newRequest(offer)
	if err != nil {
		return nil, err
	}
	up, err := f.proxy.Dial(ctx, &proxy.Target{Mode: fields.Intact, Authority: authority, Request: request, Client: ownClient})
	if err != nil {
		return nil, err
	}
	defer up.Close()
	if up.Session == nil {
		return nil, errors.New("hostile: the origin has no inner sessions")
	}
	_, st, err := openTunnel(ctx, up, request)
	if err != nil {
		return nil, err
	}
	defer st.Reset(hop.Cancel)
	wire := &inside{Conn: hop.NewConn(st), hop: up.State}
	defer wire.Close()
	defer context.AfterFunc(ctx, func() { wire.Close() })()
	if err := f.ask(ctx, wire, offer); err != nil {
		return nil, err
	}
	attack := newResponseAttack(nil)
	for rest := wire.tape; ; {
		h, err := tlsmsg.ParseRecordHeader(rest)
		if err != nil || len(rest) < tlsmsg.RecordHeaderLen+h.Length {
			return nil, errors.New("hostile: the origin sent no application data")
		}
		record := rest[:tlsmsg.RecordHeaderLen+h.Length]
		rest = rest[len(record):]
		if h.Type == tlsmsg.TypeHandshake {
			attack.tag = tagOf(record)
		}
		if attack.inner(record) == tlsmsg.TypeApplicationData {
			return bytes.Clone(record), nil
		}
	}
}

// ask gets the origin's first page over wire.
func (f *forger) ask(ctx context.Context, wire *inside, offer *tlsmsg.InspectionOffer) error {
	host, _, err := fields.ParseAuthority(offer.Authority)
	if err != nil {
		return err
	}
	conn := itls.Client(wire, &itls.Config{
		TLS:         &tls.Config{RootCAs: f.proxy.Roots, ServerName: host, NextProtos: []string{"http/1.1"}, Time: f.proxy.Time},
		Inspection:  offer,
		RequireALPN: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: vitrine-hostile\r\n\r\n", offer.Authority); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, tlsmsg.MaxPlaintext))
	return err
}

// impersonate returns a stream whose other end is an origin of the Liar's own for authority.
func (l *Liar) impersonate(authority string, hop2 *tls.ConnectionState) (hop.Stream, error) {
	host, _, err := fields.ParseAuthority(authority)
	if err != nil {
		return nil, err
	}
	cert, err := l.forger.impostors.Origin(host)
	if err != nil {
		return nil, err
	}
	// The answer is the one that the origin would give: all of it is the proxy's to know.
	answer, err := evidence.NewAnswer(hop2, l.now(), time.Minute)
	if err != nil {
		return nil, err
	}
	answer.HopPeer = tlsmsg.HopPeerProxy
	near, far := net.Pipe()
	st := raw.NewStream(near)
	if !l.spawn(func() {
		l.playOrigin(&inside{Conn: far, hop: *hop2}, cert, answer)
		<-st.Session().Done()
	}) {
		near.Close()
		far.Close()
		return nil, proxy.ErrServerClosed
	}
	return st, nil
}

// playOrigin serves one page, to whoever accepts the certificate.
func (l *Liar) playOrigin(wire *inside, cert tls.Certificate, answer *tlsmsg.InspectionAnswer) {
	defer wire.Close()
	defer context.AfterFunc(l.life, func() { wire.Close() })()
	ctx, cancel := context.WithTimeout(l.life, patience)
	defer cancel()
	conn := itls.Server(wire, &itls.Config{
		TLS:         &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}, Time: l.Proxy.Time},
		RequireALPN: true,
		AnswerInspection: func(offer *tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) {
			if offer == nil {
				return nil, nil
			}
			return answer, nil
		},
	})
	defer conn.Close()
	if err := conn.HandshakeContext(ctx); err != nil {
		l.log.Info("the client did not accept the swapped certificate", "why", err.Error())
		return
	}
	conn.SetDeadline(time.Now().Add(patience))
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		l.log.Info("the client sent no request to the swapped certificate's holder", "why", err.Error())
		return
	}
	l.log.Warn("THE CLIENT FELL FOR IT", "path", req.URL.Path)
	if _, err := io.WriteString(conn, forgedPage); err != nil {
		l.log.Info("the client did not take the forged page", "why", err.Error())
	}
}

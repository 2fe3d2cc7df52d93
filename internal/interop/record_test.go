package interop

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vitrine/internal/itls"
	"vitrine/internal/tlsmsg"
)

var record = flag.Bool("record", false, "record the flows in internal/itls/testdata/flows anew; needs OPENSSL")

// flowDir is where internal/itls replays them too.
var flowDir = filepath.Join("..", "itls", "testdata", "flows")

// A flow is what passed between us and a peer, and what it meant.
type flow struct {
	Peer      string       `json:"peer"`
	We        role         `json:"we_are"`
	Suite     string       `json:"suite"`
	Authority string       `json:"authority"`
	Nonce     string       `json:"nonce"`
	Proxy     string       `json:"proxy"`
	Resumed   bool         `json:"resumed"`
	Retried   bool         `json:"retried"`
	Client    string       `json:"client_says"`
	Server    string       `json:"server_says"`
	KeyLog    []string     `json:"key_log"`
	Records   []flowRecord `json:"records"`
}

// A flowRecord is one record, header included.
type flowRecord struct {
	From   role   `json:"from"`
	Record string `json:"record"`
}

const (
	authority = host + ":443"
	request   = "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	response  = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
)

var (
	flowNonce = sha256.Sum256([]byte("the nonce of the flows"))
	flowProxy = sha256.Sum256([]byte("the proxy of the flows"))
)

// tunnelled makes our side that of a tunnel's session, as far as a peer that knows no tunnel lets it.
func tunnelled(r *run, s setup) setup {
	s.theirs = append(s.theirs, "-alpn", "http/1.1")
	return s.then(func(c *itls.Config) {
		c.TLS.NextProtos = []string{"http/1.1"}
		c.Sessions, c.Tickets = new(itls.SessionCache), new(itls.TicketKeys)
		if r.role == asClient {
			c.Inspection = &tlsmsg.InspectionOffer{Proxies: [][32]byte{flowProxy}, Authority: authority, Nonce: flowNonce}
		}
	})
}

// exchangeHTTP moves a request and its response, and ends the session.
func (l *link) exchangeHTTP(s *session) {
	l.r.Helper()
	if l.r.role == asClient {
		s.send(l.r, request)
		l.peer.says("GET / HTTP/1.1")
		l.peer.write(response)
		s.want(l.r, response)
	} else {
		l.peer.write(request)
		s.want(l.r, request)
		s.send(l.r, response)
		l.peer.says("hello\n")
	}
	l.finish(s)
}

// save writes what a session was.
func (l *link) save(name string, s *session, client, server string) {
	l.r.Helper()
	state := s.ConnectionState()
	f := flow{
		Peer: l.o.version, We: l.r.role, Suite: suiteName(l.r.suite), Authority: authority, Resumed: state.DidResume,
		Retried: state.HelloRetryRequest, Client: client, Server: server,
		Nonce: hex.EncodeToString(flowNonce[:]), Proxy: hex.EncodeToString(flowProxy[:]),
		KeyLog: keyLogOf(s.keylog.String(), s.clientRandom()),
	}
	// What one end sends in a row is cut into records; a record may be in two reads.
	pending := map[role][]byte{}
	for _, p := range s.flow.parts {
		from := asServer
		if p.fromClient {
			from = asClient
		}
		b := append(pending[from], p.data...)
		for {
			h, err := tlsmsg.ParseRecordHeader(b)
			if err != nil || len(b) < tlsmsg.RecordHeaderLen+h.Length {
				break
			}
			n := tlsmsg.RecordHeaderLen + h.Length
			f.Records = append(f.Records, flowRecord{from, hex.EncodeToString(b[:n])})
			b = b[n:]
		}
		pending[from] = b
	}
	if len(pending[asClient])+len(pending[asServer]) > 0 {
		l.r.Fatal("half a record at the end")
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(f); err != nil {
		l.r.Fatal(err)
	}
	if err := os.MkdirAll(flowDir, 0o755); err != nil {
		l.r.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(flowDir, name+".json"), text.Bytes(), 0o644); err != nil {
		l.r.Fatal(err)
	}
}

// TestRecordFlows makes the flows anew, with -record.
func TestRecordFlows(t *testing.T) {
	if !*record {
		t.Skip("without -record the flows stay as they are")
	}
	o, missing := findOpenSSL()
	if o == nil {
		t.Fatal(missing)
	}
	p := newParty(t)
	for _, c := range columns {
		name := string(c.role) + "-" + strings.ToLower(suiteName(c.suite)[4:10])
		for _, kind := range []string{"plain", "retried", "client-certificate", "padded"} {
			t.Run(name+"-"+kind, func(t *testing.T) {
				r := &run{T: t, column: c, party: p}
				s := map[string]setup{
					"plain":              {},
					"retried":            r.retried(tls.CurveP256, "P-256"),
					"client-certificate": r.withClient(r.clients["Ed25519"]),
					"padded":             {theirs: []string{"-record_padding", "128"}},
				}[kind]
				l := o.link(r, tunnelled(r, s))
				file := r.save(t, "session", nil)
				session, err := l.try("-sess_out", file)
				if err != nil {
					t.Fatal(err)
				}
				l.exchangeHTTP(session)
				l.save(name+"-"+kind, session, request, response)
				if kind != "plain" {
					return
				}
				if session, err = l.try("-sess_in", file); err != nil || !session.ConnectionState().DidResume {
					t.Fatalf("not resumed: %v", err)
				}
				l.exchangeHTTP(session)
				l.save(name+"-resumed", session, request, response)
			})
		}
		t.Run(name+"-keyupdate", func(t *testing.T) {
			r := &run{T: t, column: c, party: p}
			l := o.link(r, tunnelled(r, setup{}))
			session, err := l.try()
			if err != nil {
				t.Fatal(err)
			}
			if err := session.UpdateKeys(); err != nil {
				t.Fatal(err)
			}
			said := map[role]string{asClient: request, asServer: response}
			session.send(t, said[c.role])
			if rest, err := io.ReadAll(session); err == nil || len(rest) > 0 {
				t.Skipf("its KeyUpdate works, and it sent %q", rest)
			}
			delete(said, map[role]role{asClient: asServer, asServer: asClient}[c.role])
			l.save(name+"-keyupdate", session, said[asClient], said[asServer])
		})
	}
}

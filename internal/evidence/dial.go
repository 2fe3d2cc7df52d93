package evidence

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"vitrine/internal/tlsmsg"
)

// transcriptLabel begins what ClientHello.random is a hash of.
const transcriptLabel = "vitrine transcript v1\x00"

// Dial is one connection of a proxy to an origin, made so that its handshake becomes evidence. Call
// [NewDial], wrap the connection with Tap, give Config to tls.Client, and after the handshake call
// Evidence, or Discard if there will be none. A Dial serves one connection.
type Dial struct {
	req       *Request
	authority string
	// serverName is that of the ClientHello: the request's, but for a dial to another proxy.
	serverName string
	config     *tls.Config
	now        func() time.Time
	salt       [32]byte
	random     [32]byte

	mu     sync.Mutex
	secret []byte // SERVER_HANDSHAKE_TRAFFIC_SECRET
	tap    *tap
}

// NewDial prepares a dial for req, whose offer must name authority and, in their order, the leaves of the
// proxies; without one (nil), Evidence is a [Claim]. cfg is not changed. Its session cache and ECH are not used:
// a resumed handshake is not signed, and an encrypted ClientHello cannot be shown.
func NewDial(cfg *tls.Config, req *Request, proxies [][32]byte, authority string) (*Dial, error) {
	d := &Dial{req: req, authority: authority, config: cfg.Clone(), now: time.Now}
	d.config.ClientSessionCache = nil
	d.config.EncryptedClientHelloConfigList = nil
	if cfg.Time != nil {
		d.now = cfg.Time
	}
	if req == nil {
		return d, nil
	}
	if req.Offer.Authority != authority || !slices.Equal(req.Offer.Proxies, proxies) {
		return nil, foreign("the request is not for this proxy and %s", authority)
	}
	if _, err := rand.Read(d.salt[:]); err != nil {
		return nil, err
	}
	d.serverName = req.ServerName
	d.random = transcriptRandom(req.Nonce, d.salt, proxies, authority)
	d.config.Rand = &onceReader{first: d.random[:]}
	d.config.KeyLogWriter = &keyLog{dial: d, next: cfg.KeyLogWriter}
	return d, nil
}

// transcriptRandom is ClientHello.random: the origin signs the client's nonce and the proxy's identity
// without knowing of either. The salt keeps the client from choosing what a proxy's random is.
func transcriptRandom(nonce, salt [32]byte, proxies [][32]byte, authority string) [32]byte {
	ph := sha256.New()
	for _, p := range proxies {
		ph.Write(p[:])
	}
	h := sha256.New()
	h.Write([]byte(transcriptLabel))
	h.Write(nonce[:])
	h.Write(salt[:])
	h.Write(ph.Sum(nil))
	h.Write([]byte(authority))
	return [32]byte(h.Sum(nil))
}

// Config is the configuration to make the handshake with. Where the caller's has a KeyLogWriter, that
// gets every line too.
func (d *Dial) Config() *tls.Config { return d.config }

// Evidence is what the handshake that led to cs gives: a [Transcript], or a [Claim] where there cannot be
// one (no request, no (EC)DHE, a chain too long to show). verified says whether the proxy verified the chain by its
// own roots. It fails, with [ErrRandom] for one, when the handshake was not made with Config and Tap. It ends the
// dial as Discard does.
func (d *Dial) Evidence(cs tls.ConnectionState, verified bool) (*Evidence, error) {
	sent, received, secret := d.take()
	defer clear(secret)
	if !cs.HandshakeComplete {
		return nil, errors.New("evidence: the handshake is not complete")
	}
	e := &Evidence{Kind: Claim, Hop: HopOf(cs, verified), Authority: d.authority, Time: d.now()}
	if _, err := e.Append(nil); err != nil {
		// A claim is as good without what is unusually large.
		e.Hop.OCSP, e.Hop.SCTs = nil, nil
		if _, err := e.Append(nil); err != nil {
			return nil, err
		}
	}
	if d.req == nil {
		return e, nil
	}
	if cs.DidResume {
		return nil, errors.New("evidence: the handshake was resumed")
	}
	hellos, err := clientHellos(sent)
	if err != nil {
		return nil, err
	}
	for _, msg := range hellos {
		h, err := tlsmsg.ParseClientHello(msg)
		if err != nil {
			return nil, malformedBy(err)
		}
		if h.Random != d.random {
			return nil, ErrRandom
		}
	}
	flight, err := serverFlight(received, secret, &cs)
	if err != nil {
		return e, nil
	}
	t := *e
	t.Kind, t.Salt, t.Messages = Transcript, d.salt, bytes.Join(interleave(hellos, flight), nil)
	// A transcript that the client would refuse says less than an honest claim.
	if _, err := readTranscript(&t, expected{d.random, d.serverName}); err != nil {
		return e, nil
	}
	if _, err := t.Append(nil); err != nil {
		return e, nil
	}
	return &t, nil
}

// Discard wipes the secret and ends the recording. It may be called at any time, and more than once.
func (d *Dial) Discard() {
	_, _, secret := d.take()
	clear(secret)
}

func (d *Dial) take() (sent, received, secret []byte) {
	d.mu.Lock()
	secret, d.secret = d.secret, nil
	t := d.tap
	d.mu.Unlock()
	if t != nil {
		sent, received = t.take()
	}
	return sent, received, secret
}

// onceReader yields first, then the system's randomness for ever. crypto/tls reads ClientHello.random
// before anything else, in one read of 32 bytes; that it really did is checked against the bytes sent.
type onceReader struct {
	mu    sync.Mutex
	first []byte
}

func (r *onceReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return rand.Read(p)
}

// keyLog keeps the one secret of a handshake that decrypts the server's certificate and nothing that
// is of use afterwards, and notices the handshake's end.
type keyLog struct {
	dial *Dial
	next io.Writer
}

func (k *keyLog) Write(line []byte) (int, error) {
	label, rest, _ := bytes.Cut(line, []byte(" "))
	switch string(label) {
	case "SERVER_HANDSHAKE_TRAFFIC_SECRET":
		_, value, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
		k.dial.keep(value)
	case "CLIENT_RANDOM", "CLIENT_TRAFFIC_SECRET_0":
		// The server's flight is complete: TLS 1.2's at its master secret, TLS 1.3's at Finished.
		k.dial.stop()
	}
	if k.next != nil {
		return k.next.Write(line)
	}
	return len(line), nil
}

func (d *Dial) keep(hexSecret []byte) {
	secret := make([]byte, hex.DecodedLen(len(hexSecret)))
	if _, err := hex.Decode(secret, hexSecret); err != nil {
		return // then the flight does not decrypt
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.secret)
	d.secret = secret
}

func (d *Dial) stop() {
	d.mu.Lock()
	t := d.tap
	d.mu.Unlock()
	if t != nil {
		t.recording.Store(false)
	}
}

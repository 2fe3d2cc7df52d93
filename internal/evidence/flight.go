package evidence

import (
	"bytes"
	"crypto/tls"
	"errors"

	"vitrine/internal/tlsmsg"
)

// clientHellos returns the ClientHello that was sent, and the second one if there was a
// HelloRetryRequest.
func clientHellos(sent []byte) ([][]byte, error) {
	d := deframer{in: sent}
	var hellos [][]byte
	for len(hellos) < 2 {
		msg, err := d.next()
		if errors.Is(err, errProtected) || errors.Is(err, tlsmsg.ErrShort) {
			break
		}
		if err != nil {
			return nil, malformedBy(err)
		}
		if tlsmsg.MessageType(msg) != tlsmsg.TypeClientHello {
			break // TLS 1.2: ClientKeyExchange follows in clear
		}
		hellos = append(hellos, msg)
	}
	if len(hellos) == 0 {
		return nil, errors.New("evidence: the tap saw no ClientHello; was the connection wrapped?")
	}
	return hellos, nil
}

// errNoFlight says that the handshake has nothing signed to show: static RSA, or a suite of no ours.
var errNoFlight = errors.New("no signed flight")

// serverFlight returns the server's messages up to the one that is signed.
func serverFlight(received, secret []byte, cs *tls.ConnectionState) ([][]byte, error) {
	last := tlsmsg.TypeServerKeyExchange
	d := deframer{in: received}
	if cs.Version == tls.VersionTLS13 {
		last = tlsmsg.TypeCertificateVerify
		s, ok := suiteOf(cs.CipherSuite)
		if !ok {
			return nil, errNoFlight
		}
		var err error
		if d.opener, err = s.opener(secret); err != nil {
			return nil, err
		}
	}
	var flight [][]byte
	for {
		msg, err := d.next()
		if err != nil {
			return nil, err
		}
		flight = append(flight, msg)
		switch tlsmsg.MessageType(msg) {
		case last:
			return flight, nil
		case tlsmsg.TypeServerHelloDone:
			return nil, errNoFlight
		}
	}
}

// interleave puts the second ClientHello behind the HelloRetryRequest that it answers.
func interleave(hellos, flight [][]byte) [][]byte {
	out := [][]byte{hellos[0], flight[0]}
	out = append(out, hellos[1:]...)
	return append(out, flight[1:]...)
}

// errProtected says that what follows is encrypted.
var errProtected = errors.New("a protected record")

// deframer cuts recorded bytes into handshake messages. Records are protected from the first one of type
// application_data on, which opener then opens.
type deframer struct {
	in     []byte
	opener *opener
	hs     []byte // handshake bytes that are not a whole message yet
}

// next returns the next message; the error is tlsmsg.ErrShort at the end of what was recorded.
func (d *deframer) next() ([]byte, error) {
	for {
		msg, rest, err := tlsmsg.SplitHandshake(d.hs, tlsmsg.MaxHandshake)
		if err == nil {
			d.hs = rest
			return bytes.Clone(msg), nil
		}
		if !errors.Is(err, tlsmsg.ErrShort) {
			return nil, err
		}
		h, err := tlsmsg.ParseRecordHeader(d.in)
		if err != nil {
			return nil, err
		}
		if len(d.in) < tlsmsg.RecordHeaderLen+h.Length {
			return nil, tlsmsg.ErrShort
		}
		header, fragment := d.in[:tlsmsg.RecordHeaderLen], d.in[tlsmsg.RecordHeaderLen:][:h.Length]
		d.in = d.in[tlsmsg.RecordHeaderLen+h.Length:]
		switch h.Type {
		case tlsmsg.TypeChangeCipherSpec:
		case tlsmsg.TypeHandshake:
			d.hs = append(d.hs, fragment...)
		case tlsmsg.TypeApplicationData:
			if d.opener == nil {
				return nil, errProtected
			}
			content, contentType, err := d.opener.open(header, fragment)
			if err != nil {
				return nil, err
			}
			if tlsmsg.ContentType(contentType) != tlsmsg.TypeHandshake {
				return nil, errors.New("something else than a handshake inside a handshake")
			}
			d.hs = append(d.hs, content...)
		case tlsmsg.TypeAlert: // a warning, which TLS 1.2 allows: the handshake went on
		}
	}
}

package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// A muteConn takes no more bytes once it is mute, and still gives what comes. It can be closed for writing.
type muteConn struct {
	net.Conn
	mute atomic.Bool
}

var errMute = errors.New("it takes no more")

func (c *muteConn) Write(p []byte) (int, error) {
	if c.mute.Load() {
		return 0, errMute
	}
	return c.Conn.Write(p)
}

func (c *muteConn) CloseWrite() error { return nil }

// innerPair is a client's session, what carries it, and the server with its own end.
func innerPair(t *testing.T, dir string) (s *innerSession, carrier *muteConn, server *itls.Conn, far net.Conn) {
	t.Helper()
	cert, err := pki.LoadKeyPair(filepath.Join(dir, "shop.example.pem"), filepath.Join(dir, "shop.example.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pki.LoadPool(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	carrier = &muteConn{Conn: near}
	// The PKI is of now, and the bubble's clock is not.
	at := func() time.Time { return cert.Leaf.NotBefore.Add(time.Minute) }
	client := itls.Client(carrier, &itls.Config{UnprotectedForTests: true, TLS: &tls.Config{ServerName: "shop.example", RootCAs: roots.CertPool, Time: at}})
	server = itls.Server(far, &itls.Config{UnprotectedForTests: true, TLS: &tls.Config{Certificates: []tls.Certificate{cert}, Time: at}})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return newInnerSession(&innerSetup{std: stdio{nil, io.Discard, io.Discard}}, "client", client), carrier, server, far
}

// TestInnerWaitsForThePeersLastWords: that the peer takes no more is a worse reason than the alert which comes
// a moment later.
func TestInnerWaitsForThePeersLastWords(t *testing.T) {
	dir, _, _ := innerWorld(t)
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, carrier, server, far := innerPair(t, dir)
			failed := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, server)
				failed <- err
			}()
			in, typing := io.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- s.pass(t.Context(), readStandardInput(in), io.Discard) }()
			carrier.mute.Store(true)
			io.WriteString(typing, "lost")
			typing.Close()
			wait := lastWords - time.Millisecond
			if late {
				wait = lastWords + time.Millisecond
			}
			time.Sleep(wait)
			// No record of this session: the server says so in an alert.
			carrier.Conn.Write(append([]byte{23, 3, 3, 0, 64}, make([]byte, 64)...))
			err := <-ended
			var alert *itls.AlertError
			if heard := errors.As(err, &alert) && alert.Remote && alert.Alert == tlsmsg.AlertBadRecordMAC; heard == late {
				t.Errorf("late %v: %v", late, err)
			}
			far.Close()
			<-failed
		})
	}
}

// TestInnerLingersBehindAnAlert: a connection that is closed at once would be reset where bytes are unread, and
// the peer would not see the alert.
func TestInnerLingersBehindAnAlert(t *testing.T) {
	dir, _, _ := innerWorld(t)
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, _, _, far := innerPair(t, dir)
			over := make(chan struct{})
			go func() {
				defer close(over)
				s.giveUp(&itls.AlertError{Alert: tlsmsg.AlertBadRecordMAC})
			}()
			wait := lingering - time.Millisecond
			if late {
				wait = lingering + time.Millisecond
			}
			time.Sleep(wait)
			if _, err := far.Write([]byte("on its way")); (err == nil) == late {
				t.Errorf("late %v: %v", late, err)
			}
			far.Close()
			<-over
		})
	}
}

package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// An endpoint is what a listener is for.
type endpoint struct {
	origin string // authority of the origin that is mapped here; "" for the proxy
	addr   netip.AddrPort
}

type endpointKey struct{}

// isOwn says whether host, of a Host field or an http URL, is this endpoint. A name that somebody else's DNS has
// the address of is not: a web page under such a name would be of one origin with what is served here.
func (e *endpoint) isOwn(host string) bool {
	u := url.URL{Host: host}
	port, err := parsePort(orDefault(u.Port(), "80"))
	if err != nil || port != int(e.addr.Port()) {
		return false
	}
	if strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr == e.addr.Addr()
}

// host is the endpoint as a Host field names it by its address.
func (e *endpoint) host() string {
	return strings.TrimSuffix(e.addr.String(), ":80")
}

func orDefault(s, preset string) string {
	if s == "" {
		return preset
	}
	return s
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || s[0] == '0' {
		return 0, fmt.Errorf("%q is no port", s)
	}
	return int(n), nil
}

// A listener accepts on loopback, so many connections at once.
type listener struct {
	net.Listener
	endpoint *endpoint
	slots    chan struct{}
	done     chan struct{}
	once     sync.Once
}

// CheckListener is an ErrNotLoopback for a listener that Serve and ServeMap refuse.
func CheckListener(ln net.Listener) error {
	if tcp, ok := ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return fmt.Errorf("gateway: %s: %w", ln.Addr(), ErrNotLoopback)
	}
	return nil
}

func newListener(ln net.Listener, e *endpoint, most int) (*listener, error) {
	if err := CheckListener(ln); err != nil {
		return nil, err
	}
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	e.addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return &listener{Listener: ln, endpoint: e, slots: make(chan struct{}, most), done: make(chan struct{})}, nil
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// A conn gives its slot back.
type conn struct {
	net.Conn
	release func()
	spoilt  atomic.Bool // the next bytes may be the middle of something: none are read
}

type connKey struct{}

func (c *conn) Read(p []byte) (int, error) {
	if c.spoilt.Load() {
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// SetLinger and CloseWrite are those of a *net.TCPConn.
func (c *conn) SetLinger(sec int) error {
	return c.Conn.(interface{ SetLinger(sec int) error }).SetLinger(sec)
}

// CloseWrite ends what is sent.
func (c *conn) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// fromElsewhere says whether a web page that is not this endpoint's makes a browser send r.
func (e *endpoint) fromElsewhere(r *http.Request) bool {
	switch site := r.Header.Values("Sec-Fetch-Site"); {
	case len(site) > 1:
		return true
	case len(site) == 0:
		// No browser, or an old one, which says where from with what could change something.
		return e.isForeign(r.Header.Values("Origin")) || e.isForeign(r.Header.Values("Referer"))
	case site[0] == "none", site[0] == "same-origin":
		return false
	case site[0] == "same-site":
		// Another port of this address, which may be another map, to which the user goes.
		visit := r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
		return !visit
	}
	return true
}

// isForeign says whether one of the URLs, of Origin or Referer, is not this endpoint's.
func (e *endpoint) isForeign(urls []string) bool {
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" || !e.isOwn(u.Host) {
			return true
		}
	}
	return false
}

package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/client"
	"vitrine/internal/hosts"
)

// A carriage is a CONNECT under way: a program's connection and the tunnel that it goes through.
type carriage struct {
	program net.Conn
	tunnel  tunnel
	once    sync.Once
	bytes   atomic.Int64
	whole   atomic.Bool // the program was told the end of what it gets
}

func (c *carriage) close() {
	c.once.Do(func() {
		if lingers, ok := c.program.(interface{ SetLinger(sec int) error }); ok && !c.whole.Load() {
			_ = lingers.SetLinger(0) // a reset: to a program that knows no other end a plain close would be one in order
		}
		c.program.Close()
		c.tunnel.Close()
	})
}

// carriedIdle is how long nothing may pass. It stops programs that forget their connections from holding all
// of MaxCarried.
const carriedIdle = 15 * time.Minute

// connect carries what nobody here can read, if the user accepts that.
func (x *exchange) connect(w *stallWriter, r *http.Request) {
	if x.endpoint.origin != "" {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		x.refuse(w, r, http.StatusMethodNotAllowed, "here is no proxy")
		return
	}
	u := url.URL{Host: r.Host}
	if u.Port() == "" || r.RequestURI != r.Host {
		x.refuse(w, r, http.StatusBadRequest, "a CONNECT names a host and a port, and nothing else")
		return
	}
	authority, err := authorityOf(u.Hostname(), u.Port())
	if err != nil {
		x.refuse(w, r, http.StatusBadRequest, "the CONNECT names no host: "+err.Error())
		return
	}
	x.authority = authority
	c := &carriage{}
	if !x.g.reserve(c) {
		x.refuse(w, r, http.StatusServiceUnavailable, "as many CONNECTs are open as this gateway carries at once")
		return
	}
	defer x.g.unreserve(c)
	tun, err := x.g.up.carry(r.Context(), authority)
	if err != nil {
		x.cannotCarry(w, r, err)
		return
	}
	defer tun.Close()
	program, rw, err := w.rc.Hijack()
	if err != nil {
		x.err = err
		panic(http.ErrAbortHandler)
	}
	x.level, w.status = string(client.Blind), http.StatusOK
	if !x.g.hold(c, program, tun) {
		return
	}
	defer c.close()
	program.SetDeadline(time.Time{})
	if _, err := io.WriteString(program, "HTTP/1.1 200 Connection established\r\n"+LevelField+": "+x.level+"\r\n\r\n"); err != nil {
		x.err = err
		return
	}
	x.err = c.carry(rw.Reader, carriedIdle)
	w.bytes = c.bytes.Load()
}

// cannotCarry says what a CONNECT is, to who may have meant another thing.
func (x *exchange) cannotCarry(w http.ResponseWriter, r *http.Request, err error) {
	x.err = err
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	status, class := classify(err)
	words := x.g.explain(x.authority, err)
	var level *client.LevelError
	if errors.As(err, &level) {
		words = "a CONNECT carries what neither the gateway nor the proxy can read: " + words
		if hosts.MatchAny(x.g.Hosts, x.authority) {
			words += "; what the proxy may read is asked for as http://" + strings.TrimSuffix(x.authority, ":443") + "/, which the gateway fetches as https"
		}
	}
	x.answer(w, r, status, class, words)
}

// carry copies both ways until both are over, or one has failed, or nothing passed for so long. It returns
// what was not an end in order.
func (c *carriage) carry(fromProgram io.Reader, idle time.Duration) error {
	last := time.AfterFunc(idle, c.close)
	defer last.Stop()
	passed := func(n int) {
		c.bytes.Add(int64(n))
		last.Reset(idle)
	}
	sent := make(chan error, 1)
	go func() { // ends when close does its work, which it does below
		_, err := io.Copy(&passing{c.tunnel, passed}, fromProgram)
		if err == nil {
			err = c.tunnel.CloseWrite()
		}
		if err != nil {
			c.close()
		}
		sent <- err
	}()
	_, err := io.Copy(&passing{c.program, passed}, c.tunnel)
	if err == nil {
		err = c.program.(interface{ CloseWrite() error }).CloseWrite()
	}
	if err != nil {
		c.close()
	} else {
		c.whole.Store(true)
	}
	other := <-sent
	if err == nil || errors.Is(err, net.ErrClosed) {
		err = other
	}
	return err
}

// passing tells of what passes.
type passing struct {
	w      io.Writer
	passed func(n int)
}

func (p *passing) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.passed(n)
	return n, err
}

// reserve takes one of MaxCarried.
func (g *Gateway) reserve(c *carriage) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.carried) >= g.MaxCarried {
		return false
	}
	g.carried[c] = struct{}{}
	return true
}

// hold makes c something for Close to end. It is false when that has ended all already.
func (g *Gateway) hold(c *carriage, program net.Conn, tun tunnel) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.program, c.tunnel = program, tun
	if g.ctx.Err() != nil {
		program.Close()
		return false
	}
	return true
}

func (g *Gateway) unreserve(c *carriage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.carried, c)
}

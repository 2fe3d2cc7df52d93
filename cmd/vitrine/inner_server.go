package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/internal/itls"
)

func innerServerCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "server",
		Usage:     "take one client behind the other: send it standard input, and write what it sends to standard output",
		UsageText: "vitrine inner server --listen ADDR --cert F --key F [--client-roots F] [--root DIR] [flags]",
		Description: "A session ends when both ends have: the client with its close_notify, the server with the end of standard input. Once\n" +
			"the client has ended, standard input that gives nothing for two seconds, or is a terminal, has ended for it too; the rest\n" +
			"is the next client's. Where it has ended before it gave a client anything, that client alone decides. What is wrong with\n" +
			"one client is a line on standard error, and the next one is served. With --root it answers any number of clients at\n" +
			"once, over HTTP/1.1, and standard input and output have no part in it. Ctrl-C and SIGTERM end it.",
		Flags: innerFlags(
			&cli.StringFlag{Name: "listen", Usage: "`ADDR` to listen on, e.g. 127.0.0.1:8449; port 0 picks one"},
			&cli.StringFlag{Name: "cert", Usage: "certificate chain, PEM `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "private key, PEM `FILE`"},
			&cli.StringFlag{Name: "client-roots", Usage: "let in only clients whose certificates the roots in PEM `FILE` vouch for"},
			&cli.StringFlag{Name: "root", Usage: "serve the files in `DIR` over HTTP/1.1"},
		),
		Action: func(c *cli.Context) error { return innerServe(c, std) },
	}
}

func innerServe(c *cli.Context, std stdio) (err error) {
	if err := errors.Join(noArguments(c), need(c, "listen", "cert", "key")); err != nil {
		return err
	}
	var files http.Handler
	if root := c.String("root"); root != "" {
		if files, err = originHandler(root, ""); err != nil {
			return err
		}
	}
	setup, err := newInnerSetup(c, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, setup.close()) }()
	if files != nil && slices.Contains(setup.config.TLS.NextProtos, "h2") {
		return usagef("--alpn: with --root this is a server of HTTP/1.1, which h2 is not")
	}
	setup.config.Tickets = new(itls.TicketKeys)
	ln, err := listen(c, std)
	if err != nil {
		return err
	}
	io.WriteString(std.err, innerWarning)
	if files != nil {
		return serveInnerFiles(c.Context, setup, ln, files)
	}
	return serveInnerStream(c.Context, setup, ln)
}

// serveInnerStream serves one client behind the other; those that come meanwhile wait in the kernel's
// queue.
func serveInnerStream(ctx context.Context, setup *innerSetup, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer ln.Close()
	in := readStandardInput(setup.std.in)
	for {
		carrier, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s := newInnerSession(setup, "server", itls.Server(carrier, setup.config))
		if err = s.handshake(ctx, innerPatience); err == nil {
			err = s.pass(ctx, in, setup.std.out)
		}
		s.end(err)
		if err == errInnerInterrupted {
			return nil
		}
		if stream, ok := errors.AsType[*streamError](err); ok {
			return stream // it would fail for the next client too
		}
		if err != nil {
			s.say("%s: %v", s.report.Peer, err)
		}
	}
}

// serveInnerFiles serves files over HTTP/1.1.
func serveInnerFiles(ctx context.Context, setup *innerSetup, ln net.Listener, files http.Handler) error {
	srv := &http.Server{
		Handler:           files,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // sessions say themselves what became of them
	}
	return serveUntil(ctx, drainDefault, srv.Shutdown, srv.Close, func() error {
		return srv.Serve(&innerListener{ln, ctx, setup})
	})
}

// an innerListener makes sessions of connections.
type innerListener struct {
	net.Listener
	ctx   context.Context
	setup *innerSetup
}

func (l *innerListener) Accept() (net.Conn, error) {
	carrier, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := itls.Server(carrier, l.setup.config)
	return &innerHTTPConn{Conn: conn, ctx: l.ctx, session: newInnerSession(l.setup, "server", conn)}, nil
}

// An innerHTTPConn is a session that net/http uses. It shakes hands when it is first read from, which is
// in a goroutine of its own.
type innerHTTPConn struct {
	*itls.Conn
	ctx     context.Context
	session *innerSession

	shake sync.Once
	mu    sync.Mutex
	err   error // the first of the handshake, Read and Write
	said  bool
}

func (c *innerHTTPConn) Read(b []byte) (int, error) {
	c.shake.Do(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.err = c.session.handshake(c.ctx, innerPatience)
	})
	n, err := c.Conn.Read(b)
	c.session.received.Add(int64(n))
	switch {
	case err == io.EOF:
		c.session.closed.Store(true)
	case err != nil && !timedOut(err): // net/http ends a Read that it no longer wants with a deadline
		c.failed(err)
	}
	return n, err
}

func (c *innerHTTPConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.session.sent.Add(int64(n))
	if err != nil {
		c.failed(err)
	}
	return n, err
}

func (c *innerHTTPConn) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && !c.said {
		c.err = sessionFailure("server", err)
	}
}

// Close says what the session was. It ends a handshake that is under way. A client that could still send
// gets a moment to end its side too: to close on unread bytes would reset the connection, and what is on
// its way to the client would be lost.
func (c *innerHTTPConn) Close() error {
	if !c.session.closed.Load() && c.ctx.Err() == nil && c.Conn.CloseWrite() == nil {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingering))
		if _, err := io.CopyN(io.Discard, c.Conn, 1<<20); err == io.EOF {
			c.session.closed.Store(true)
		}
	}
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.said {
		c.said = true
		c.session.end(c.err)
		if c.err != nil {
			c.session.say("%s: %v", c.session.report.Peer, c.err)
		}
	}
	return err
}

package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/frames"
	"vitrine/internal/pki"
	"vitrine/origin"
)

// drainDefault bounds how long a server that was told to stop waits for what is under way.
const drainDefault = 10 * time.Second

func originCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "origin",
		Usage:     "serve a directory, or another server, over HTTPS with inspected TLS enabled",
		UsageText: "vitrine origin --listen ADDR --cert F --key F (--root DIR | --upstream URL) [--sign] [--no-token]",
		Description: "Ordinary clients get HTTP/2 and HTTP/1.1 as from any server. A proxy that offers itls-h2/1 gets tunnels,\n" +
			"and the log says for each request who could read it. --sign signs what is answered to requests that ask for it, outside\n" +
			"tunnels, with the key of the certificate. SIGTERM drains for up to 10 s.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDR` to listen on, e.g. 127.0.0.1:8443; port 0 picks one"},
			&cli.StringFlag{Name: "cert", Usage: "certificate chain, PEM `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "private key, PEM `FILE`"},
			&cli.StringFlag{Name: "root", Usage: "serve the files in `DIR`"},
			&cli.StringFlag{Name: "upstream", Usage: "pass requests on to `URL` (http or https)"},
			&cli.BoolFlag{Name: "sign", Usage: "sign responses, for clients at the level signed"},
			&cli.BoolFlag{Name: "no-token", Usage: "leave itls-h2/1 out, as a server that knows nothing of it"},
		},
		Action: func(c *cli.Context) error { return serveOrigin(c, std) },
	}
}

func serveOrigin(c *cli.Context, std stdio) error {
	if err := errors.Join(noArguments(c), need(c, "listen", "cert", "key")); err != nil {
		return err
	}
	handler, err := originHandler(c.String("root"), c.String("upstream"))
	if err != nil {
		return err
	}
	cert, err := pki.LoadKeyPair(c.String("cert"), c.String("key"))
	if err != nil {
		return usagef("%v", err)
	}
	log := slog.New(slog.NewTextHandler(std.err, nil))
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if c.Bool("sign") {
		if handler, err = signResponses(log, handler, config); err != nil {
			return usagef("--sign: %v", err)
		}
	}
	srv := &http.Server{
		Handler:           logRequests(log, handler),
		TLSConfig:         config,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	wrap := origin.NewListener
	if c.Bool("no-token") {
		wrap = func(ln net.Listener) net.Listener { return ln }
	} else if err := origin.ConfigureServer(srv, nil); err != nil {
		return usagef("%v", err)
	}
	ln, err := listen(c, std)
	if err != nil {
		return err
	}
	return serveUntil(c.Context, drainDefault, srv.Shutdown, srv.Close, func() error {
		return srv.ServeTLS(wrap(ln), "", "")
	})
}

// signResponses signs what handler answers. The log says what stays unsigned, and why.
func signResponses(log *slog.Logger, handler http.Handler, config *tls.Config) (http.Handler, error) {
	return origin.SignResponses(handler, &origin.SignConfig{TLSConfig: config, OnUnsigned: func(r *http.Request, err error) {
		log.Warn("unsigned", "client", r.RemoteAddr, "method", r.Method, "host", r.Host, "path", r.URL.Path, "why", err)
	}})
}

func originHandler(root, upstream string) (http.Handler, error) {
	switch {
	case (root == "") == (upstream == ""):
		return nil, usagef("exactly one of --root and --upstream is needed")
	case root != "":
		dir, err := os.OpenRoot(root) // symbolic links cannot lead out of it
		if err != nil {
			return nil, usagef("--root: %v", err)
		}
		return http.FileServerFS(dir.FS()), nil
	}
	u, err := url.Parse(upstream)
	if err != nil {
		return nil, usagef("--upstream: %v", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usagef("--upstream: %q is not an http or https URL with a host", upstream)
	}
	return origin.NewGateway(u), nil
}

// logRequests logs each request with who could read it.
func logRequests(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			info, _ := origin.InspectionOf(r.Context())
			readers := describeReaders(info, r.Header.Values("Via"))
			log.Info("request", "client", r.RemoteAddr, "method", r.Method, "host", r.Host, "path", r.URL.Path,
				"status", rec.status, "bytes", rec.bytes, "readers", readers)
		}()
		next.ServeHTTP(rec, r)
	})
}

// describeReaders says who could read a request: as its client said and hop 2 proved, or else as via has it, which is
// hearsay. A proxy that says nothing cannot be seen.
func describeReaders(info *origin.Inspection, via []string) string {
	switch {
	case info == nil && len(via) == 0:
		return "none"
	case info == nil:
		return frames.CleanText("by its own word "+strings.Join(via, ", "), 256)
	}
	readers := make([]string, len(info.Proxies))
	for i, leaf := range info.Proxies {
		readers[i] = hex.EncodeToString(leaf[:])
	}
	last := &readers[len(readers)-1]
	if info.ProxyCertificate == nil {
		*last += " (showed no certificate)"
	} else {
		*last = info.ProxyCertificate.Subject.String()
	}
	return strings.Join(readers, ", ")
}

// a recorder counts what a handler answers.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	wrote  bool
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if !r.wrote && status >= 200 {
		r.status, r.wrote = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.wrote = true
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// need refuses a command line without the flags that the command cannot do without.
func need(c *cli.Context, names ...string) error {
	for _, name := range names {
		if c.String(name) == "" {
			return usagef("--%s is needed; see \"%s --help\"", name, c.Command.HelpName)
		}
	}
	return nil
}

// listen opens --listen.
func listen(c *cli.Context, std stdio) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(c.Context, "tcp", c.String("listen"))
	if err != nil {
		return nil, usagef("--listen: %v", err)
	}
	return &announced{Listener: ln, say: sync.OnceFunc(func() {
		fmt.Fprintf(std.err, "listening on %s\n", ln.Addr())
	})}, nil
}

// announced says in one line, which scripts wait for, that its server is ready: when the server first
// accepts, not before it has checked everything.
type announced struct {
	net.Listener
	say func()
}

func (l *announced) Accept() (net.Conn, error) {
	l.say()
	return l.Listener.Accept()
}

// serveUntil runs serve until it fails or ctx ends; then it drains for at most the given time and
// cuts off what is left.
func serveUntil(ctx context.Context, drain time.Duration, shutdown func(context.Context) error, cut, serve func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-ctx.Done()
		limit, stop := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer stop()
		if shutdown(limit) != nil {
			cut()
		}
	}()
	err := serve()
	stopped := ctx.Err() != nil
	cancel()
	<-drained
	if stopped {
		return nil
	}
	return err
}

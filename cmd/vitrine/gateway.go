package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"vitrine/client"
	"vitrine/client/gateway"
)

func gatewayCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "gateway",
		Usage: "fetch for programs that know nothing of this, as their proxy on loopback",
		UsageText: "vitrine gateway --listen ADDR --proxy URL --proxy-roots F (--host PATTERN | --map ADDR=URL)...\n" +
			"                [--consent stored|ask|once] [flags]",
		Description: "A program asks for http://HOST/ and the gateway fetches https://HOST/ at a level that you accept; the response\n" +
			"says which, in the field " + gateway.LevelField + ". To use it:\n" +
			"   curl -x http://ADDR http://shop.example/        a host that --host names\n" +
			"   git clone http://127.0.0.1:8081/repo.git        with --map 127.0.0.1:8081=https://git.example\n" +
			"   http://ADDR/proxy.pac                           as a browser's proxy configuration\n\n" +
			"What a program asks for as https is a CONNECT, which nobody here can read: it is carried where --level has blind\n" +
			"and refused where not. Browsers try https first where they can: to have all of it read, give the browser a profile\n" +
			"of its own, and leave blind out here. WebSocket is refused. Cookies stay as the site made them: a browser keeps\n" +
			"those with Secure for a map, and not for an http:// name. Browsers tell cookies apart by address and not by port:\n" +
			"a map of a site with a login wants an address of its own, as 127.0.0.2:8080.\n\n" +
			"ADDR is on loopback. Every user of this machine can use it, with your consent; pages of other sites cannot.\n" +
			"Where something fails behind the head of a response, the connection is broken off. SIGTERM drains for up to 10 s.",
		Flags: append(routeFlags("what is fetched here", "whatever the host"),
			&cli.StringFlag{Name: "listen", Usage: "`ADDR` to be a proxy at, e.g. 127.0.0.1:8080; port 0 picks one"},
			&cli.StringSliceFlag{Name: "host", Usage: "fetch from hosts of this `PATTERN`: shop.example, *.example, * or either with :PORT, that of https (repeatable)"},
			&cli.StringSliceFlag{Name: "map", Usage: "give an origin an address of its own, given as `ADDR=URL`, e.g. 127.0.0.1:8081=https://git.example (repeatable)"},
		),
		Action: func(c *cli.Context) error { return serveGateway(c, std) },
	}
}

// A localMap is one --map.
type localMap struct {
	net.Listener
	origin, authority string
}

func serveGateway(c *cli.Context, std stdio) (err error) {
	if err := errors.Join(noArguments(c), need(c, "listen", "proxy", "proxy-roots")); err != nil {
		return err
	}
	if !c.IsSet("host") && !c.IsSet("map") {
		return usagef("--host or --map is needed: what is to be fetched; see \"vitrine gateway --help\"")
	}
	g := &gateway.Gateway{Log: slog.New(slog.NewTextHandler(std.err, nil))}
	for _, s := range c.StringSlice("host") {
		p, err := gateway.ParsePattern(s)
		if err != nil {
			return usagef("--host: %v", errors.Unwrap(err))
		}
		g.Hosts = append(g.Hosts, p)
	}
	r, err := newRoute(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	g.Transport = r.transport
	if r.consent != nil {
		asked := &askedFor{Consent: r.transport.Consent}
		r.transport.Consent, g.Explain = asked, func(authority string, err error) string {
			return explainTo(r.consent.adviseAbout(asked.of(authority), err))
		}
	}
	maps, err := listenMaps(c)
	defer func() {
		for _, m := range maps {
			m.Close()
		}
	}()
	if err != nil {
		return err
	}
	ln, err := listen(c, std)
	if err != nil {
		return err
	}
	if err := gateway.CheckListener(ln); err != nil {
		ln.Close()
		return usagef("--listen: %v", err)
	}
	ln = &announced{Listener: ln, say: sync.OnceFunc(func() { announceMaps(std, g.Log, maps) })}
	return serveUntil(c.Context, drainDefault, g.Shutdown, g.Close, func() error { return serveAll(g, ln, maps) })
}

// listenMaps opens what --map names.
func listenMaps(c *cli.Context) (maps []localMap, err error) {
	for _, s := range c.StringSlice("map") {
		addr, origin, found := strings.Cut(s, "=")
		if !found {
			return maps, usagef("--map is given as ADDR=URL, e.g. 127.0.0.1:8081=https://git.example")
		}
		authority, err := gateway.ParseOrigin(origin)
		if err != nil {
			return maps, usagef("--map: %v", err)
		}
		if slices.ContainsFunc(maps, func(m localMap) bool { return m.authority == authority }) {
			return maps, usagef("--map: %s has a map already", origin)
		}
		ln, err := new(net.ListenConfig).Listen(c.Context, "tcp", addr)
		if err != nil {
			return maps, usagef("--map: %v", err)
		}
		maps = append(maps, localMap{ln, origin, authority})
		if err := gateway.CheckListener(ln); err != nil {
			return maps, usagef("--map: %v", err)
		}
	}
	return maps, nil
}

// announceMaps says where the maps are, before the line that scripts wait for.
func announceMaps(std stdio, log *slog.Logger, maps []localMap) {
	shared := map[string]string{}
	for _, m := range maps {
		fmt.Fprintf(std.err, "http://%s is %s\n", m.Addr(), m.origin)
		host, _, _ := net.SplitHostPort(m.Addr().String())
		if other := shared[host]; other != "" {
			log.Warn("a browser gives the cookies of one map to the other: they have one address, and ports do not count", "one", other, "other", m.origin)
		}
		shared[host] = m.origin
	}
}

// serveAll serves until all listeners are closed, which happens when one of them fails.
func serveAll(g *gateway.Gateway, ln net.Listener, maps []localMap) error {
	ended := make(chan error, len(maps)+1)
	for _, m := range maps {
		go func() { ended <- g.ServeMap(m.Listener, m.origin) }()
	}
	go func() { ended <- g.Serve(ln) }()
	var first error
	for range cap(ended) {
		if err := <-ended; first == nil && !errors.Is(err, gateway.ErrClosed) {
			first = err
			g.Close()
		}
	}
	if first == nil {
		return http.ErrServerClosed
	}
	return first
}

// explainTo is an error with what to do about it, for a program that shows it to the user.
func explainTo(err error) string {
	if _, cut := errors.AsType[*client.IntegrityError](err); cut {
		return err.Error() // the advice is about a file that is not here
	}
	return err.Error() + advice(err)
}

// An askedFor remembers what consent was asked for, for each authority, so that an error can name the grant that
// would have allowed it.
type askedFor struct {
	client.Consent
	mu   sync.Mutex
	last map[string]*client.ConsentRequest
}

// maxAsked stops a page that names thousands of hosts from filling memory. Who is forgotten is asked again at the
// next request.
const maxAsked = 256

func (a *askedFor) Ask(ctx context.Context, req *client.ConsentRequest) (*client.Agreement, error) {
	a.mu.Lock()
	if a.last == nil || len(a.last) >= maxAsked {
		a.last = make(map[string]*client.ConsentRequest)
	}
	a.last[req.Authority] = req
	a.mu.Unlock()
	return a.Consent.Ask(ctx, req)
}

func (a *askedFor) of(authority string) *client.ConsentRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last[authority]
}

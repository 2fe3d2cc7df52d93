package main

import (
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"

	"vitrine/proxy"
)

// reloading reads the files of the command line again for every signal on hangups, from when ready is
// closed until the function that it returns is called, which waits. What cannot be used changes nothing, and
// is a line of the log.
func reloading(c *cli.Context, p *proxy.Proxy, log *slog.Logger, ready <-chan struct{}, hangups <-chan os.Signal) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		// Whoever serves may change p until then.
		select {
		case <-ready:
		case <-quit:
			return
		}
		for {
			select {
			case <-hangups:
				reload(c, p, log)
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

func reload(c *cli.Context, p *proxy.Proxy, log *slog.Logger) {
	next, warnings, err := readProxy(c)
	if err == nil {
		err = p.Reload(next)
	}
	if err != nil {
		log.Error("not reloaded, nothing has changed", "err", oneLine(err.Error()))
		return
	}
	warn(log, warnings)
	log.Info("reloaded")
}

// warn logs what is odd about a policy.
func warn(log *slog.Logger, warnings []string) {
	for _, w := range warnings {
		log.Warn("policy", "warning", oneLine(w))
	}
}

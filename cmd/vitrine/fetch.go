package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"vitrine/client"
)

func fetchCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "fetch",
		Usage: "fetch a URL through the proxy, and say who could read and change it",
		UsageText: "vitrine fetch --proxy URL --proxy-roots F [--consent stored|ask|once] [flags] URL\n" +
			"vitrine fetch --level direct [flags] URL",
		Description: "Where a flag's name is curl's, so is its meaning; flags may follow the URL.\n\n" +
			"A level says who could have changed the exchange and who could read it:\n" +
			"   intact    nobody could change it; you, the named proxy and the origin could read it\n" +
			"   signed    the proxy could read it, and change the request; the origin signed the response, and of a long one\n" +
			"             it turns out at the end that all of it is the origin's\n" +
			"   attested  the proxy could read and change it; the origin's key answered for this proxy\n" +
			"   claimed   the same, and that there is such an origin is the proxy's word; it has to be named without intact,\n" +
			"             because any proxy could claim that there is no better\n" +
			"   blind     nobody could change it; you and the origin could read it; the proxy carried it\n" +
			"   direct    the same, without the proxy\n" +
			"--level names the levels that you accept, and no other is used. With ask among them you are asked on the terminal\n" +
			"when none of them can be had: what can be, and what each gives away. \"always\" is stored with the grants.\n" +
			"What was reached at intact or signed is remembered beside them, whatever --consent says: less is then an error,\n" +
			"and ask says so. \"vitrine consent list\" prints it.\n\n" +
			"Nothing goes through the proxy unless you agreed, for each host that a redirect leads to as well. --consent says where\n" +
			"your word is:\n" +
			"   stored   in the grants of \"vitrine consent grant\"\n" +
			"   ask      there, and where no grant fits, you are asked on the terminal\n" +
			"   once     you give it with this flag, for every host that this fetch leads to\n\n" + exitCodesHelp,
		Flags: append(routeFlags("this fetch", "redirects included"),
			&cli.StringFlag{Name: "report", Usage: "write a JSON report to `FILE`, on every exit"},
			&cli.StringFlag{Name: "evidence", Usage: "write the evidence, as it came over the wire, to `FILE`"},
			&cli.StringFlag{Name: "request", Aliases: []string{"X"}, Usage: "the request `METHOD`"},
			&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "add the field `'K: V'`; 'K:' removes one, 'K;' sends it empty (repeatable)"},
			&cli.StringSliceFlag{Name: "data", Aliases: []string{"d"}, Usage: "send `DATA`, or the contents of @FILE without line ends, @- for standard input (repeatable; joined by &)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE`; what arrived before a failure stays in it"},
			&cli.BoolFlag{Name: "include", Aliases: []string{"i"}, Usage: "print the response head too"},
			&cli.BoolFlag{Name: "head", Aliases: []string{"I"}, Usage: "send HEAD and print the response head"},
			&cli.BoolFlag{Name: "location", Aliases: []string{"L"}, Usage: "follow redirects, at most 50"},
			&cli.BoolFlag{Name: "fail", Aliases: []string{"f"}, Usage: "exit with 1 and no body when the status is 400 or above"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say on standard error what happens and who could read it"},
			&cli.StringFlag{Name: "max-time", Usage: "give up after this many `SECONDS`"},
		),
		Action: func(c *cli.Context) error { return fetch(c, std) },
	}
}

// A fetcher is one "vitrine fetch".
type fetcher struct {
	*route
	std      stdio
	request  requestOptions
	output   output
	fail     bool
	verbose  bool
	evidence string
	maxTime  time.Duration
}

func fetch(c *cli.Context, std stdio) (err error) {
	f := &fetcher{std: std, output: output{std: std}}
	rep := &report{}
	defer func() {
		if f.route != nil {
			err = errors.Join(err, f.route.close())
		}
		err = errors.Join(err, f.output.close())
		err = rep.write(c.String("report"), err)
	}()
	if err := f.configure(c); err != nil {
		return err
	}
	ctx := c.Context
	if f.maxTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, f.maxTime, errMaxTime)
		defer cancel()
	}
	err = f.do(ctx, rep)
	if err != nil && ctx.Err() != nil && exitCode(err) == exitOther {
		if context.Cause(ctx) == errMaxTime {
			return errMaxTime
		}
		return errInterrupted
	}
	if f.consent != nil {
		if lost := f.consent.unkept(f.verbose); lost != nil {
			f.say("vitrine: what was reached, and at which level, is not remembered: %v", lost)
		}
		err = f.consent.advise(err)
	}
	return err
}

var (
	errMaxTime     = errors.New("fetch: the time that --max-time gives is over")
	errInterrupted = errors.New("fetch: interrupted")
)

// do sends the request and passes on what arrives.
func (f *fetcher) do(ctx context.Context, rep *report) error {
	req, err := f.request.build(ctx)
	if err != nil {
		return err
	}
	hc := &http.Client{Transport: f.transport, CheckRedirect: f.redirect}
	f.sent(req)
	resp, err := hc.Do(req)
	if err != nil {
		rep.client = client.ReportOfError(err)
		f.describe(rep.client)
		return f.keepEvidence(rep.client, unwrapURL(err))
	}
	defer resp.Body.Close()
	rep.client, rep.status = client.ReportOf(resp), resp.StatusCode
	f.received(resp)
	if f.fail && resp.StatusCode >= 400 {
		f.describe(rep.client)
		return f.keepEvidence(rep.client, &httpError{resp.Status})
	}
	if err := f.output.head(resp); err != nil {
		return err
	}
	err = f.output.body(resp.Body, rep)
	f.describe(rep.client)
	return f.keepEvidence(rep.client, err)
}

// redirect decides on a redirect as curl does.
func (f *fetcher) redirect(req *http.Request, via []*http.Request) error {
	if !f.request.follow {
		return http.ErrUseLastResponse
	}
	if len(via) > maxRedirects {
		return errors.New("fetch: more than 50 redirects, as in a loop; -v shows where each one leads")
	}
	if req.URL.Scheme != "https" {
		return errors.New("fetch: redirected to " + req.URL.Redacted() + ", which is not https; nothing was sent there: if it is there over https, fetch that URL")
	}
	if f.request.method != "" {
		req.Method = f.request.method
	}
	// net/http tells each host which URL led to it, query included; curl, and so this command, does not. What
	// the user gave is sent to each.
	if given := via[0].Header["Referer"]; given == nil {
		req.Header.Del("Referer")
	}
	f.received(req.Response)
	f.sent(req)
	return f.output.head(req.Response)
}

// maxRedirects is curl's default; it ends a loop of redirects.
const maxRedirects = 50

// An httpError is a status of 400 or above where the user asked for --fail.
type httpError struct{ status string }

func (e *httpError) Error() string { return "fetch: the origin answered " + e.status }

// unwrapURL drops the method and URL that http.Client puts in front: the user knows them.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[interface {
		error
		Unwrap() error
		Timeout() bool
		Temporary() bool
	}](err); ok && u.Unwrap() != nil {
		return u.Unwrap()
	}
	return err
}

// keepEvidence writes what r has. The result is failed, and says what else went wrong.
func (f *fetcher) keepEvidence(r *client.Report, failed error) error {
	switch {
	case f.evidence == "" || r == nil:
		return failed
	case len(r.EvidenceBytes) > 0:
		if err := os.WriteFile(f.evidence, r.EvidenceBytes, 0o644); err != nil {
			if failed == nil {
				return usagef("--evidence: %v", err)
			}
			return fmt.Errorf("%w; --evidence: %v", failed, err) // whose exit status counts
		}
	case r.Level == client.Blind || r.Level == client.Direct: // else the failure says more
		f.say("vitrine: --evidence: there is none at level %s; %s was not written", r.Level, f.evidence)
	}
	return failed
}

// configure reads the flags into f.
func (f *fetcher) configure(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("fetch needs exactly one URL and got %d; see \"vitrine fetch --help\"", c.NArg())
	}
	if c.IsSet("max-time") {
		seconds, err := strconv.ParseFloat(c.String("max-time"), 64)
		if err != nil || !(seconds > 0 && seconds < 1e9) {
			return usagef("--max-time: %q is not a number of seconds above 0", c.String("max-time"))
		}
		f.maxTime = time.Duration(seconds * float64(time.Second))
	}
	f.fail, f.verbose, f.evidence = c.Bool("fail"), c.Bool("verbose"), c.String("evidence")
	f.request = requestOptions{
		url: c.Args().First(), method: c.String("request"), headers: c.StringSlice("header"), data: c.StringSlice("data"),
		head: c.Bool("head"), follow: c.Bool("location"), stdin: f.std.in,
	}
	f.output.file, f.output.heads = c.String("output"), c.Bool("include") || c.Bool("head")
	var err error
	if f.route, err = newRoute(c); err != nil {
		return err
	}
	if _, err := f.request.build(c.Context); err != nil {
		return err
	}
	return f.output.open()
}

package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The page loads what pages load: a style sheet with an image in it, scripts, an image, a frame, a module, JSON and a
// form of another host. Behind all that its script reports what came of it.
const browserPage = `<!DOCTYPE html>
<title>shop</title>
<link rel="stylesheet" href="/style.css">
<script src="/plain.js"></script>
<script type="module" src="/module.js"></script>
<img id="img" src="/pixel.png">
<iframe id="frame" src="/frame.html"></iframe>
<p id="p">text</p>
`

// browserModule reports to the origin, which is the test, what the page has become.
const browserModule = `
import { half } from "/half.js";
const attempt = async (f) => { try { return await f() } catch (e) { return "refused: " + e.name } };
const text = async (url, options) => (await fetch(url, options)).text();
await new Promise((done) => document.readyState === "complete" ? done() : addEventListener("load", done));
const report = {
	level: (await fetch("/data.json")).headers.get("Vitrine-Level"),
	data: (await (await fetch("/data.json")).json()).value,
	echo: await text("/echo", { method: "POST", body: "x".repeat(300000) }).then((s) => s.length),
	stream: await attempt(async () => {
		const reader = (await fetch("/stream")).body.getReader();
		let parts = 0, size = 0;
		for (let r; !(r = await reader.read()).done; parts++) size += r.value.length;
		return size + (parts > 1 ? " in parts" : " at once");
	}),
	cut: await attempt(() => text("/cut")),
	killed: await attempt(async () => (await fetch("/killed")).headers.get("Vitrine-Error")),
	color: getComputedStyle(document.getElementById("p")).color,
	image: document.getElementById("img").naturalWidth,
	frame: document.getElementById("frame").contentDocument.body.innerText.trim(),
	plain: window.plain, half,
	redirected: await text("/redirect"),
	cookies: await (async () => { await fetch("/cookies"); return (await text("/fields/cookie")).split("; ").sort().join("; ") })(),
	socket: await new Promise((done) => { const s = new WebSocket("ws://" + location.host + "/socket"); s.onopen = () => done("open"); s.onerror = () => done("refused") }),
	other: await attempt(() => text(new URLSearchParams(location.search).get("other") + "/echo", { method: "POST", body: "hello" })),
	foreign: await attempt(() => text(new URLSearchParams(location.search).get("foreign") + "/private/read", { mode: "no-cors", credentials: "include" })),
	foreignImage: await new Promise((done) => {
		const i = new Image(); i.onload = () => done("loaded"); i.onerror = () => done("refused");
		i.src = new URLSearchParams(location.search).get("foreign") + "/private/pixel.png";
	}),
};
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
`

// A browserReport is what the page reports.
type browserReport struct {
	Level, Echo, Data, Stream, Cut, Killed, Color, Image, Frame, Plain, Half, Redirected, Cookies, Socket, Other, Foreign, ForeignImage any
}

const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// browserSite is the origin of the page. reports get what the page reports.
func browserSite(t *testing.T, reports chan<- browserReport) http.Handler {
	png, err := base64.StdEncoding.DecodeString(pixel)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	static := func(path, kind, body string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
			w.Header().Set("Alt-Svc", `h3=":443"`)
			w.Header().Set("Content-Security-Policy", "upgrade-insecure-requests")
			io.WriteString(w, body)
		})
	}
	static("/{$}", "text/html", browserPage)
	static("/style.css", "text/css", "p { color: rgb(1, 2, 3); background: url(/background.png) }")
	static("/plain.js", "text/javascript", "window.plain = 'plain'")
	static("/module.js", "text/javascript", browserModule)
	static("/half.js", "text/javascript", "export const half = 0.5")
	static("/frame.html", "text/html", "in the frame")
	static("/data.json", "application/json", `{"value": "the data"}`)
	for _, path := range []string{"/pixel.png", "/background.png", "/private/pixel.png"} {
		static(path, "image/png", string(png))
	}
	static("/private/read", "text/plain", "what is nobody else's")
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get("Origin"); strings.HasPrefix(from, "https://"+shopHost) { // as a site of today writes it
			w.Header().Set("Access-Control-Allow-Origin", from)
		}
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
		for range 4 {
			w.Write(bytes.Repeat([]byte("s"), 50000))
			http.NewResponseController(w).Flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	})
	mux.HandleFunc("GET /cut", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "the first part")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+r.Host+"/plain.js", http.StatusFound)
	})
	mux.HandleFunc("GET /cookies", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "plain=1; Path=/; Domain="+shopHost)
		w.Header().Add("Set-Cookie", "sealed=1; Path=/; Secure; HttpOnly")
	})
	mux.HandleFunc("GET /fields/cookie", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Cookie")) })
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		var rep browserReport
		if err := json.NewDecoder(r.Body).Decode(&rep); err != nil {
			t.Error(err)
		}
		reports <- rep
	})
	return mux
}

// findBrowser finds one, in CHROMIUM or where the system has it.
func findBrowser(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("NOT TESTED WITH A BROWSER: there is no Chromium; `make browser` installs one, or set CHROMIUM to a program")
	return ""
}

// openPage has a browser with a fresh profile show a page until the test's end.
func openPage(t *testing.T, browser, url string, flags ...string) *process {
	t.Helper()
	home, err := os.MkdirTemp(binaries, "browser") // its last child may still write there when the test is over
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(browser, append(append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--user-data-dir=" + home,
	}, flags...), url)...)
	cmd.Env = environment(home)
	return startCommand(t, nil, cmd)
}

// TestInteropChromium: a browser loads a page with all that belongs to it over intact tunnels, by a PAC file, as its
// proxy and by a map; and no page of another site gets at what the user's consent is for.
func TestInteropChromium(t *testing.T) {
	browser := findBrowser(t)
	reports := make(chan browserReport, 1)
	s := newGatewayStage(t, browserSite(t, reports))
	gw, addr := s.gateway("--host", shopHost, "--host", "*."+shopHost, "--map", "127.0.0.1:0=https://"+shopHost)
	proxied := "http://" + shopHost + "/?other=http://" + cdnHost
	// What the browser itself has against pages that reach for loopback is not what is tested here.
	const lax = "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights"
	for _, way := range []struct {
		name, url string
		flags     []string
		cookies   string
	}{
		{"a PAC file", proxied, []string{"--proxy-pac-url=http://" + addr + "/proxy.pac"}, "plain=1"},
		{"a proxy", proxied, []string{"--proxy-server=http://" + addr}, "plain=1"},
		{"a map", "http://" + s.mapped(gw) + "/?other=", nil, "plain=1; sealed=1"},
	} {
		t.Run(way.name, func(t *testing.T) {
			// Another gateway on the same address is another site.
			foreign, _ := s.gateway("--map", "127.0.0.1:0=https://"+shopHost)
			openPage(t, browser, way.url+"&foreign=http://"+s.mapped(foreign), append(way.flags, lax)...)
			var got browserReport
			select {
			case got = <-reports:
			case <-time.After(programTime):
				t.Fatal("the page does not come to its end")
			}
			want := browserReport{
				Level: "intact", Data: "the data", Echo: 300000.0, Stream: "200000 in parts", Cut: "refused: TypeError", Killed: "killed",
				Color: "rgb(1, 2, 3)", Image: 1.0, Frame: "in the frame", Plain: "plain", Half: 0.5, Redirected: "window.plain = 'plain'",
				Cookies: way.cookies, Socket: "refused", Other: "hello", Foreign: "refused: TypeError", ForeignImage: "refused",
			}
			if got != want {
				t.Errorf("the page became\n%+v, want\n%+v", got, want)
			}
			asked := map[string]int{}
			for _, v := range s.visits() {
				asked[v.path]++
				if v.reader != glassHost || v.host != shopHost && v.host != cdnHost || strings.HasPrefix(v.path, "/private/") {
					t.Errorf("the origin saw %+v", v)
				}
			}
			for _, path := range []string{"/", "/style.css", "/background.png", "/plain.js", "/module.js", "/half.js", "/pixel.png", "/frame.html", "/data.json", "/stream", "/report"} {
				if asked[path] == 0 {
					t.Errorf("%s was not asked for", path)
				}
			}
			// The page did try.
			for _, path := range []string{"/private/read", "/private/pixel.png"} {
				foreign.expect("path=" + path + " status=403")
			}
		})
	}
}

// What is sealed is refused, or carried if the user accepts that; then nobody reads it.
func TestInteropChromiumHTTPS(t *testing.T) {
	browser := findBrowser(t)
	s := newGatewayStage(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<p>sealed</p>") }))
	strict, at := s.gateway("--host", shopHost)
	page := openPage(t, browser, "https://"+shopHost+"/", "--proxy-server=http://"+at, "--dump-dom")
	page.says("</html>")
	if page.out.has("sealed") {
		t.Error("it was carried")
	}
	strict.expect("method=CONNECT host=" + shopHost + ":443 path=\"\" status=403")
	if seen := s.visits(); len(seen) > 0 {
		t.Errorf("the origin saw %+v", seen)
	}
	_, at = s.gateway("--host", shopHost, "--level", "intact,blind")
	openPage(t, browser, "https://"+shopHost+"/", "--proxy-server=http://"+at, "--ignore-certificate-errors", "--dump-dom").says("<p>sealed</p>")
	for _, v := range s.visits() {
		if v.reader != "" {
			t.Errorf("the origin saw %+v", v)
		}
	}
}

package gateway

import (
	"fmt"
	"strings"
	"testing"
)

func TestThePACFileHasTheHosts(t *testing.T) {
	r := newRig(t, answer(hello), func(g *Gateway) {
		g.Hosts = append(patterns(t, "shop.example", "*.wide.example:8443", "[2001:db8::1]", "[2001:db8::2]:8443", "*"), Pattern{})
	})
	for _, host := range []string{r.proxy, "localhost:" + portOf(r.proxy)} {
		resp, body := r.ask(r.proxy, "GET /proxy.pac HTTP/1.1\nHost: "+host+"\n\n")
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ns-proxy-autoconfig" || resp.Header.Get(LevelField) != NoLevel {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
		want := `[{"name":"shop.example","below":false,"port":""},{"name":"wide.example","below":true,"port":"8443"},` +
			`{"name":"[2001:db8::1]","below":false,"port":""},{"name":"[2001:db8::2]","below":false,"port":"8443"},{"name":"","below":false,"port":""}]`
		if !strings.Contains(body, `name = m[2].toLowerCase().replace(/\.$/, "")`) {
			t.Error("a name with a dot at its end, which is the same host, goes past the gateway")
		}
		if !strings.Contains(body, "var rules = "+want+";\n") || !strings.Contains(body, fmt.Sprintf("return %q", "PROXY "+r.proxy)) || strings.Contains(body, "%!") {
			t.Error(body)
		}
	}
	r.untouched()
	r.g.Close()
	if log := r.log.String(); strings.Count(log, "path=/proxy.pac status=200 level=none") != 2 {
		t.Error(log)
	}
}

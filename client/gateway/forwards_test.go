package gateway

import (
	"net/http"
	"strings"
	"testing"
)

// The gateway is a hop, which Max-Forwards counts.
func TestMaxForwards(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	for _, tt := range []struct {
		method, given, sent string
		status              int // of the gateway's own answer
	}{
		{"OPTIONS", "3", "2", 0},
		{"TRACE", "1", "0", 0},
		{"GET", "0", "0", 0},
		{"OPTIONS", "0", "", 200},
		{"TRACE", "0", "", 200},
		{"TRACE", "many", "", 400},
	} {
		resp, body := r.ask(r.proxy, tt.method+" http://shop.example/page HTTP/1.1\nHost: shop.example\nCookie: secret=1\nMax-Forwards: "+tt.given+"\n\n")
		if tt.status == 0 {
			if sent := r.took().Header.Get("Max-Forwards"); sent != tt.sent {
				t.Errorf("%s %s: %q was sent", tt.method, tt.given, sent)
			}
			continue
		}
		r.untouched()
		if resp.StatusCode != tt.status || resp.Header.Get(LevelField) != NoLevel {
			t.Errorf("%s %s: %d %v", tt.method, tt.given, resp.StatusCode, resp.Header)
		}
		if tt.method == http.MethodTrace && tt.status == 200 &&
			(resp.Header.Get("Content-Type") != "message/http" || !strings.HasPrefix(body, "TRACE http://shop.example/page HTTP/1.1\r\nHost: shop.example\r\n") || strings.Contains(body, "secret")) {
			t.Errorf("%v %q", resp.Header, body)
		}
	}
}

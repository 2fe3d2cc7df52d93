package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// pacPath is where browsers find which URLs to ask the gateway for.
const pacPath = "/proxy.pac"

// A pacRule is a Pattern for the script.
type pacRule struct {
	Name  string `json:"name"`  // "" for every host
	Below bool   `json:"below"` // name itself is not meant
	Port  string `json:"port"`  // "" for every port
}

func pacRules(patterns []Pattern) []pacRule {
	rules := []pacRule{}
	for _, p := range patterns {
		s := p.String()
		if s == "" {
			continue
		}
		var r pacRule
		if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
			s, r.Port = s[:i], s[i+1:]
		}
		r.Name, r.Below = strings.CutPrefix(s, "*.")
		if r.Name == "*" {
			r.Name = ""
		}
		rules = append(rules, r)
	}
	return rules
}

// pac serves the script. The hosts of Hosts never go past the gateway, sealed or not; all others do.
func (x *exchange) pac(w http.ResponseWriter) {
	rules, err := json.Marshal(pacRules(x.g.Hosts)) // which escapes <, > and & too
	if err != nil {
		panic(err) // strings and bools
	}
	script := fmt.Sprintf(pacScript, rules, x.endpoint.addr)
	own(w.Header())
	w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
	w.Header().Set("Content-Length", strconv.Itoa(len(script)))
	_, _ = w.Write([]byte(script)) // a browser that has gone asks again
}

// The script is of the JavaScript of the time when PAC was made, which is all that some readers of it have.
const pacScript = `// Which URLs the Vitrine gateway is asked for.
var rules = %s;

function FindProxyForURL(url, host) {
  var m = /^(http|https|ws|wss):\/\/(?:[^\/?#@]*@)?(\[[^\]]*\]|[^:\/?#]*)(?::([0-9]+))?/i.exec(url);
  if (!m) return "DIRECT";
  var plain = !/s$/i.test(m[1]), name = m[2].toLowerCase().replace(/\.$/, ""), port = m[3] || (plain ? "80" : "443");
  if (plain && port === "80") port = "443"; // what the gateway fetches then
  for (var i = 0; i < rules.length; i++) {
    var r = rules[i];
    if (r.port && r.port !== port) continue;
    if (r.name && !r.below && name !== r.name) continue;
    if (r.below && name.slice(-r.name.length - 1) !== "." + r.name) continue;
    return "PROXY %s";
  }
  return "DIRECT";
}
`

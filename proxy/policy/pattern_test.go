package policy

import (
	"context"
	"strings"
	"testing"
)

// One pass of the largest pattern over the longest text is what an evaluation may cost; it does not go by the pattern's length.
func TestMatchesCostsWhatItsPatternCanTake(t *testing.T) {
	p := rules(t, `kill request.headers.exists(name, request.body.matches("^b{900}"))`)
	text := strings.Repeat("a", defaultScan)
	for fields, want := range []state{no, no, costly} {
		f := facts{request: &request{Body: text, Headers: map[string]string{}}, response: &response{}}
		for i := range fields {
			f.request.Headers[strings.Repeat("x", i+1)] = ""
		}
		if got, _ := p.rules[0].evaluate(context.Background(), &f); got != want {
			t.Errorf("%d passes: state %d, want %d", fields, got, want)
		}
	}
}

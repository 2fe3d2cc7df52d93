package client

import (
	"context"
	"testing"

	"vitrine/internal/fields"
)

// Who chooses what to take instead agrees anew, and what was agreed to before ends nothing then.
func TestTheAgreementToAChoiceIsTheOneThatCounts(t *testing.T) {
	w := newWorld(t)
	w.stock, w.modes = true, []fields.Mode{fields.Blind}
	first, end := context.WithCancelCause(context.Background())
	asked := 0
	tr := w.transport(func(tr *Transport) {
		tr.Choose = func(context.Context, *Offer) (Level, error) { return Blind, nil }
		tr.Consent = ConsentFunc(func(ctx context.Context, _ *ConsentRequest) (*Agreement, error) {
			if asked++; asked == 1 {
				return &Agreement{Ends: first}, nil
			}
			end(errTakenBack)
			<-ctx.Done() // all have heard of it
			return &Agreement{Ends: t.Context()}, nil
		})
	})
	resp, _, err := tryGet(t, tr, "https://origin.example/")
	if err != nil || ReportOf(resp).Level != Blind || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

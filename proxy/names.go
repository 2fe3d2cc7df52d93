package proxy

import (
	"fmt"

	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// A Mode is how a tunnel may be carried.
type Mode = fields.Mode

// The modes that this proxy has.
const (
	Intact = fields.Intact // it reads, and nobody can change
	Split  = fields.Split  // it ends TLS on both sides, reads, and could change
	Blind  = fields.Blind  // it carries what it cannot read
)

// HopLimits bound what a peer can make one connection hold. Every zero field means its default.
type HopLimits = hop.Limits

// ConnectTo is a list of rules, of which the first that fits counts. [ParseConnectTo] reads them.
type ConnectTo = connectto.Rules

// ParseConnectTo reads rules in curl's form, HOST1:PORT1:HOST2:PORT2: what was for HOST1 and PORT1 (empty: for
// any) is dialled at HOST2 and PORT2 (empty: the same). IPv6 addresses are in brackets.
func ParseConnectTo(rules ...string) (ConnectTo, error) {
	list, err := connectto.ParseRules(rules...)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return list, nil
}

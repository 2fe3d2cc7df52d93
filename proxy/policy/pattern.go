package policy

import (
	"regexp/syntax"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// maxSteps bounds matches(), which nothing can stop: at worst it takes a step for each state of its pattern at
// each byte of the text, of about 17 ns. CEL's own cost goes by the length of the pattern, and a{1000} is short.
const maxSteps = 64 << 20

// patterns are those of a rule, and how many states each has.
type patterns map[string]int

// add reads the pattern of a call of matches().
func (p patterns) add(pattern ast.Expr, longest int, problem func(id int64, format string, args ...any)) (states int) {
	if pattern.Kind() != ast.LiteralKind {
		problem(pattern.ID(), "the pattern of matches() must be a literal: else a peer may write it")
		return 0
	}
	s, _ := pattern.AsLiteral().(types.String)
	parsed, err := syntax.Parse(string(s), syntax.Perl)
	if err != nil {
		problem(pattern.ID(), "%v", err)
		return 0
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		problem(pattern.ID(), "%v", err)
		return 0
	}
	states = len(program.Inst)
	if most := maxSteps / longest; states > most {
		problem(pattern.ID(), "the pattern is too large for texts of %d bytes: %d states, at most %d", longest, states, most)
	}
	p[string(s)] = states
	return states
}

// costs charges matches() by steps: maxSteps of them are limit, the cost of a whole evaluation.
func (p patterns) costs(limit uint64) cel.ProgramOption {
	charge := func(args []ref.Val, _ ref.Val) *uint64 {
		units := uint64(1)
		text, isText := args[0].(types.String)
		pattern, isPattern := args[1].(types.String)
		if isText && isPattern {
			units += uint64(p[string(pattern)]) * uint64(len(text)) / (maxSteps / limit)
		}
		return &units
	}
	return cel.CostTrackerOptions(cost.OverloadTracker(overloads.Matches, charge), cost.OverloadTracker(overloads.MatchesString, charge))
}

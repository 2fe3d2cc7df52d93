package policy

import (
	"context"
	"errors"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

// A rule is a [[rule]] that compiled.
type rule struct {
	id      string
	kill    bool
	reason  string
	at      int // its place in the file
	program cel.Program
	sees    need // what it mentions of what comes late
	expect  bool // it looks at the field Expect
	work    int  // how much evaluating it takes for each byte of text: see slowWork
}

// A need is a set of what can be unknown of an exchange.
type need uint8

const (
	requestBody need = 1 << iota
	requestSize
	responseHead
	responseBody
	responseSize
	wholeRequest // never in an exchange, whose first part is a request's head

	ofRequest  = requestBody | requestSize
	ofResponse = responseHead | responseBody | responseSize
	everything = ofRequest | ofResponse
	allNeeds   = everything | wholeRequest
)

// needOf is the need for a field of request or response.
func needOf(name, field string) need {
	switch {
	case name == nameRequest && field == "body":
		return requestBody
	case name == nameRequest && field == "size":
		return requestSize
	case name == nameResponse && field == "body":
		return responseHead | responseBody
	case name == nameResponse && field == "size":
		return responseHead | responseSize
	case name == nameResponse:
		return responseHead
	}
	return 0
}

// compile sets what comes out of the expression in when.
func (r *reader) compile(to *rule, when *node) {
	if r.lang == nil {
		var err error
		if r.lang, err = newLanguage(r.policy.scan); err != nil {
			r.add(when.at, "%v", err)
			return
		}
	}
	checked, issues := r.lang.env.Compile(when.text)
	if err := issues.Err(); err != nil {
		for _, e := range issues.Errors() {
			r.add(when.offset(within(when.text, e.Location)), "%s", words(e.Message))
		}
		return
	}
	problem := func(id int64, format string, args ...any) {
		r.add(when.offset(within(when.text, checked.NativeRep().SourceInfo().GetStartLocation(id))), format, args...)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		problem(checked.NativeRep().Expr().ID(), "when is %s; it must be true or false", cel.FormatCELType(t))
		return
	}
	n := len(r.problems.list)
	matched := make(patterns)
	to.inspect(checked.NativeRep(), matched, r.lang.longest, problem)
	if len(r.problems.list) > n {
		return
	}
	var err error
	to.program, err = r.lang.env.Program(checked,
		cel.EvalOptions(cel.OptOptimize, cel.OptPartialEval), cel.CostLimit(r.lang.limit), matched.costs(r.lang.limit), cel.InterruptCheckFrequency(interrupt))
	if err != nil {
		r.add(when.at, "%s", words(err.Error()))
		return
	}
	if most, err := r.lang.env.EstimateCost(checked, r.lang.sizes); err == nil && most.Min > r.lang.limit {
		r.add(when.at, "when costs at least %d units, and an evaluation ends at %d", most.Min, r.lang.limit)
	}
}

// inspect notes what the rule mentions and what evaluating it takes, and reports what a rule may not do.
func (to *rule) inspect(a *ast.AST, matched patterns, longest int, problem func(id int64, format string, args ...any)) {
	selected := make(map[int64]bool)
	to.work = 1
	macros := 0
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			if of := e.AsSelect().Operand(); of.Kind() == ast.IdentKind {
				selected[of.ID()] = true
				to.sees |= needOf(of.AsIdent(), e.AsSelect().FieldName())
			} else {
				to.fieldName(of, e.AsSelect().FieldName(), e.ID(), problem)
			}
		case ast.IdentKind:
			// Comparing a whole request would read its body at no cost, and keep it unknown to the end.
			if name := e.AsIdent(); (name == nameRequest || name == nameResponse) && !selected[e.ID()] {
				problem(e.ID(), "%s is used through its fields alone, as in %s.headers", name, name)
			}
		case ast.StructKind:
			problem(e.ID(), "a rule makes no %s", e.AsStruct().TypeName())
		case ast.ComprehensionKind:
			macros++
			for _, name := range []string{e.AsComprehension().IterVar(), e.AsComprehension().IterVar2()} {
				if name == nameRequest || name == nameResponse {
					problem(e.ID(), "the variable of a macro cannot be named %s", name)
				}
			}
		case ast.CallKind:
			call := e.AsCall()
			args := call.Args()
			switch call.FunctionName() {
			case "matches":
				to.work += matched.add(args[len(args)-1], longest, problem)
			case operators.Index, callHeader:
				to.literalName(args[0], args[1], problem)
			case operators.In:
				to.literalName(args[1], args[0], problem)
			}
		}
	}))
	for range min(macros, maxNesting) {
		to.work *= macroWork
	}
}

func (to *rule) literalName(of, name ast.Expr, problem func(id int64, format string, args ...any)) {
	if name.Kind() != ast.LiteralKind {
		return
	}
	if s, ok := name.AsLiteral().(types.String); ok {
		to.fieldName(of, string(s), name.ID(), problem)
	}
}

// fieldName notes the name of a header field, and reports one that is never there, where a rule would look in vain. of is
// what it is looked for in.
func (to *rule) fieldName(of ast.Expr, name string, id int64, problem func(id int64, format string, args ...any)) {
	if of.Kind() != ast.SelectKind || of.AsSelect().Operand().Kind() != ast.IdentKind {
		return
	}
	lower, joined := strings.ToLower(name), of.AsSelect().FieldName() == "headers"
	to.expect = to.expect || lower == "expect"
	switch {
	case !joined && of.AsSelect().FieldName() != fieldFirst:
	case lower == "host" && of.AsSelect().Operand().AsIdent() == nameRequest:
		problem(id, "Host is not among the headers: there is request.host")
	case joined && lower != name:
		problem(id, "names in headers are in lower case: %s", quote(lower))
	}
}

// within is the byte offset of a place in an expression.
func within(text string, l common.Location) int {
	line, column := l.Line(), l.Column()
	if line < 1 || column < 0 {
		return 0
	}
	offset := 0
	for ; line > 1; line-- {
		i := strings.IndexByte(text[offset:], '\n')
		if i < 0 {
			return offset
		}
		offset += i + 1
	}
	for i := range text[offset:] {
		if column == 0 {
			return offset + i
		}
		column--
	}
	return len(text)
}

// words makes one line of a compiler's message, in the language's own names.
func words(s string) string {
	if strings.Contains(s, callHeader) {
		s = strings.ReplaceAll(s, callHeader, "header")
		s = strings.ReplaceAll(s, "(map(string, string), ", "(")
	}
	s = strings.ReplaceAll(s, "policy."+nameRequest, nameRequest)
	s = strings.ReplaceAll(s, "policy."+nameResponse, nameResponse)
	return strings.Join(strings.Fields(s), " ")
}

// A state is what is known of a rule in an exchange.
type state uint8

const (
	undecided  state = iota
	no               // it does not match
	yes              // it matches
	failed           // it cannot be evaluated
	costly           // its evaluation costs too much
	unreadable       // it needs a body that cannot be read
)

// decide asks the rule about f. What has two readings kills by either, and is allowed by both.
func (r *rule) decide(ctx context.Context, f *facts) (state, need) {
	s, needs := r.evaluate(ctx, f)
	if f.raw == nil || r.sees&requestBody == 0 || r.strict(s) {
		return s, needs
	}
	raw := *f
	raw.request = f.raw
	other, more := r.evaluate(ctx, &raw)
	switch {
	case r.strict(other):
		return other, more
	case s == undecided || other == undecided:
		return undecided, needs | more
	}
	return s, 0
}

// strict says whether s is what keeps an exchange back, whatever another reading of it says.
func (r *rule) strict(s state) bool { return s != undecided && r.kill == r.ends(s) }

// evaluate asks the rule what f decides. Where that is nothing, it says what the rule needs to know.
func (r *rule) evaluate(ctx context.Context, f *facts) (state, need) {
	vars, err := cel.PartialVars(f, f.patterns...)
	if err != nil {
		return failed, 0
	}
	out, _, err := r.program.ContextEval(ctx, vars)
	if err != nil {
		var stopped interpreter.EvalCancelledError
		if errors.As(err, &stopped) && stopped.Cause == interpreter.CostLimitExceeded {
			return costly, 0
		}
		return failed, 0
	}
	switch v := out.Value().(type) {
	case bool:
		if v {
			return yes, 0
		}
		return no, 0
	case *types.Unknown:
		needs := needsOf(v) & f.unknown
		if needs == 0 {
			// An unknown of nothing that is unknown would be waited for in vain.
			return failed, 0
		}
		if needs&^f.lost == 0 {
			return unreadable, 0
		}
		return undecided, needs &^ f.lost
	}
	return failed, 0
}

// needsOf reads the trails of what was unknown.
func needsOf(u *types.Unknown) need {
	var needs need
	for _, id := range u.IDs() {
		trails, _ := u.GetAttributeTrails(id)
		for _, t := range trails {
			path := t.QualifierPath()
			switch {
			case len(path) > 0:
				field, _ := path[0].(string)
				needs |= needOf(t.Variable(), field)
			case t.Variable() == nameRequest:
				needs |= ofRequest
			case t.Variable() == nameResponse:
				needs |= responseHead
			default:
				needs |= everything
			}
		}
	}
	return needs
}

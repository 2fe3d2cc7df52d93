package policy

import (
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/parser"
)

// request and response are what rules see. Their types are what makes a misspelled name an error of the
// file and not of the evaluation. A name with "@" cannot be written in a rule.
type request struct {
	Host    string            `cel:"host"`
	Method  string            `cel:"method"`
	Path    string            `cel:"path"`
	Query   string            `cel:"query"`
	Headers map[string]string `cel:"headers"`
	First   map[string]string `cel:"@first"` // the first value of each field
	Body    string            `cel:"body"`
	Size    int64             `cel:"size"`
}

type response struct {
	Status  int64             `cel:"status"`
	Headers map[string]string `cel:"headers"`
	First   map[string]string `cel:"@first"`
	Body    string            `cel:"body"`
	Size    int64             `cel:"size"`
}

const (
	nameRequest  = "request"
	nameResponse = "response"
	// callHeader is what request.header("x") becomes. A method of request itself would be unknown for as
	// long as any part of the request is.
	callHeader = "@header"
	fieldFirst = "@first"
)

const (
	// maxNesting bounds macros in macros: each one multiplies the work by the number of fields.
	maxNesting = 2
	// costFactor bounds one evaluation, as a multiple of the text that there can be: a peer who chooses
	// 200 fields, or a long path, chooses how often the body of a macro runs and how long matches() is.
	// A unit of cost is about 0.1 µs at worst.
	costFactor = 16
	// interrupt is how many rounds of a macro pass before it looks whether its exchange has ended.
	interrupt = 100

	// What a header section can be at most: see inspect.Limits.
	headBytes  = 64 << 10
	headFields = 200
)

// A language compiles the rules of a policy.
type language struct {
	env     *cel.Env
	limit   uint64 // of the cost of an evaluation
	longest int    // text that there can be
	sizes   sizes
}

func newLanguage(scan int) (*language, error) {
	texts := cel.MapType(cel.StringType, cel.StringType)
	env, err := cel.NewEnv(
		ext.NativeTypes(reflect.TypeFor[request](), reflect.TypeFor[response](), ext.ParseStructTags(true)),
		cel.Variable(nameRequest, cel.ObjectType("policy.request")),
		cel.Variable(nameResponse, cel.ObjectType("policy.response")),
		cel.Function(callHeader, cel.Overload("first_header", []*cel.Type{texts, cel.StringType}, cel.StringType, cel.BinaryBinding(firstHeader))),
		cel.Macros(cel.ReceiverMacro("header", 1, headerMacro)),
		cel.ParserExpressionSizeLimit(maxWhen),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateComprehensionNestingLimit(maxNesting)),
	)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	longest := max(scan, headBytes)
	return &language{env: env, limit: uint64(costFactor * longest), longest: longest, sizes: sizes(scan)}, nil
}

// headerMacro turns request.header(x) into @header(request.@first, x).
func headerMacro(h parser.ExprHelper, target ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
	if target.Kind() != ast.IdentKind || target.AsIdent() != nameRequest && target.AsIdent() != nameResponse {
		return nil, nil
	}
	return h.NewCall(callHeader, h.NewSelect(h.NewIdent(target.AsIdent()), fieldFirst), args[0]), nil
}

// firstHeader is the first value of a field, or "".
func firstHeader(fields, name ref.Val) ref.Val {
	m, isMap := fields.(traits.Mapper)
	s, isString := name.(types.String)
	if !isMap || !isString {
		return types.MaybeNoSuchOverloadErr(name)
	}
	if v, found := m.Find(types.String(strings.ToLower(string(s)))); found {
		return v
	}
	return types.String("")
}

// sizes tells the estimator of costs how large what a rule sees can be; it is scan_bytes.
type sizes int

// EstimateSize implements cost.Estimator.
func (s sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	path := n.Path()
	if len(path) < 2 {
		return nil
	}
	switch most := uint64(headBytes); {
	case len(path) == 2 && path[1] == "body":
		return &cost.SizeEstimate{Max: uint64(s)}
	case len(path) == 2 && (path[1] == "headers" || path[1] == fieldFirst):
		return &cost.SizeEstimate{Max: headFields}
	default:
		return &cost.SizeEstimate{Max: most}
	}
}

// EstimateCallCost implements cost.Estimator.
func (sizes) EstimateCallCost(function, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	if function != callHeader {
		return nil
	}
	return &cost.CallEstimate{CostEstimate: cost.Estimate{Min: 1, Max: 1}, ResultSize: &cost.SizeEstimate{Max: headBytes}}
}

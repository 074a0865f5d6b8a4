package verdict

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"civicbus/codecs"
)

// Bounds of CEL, in cel-go's units of cost. The estimate takes every text field as celTextBytes long; a longer one can
// still end an evaluation at celRunCost, and what ends early is unknown.
const (
	celEstimateCost = 10_000
	celRunCost      = 100_000
	celTextBytes    = 1_024
	celRecursion    = 32
	celSchemas      = 16 // bound programs kept for each expression, one a writer schema
)

// celFunctions is what a filter may call. No regular expressions (matches), no macros and so no loops, no dyn: cost then
// grows with the expression and the texts it reads, and types are known when the subscription is accepted. has() is
// not there either: what is absent is unknown, and unknown cannot be tested for.
var celFunctions = []string{
	operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional,
	operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
	operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo, operators.Negate, operators.In,
	"size", "startsWith", "endsWith", "contains", "int", "double", "string",
}

// celBase is the environment that every expression extends with the fields it names. It is built once and never changes.
var celBase = sync.OnceValues(func() (*cel.Env, error) {
	subset := env.NewLibrarySubset().SetDisableMacros(true)
	for _, name := range celFunctions {
		subset.AddIncludedFunctions(env.NewFunction(name))
	}
	// The parser ends at its second error: 0 would stand for 30, and only the first is looked at.
	return cel.NewCustomEnv(cel.StdLib(cel.StdLibSubset(subset)), cel.ClearMacros(),
		cel.ParserRecursionLimit(celRecursion), cel.ParserErrorRecoveryLimit(1), cel.ParserExpressionSizeLimit(MaxFilterBytes))
})

// celLeaf is one expression that has no simpler form. It is checked and planned for each writer schema at first use: the
// check costs some 100 microseconds, an evaluation about one. A Snapshot holds one for all filters with the same text,
// since a plan takes some kilobytes.
type celLeaf struct {
	text  string
	paths []string // what it reads, in the order that the text gives
	bound atomic.Pointer[[]celBound]
}

type celBound struct {
	schema  *codecs.Schema
	program cel.Program // nil: the expression does not fit that schema, and is unknown
}

// compile checks the expression with the types of the fields it names, and bounds its cost. The fault is nil if it fits.
func (l *celLeaf) compile(typeOf func(path string) *cel.Type) (cel.Program, *codecs.Fault) {
	wrong := func(reason, text string, args ...any) *codecs.Fault {
		return &codecs.Fault{Field: "cel", Reason: reason, Text: fmt.Sprintf(text, args...)}
	}
	base, err := celBase()
	if err != nil {
		return nil, wrong(FaultFilterMalformed, "CEL is not available: %v", err)
	}
	var fields []cel.EnvOption
	for _, path := range l.paths {
		t := typeOf(path)
		if t == nil {
			return nil, &codecs.Fault{Field: path, Reason: FaultFilterTypeError, Text: "a field of one scalar type, outside arrays and maps"}
		}
		fields = append(fields, cel.Variable(path, t))
	}
	extended, err := base.Extend(fields...)
	if err != nil {
		return nil, wrong(FaultFilterTypeError, "fields that CEL can name")
	}
	checked, issues := extended.Compile(l.text)
	if len(issues.Errors()) > 0 { // Err would write them all out first
		return nil, wrong(FaultFilterTypeError, "%s", celComplaint(issues))
	}
	if checked.OutputType() != cel.BoolType {
		return nil, wrong(FaultFilterTypeError, "an expression of type bool, not %s", checked.OutputType())
	}
	if estimate, err := extended.EstimateCost(checked, celSizes{}); err != nil || estimate.Max > celEstimateCost {
		return nil, wrong(FaultFilterTooCostly, "an estimated cost of at most %d", celEstimateCost)
	}
	program, err := extended.Program(checked, cel.CostLimit(celRunCost))
	if err != nil {
		return nil, wrong(FaultFilterTypeError, "an expression that can be planned")
	}
	return program, nil
}

// celComplaint gives what the checker says of types and functions, which are names, never literals.
func celComplaint(issues *cel.Issues) string {
	for _, e := range issues.Errors() {
		if strings.HasPrefix(e.Message, "found no matching overload") || strings.HasPrefix(e.Message, "undeclared reference") {
			return boundedText(e.Message)
		}
	}
	return "operands whose types fit their operators"
}

// celSizes bounds the texts that an expression reads, for the estimate.
type celSizes struct{}

func (celSizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	if len(element.Path()) > 0 {
		return &cost.SizeEstimate{Min: 0, Max: celTextBytes}
	}
	return nil
}

func (celSizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// eval evaluates the expression for an event of a writer schema; reads gives the positions in values of what it reads.
// Errors (a division by zero, the cost limit) are unknown.
func (l *celLeaf) eval(reads []int, s *codecs.Schema, values []codecs.Value) Truth {
	program := l.boundTo(s)
	if program == nil {
		return Unknown
	}
	out, _, err := program.Eval(&celValues{paths: l.paths, reads: reads, values: values})
	if err != nil {
		return Unknown
	}
	if b, ok := out.(types.Bool); ok {
		return truthOf(bool(b))
	}
	return Unknown
}

// boundTo gives the program for a schema, planning it at first use. Two goroutines may both plan; one result stays.
func (l *celLeaf) boundTo(s *codecs.Schema) cel.Program {
	had := l.bound.Load()
	if had != nil {
		for i := range *had {
			if (*had)[i].schema == s {
				return (*had)[i].program
			}
		}
	}
	program, _ := l.compile(func(path string) *cel.Type { return celTypes[scalarAt(s, path)] })
	var next []celBound
	if had != nil {
		next = append(next, (*had)[max(0, len(*had)-celSchemas+1):]...)
	}
	next = append(next, celBound{schema: s, program: program})
	l.bound.CompareAndSwap(had, &next)
	return program
}

// celTypes gives CEL's type for each kind of value that a filter can read.
var celTypes = map[codecs.Kind]*cel.Type{
	codecs.String: cel.StringType, codecs.Int: cel.IntType, codecs.Float: cel.DoubleType,
	codecs.Bool: cel.BoolType, codecs.Bytes: cel.BytesType,
}

// celValues hands an evaluation the values it names.
type celValues struct {
	paths  []string
	reads  []int
	values []codecs.Value
}

// ResolveName implements cel.Activation.
func (a *celValues) ResolveName(name string) (any, bool) {
	for i, path := range a.paths {
		if path == name {
			return celValue(&a.values[a.reads[i]], int64(i)), true
		}
	}
	return nil, false
}

// Parent implements cel.Activation.
func (a *celValues) Parent() cel.Activation { return nil }

func celValue(v *codecs.Value, id int64) ref.Val {
	switch v.Kind {
	case codecs.String:
		return types.String(v.Bytes)
	case codecs.Int:
		return types.Int(v.Int)
	case codecs.Float:
		return types.Double(v.Float)
	case codecs.Bool:
		return types.Bool(v.Int != 0)
	case codecs.Bytes:
		return types.Bytes(v.Bytes)
	}
	return types.NewUnknown(id, nil)
}

// celLeaves are the expressions of all filters of a Snapshot, by their text, with the number of their uses.
type celLeaves struct{ tree tree[celUses] }

type celUses struct {
	leaf *celLeaf
	uses int
}

// hold replaces a filter's expressions with those that are already there, and counts their uses.
func (c *celLeaves) hold(ix *indexing, n *node) {
	for _, part := range n.parts {
		c.hold(ix, part)
	}
	if n.op != opCEL {
		return
	}
	h := hashText(ix.seed, n.cel.text)
	there, ok := at(c.tree, h, n.cel.text)
	if ok {
		n.cel = there.leaf
	}
	c.tree = c.tree.with(ix.edit, h, n.cel.text, celUses{leaf: n.cel, uses: there.uses + 1})
}

// release counts them out again.
func (c *celLeaves) release(ix *indexing, n *node) {
	for _, part := range n.parts {
		c.release(ix, part)
	}
	if n.op != opCEL {
		return
	}
	h := hashText(ix.seed, n.cel.text)
	if there, _ := at(c.tree, h, n.cel.text); there.uses > 1 {
		c.tree = c.tree.with(ix.edit, h, n.cel.text, celUses{leaf: there.leaf, uses: there.uses - 1})
	} else {
		c.tree = c.tree.without(ix.edit, h, n.cel.text)
	}
}

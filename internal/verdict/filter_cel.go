package verdict

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
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
	return cel.NewCustomEnv(cel.StdLib(cel.StdLibSubset(subset)), cel.ClearMacros(),
		cel.ParserRecursionLimit(celRecursion), cel.ParserErrorRecoveryLimit(4), cel.ParserExpressionSizeLimit(MaxFilterBytes))
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

// cel parses an expression. Conjunction, disjunction, negation, comparison with a literal and membership in a list of
// literals become the filter's own nodes, some fifty times faster and open to the index; the rest stays CEL.
func (p *filterParser) cel(text string) *node {
	base, err := celBase()
	if err != nil {
		p.fault("cel", FaultFilterMalformed, "CEL is not available: %v", err)
		return nothing
	}
	parsed, issues := base.Parse(text)
	if issues.Err() != nil {
		where := ""
		if all := issues.Errors(); len(all) > 0 && all[0].Location != nil && all[0].Location.Line() > 0 {
			where = fmt.Sprintf(" (line %d, column %d)", all[0].Location.Line(), all[0].Location.Column()+1)
		}
		p.fault("cel", FaultFilterMalformed, "a valid CEL expression, nested at most %d deep%s", celRecursion, where)
		return nothing
	}
	native := parsed.NativeRep()
	return p.celNode(native.Expr(), native.SourceInfo())
}

func (p *filterParser) celNode(e ast.Expr, info *ast.SourceInfo) *node {
	if p.nodes > MaxFilterNodes {
		return nothing
	}
	if path := celPath(e); path != "" && celRooted(path) {
		return p.add(&node{op: opEqual, path: p.path(path), values: []constant{boolConstant(true)}})
	}
	if e.Kind() == ast.CallKind {
		call := e.AsCall()
		args := call.Args()
		switch call.FunctionName() {
		case operators.LogicalAnd, operators.LogicalOr:
			n := &node{op: opAll}
			if call.FunctionName() == operators.LogicalOr {
				n.op = opAny
			}
			for _, arg := range args {
				n.parts = append(n.parts, p.celNode(arg, info))
			}
			return p.add(n)
		case operators.LogicalNot:
			return p.add(&node{op: opNot, parts: []*node{p.celNode(args[0], info)}})
		case operators.Equals, operators.NotEquals:
			if n := p.celEqual(args[0], args[1]); n != nil {
				if call.FunctionName() == operators.NotEquals {
					return p.add(&node{op: opNot, parts: []*node{n}})
				}
				return n
			}
		case operators.In:
			if n := p.celIn(args[0], args[1]); n != nil {
				return n
			}
		case "startsWith", "endsWith":
			if n := p.celAffix(call); n != nil {
				return n
			}
		}
	}
	return p.celRest(e, info)
}

// celEqual makes a node of path == literal, either way round; nil: it is something else.
func (p *filterParser) celEqual(a, b ast.Expr) *node {
	path, c, ok := celPath(a), constant{}, false
	if path != "" {
		c, ok = celLiteral(b)
	} else {
		path = celPath(b)
		c, ok = celLiteral(a)
	}
	if !ok || !celRooted(path) {
		return nil
	}
	return p.add(&node{op: opEqual, path: p.path(path), values: []constant{c}})
}

func (p *filterParser) celIn(a, b ast.Expr) *node {
	path := celPath(a)
	if !celRooted(path) || b.Kind() != ast.ListKind || b.AsList().Size() == 0 {
		return nil
	}
	n := &node{op: opEqual}
	for _, e := range b.AsList().Elements() {
		c, ok := celLiteral(e)
		if !ok {
			return nil
		}
		if !slices.ContainsFunc(n.values, func(have constant) bool { return have.sameAs(&c) }) {
			n.values = append(n.values, c)
		}
	}
	n.path = p.path(path)
	return p.add(n)
}

func (p *filterParser) celAffix(call ast.CallExpr) *node {
	if !call.IsMemberFunction() || len(call.Args()) != 1 {
		return nil
	}
	path := celPath(call.Target())
	c, ok := celLiteral(call.Args()[0])
	if !celRooted(path) || !ok || c.kind != codecs.String {
		return nil
	}
	n := &node{op: opPrefix, path: p.path(path), values: []constant{c}}
	if call.FunctionName() == "endsWith" {
		n.op = opSuffix
	}
	return p.add(n)
}

// celRest keeps an expression as CEL.
func (p *filterParser) celRest(e ast.Expr, info *ast.SourceInfo) *node {
	text, err := cel.ExprToString(e, info)
	if err != nil {
		p.fault("cel", FaultFilterMalformed, "a CEL expression of operators, literals and fields")
		return nothing
	}
	n := &node{op: opCEL, cel: &celLeaf{text: text}}
	p.celReads(e, n)
	return p.add(n)
}

// celReads finds every field that an expression names.
func (p *filterParser) celReads(e ast.Expr, n *node) {
	if path := celPath(e); path != "" {
		if !celRooted(path) {
			p.fault(path, FaultFilterUnknownField, "fields begin with data., profile. or ce.")
			return
		}
		if i := p.path(path); !slices.Contains(n.reads, i) {
			n.reads, n.cel.paths = append(n.reads, i), append(n.cel.paths, path)
		}
		return
	}
	switch e.Kind() {
	case ast.SelectKind:
		p.celReads(e.AsSelect().Operand(), n)
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			p.celReads(call.Target(), n)
		}
		for _, arg := range call.Args() {
			p.celReads(arg, n)
		}
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			p.celReads(element, n)
		}
	case ast.LiteralKind:
	default:
		p.fault("cel", FaultFilterMalformed, "a CEL expression of operators, literals and fields")
	}
}

// celPath gives the path of an identifier or of a chain of selections on one; empty: it is none.
func celPath(e ast.Expr) string {
	var names []string
	for e.Kind() == ast.SelectKind {
		s := e.AsSelect()
		if s.IsTestOnly() {
			return ""
		}
		names = append(names, s.FieldName())
		e = s.Operand()
	}
	if e.Kind() != ast.IdentKind {
		return ""
	}
	names = append(names, e.AsIdent())
	slices.Reverse(names)
	return strings.Join(names, ".")
}

func celRooted(path string) bool { return rooted(path) || isAttribute(path) }

// celLiteral makes a constant of a literal of text, number or truth value.
func celLiteral(e ast.Expr) (constant, bool) {
	if e.Kind() != ast.LiteralKind {
		return constant{}, false
	}
	switch v := e.AsLiteral().(type) {
	case types.String:
		return textConstant(string(v)), true
	case types.Int:
		return constant{kind: codecs.Int, int: int64(v)}, true
	case types.Double:
		return constant{kind: codecs.Float, float: float64(v)}, true
	case types.Bool:
		return boolConstant(bool(v)), true
	}
	return constant{}, false
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
	if issues.Err() != nil {
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

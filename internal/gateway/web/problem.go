package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"

	"github.com/danielgtaylor/huma/v2"
)

// Problem is an error as a caller is told it (RFC 9457). Code is stable and of the closed list that /docs shows; programs go
// by it, and people by the texts. No text quotes what was sent.
type Problem struct {
	Type     string  `json:"type" format:"uri-reference" doc:"Where the code is explained."`
	Title    string  `json:"title" doc:"The status in words."`
	Status   int     `json:"status" doc:"The HTTP status."`
	Code     string  `json:"code" doc:"What went wrong: stable, for programs."`
	Detail   string  `json:"detail,omitempty" doc:"What went wrong, for people."`
	Instance string  `json:"instance,omitempty" format:"uri-reference" doc:"This request, as the gateway's log names it."`
	Errors   []Fault `json:"errors,omitempty" doc:"Each thing that is wrong."`
	Results  any     `json:"results,omitempty" doc:"Of a request of several parts: what became of each."`

	headers http.Header
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	Field   string `json:"field,omitempty" doc:"The wrong field: a path such as data.child.name, or a parameter's name."`
	Pointer string `json:"pointer,omitempty" doc:"The wrong field as a JSON Pointer into the body (RFC 6901)."`
	Code    string `json:"code" doc:"What is wrong: stable, for programs."`
	Detail  string `json:"detail,omitempty" doc:"What would be right."`
}

// Fail makes an error that a handler returns: the caller sees it as a Problem.
func Fail(status int, code, detail string, faults ...Fault) error {
	return &Problem{Status: status, Code: code, Detail: detail, Errors: faults}
}

// refuse is Fail with headers.
func refuse(status int, code, detail string, headers http.Header) error {
	return &Problem{Status: status, Code: code, Detail: detail, headers: headers}
}

// Unavailable says that something that the gateway needs is out of reach for now: status 503, ask again.
func Unavailable(detail string) error {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: detail, headers: http.Header{"Retry-After": {"1"}}}
}

// WithResults adds to an error of Fail or Unavailable what became of each part of a request.
func WithResults(err error, results any) error {
	var p *Problem
	if !errors.As(err, &p) {
		return err
	}
	full := *p
	full.Results = results
	return &full
}

// Faults turns faults of civicbus's own into a Problem's. pointer turns a fault's field into a JSON Pointer into the body;
// nil: fields are no places in the body.
func Faults(faults []codecs.Fault, pointer func(field string) string) []Fault {
	out := make([]Fault, len(faults))
	for i, f := range faults {
		out[i] = Fault{Field: f.Field, Code: f.Reason, Detail: f.Text}
		if pointer != nil && f.Field != "" {
			out[i].Pointer = pointer(f.Field)
		}
	}
	return out
}

// Pointer turns a path of civicbus's grammar, such as data.founders[].name, into a JSON Pointer. A path into every element
// of an array points at the array.
func Pointer(field string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(field, ".") {
		name, many := strings.CutSuffix(part, "[]")
		b.WriteByte('/')
		b.WriteString(escape(name))
		if many {
			break
		}
	}
	return b.String()
}

// escape is RFC 6901's.
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// Error is the code and what it means.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus is what huma asks an error for.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders is what huma asks an error for.
func (p *Problem) GetHeaders() http.Header { return p.headers }

// ContentType is what huma asks a body for.
func (p *Problem) ContentType(string) string { return problemType }

// complete fills what follows from the code, the status and the request.
func (p *Problem) complete(request string) *Problem {
	full := *p
	full.Type, full.Title, full.Instance = "/docs#"+p.Code, http.StatusText(p.Status), "urn:civicbus:request:"+request
	return &full
}

// problems turns what huma makes of errors into Problems: its own quote what was sent.
func (a *API) problems(ctx huma.Context, _ string, body any) (any, error) {
	switch e := body.(type) {
	case *Problem:
		a.metrics.problems.WithLabelValues(a.codes.label(e.Code)).Inc()
		return e.complete(requestOf(ctx.Context()).id), nil
	case *huma.ErrorModel:
		p := &Problem{Status: e.Status, Detail: "the request is not as documented"}
		for _, d := range e.Errors {
			if d != nil {
				p.Errors = append(p.Errors, fault(d))
			}
		}
		switch e.Status {
		case http.StatusBadRequest:
			p.Code, p.Detail = "malformed", "the body is no JSON"
			if len(e.Errors) == 0 {
				p.Detail = "a body is needed"
			}
			p.Errors = nil
		case http.StatusUnsupportedMediaType:
			p.Code, p.Detail, p.Errors = "unsupported_media_type", "the body must be application/json", nil
		case http.StatusRequestEntityTooLarge:
			p.Code, p.Detail = "too_large", "the body is too large"
		case http.StatusUnprocessableEntity:
			p.Code = "invalid"
		default:
			a.internal(ctx.Context(), e)
			p = &Problem{Status: e.Status, Code: "internal", Detail: "an error of the gateway's own; its log has it under this instance"}
		}
		a.metrics.problems.WithLabelValues(a.codes.label(p.Code)).Inc()
		return p.complete(requestOf(ctx.Context()).id), nil
	}
	return body, nil
}

// fault tells one of huma's findings without the value.
func fault(d *huma.ErrorDetail) Fault {
	f := Fault{Code: "invalid", Detail: d.Message}
	if strings.HasPrefix(d.Message, "expected required property") || strings.HasPrefix(d.Message, "required ") {
		f.Code = "missing"
	} else if d.Message == "unexpected property" || d.Message == "unknown query parameter" {
		f.Code = "unknown"
	}
	where, rest, _ := strings.Cut(d.Location, ".")
	if where, _, indexed := strings.Cut(where, "["); where == "body" && indexed {
		rest = strings.TrimPrefix(d.Location, "body")
	}
	f.Field = rest
	if strings.HasPrefix(d.Location, "body") {
		f.Pointer = located(rest)
	}
	if pseudonym.HoldsHetu(f.Field) || len(f.Field) > 200 { // a member's name is the caller's
		f.Field, f.Pointer = "", ""
	}
	if pseudonym.HoldsHetu(f.Detail) || strings.Contains(f.Detail, ": ") { // some of huma's texts end in what was sent
		f.Detail, _, _ = strings.Cut(f.Detail, ": ")
		if pseudonym.HoldsHetu(f.Detail) {
			f.Detail = "is not as documented"
		}
	}
	return f
}

// located turns huma's path below the body, such as filters[0].exact, into a JSON Pointer.
func located(path string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(path, ".") {
		name, index, _ := strings.Cut(part, "[")
		if name != "" {
			b.WriteString("/" + escape(name))
		}
		for index != "" {
			var number string
			number, index, _ = strings.Cut(index, "]")
			if _, err := strconv.Atoi(number); err == nil {
				b.WriteString("/" + number)
			}
			index = strings.TrimPrefix(index, "[")
		}
	}
	return b.String()
}

// Write answers a request of a Stream route with an error: its status, and a Problem. Nothing may have been written before.
func (a *API) Write(w http.ResponseWriter, r *http.Request, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		a.internal(r.Context(), err)
		p = &Problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "an error of the gateway's own; its log has it under this instance"}
	}
	a.metrics.problems.WithLabelValues(a.codes.label(p.Code)).Inc()
	for name, values := range p.headers {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = marshal(w, p.complete(requestOf(r.Context()).id)) // the caller has gone
}

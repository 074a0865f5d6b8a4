package web

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// securityScheme is the name of the one way in.
const securityScheme = "token"

// describe is the documentation before any route.
func describe(version string) *huma.OpenAPI {
	scopes := strings.Join(Scopes(), ", ")
	return &huma.OpenAPI{OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "civicbus", Version: version,
			Description: "Publish events, subscribe to them, receive them, and see who received what.\n\n" +
				"Errors are problems after RFC 9457 with a stable `code`. Answers to a client with a token carry `RateLimit` and `RateLimit-Policy`; " +
				"429 carries `Retry-After`. Bodies may be compressed with gzip."},
		Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{securityScheme: {Type: "http", Scheme: "bearer", BearerFormat: "JWT",
				Description: "An access token (RFC 9068) of an issuer that this gateway trusts, for its audience. Scopes: " + scopes + "."}}},
		Servers: []*huma.Server{{URL: "/"}}}
}

//go:embed docs.html
var docsText string

// documentation declares the routes under which the interface describes itself, without a token and without anything from
// elsewhere.
func (a *API) documentation() {
	for _, c := range ownCodes {
		a.Explain(c[0], c[1])
	}
	asJSON := sync.OnceValues(func() ([]byte, error) { return json.MarshalIndent(a.OpenAPI(), "", "  ") })
	asYAML := sync.OnceValues(func() ([]byte, error) { return a.OpenAPI().YAML() })
	page := sync.OnceValues(func() ([]byte, error) {
		t, err := template.New("docs").Funcs(template.FuncMap{"schema": schemaText, "lines": lines}).Parse(docsText)
		if err != nil {
			return nil, fmt.Errorf("read the documentation's template: %w", err)
		}
		var out bytes.Buffer
		err = t.Execute(&out, a.page())
		return out.Bytes(), err
	})
	for _, d := range []struct {
		id, path, media, summary string
		make                     func() ([]byte, error)
	}{
		{"openapi-json", "/openapi.json", "application/json", "This interface as OpenAPI 3.1", asJSON},
		{"openapi-yaml", "/openapi.yaml", "application/yaml", "This interface as OpenAPI 3.1", asYAML},
		{"docs", "/docs", "text/html", "This interface for people", page},
	} {
		Serve(a, Route{ID: d.id, Method: http.MethodGet, Path: d.path, Tag: "documentation", Summary: d.summary, For: Anyone, Document: Answers(d.media, nil)},
			func(w http.ResponseWriter, _ *http.Request) error {
				text, err := d.make()
				if err != nil {
					return err
				}
				w.Header().Set("Content-Type", d.media+"; charset=utf-8")
				w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
				_, err = w.Write(text)
				return err
			})
	}
}

// Answers is a Route.Document: a success is of a media type, after a schema; nil: any.
func Answers(media string, schema *huma.Schema) func(*huma.Operation) {
	if schema == nil {
		schema = &huma.Schema{}
	}
	return func(op *huma.Operation) {
		op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{media: {Schema: schema}}}
	}
}

// SchemaOf is the schema of a type, for Route.Document.
func SchemaOf[T any](a *API) *huma.Schema {
	t := reflect.TypeFor[T]()
	return a.huma.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

// OpenAPI is the documentation of the routes declared so far.
func (a *API) OpenAPI() *huma.OpenAPI {
	doc := a.huma.OpenAPI()
	delete(doc.Components.Schemas.Map(), "ErrorModel") // huma's own error, which nobody is told
	delete(doc.Components.Schemas.Map(), "ErrorDetail")
	return doc
}

// page is what the page for people shows.
func (a *API) page() any {
	type operation struct {
		Method, Path string
		*huma.Operation
	}
	type heading struct {
		Name       string
		Operations []operation
	}
	doc := a.OpenAPI()
	var headings []*heading
	byName := map[string]*heading{}
	for path, item := range doc.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete, "OPTIONS": item.Options} {
			if op == nil {
				continue
			}
			h := byName[op.Tags[0]]
			if h == nil {
				h = &heading{Name: op.Tags[0]}
				byName[h.Name] = h
				headings = append(headings, h)
			}
			h.Operations = append(h.Operations, operation{method, path, op})
		}
	}
	for _, h := range headings {
		slices.SortFunc(h.Operations, func(x, y operation) int { return strings.Compare(x.Path+" "+x.Method, y.Path+" "+y.Method) })
	}
	slices.SortFunc(headings, func(x, y *heading) int { return strings.Compare(x.Name, y.Name) })
	a.codes.mu.RLock()
	defer a.codes.mu.RUnlock()
	known := map[string]string{}
	for code, meaning := range a.codes.known {
		known[code] = meaning
	}
	return map[string]any{"Info": doc.Info, "Headings": headings, "Schemas": doc.Components.Schemas.Map(), "Codes": known}
}

// schemaText is a schema as indented JSON.
func schemaText(s *huma.Schema) string {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return ""
	}
	return string(text)
}

// lines splits text into paragraphs.
func lines(text string) []string { return strings.Split(text, "\n\n") }

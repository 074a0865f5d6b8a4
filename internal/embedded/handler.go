package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/sr"
)

// maxBodyBytes bounds a request: a schema of a mebibyte is larger than any message it could describe here.
const maxBodyBytes = 1 << 20

// refusal is an answer that the registry gives instead of what was asked for, with Confluent's codes.
type refusal struct {
	status, code int
	message      string
}

func (e *refusal) Error() string { return e.message }

func refuse(code int, format string, args ...any) *refusal {
	status := code
	if code > 999 {
		status = code / 100 // 42201 is an HTTP 422
	}
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// routes puts what srfake does not do, or does not check, before it. What only reads goes to srfake as it is.
func (r *Registry) routes() http.Handler {
	mux := http.NewServeMux()
	serve := func(pattern string, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
			req.Body = http.MaxBytesReader(w, req.Body, maxBodyBytes)
			body, err := f(req)
			respond(w, body, err)
		})
	}
	serve("POST /subjects/{subject}/versions", r.register)
	serve("POST /compatibility/subjects/{subject}/versions", r.check)
	serve("POST /compatibility/subjects/{subject}/versions/{version}", r.check)
	serve("GET /config", r.readLevel)
	serve("PUT /config", r.writeLevel)
	serve("GET /config/{subject}", r.readLevel)
	serve("PUT /config/{subject}", r.writeLevel)
	serve("DELETE /config/{subject}", r.deleteLevel)
	serve("DELETE /subjects/{subject}", r.delete)
	serve("DELETE /subjects/{subject}/versions/{version}", r.delete)
	serve("GET /schemas/ids/{id}", r.byID)
	serve("GET /schemas/ids/{id}/schema", r.byID)
	for _, pattern := range []string{"PUT /mode", "DELETE /mode", "PUT /mode/{subject}", "DELETE /mode/{subject}", "/contexts/"} {
		serve(pattern, func(*http.Request) (any, error) {
			return nil, refuse(sr.ErrOperationNotPermitted.Code, "modes and contexts are not known here")
		})
	}
	mux.Handle("/", r.store.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if status := int(r.failing.Load()); status != 0 {
			respond(w, nil, &refusal{status, sr.ErrStoreError.Code, "the registry was told to fail"})
			return
		}
		// One request at a time, readers too: an id must not be seen before its journal line is on disk.
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.broken != nil {
			respond(w, nil, r.broken)
			return
		}
		mux.ServeHTTP(w, req)
	})
}

func (r *Registry) register(req *http.Request) (any, error) {
	subject := req.PathValue("subject")
	schema, err := readSchema(req.Body)
	if err != nil {
		return nil, err
	}
	kept := r.kept(subject)
	for _, s := range kept { // by far the most: every process registers civicbus's own schemas when it starts
		if s.Schema.Schema == schema.Schema && s.Type == schema.Type && slices.Equal(s.References, schema.References) {
			return map[string]int{"id": s.ID}, nil
		}
	}
	parsed, err := r.parse(schema)
	if err != nil {
		return nil, refuse(sr.ErrInvalidSchema.Code, "invalid schema: %v", err)
	}
	if id, ok := r.known(subject, schema); ok {
		return map[string]int{"id": id}, nil
	}
	level := r.level(subject)
	found, err := r.differences(level, parsed, kept)
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		return nil, refuse(sr.ErrIncompatibleSchema.Code, "schema being registered is incompatible with an earlier schema for subject %q (level %s): %s",
			subject, level, strings.Join(found, "; "))
	}
	id, version, err := r.put(subject, schema)
	if err != nil {
		return nil, refuse(sr.ErrInvalidSchema.Code, "%v", err)
	}
	return map[string]int{"id": id}, r.accept(change{Op: opRegister, Subject: subject, Version: version, ID: id, Schema: schema.Schema, References: schema.References})
}

// known returns the id of a schema that stands under the registry subject already.
func (r *Registry) known(subject string, schema sr.Schema) (id int, ok bool) {
	body, err := json.Marshal(schema)
	if err != nil {
		return 0, false
	}
	a := r.ask(http.MethodPost, "/subjects/"+url.PathEscape(subject), body)
	var found struct {
		ID int `json:"id"`
	}
	if a.status != http.StatusOK || json.Unmarshal(a.body.Bytes(), &found) != nil {
		return 0, false
	}
	return found.ID, true
}

// check answers whether a schema could be registered, against one version ("latest" too) or against those that the
// level asks for. No version yet means compatible, as Confluent's registry answers.
func (r *Registry) check(req *http.Request) (any, error) {
	subject, version := req.PathValue("subject"), req.PathValue("version")
	schema, err := readSchema(req.Body)
	if err != nil {
		return nil, err
	}
	parsed, err := r.parse(schema)
	if err != nil {
		return nil, refuse(sr.ErrInvalidSchema.Code, "invalid schema: %v", err)
	}
	kept := r.kept(subject)
	switch version {
	case "":
	case "latest", "-1":
		kept = kept[max(0, len(kept)-1):]
	default:
		n, err := strconv.Atoi(version)
		if err != nil || n < 1 {
			return nil, refuse(sr.ErrInvalidVersion.Code, "%q is no version: it is a number from 1 on, or latest", version)
		}
		one, ok := r.store.GetSchema(subject, n)
		if !ok {
			return nil, refuse(sr.ErrVersionNotFound.Code, "version %d of %s is not known", n, subject)
		}
		kept = []sr.SubjectSchema{one}
	}
	found, err := r.differences(r.level(subject), parsed, kept)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"is_compatible": len(found) == 0}
	if req.URL.Query().Get("verbose") == "true" {
		answer["messages"] = append([]string{}, found...)
	}
	return answer, nil
}

// byID finds a schema by its id, whatever registry subject the client names with it: Confluent's registry prefers that one and
// then takes any, where srfake would know no such schema. Its deserialisers name {topic}-value unless told otherwise.
func (r *Registry) byID(req *http.Request) (any, error) {
	u := *req.URL
	q := u.Query()
	if !strings.HasPrefix(q.Get("subject"), ":.") { // not in a context
		q.Del("subject")
	}
	u.RawQuery = q.Encode()
	return r.ask(http.MethodGet, u.String(), nil), nil
}

func (r *Registry) readLevel(req *http.Request) (any, error) {
	subject := req.PathValue("subject")
	level, ok := r.levels[subject]
	if !ok && req.URL.Query().Get("defaultToGlobal") != "true" {
		return nil, refuse(sr.ErrSubjectLevelCompatibilityNotConfigured.Code, "%s has no compatibility level of its own", subject)
	}
	if !ok {
		level = r.levels[""]
	}
	return map[string]string{"compatibilityLevel": level.String()}, nil
}

func (r *Registry) writeLevel(req *http.Request) (any, error) {
	var body struct {
		Compatibility string `json:"compatibility"`
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		return nil, refuse(sr.ErrInvalidCompatibilityLevel.Code, "read compatibility level: %v", err)
	}
	subject := req.PathValue("subject")
	if body.Compatibility == "" {
		return nil, refuse(sr.ErrInvalidCompatibilityLevel.Code, "no compatibility level given")
	}
	if err := r.setLevel(subject, body.Compatibility); err != nil {
		return nil, refuse(sr.ErrInvalidCompatibilityLevel.Code, "%v", err)
	}
	level := r.level(subject).String()
	return map[string]string{"compatibility": level}, r.accept(change{Op: opLevel, Subject: subject, Level: level})
}

func (r *Registry) deleteLevel(req *http.Request) (any, error) {
	subject := req.PathValue("subject")
	level, ok := r.levels[subject]
	if !ok {
		return nil, refuse(sr.ErrSubjectLevelCompatibilityNotConfigured.Code, "%s has no compatibility level of its own", subject)
	}
	delete(r.levels, subject)
	return map[string]string{"compatibilityLevel": level.String()}, r.accept(change{Op: opLevel, Subject: subject})
}

func (r *Registry) delete(req *http.Request) (any, error) {
	c := change{Op: opDelete, Subject: req.PathValue("subject"), Permanent: req.URL.Query().Get("permanent") == "true"}
	if v := req.PathValue("version"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return nil, refuse(sr.ErrInvalidVersion.Code, "%q is no version: it is a number from 1 on", v)
		}
		c.Version = n
	}
	a := r.remove(c)
	if a.status >= http.StatusMultipleChoices {
		return a, nil
	}
	return a, r.accept(c)
}

// remove has srfake delete what the change names and returns its answer.
func (r *Registry) remove(c change) *answer {
	path := "/subjects/" + url.PathEscape(c.Subject)
	if c.Version > 0 {
		path += "/versions/" + strconv.Itoa(c.Version)
	}
	if c.Permanent {
		path += "?permanent=true"
	}
	a := r.ask(http.MethodDelete, path, nil)
	if a.status < http.StatusMultipleChoices && c.Permanent && c.Version == 0 {
		delete(r.highest, c.Subject) // srfake counts from 1 again
	}
	return a
}

// ask hands a request of our own to srfake.
func (r *Registry) ask(method, path string, body []byte) *answer {
	a := &answer{header: http.Header{}, status: http.StatusOK}
	u, err := url.Parse(path)
	if err != nil {
		a.status = http.StatusBadRequest
		return a
	}
	r.store.Handler().ServeHTTP(a, &http.Request{Method: method, URL: u, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))})
	return a
}

// answer holds back what srfake answers until it is known whether it may be given.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// readSchema reads the body of a registration, an AVRO schema unless it says otherwise.
func readSchema(body io.Reader) (sr.Schema, error) {
	var s sr.Schema
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return s, refuse(sr.ErrInvalidSchema.Code, "read schema: %v", err)
	}
	return s, nil
}

func respond(w http.ResponseWriter, body any, err error) {
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	status := http.StatusOK
	if err != nil {
		var no *refusal
		if !errors.As(err, &no) {
			no = &refusal{http.StatusInternalServerError, sr.ErrStoreError.Code, err.Error()}
		}
		status, body = no.status, map[string]any{"error_code": no.code, "message": no.message}
	}
	if a, ok := body.(*answer); ok {
		w.WriteHeader(a.status)
		_, _ = a.body.WriteTo(w) // a client that went away needs no answer
		return
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

package codecs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"civicbus/internal/mutant"

	"github.com/riferrei/srclient"
)

// FuzzParseSchema: what is accepted can be looked up at each of its first paths, and projects to one schema however often.
func FuzzParseSchema(f *testing.F) {
	var seeds [][]byte
	for _, s := range foreignSchemas(f) {
		seeds = append(seeds, []byte(s.JSON()))
	}
	mutant.Fuzz(f, 1<<12, func(tb testing.TB, in []byte) bool {
		s, err := ParseSchema(string(in))
		if err != nil {
			return false
		}
		paths := s.Leaves()
		if len(paths) > 20 {
			paths = paths[:20]
		}
		for _, path := range paths {
			if _, err := s.Lookup(path); err != nil {
				tb.Fatalf("%s: %v", path, err)
			}
		}
		p, err := s.Projection(paths)
		if err != nil && !errors.Is(err, ErrNoRecord) {
			tb.Fatalf("%v", err)
		}
		if err == nil {
			if again, err := s.Projection(paths); err != nil || again.JSON() != p.JSON() {
				tb.Fatal("another projection of the same paths")
			}
		}
		return true
	}, seeds...)
}

// answer is a registry that answers every request alike.
type answer struct {
	status int
	body   []byte
}

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Status: http.StatusText(a.status), Body: io.NopCloser(bytes.NewReader(a.body)), Request: r,
		Header: http.Header{"Content-Type": {"application/vnd.schemaregistry.v1+json"}}, ContentLength: int64(len(a.body))}, nil
}

// FuzzRegistry: whatever a registry answers is a schema within the limits, or an error; an error answer is never a schema. An
// input begins with what was asked (its two lowest bits) and whether the answer is an error's (8).
func FuzzRegistry(f *testing.F) {
	mutant.Fuzz(f, 1<<12, func(tb testing.TB, in []byte) bool {
		if len(in) == 0 {
			return false
		}
		bad := in[0]&8 != 0
		a := answer{http.StatusOK, in[1:]}
		if bad {
			a.status = []int{http.StatusNotFound, http.StatusConflict}[in[0]&1]
		}
		client := srclient.NewSchemaRegistryClient("http://registry", srclient.WithClient(&http.Client{Transport: boundedTransport{a}}))
		client.CachingEnabled(false)
		r := newRegistry(&remoteStore{client: client})
		var s *Schema
		var err error
		switch in[0] & 3 {
		case 0:
			s, err = r.Load(context.Background(), 7)
		case 1:
			s, err = r.Latest(context.Background(), "a")
		case 2:
			var list []*Schema
			if list, err = r.Versions(context.Background(), "a"); len(list) > 0 {
				s = list[0]
			}
		case 3:
			s, err = r.Register(context.Background(), "a", `"string"`)
		}
		if bad && err == nil {
			tb.Fatalf("an error answer gave %v", s)
		}
		if err != nil || s == nil {
			return err == nil
		}
		if len(s.JSON()) > MaxSchemaBytes {
			tb.Fatal("a schema beyond the limit")
		}
		if cached, ok := r.Cached(s.ID()); !ok || cached.JSON() != s.JSON() {
			tb.Fatalf("schema %d is not the one kept", s.ID())
		}
		return true
	},
		[]byte(`0null`), []byte(`1 null`), []byte(`2null`), []byte(`3null`),
		[]byte(`0{"schema":"{\"type\":\"record\",\"name\":\"Pet\",\"fields\":[{\"name\":\"name\",\"type\":\"string\"}]}"}`),
		[]byte(`0{"schema":"\"string\"","schemaType":"AVRO"}`),
		[]byte(`0{"schema":"syntax","schemaType":"PROTOBUF"}`),
		[]byte(`1{"subject":"a","version":1,"id":7,"schema":"\"string\"","references":[]}`),
		[]byte(`1{"subject":"a","version":1,"id":7,"schema":"\"zoo.Pet\"","references":[{"name":"zoo.Pet","subject":"a","version":1}]}`),
		[]byte("2[1,2,3]"),
		[]byte(`3{"id":5}`),
		[]byte(`8{"error_code":40403,"message":"Schema not found"}`),
		[]byte(`9{"error_code":40901,"message":"incompatible","x":null}`),
	)
}

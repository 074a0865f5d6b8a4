package codecs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"civicbus/internal/mutant"

	"github.com/linkedin/goavro/v2"
	"github.com/riferrei/srclient"
	"pgregory.net/rapid"
)

// TestMutants feeds each decoder of foreign bytes with as many changed inputs as CIVICBUS_FUZZ_INPUTS says.
func TestMutants(t *testing.T) {
	t.Run("walk", func(t *testing.T) { mutateBodies(t, "FuzzWalk", walkTarget) })
	t.Run("splice", func(t *testing.T) { mutateBodies(t, "FuzzAppend", appendTarget) })
	t.Run("json", func(t *testing.T) {
		target := jsonTarget(foreignSchemas(t))
		mutant.Run(t, jsonSeeds(t), 1<<14, func(tb testing.TB, in []byte) bool { return len(in) > 0 && target(tb, in[0], in[1:]) })
	})
	t.Run("schema", func(t *testing.T) {
		var seeds [][]byte
		for _, s := range foreignSchemas(t) {
			seeds = append(seeds, []byte(s.JSON()))
		}
		mutant.Run(t, append(seeds, mutant.Corpus(t, "FuzzParseSchema")...), 1<<15, func(tb testing.TB, in []byte) bool { return schemaTarget(tb, string(in), 20) })
	})
	t.Run("headers", func(t *testing.T) { mutant.Run(t, headerSeeds, 1<<10, headersTarget) })
	t.Run("records", func(t *testing.T) {
		seeds, target := recordsTarget(t)
		mutant.Run(t, seeds, 1<<12, target)
	})
	t.Run("registry", func(t *testing.T) { mutant.Run(t, answerSeeds, 1<<15, answerTarget) })
}

func foreignSchemas(tb testing.TB) []*Schema {
	known := foreign(tb)
	var out []*Schema
	for _, name := range sorted(keysOf(known)) {
		out = append(out, known[name])
	}
	return out
}

func mutateBodies(t *testing.T, fuzz string, target func(testing.TB, []*Schema) func(testing.TB, byte, []byte) bool) {
	schemas := foreignSchemas(t)
	try := target(t, schemas)
	seeds := mutant.Corpus(t, fuzz)
	for i, s := range schemas {
		for seed := range 8 {
			body := rapid.Custom(func(t *rapid.T) []byte { return randomBody(t, s, seed%2 == 0, 3) }).Example(seed)
			seeds = append(seeds, append([]byte{byte(i)}, body...))
		}
	}
	mutant.Run(t, seeds, 1<<12, func(tb testing.TB, in []byte) bool { return len(in) > 0 && try(tb, in[0], in[1:]) })
}

// walkTarget: what Validate accepts, all others read, and goavro too; what ToJSON refuses, Validate refuses.
func walkTarget(tb testing.TB, schemas []*Schema) func(testing.TB, byte, []byte) bool {
	type prepared struct {
		schema  *Schema
		program *Program
		values  []Value
		leaves  []string
		oracle  *goavro.Codec
	}
	var all []prepared
	for _, s := range schemas {
		var paths []string
		for _, path := range s.Leaves() {
			if _, err := s.Compile(path); err == nil {
				paths = append(paths, path)
			}
		}
		p, err := s.Compile(paths...)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, prepared{s, p, make([]Value, p.paths), s.Leaves(), bare(tb, s.JSON())})
	}
	var text []byte
	return func(tb testing.TB, which byte, body []byte) bool {
		of := all[int(which)%len(all)]
		walked := of.program.Walk(body, of.values)
		valid := of.schema.Validate(body)
		var err error
		text, err = of.schema.ToJSON(text[:0], body)
		if (err == nil) != (valid == nil) || err == nil && !json.Valid(text) {
			tb.Fatalf("Validate says %v, ToJSON %v: %s", valid, err, text)
		}
		if valid != nil {
			// A body that is not valid is read at one path only: which one goes by its bytes.
			_, _ = of.schema.Texts(body, of.leaves[len(body)%len(of.leaves)])
			return false
		}
		if walked != nil {
			tb.Fatalf("Walk of a valid body: %v", walked)
		}
		for _, path := range of.leaves {
			if _, err := of.schema.Texts(body, path); err != nil && !errors.Is(err, ErrNoPath) {
				tb.Fatalf("Texts at %s of a valid body: %v", path, err)
			}
		}
		if of.oracle != nil {
			_, rest, err := of.oracle.NativeFromBinary(body)
			if err != nil && strings.Contains(err.Error(), "duplicate key") {
				return true // of a map: goavro alone refuses it, Avro does not
			}
			if err != nil || len(rest) > 0 {
				tb.Fatalf("goavro of a valid body: %v, %d left", err, len(rest))
			}
		}
		return true
	}
}

// appendTarget: what comes of a valid body is valid and within its bound.
func appendTarget(tb testing.TB, schemas []*Schema) func(testing.TB, byte, []byte) bool {
	var all []*Projection
	for _, s := range schemas {
		p, err := s.Projection(s.Leaves())
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, p)
	}
	var out []byte
	return func(tb testing.TB, which byte, body []byte) bool {
		p, s := all[int(which)%len(all)], schemas[int(which)%len(all)]
		n := len(p.Paths())
		sel := Selection{Permit: make([]bool, n), Own: make([]bool, n), Index: int(which) % 3}
		for i := range n {
			sel.Permit[i], sel.Own[i] = (int(which)+len(body)+i)%3 != 0, (int(which)+i)%5 == 0
		}
		var err error
		out, err = p.Append(append(out[:0], 'x'), body, &sel)
		if s.Validate(body) != nil {
			return false
		}
		if err != nil {
			tb.Fatalf("projecting a valid body: %v", err)
		}
		if out[0] != 'x' || len(out) > 64*len(body)+1<<16 {
			tb.Fatalf("%d bytes became %d", len(body), len(out))
		}
		if err := p.Schema().Validate(out[1:]); err != nil {
			tb.Fatalf("the projected body: %v", err)
		}
		return true
	}
}

func jsonSeeds(tb testing.TB) [][]byte {
	seeds := mutant.Corpus(tb, "FuzzJSON")
	for i, s := range foreignSchemas(tb) {
		for seed := range 4 {
			body := rapid.Custom(func(t *rapid.T) []byte { return randomBody(t, s, true, 3) }).Example(seed)
			text, err := s.ToJSON([]byte{byte(i)}, body)
			if err != nil {
				tb.Fatal(err)
			}
			seeds = append(seeds, text)
		}
	}
	return seeds
}

// jsonTarget: what FromJSON accepts is a valid body that ToJSON reads.
func jsonTarget(schemas []*Schema) func(testing.TB, byte, []byte) bool {
	return func(tb testing.TB, which byte, data []byte) bool {
		s := schemas[int(which)%len(schemas)]
		body, faults := s.FromJSON(data)
		if body != nil && len(faults) > 0 || len(faults) > MaxFaults {
			tb.Fatalf("%x and %d faults", body, len(faults))
		}
		if len(faults) > 0 {
			return false
		}
		if err := s.Validate(body); err != nil {
			tb.Fatal(err)
		}
		if _, err := s.ToJSON(nil, body); err != nil {
			tb.Fatal(err)
		}
		return true
	}
}

// schemaTarget: what is accepted can be looked up at each of its first paths, and projects to one schema however often.
func schemaTarget(tb testing.TB, text string, most int) bool {
	s, err := ParseSchema(text)
	if err != nil {
		return false
	}
	paths := s.Leaves()
	if len(paths) > most {
		paths = paths[:most]
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
}

// headerNames are those that ParseEnvelope reads; a line of an input is the value of one.
var headerNames = []string{HeaderSpecVersion, HeaderID, HeaderSource, HeaderType, HeaderSubject, HeaderSubjectRole, HeaderTime, HeaderAuthorized,
	HeaderSubjectIndex, HeaderProfileVersion, HeaderRedriven, HeaderProfile, HeaderRecipient, HeaderDataSchema, HeaderOnly, HeaderOrganisation}

var headerSeeds = [][]byte{
	[]byte("1.0\x1eid-1\x1ehttps://dvv.fi\x1efi.dvv.person.birth\x1ek1.AAAAAAAAAAAAAAAAAAAAAA\x1echild\x1e2026-01-02T03:04:05Z\x1ekela.fi,vero.fi\x1e0\x1e7\x1e1\x1e\x00\x00\x00\x00\x01\x02"),
	[]byte("1.0\x1ea\x1eb\x1ec\x1ed\x1ee"),
}

// headersTarget: what is accepted has what every event has, and its list and numbers say what the headers say.
func headersTarget(tb testing.TB, in []byte) bool {
	var values [16][]byte
	for i := range values {
		var found bool
		values[i], in, found = bytes.Cut(in, []byte{0x1e})
		if !found {
			break
		}
	}
	look := func(name string) []byte {
		for i, n := range headerNames {
			if n == name {
				return values[i]
			}
		}
		return nil
	}
	e, err := ParseEnvelope(look)
	var m Malformed
	if err != nil {
		if !errors.As(err, &m) {
			tb.Fatal(err)
		}
		return false
	}
	if e.ID == "" || e.Source == "" || e.Type == "" || e.Subject == "" || e.Role == "" || e.Index < -1 || e.ProfileVersion < 0 {
		tb.Fatalf("accepted %+v", e)
	}
	if list := look(HeaderAuthorized); e.HasList != (list != nil) || strings.Join(e.Authorized, ",") != string(list) {
		tb.Fatalf("list %q became %q", list, e.Authorized)
	}
	return true
}

// recordsTarget: of every record type of civicbus, what decodes encodes to bytes that decode to the same, and those encode
// to themselves.
func recordsTarget(tb testing.TB) (seeds [][]byte, target mutant.Target) {
	records := NewRecords()
	if err := records.BindLocal(); err != nil {
		tb.Fatal(err)
	}
	var tries []func(testing.TB, []byte) bool
	n := 0
	add(tb, records.CatalogCommand, &tries, &seeds, &n)
	add(tb, records.TrustCommand, &tries, &seeds, &n)
	add(tb, records.SubscriptionCommand, &tries, &seeds, &n)
	add(tb, records.ConsentCommand, &tries, &seeds, &n)
	add(tb, records.CommandResult, &tries, &seeds, &n)
	add(tb, records.Attributes, &tries, &seeds, &n)
	add(tb, records.Consents, &tries, &seeds, &n)
	add(tb, records.Decision, &tries, &seeds, &n)
	add(tb, records.DeadLetter, &tries, &seeds, &n)
	return seeds, func(tb testing.TB, in []byte) bool {
		return len(in) > 0 && tries[int(in[0])%len(tries)](tb, in[1:])
	}
}

func add[T any](tb testing.TB, r *Record[T], tries *[]func(testing.TB, []byte) bool, seeds *[][]byte, n *int) {
	tb.Helper()
	var v T
	fill(reflect.ValueOf(&v).Elem(), n)
	full, err := r.Encode(&v)
	if err != nil {
		tb.Fatal(err)
	}
	var zero T
	empty, err := r.Encode(&zero)
	if err != nil {
		tb.Fatal(err)
	}
	i := byte(len(*tries))
	*seeds = append(*seeds, append([]byte{i}, full...), append([]byte{i}, empty...))
	*tries = append(*tries, func(tb testing.TB, value []byte) bool {
		v, err := r.Decode(value)
		if err != nil {
			var m Malformed
			if !errors.As(err, &m) && !errors.Is(err, ErrNotLoaded) {
				tb.Fatal(err)
			}
			return false
		}
		again, err := r.Encode(&v)
		if err != nil {
			tb.Fatalf("%s was decoded and cannot be encoded: %v", r.Name(), err)
		}
		back, err := r.Decode(again)
		if err != nil || !reflect.DeepEqual(v, back) {
			tb.Fatalf("%s came back as another: %v", r.Name(), err)
		}
		return true
	})
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

var answerSeeds = [][]byte{
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
}

// answerTarget: whatever a registry answers is a schema within the limits, or an error; an error answer is never a schema.
func answerTarget(tb testing.TB, in []byte) bool {
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
}

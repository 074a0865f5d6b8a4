package codecs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
)

// registryServer is a registry with a count of its requests, and a switch that makes it fail.
type registryServer struct {
	*httptest.Server
	requests atomic.Int64
	down     atomic.Bool
	hold     chan struct{} // requests wait for it when not nil
}

func newRegistryServer(t *testing.T) (*registryServer, *Registry) {
	t.Helper()
	fake := srfake.NewRegistry()
	s := &registryServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.requests.Add(1)
		if s.hold != nil {
			<-s.hold
		}
		if s.down.Load() {
			http.Error(w, "upstream is gone", http.StatusBadGateway)
			return
		}
		fake.Handler().ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	r, err := NewRegistry(RegistryConfig{URL: s.URL + "/", Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

const (
	pet   = `{"type":"record","name":"Pet","namespace":"zoo","fields":[{"name":"name","type":"string","default":""}]}`
	petV2 = `{"type":"record","name":"Pet","namespace":"zoo","fields":[{"name":"name","type":"string","default":""},{"name":"age","type":"int","default":0}]}`
)

func TestRegistryKnowsWhatItLoaded(t *testing.T) {
	server, r := newRegistryServer(t)
	ctx := context.Background()
	first, err := r.Register(ctx, "pets-value", pet)
	if err != nil || first.ID() == 0 || first.FullName() != "zoo.Pet" {
		t.Fatalf("%v %v", first, err)
	}
	before := server.requests.Load()
	if again, err := r.Register(ctx, "pets-value", pet); err != nil || again != first {
		t.Errorf("%v %v", again, err)
	}
	if loaded, err := r.Load(ctx, first.ID()); err != nil || loaded != first {
		t.Errorf("%v %v", loaded, err)
	}
	if server.requests.Load() != before {
		t.Error("what is known was asked for")
	}
	if latest, err := r.Latest(ctx, "pets-value"); err != nil || latest.ID() != first.ID() {
		t.Errorf("%v %v", latest, err)
	}
	second, err := r.Register(ctx, "pets-value", petV2)
	if err != nil {
		t.Fatal(err)
	}
	if latest, err := r.Latest(ctx, "pets-value"); err != nil || latest.ID() != second.ID() {
		t.Errorf("the latest is %v %v", latest, err)
	}
	if all, err := r.Versions(ctx, "pets-value"); err != nil || len(all) != 2 || all[0].ID() != first.ID() || all[1].ID() != second.ID() {
		t.Errorf("%v %v", all, err)
	}
	if err := r.SetCompatibility(ctx, "pets-value", FullTransitive); err != nil {
		t.Error(err)
	}

	_, other := newRegistryServer(t)
	if _, ok := other.Cached(first.ID()); ok {
		t.Error("a schema was cached that was never asked for")
	}
}

func TestRegistryTellsUnknownFromUnreachable(t *testing.T) {
	server, r := newRegistryServer(t)
	ctx := context.Background()
	if _, err := r.Load(ctx, 4711); !errors.Is(err, ErrUnknownSchema) {
		t.Errorf("unknown id: %v", err)
	}
	if _, err := r.Latest(ctx, "nobody-value"); !errors.Is(err, ErrUnknownSubject) {
		t.Errorf("unknown registry subject: %v", err)
	}
	if _, err := r.Versions(ctx, "nobody-value"); !errors.Is(err, ErrUnknownSubject) {
		t.Errorf("unknown registry subject: %v", err)
	}
	if _, err := r.Register(ctx, "bad-value", `{"type":"no-type"}`); !errors.Is(err, ErrInvalidSchema) {
		t.Errorf("invalid schema: %v", err)
	}
	server.down.Store(true)
	for name, err := range map[string]error{
		"load":     second(r.Load(ctx, 4711)),
		"latest":   second(r.Latest(ctx, "nobody-value")),
		"register": second(r.Register(ctx, "pets-value", pet)),
	} {
		if err == nil || errors.Is(err, ErrUnknownSchema) || errors.Is(err, ErrUnknownSubject) || errors.Is(err, ErrIncompatible) {
			t.Errorf("%s while the registry is gone: %v", name, err)
		}
	}
	server.down.Store(false)
	s, err := r.Register(ctx, "pets-value", pet)
	if err != nil {
		t.Fatalf("back again: %v", err)
	}
	if _, err := r.Load(ctx, s.ID()); err != nil {
		t.Error(err)
	}
}

func second(_ *Schema, err error) error { return err }

func TestRegistrySaysWhyItRefuses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"error_code":409,"message":"reader field age has no default"}`)
	}))
	defer server.Close()
	r, err := NewRegistry(RegistryConfig{URL: server.URL, User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Register(context.Background(), "pets-value", pet); !errors.Is(err, ErrIncompatible) || !strings.Contains(err.Error(), "age has no default") {
		t.Error(err)
	}
	for _, url := range []string{"", "registry:8081", "ftp://registry", "http://"} {
		if _, err := NewRegistry(RegistryConfig{URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}

func TestOneRequestForOneID(t *testing.T) {
	server, r := newRegistryServer(t)
	s, err := r.Register(context.Background(), "pets-value", pet)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := NewRegistry(RegistryConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	server.hold = make(chan struct{})
	before := server.requests.Load()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := fresh.Load(gone, s.ID()); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up: %v", err)
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if got, err := fresh.Load(context.Background(), s.ID()); err != nil || got.ID() != s.ID() {
				t.Error(err)
			}
		})
	}
	close(server.hold)
	group.Wait()
	if n := server.requests.Load() - before; n != 1 {
		t.Errorf("%d requests for one id", n)
	}
}

func TestReferencesAreWrittenOut(t *testing.T) {
	server, r := newRegistryServer(t)
	client, err := sr.NewClient(sr.URLs(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	create := func(subject, text string, refs ...sr.SchemaReference) int {
		s, err := client.CreateSchema(ctx, subject, sr.Schema{Schema: text, References: refs})
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	create("color", `{"type":"enum","name":"Color","namespace":"a","symbols":["red","blue"]}`)
	create("wheel", `{"type":"record","name":"Wheel","namespace":"b","fields":[{"name":"color","type":"a.Color"},{"name":"size","type":"int"}]}`,
		sr.SchemaReference{Name: "a.Color", Subject: "color", Version: 1})
	id := create("car", `{"type":"record","name":"Car","namespace":"b","fields":[{"name":"wheels","type":{"type":"array","items":"Wheel"}},{"name":"spare","type":["null","Wheel"]},{"name":"paint","type":"a.Color"}]}`,
		sr.SchemaReference{Name: "b.Wheel", Subject: "wheel", Version: 1}, sr.SchemaReference{Name: "a.Color", Subject: "color", Version: 1})
	s, err := r.Load(ctx, int32(id))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"data.wheels[].color", "data.spare.size", "data.paint"} {
		if _, err := s.Lookup(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Goavro(); err != nil {
		t.Error(err)
	}
	if strings.Count(s.JSON(), `"symbols"`) != 1 || !json.Valid([]byte(s.JSON())) {
		t.Errorf("%s", s.JSON())
	}
}

func TestRecordsReadOlderAndNewerVersions(t *testing.T) {
	server, r := newRegistryServer(t)
	ctx := context.Background()
	records := NewRecords()
	if _, err := records.Consents.Encode(&Consents{}); !errors.Is(err, ErrNotBound) {
		t.Errorf("before Bind: %v", err)
	}
	if err := records.Bind(ctx, r); err != nil {
		t.Fatal(err)
	}

	// A release to come adds a field to the stamp; one long gone had fewer.
	newer := strings.Replace(records.Attributes.newest.String(), `"fields": [`, `"fields": [{"name":"shoe_size","type":"int","default":0},`, 1)
	older := `{"type":"record","name":"Attributes","namespace":"fi.civicbus","fields":[{"name":"municipality","type":"string","default":""}]}`
	for name, text := range map[string]string{"newer": newer, "older": older} {
		client, err := sr.NewClient(sr.URLs(server.URL))
		if err != nil {
			t.Fatal(err)
		}
		created, err := client.CreateSchema(ctx, records.Attributes.RegistrySubject(), sr.Schema{Schema: text})
		if err != nil {
			t.Fatal(err)
		}
		writer, err := ParseSchema(text)
		if err != nil {
			t.Fatal(err)
		}
		body, faults := writer.FromJSON([]byte(`{"municipality":"Utsjoki"}`))
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		value := append(AppendWire(nil, int32(created.ID)), body...)
		if _, err := records.Attributes.Decode(value); !errors.Is(err, ErrNotLoaded) {
			t.Errorf("%s: before it is loaded: %v", name, err)
		}
		for what, decode := range []func() (Attributes, error){
			func() (Attributes, error) { return records.Attributes.DecodeLoading(ctx, value) },
			func() (Attributes, error) { return records.Attributes.Decode(value) }, // it is loaded now
		} {
			if got, err := decode(); err != nil || got != (Attributes{Municipality: "Utsjoki"}) {
				t.Errorf("%s, %d: %+v %v", name, what, got, err)
			}
		}
	}

	// A value of another record is bad bytes.
	value, err := records.Decision.Encode(&Decision{})
	if err != nil {
		t.Fatal(err)
	}
	var m Malformed
	if _, err := records.Attributes.Decode(value); !errors.As(err, &m) {
		t.Errorf("a decision read as a stamp: %v", err)
	}
	// Whoever binds later knows every version that there is.
	fresh, err := NewRegistry(RegistryConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	late := NewRecord[Attributes]("attributes", "civicbus_profile")
	if err := late.Bind(ctx, fresh); err != nil {
		t.Fatal(err)
	}
	value, err = records.Attributes.Encode(&Attributes{Country: "FI"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := late.Decode(value); err != nil || got.Country != "FI" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestLocalRegistriesAgreeAndCheck(t *testing.T) {
	ctx := context.Background()
	one, two := NewLocalRegistry(), NewLocalRegistry()
	a, err := one.Register(ctx, "pets-value", pet)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := two.Register(ctx, "others-value", pet); err != nil || b.ID() != a.ID() {
		t.Errorf("%v %v", b, err)
	}
	bad := strings.Replace(petV2, `"type":"int","default":0`, `"type":"int"`, 1)
	if _, err := one.Register(ctx, "pets-value", bad); !errors.Is(err, ErrIncompatible) {
		t.Errorf("a field without default: %v", err)
	}
	if _, err := two.Load(ctx, 1); !errors.Is(err, ErrUnknownSchema) {
		t.Error(err)
	}
}

func TestWireID(t *testing.T) {
	value := append(AppendWire([]byte{}, 77), "body"...)
	if id, body, err := WireID(value); id != 77 || string(body) != "body" || err != nil {
		t.Errorf("%d %q %v", id, body, err)
	}
	for _, value := range [][]byte{nil, {}, {0}, {0, 0, 0, 0}, {1, 0, 0, 0, 1}, {0, 0, 0, 0, 0, 1}, {0, 255, 255, 255, 255}} {
		var m Malformed
		if _, _, err := WireID(value); !errors.As(err, &m) || m.What != "wire format" {
			t.Errorf("%x: %v", value, err)
		}
	}
}

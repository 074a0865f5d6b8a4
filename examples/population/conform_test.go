package population

import (
	"maps"
	"slices"
	"testing"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/pseudonym"
)

// Every event is of its type's schema and has a valid subject for each role that must have one.
func TestEventsAreOfTheirSchemas(t *testing.T) {
	world, err := examples.Load()
	if err != nil {
		t.Fatal(err)
	}
	schemas, types := map[string]*codecs.Schema{}, map[string]codecs.EventType{}
	for _, eventType := range world.EventTypes {
		schema, err := codecs.ParseSchema(world.Schemas[eventType.RegistrySubject])
		if err != nil {
			t.Fatal(err)
		}
		schemas[eventType.Type], types[eventType.Type] = schema, eventType
	}
	subjects := map[string]int{}
	for _, event := range events(t, made(t, Config{Seed: 11, People: 3000}), 5000) {
		kind := event.Attributes["type"]
		body, faults := schemas[kind].FromJSON(event.Data)
		if len(faults) > 0 {
			t.Fatalf("%s: %+v", kind, faults)
		}
		for _, role := range types[kind].Roles {
			values, err := schemas[kind].Texts(body, role.Path)
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, value := range values {
				if value.Kind != codecs.String {
					continue
				}
				found++
				if _, err := pseudonym.Canonicalise(role.Scheme, string(value.Bytes)); err != nil {
					t.Fatalf("%s: role %s: %v", kind, role.Name, err)
				}
			}
			if found == 0 && !role.Optional {
				t.Fatalf("%s has nobody in role %s", kind, role.Name)
			}
			subjects[kind+" "+role.Name] += found
		}
	}
	for _, role := range slices.Sorted(maps.Keys(subjects)) {
		if subjects[role] == 0 {
			t.Errorf("nobody ever is %s", role)
		}
	}
}

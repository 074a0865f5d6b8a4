package catalog

import (
	"testing"

	"civicbus/codecs"
	"civicbus/examples"
)

// Every example type has a sample that its schema takes.
func TestSamples(t *testing.T) {
	world, err := examples.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range world.EventTypes {
		row := &world.EventTypes[i]
		schema, err := codecs.ParseSchema(world.Schemas[row.RegistrySubject])
		if err != nil {
			t.Fatal(err)
		}
		text, faults := makeSample(row, schema)
		if len(faults) > 0 {
			t.Errorf("%s: %v\n%s", row.Type, faults, text)
		}
	}
}

// A schema that holds itself, and one with every kind, have a sample too.
func TestSampleOfAnySchema(t *testing.T) {
	for _, text := range []string{
		`{"type":"record","name":"Tree","fields":[{"name":"left","type":["null","Tree"],"default":null},{"name":"many","type":{"type":"array","items":"Tree"}}]}`,
		`{"type":"record","name":"All","namespace":"a.b","fields":[{"name":"bo","type":"boolean"},{"name":"by","type":"bytes"},{"name":"d","type":"double"},{"name":"f","type":{"type":"fixed","name":"F","size":3}},
		 {"name":"g","type":"a.b.F"},{"name":"m","type":{"type":"map","values":"long"}},{"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},{"name":"n","type":"null"},
		 {"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}},{"name":"u","type":{"type":"string","logicalType":"uuid"}},{"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}},
		 {"name":"un","type":["null","string","int"]}]}`,
	} {
		schema, err := codecs.ParseSchema(text)
		if err != nil {
			t.Fatal(err)
		}
		if made, faults := makeSample(&codecs.EventType{}, schema); len(faults) > 0 {
			t.Errorf("%v\n%s", faults, made)
		}
	}
}

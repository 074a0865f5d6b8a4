package verdict

import (
	"encoding/json"
	"testing"

	"civicbus/internal/mutant"
)

// compiles: any text ends soon, in a filter or in faults. What compiles evaluates, on a whole event and on an empty one.
func compiles(f *testing.F) func(tb testing.TB, spec string) bool {
	w := newWorld(f)
	return func(tb testing.TB, spec string) bool {
		filter, faults := CompileFilter(spec, w.types[birthType], w.schema, everything)
		if (filter == nil) != (len(faults) > 0) {
			tb.Fatalf("filter %v with faults %v", filter, faults)
		}
		if filter == nil {
			return false
		}
		if _, err := filter.Matches(w.event); err != nil {
			tb.Fatal(err)
		}
		if _, err := filter.Matches(&Event{}); err != nil {
			tb.Fatal(err)
		}
		return true
	}
}

// FuzzCompileFilter tries the filter of a subscription, in all dialects.
func FuzzCompileFilter(f *testing.F) {
	try := compiles(f)
	mutant.Fuzz(f, 1<<12, func(tb testing.TB, in []byte) bool { return try(tb, string(in)) },
		[]byte(`{"data.place":"x"}`), []byte(`[{"exact":{"type":"x"}},{"not":{"any":[{"prefix":{"source":"a"}}]}}]`),
		[]byte(`{"cel":"data.place == 'x' && data.child.weight in [1,2] || !data.child.twin"}`), []byte(`{"cel":"data.place.matches('a')"}`),
		[]byte(`{"cel":"-data.child.weight < 3 ? true : false"}`), []byte(`{"all":[{"cel":"size(data.place + 'x') > 3"}]}`),
		[]byte(`{"cel":"{'a': data.place}.a == 'x'"}`), []byte(`{"cel":"[1,2][0] == 1"}`), []byte(`{"cel":"google.protobuf.Value{} == null"}`))
}

// FuzzCEL tries a CEL expression alone.
func FuzzCEL(f *testing.F) {
	try := compiles(f)
	mutant.Fuzz(f, 1<<13, func(tb testing.TB, in []byte) bool {
		text, err := json.Marshal(map[string]string{"cel": string(in)})
		if err != nil {
			tb.Fatal(err)
		}
		return try(tb, string(text))
	},
		[]byte(`data.place == 'x' && data.child.weight in [1,2] || !data.child.twin`), []byte(`data.child.weight < 3 && profile.municipality == 'Espoo'`),
		[]byte(`data.place != 'x'`), []byte(`data.child.weight >= -3`), []byte(`has(data.mother.name) || type == 'x'`), []byte(`data.place.startsWith('a')`),
		[]byte(`size(data.place + string(data.child.weight)) % 2 == 0 ? data.child.length / 2.0 > 1e3 : int(data.child.length) != 0`))
}

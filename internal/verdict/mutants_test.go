package verdict

import (
	"encoding/json"
	"testing"

	"civicbus/internal/mutant"
)

// TestMutants: a filter that is accepted evaluates, on a whole event and on an empty one, and reads only what it was allowed.
func TestMutants(t *testing.T) {
	w := newWorld(t)
	target := func(tb testing.TB, spec string) bool {
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
	t.Run("filter", func(t *testing.T) {
		var seeds [][]byte
		for _, spec := range filterSeeds {
			seeds = append(seeds, []byte(spec))
		}
		mutant.Run(t, append(seeds, mutant.Corpus(t, "FuzzCompileFilter")...), 1<<16, func(tb testing.TB, in []byte) bool { return target(tb, string(in)) })
	})
	t.Run("cel", func(t *testing.T) {
		seeds := [][]byte{[]byte(`data.place == 'x' && data.child.weight in [1,2] || !data.child.twin`), []byte(`data.child.weight < 3 && profile.municipality == 'Espoo'`),
			[]byte(`data.place != 'x'`), []byte(`data.child.weight >= -3`), []byte(`has(data.mother.name) || type == 'x'`), []byte(`data.place.startsWith('a')`)}
		mutant.Run(t, seeds, 1<<16, func(tb testing.TB, in []byte) bool { return target(tb, celSpec(tb, in)) })
	})
}

func celSpec(tb testing.TB, expression []byte) string {
	text, err := json.Marshal(map[string]string{"cel": string(expression)})
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

package refdata

import (
	"testing"

	"civicbus/internal/mutant"
)

// TestMutants: a document that is read prints as one that is read again.
func TestMutants(t *testing.T) {
	seeds := [][]byte{
		[]byte("id: a\nfilter: {x: [1, {y: ~}]}\nsubject: fi-hetu:1\nkind: grant"), []byte(`[{"id":"\ud83d\ude00"}]`),
		[]byte("id: s\nsubscriber: kela.fi\neventTypes: [a.b]\nrole: child\nfields: [data.a]\npurpose: p\nbasis: consent\n"),
		[]byte(`{"id":"s","filter":{"data.a":"x"},"scopes":["a","b"]}`),
	}
	mutant.Run(t, append(seeds, mutant.Corpus(t, "FuzzParse")...), 1<<14, func(tb testing.TB, doc []byte) bool {
		ParseConsents(doc)
		ParseOrganisations(doc)
		rows, faults := ParseSubscriptions(doc)
		if len(faults) > 0 {
			return false
		}
		printed, err := YAML(rows...)
		if err != nil {
			tb.Fatal(err)
		}
		if _, faults := ParseSubscriptions(printed); len(faults) > 0 {
			tb.Fatalf("read %q, printed %q: %+v", doc, printed, faults)
		}
		return true
	})
}

package refdata

import (
	"reflect"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/mutant"
)

// FuzzParse: a document that is read prints as one that is read as the same rows. An input begins with the kind of document.
func FuzzParse(f *testing.F) {
	kinds := []func(testing.TB, []byte) bool{printedAgain(ParseEventTypes), printedAgain(ParseOrganisations), printedAgain(ParseSubscriptions),
		func(_ testing.TB, doc []byte) bool { _, faults := ParseConsents(doc); return len(faults) == 0 }}
	mutant.Fuzz(f, 1<<10, func(tb testing.TB, in []byte) bool {
		return len(in) > 0 && kinds[int(in[0])%len(kinds)](tb, in[1:])
	},
		[]byte("0type: fi.dvv.person.birth\nstream: life.birth\nroles:\n- {name: child, path: data.child.id, scheme: fi-hetu}\nrules: [{id: a, basis: consent, validFrom: 2026-01-01}]\n"),
		[]byte("1id: kela.fi\nreceives:\n- {eventType: a.b, purposes: [p], certification: x}\ncertifications: [{name: x, validTo: 2026-01-31T12:00:00Z}]\n"),
		[]byte("2id: s\nsubscriber: kela.fi\neventTypes: [a.b]\nrole: child\nfields: [data.a]\npurpose: p\nbasis: consent\n"),
		[]byte(`2{"id":"s","filter":{"data.a":"x"},"scopes":["a","b"]}`), []byte(`2[{"id":"\ud83d\ude00"}]`),
		[]byte("2id: a\nfilter: {x: [1, {y: ~}]}\n---\nid: &b c\nrole: *b\n"),
		[]byte("3subject: fi-hetu:010594Y9032\nkind: grant\nid: g\nrecipient: kela.fi\npurpose: p\nscopes: [a]\n"))
}

func printedAgain[T any](parse func([]byte) ([]T, []codecs.Fault)) func(testing.TB, []byte) bool {
	return func(tb testing.TB, doc []byte) bool {
		rows, faults := parse(doc)
		if len(faults) > 0 {
			return false
		}
		printed, err := YAML(rows...)
		if err != nil {
			tb.Fatal(err)
		}
		again, faults := parse(printed)
		if len(faults) > 0 || !reflect.DeepEqual(rows, again) {
			tb.Fatalf("read %q as %+v, printed %q, read %+v: %+v", doc, rows, printed, again, faults)
		}
		return true
	}
}

package codecs

import (
	"fmt"
	"reflect"
	"testing"

	"civicbus/internal/mutant"
)

func boundConsents(t testing.TB) *Record[Consents] {
	t.Helper()
	r := NewRecords().Consents
	if r.ConsentScan() != nil {
		t.Fatal("a scan of no schema")
	}
	if err := r.BindLocal(); err != nil {
		t.Fatal(err)
	}
	return r
}

// scannedPart is what Scan reads of a row.
func scannedPart(c *Consents) Consents {
	s := Consents{Version: c.Version, Restriction: c.Restriction, EndedAt: c.EndedAt}
	for _, g := range c.Grants {
		s.Grants = append(s.Grants, Grant{ID: g.ID, Version: g.Version, State: g.State, Recipient: g.Recipient, Purpose: g.Purpose,
			Scopes: append([]string{}, g.Scopes...), ValidFrom: g.ValidFrom, ValidTo: g.ValidTo, GivenAt: g.GivenAt})
	}
	for _, o := range c.Objections {
		s.Objections = append(s.Objections, Objection{Subscription: o.Subscription})
	}
	return s
}

// full is a row in which every field has a value of its own.
func full(grants, objections int) *Consents {
	c := &Consents{Version: 5, Restriction: "protected", EndedAt: 1_750_000_000_000, AppliedIDs: []string{"c1", "c2"}, AppliedVersions: []int64{4, 5}, UpdatedAt: 77}
	for i := range grants {
		v := int64(i)
		c.Grants = append(c.Grants, Grant{ID: fmt.Sprint("g", i), Version: 1 + v, State: "given", Recipient: fmt.Sprint("r", i), Purpose: "p", Scopes: []string{"a", "b"}[:i%3],
			ValidFrom: 100 * v, ValidTo: 200 * v, GivenAt: -3 * v, Notice: "n", Language: "fi", Method: "m", GivenVersion: 4, WithdrawnScopes: []string{"w", "x"}[:i%2],
			ChangedAt: 9, ChangedBy: "by", ConsentType: "explicit", Jurisdiction: "FI", StorageLocation: "EU", Retention: "P1Y", WithdrawalMethod: "u", ProcessingMethod: "q"})
	}
	for i := range objections {
		c.Objections = append(c.Objections, Objection{Subscription: fmt.Sprint("s", i), At: int64(i)})
	}
	return c
}

// FuzzConsentScan: what Scan reads, Decode reads and finds the same in it, whatever was read before.
func FuzzConsentScan(f *testing.F) {
	r := boundConsents(f)
	scan := r.ConsentScan()
	if scan == nil || scan.ID != r.ID() {
		f.Fatal("the newest schema has no scan")
	}
	var into Consents
	seeds := [][]byte{{2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0}}
	for _, c := range []*Consents{{}, full(1, 0), full(4, 3), full(70, 65)} {
		row, err := r.Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		if !scan.Scan(row[5:], &into) || !reflect.DeepEqual(scannedPart(&into), scannedPart(c)) {
			f.Fatalf("scanned %+v, want %+v", scannedPart(&into), scannedPart(c))
		}
		seeds = append(seeds, row[5:])
		for cut := range row[5:] {
			if scan.Scan(row[5:5+cut], &into) {
				f.Fatalf("read a row of %d bytes that was cut after %d", len(row)-5, cut)
			}
		}
	}
	mutant.Fuzz(f, 1<<8, func(t testing.TB, body []byte) bool {
		into := full(3, 3)
		if !scan.Scan(body, into) {
			return false
		}
		want, err := r.Decode(append(AppendWire(nil, r.ID()), body...))
		if err != nil {
			t.Fatalf("%x: read %+v, where Decode says %v", body, into, err)
		}
		if got, want := scannedPart(into), scannedPart(&want); !reflect.DeepEqual(got, want) {
			t.Fatalf("%x: read %+v, want %+v", body, got, want)
		}
		return true
	}, seeds...)
}

// TestConsentScanOfOtherSchemas: what is not of its shape has no scan.
func TestConsentScanOfOtherSchemas(t *testing.T) {
	all := NewRecords()
	if err := all.CommandResult.BindLocal(); err != nil {
		t.Fatal(err)
	}
	if all.CommandResult.ConsentScan() != nil {
		t.Fatal("a command's result was taken for consents")
	}
	for name, schema := range map[string]string{
		"a field is missing": `{"type":"record","name":"O","fields":[{"name":"at","type":"long"}]}`,
		"of another type":    `{"type":"record","name":"O","fields":[{"name":"subscription","type":"bytes"}]}`,
		"a long":             `{"type":"record","name":"O","fields":[{"name":"subscription","type":"long"}]}`,
		"a union beside it":  `{"type":"record","name":"O","fields":[{"name":"subscription","type":"string"},{"name":"x","type":["null","string"]}]}`,
		"records beside it":  `{"type":"record","name":"O","fields":[{"name":"subscription","type":"string"},{"name":"x","type":{"type":"array","items":{"type":"record","name":"P","fields":[]}}}]}`,
	} {
		s, err := ParseSchema(schema)
		if err != nil {
			t.Fatal(err)
		}
		var steps consentSteps
		if steps.compile(s.root, wantedOfObjection) {
			t.Errorf("%s: %v", name, steps)
		}
	}
}

func TestConsentScanAllocatesNothing(t *testing.T) {
	r := boundConsents(t)
	row, err := r.Encode(full(8, 2))
	if err != nil {
		t.Fatal(err)
	}
	scan, into := r.ConsentScan(), new(Consents)
	if n := testing.AllocsPerRun(50, func() { scan.Scan(row[5:], into) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

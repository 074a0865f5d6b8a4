package codecs

import (
	"testing"

	"github.com/linkedin/goavro/v2"
)

// benchPaths are five projections of a birth, as five subscribers would have them.
var benchPaths = [][]string{
	{"data.child.name", "data.child.address", "data.mother.name", "data.registeredAt"},
	{"data.child.id", "data.parentResidency", "data.guardians[].id"},
	{"data"},
	{"data.child.address.city", "data.mother.address.city", "data.multiple"},
	{"data.mother", "data.weightGrams", "data.languages"},
}

func BenchmarkWalk3Fields(b *testing.B) {
	s := foreign(b)["birth"]
	body := sampleBirth(b, s)
	b.Run("walk", func(b *testing.B) {
		p, err := s.Compile("data.parentResidency", "data.child.address.city", "data.mother.name")
		if err != nil {
			b.Fatal(err)
		}
		values := make([]Value, 3)
		b.ReportAllocs()
		for b.Loop() {
			if err := p.Walk(body, values); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("validate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Validate(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("goavro", func(b *testing.B) {
		codec := bare(b, s.JSON())
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := codec.NativeFromBinary(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFiveProjections(b *testing.B) {
	s := foreign(b)["birth"]
	body := sampleBirth(b, s)
	var projections []*Projection
	var selections []Selection
	var codecs []*goavro.Codec
	for _, paths := range benchPaths {
		p, err := s.Projection(paths)
		if err != nil {
			b.Fatal(err)
		}
		sel := Selection{Permit: make([]bool, len(p.Paths())), Profile: &Attributes{Municipality: "091", Language: "fi"}}
		for i := range sel.Permit {
			sel.Permit[i] = true
		}
		projections, selections, codecs = append(projections, p), append(selections, sel), append(codecs, bare(b, p.JSON()))
	}
	b.Run("append", func(b *testing.B) {
		room := make([]byte, 0, 4096)
		b.ReportAllocs()
		for b.Loop() {
			for i, p := range projections {
				if _, err := p.Append(room, body, &selections[i]); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("goavro", func(b *testing.B) {
		codec := bare(b, s.JSON())
		room := make([]byte, 0, 4096)
		b.ReportAllocs()
		for b.Loop() {
			value, _, err := codec.NativeFromBinary(body)
			if err != nil {
				b.Fatal(err)
			}
			for i, p := range projections {
				var permits []permit
				for _, path := range p.Paths() {
					segments, err := splitPath(path)
					if err != nil {
						b.Fatal(err)
					}
					permits = append(permits, permit{segments: segments})
				}
				if _, err := codecs[i].BinaryFromNative(room, pruned(s, value, permits)); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("goavro without the pruning", func(b *testing.B) {
		codec := bare(b, s.JSON())
		room := make([]byte, 0, 4096)
		var values []any
		value, _, err := codec.NativeFromBinary(body)
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range projections {
			var permits []permit
			for _, path := range p.Paths() {
				segments, err := splitPath(path)
				if err != nil {
					b.Fatal(err)
				}
				permits = append(permits, permit{segments: segments})
			}
			values = append(values, pruned(s, value, permits))
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := codec.NativeFromBinary(body); err != nil {
				b.Fatal(err)
			}
			for i := range projections {
				if _, err := codecs[i].BinaryFromNative(room, values[i]); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func pruned(s *Schema, value any, permits []permit) any {
	out := pruner{}.value(s.root, value, nil, permits).(map[string]any)
	out["profile"] = nil
	return out
}

// benchRecord measures one of our own records as the hot path reads and writes it.
func benchRecord[T any](b *testing.B, r *Record[T], v *T) {
	value, err := r.Encode(v)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		room := make([]byte, 0, 2*len(value))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Append(room, v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(value)))
		for b.Loop() {
			if _, err := r.Decode(value); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	r := NewRecords()
	if err := r.BindLocal(); err != nil {
		b.Fatal(err)
	}
	decision := Decision{Kind: "router", Topic: "life.birth", Partition: 3, Offset: 123456, Follows: 123456, DecidedAt: 1760000000123,
		LifeEventID: "0f4b6c7e0d4b4f0e9a512f0f3cbe7d11", EventType: "fi.dvv.person.birth", Source: "https://dvv.fi", Role: "child", Outcome: "decided",
		CatalogVersion: 3, ConsentVersion: 2, ProfileVersion: 9}
	for range 5 {
		decision.Verdicts = append(decision.Verdicts, VerdictItem{Subscription: "sub-kela-birth-001", SubscriptionVersion: 4, Subscriber: "kela.fi",
			TrustVersion: 2, Permit: true, Reason: "rule", Basis: "legal_obligation", Purpose: "child-benefit", Reference: "kela-birth", DeliveryID: "0f4b6c7e0d4b4f0e9a512f0f3cbe7d11", FieldSet: 42})
	}
	b.Run("Decision", func(b *testing.B) { benchRecord(b, r.Decision, &decision) })
	consents := Consents{Version: 7, UpdatedAt: 1760000000123, AppliedIDs: []string{"c1", "c2", "c3"}}
	for range 5 {
		consents.Grants = append(consents.Grants, Grant{ID: "g-1", Version: 3, State: "given", Recipient: "wallet.example.fi", Purpose: "wallet",
			Scopes: []string{"identity", "address"}, ValidFrom: 1, GivenAt: 1760000000123, Notice: "https://example.fi/notice", Language: "fi", Method: "portal"})
	}
	b.Run("Consents", func(b *testing.B) { benchRecord(b, r.Consents, &consents) })
	stamp := Attributes{Municipality: "091", PostalCode: "00100", Country: "FI", Language: "fi", Status: "alive"}
	b.Run("Attributes", func(b *testing.B) { benchRecord(b, r.Attributes, &stamp) })
}

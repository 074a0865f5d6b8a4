package verdict

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
	"civicbus/internal/mutant"
)

func newPacked(t testing.TB) *PackedConsents {
	record := codecs.NewRecords().Consents
	if err := record.BindLocal(); err != nil {
		t.Fatal(err)
	}
	return NewPackedConsents(record)
}

func row(t interface{ Fatal(...any) }, p *PackedConsents, c *codecs.Consents) []byte {
	b, err := p.record.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seen is the part of a row that decisions turn on.
func seen(c *codecs.Consents) codecs.Consents {
	s := codecs.Consents{Version: c.Version, Restriction: c.Restriction, EndedAt: c.EndedAt}
	for _, g := range c.Grants {
		s.Grants = append(s.Grants, codecs.Grant{ID: g.ID, Version: g.Version, State: g.State, Recipient: g.Recipient, Purpose: g.Purpose,
			Scopes: append([]string{}, g.Scopes...), ValidFrom: g.ValidFrom, ValidTo: g.ValidTo, GivenAt: g.GivenAt})
	}
	for _, o := range c.Objections {
		s.Objections = append(s.Objections, codecs.Objection{Subscription: o.Subscription})
	}
	return s
}

// drawConsents makes a row of whatever a schema lets through, sensible or not.
func drawConsents(t *rapid.T) *codecs.Consents {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "kela.fi", "vero.fi", "benefit", "tax", "given", "refused", "expired"}), rapid.StringN(0, 40, 200))
	number := rapid.OneOf(rapid.Int64Range(0, 9), rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, packedEpoch, noon}))
	some := rapid.SliceOfN(text, 0, 40)
	c := &codecs.Consents{Version: number.Draw(t, "version"), Restriction: text.Draw(t, "restriction"), EndedAt: number.Draw(t, "ended"), AppliedIDs: some.Draw(t, "applied"), UpdatedAt: 7}
	for range rapid.IntRange(0, 6).Draw(t, "grants") {
		c.Grants = append(c.Grants, codecs.Grant{ID: text.Draw(t, "id"), Version: number.Draw(t, "grant version"), State: text.Draw(t, "state"), Recipient: text.Draw(t, "recipient"),
			Purpose: text.Draw(t, "purpose"), Scopes: some.Draw(t, "scopes"), ValidFrom: number.Draw(t, "from"), ValidTo: number.Draw(t, "to"), GivenAt: number.Draw(t, "given"),
			Notice: text.Draw(t, "notice"), WithdrawnScopes: some.Draw(t, "withdrawn"), ChangedBy: "someone", Retention: "P2Y"})
	}
	for range rapid.IntRange(0, 3).Draw(t, "objections") {
		c.Objections = append(c.Objections, codecs.Objection{Subscription: text.Draw(t, "subscription"), At: number.Draw(t, "at")})
	}
	return c
}

// TestPackedConsentsSeeTheSame packs random rows into dictionaries that may be full, and unpacks them into what the last one
// left behind.
func TestPackedConsentsSeeTheSame(t *testing.T) {
	p, full := newPacked(t), newPacked(t)
	full.texts.most, full.terms.most = 3, 2
	var into codecs.Consents
	rapid.Check(t, func(t *rapid.T) {
		c := drawConsents(t)
		for _, p := range []*PackedConsents{p, full} {
			packed := p.Pack([]byte("before"), row(t, p, c))
			if string(packed[:6]) != "before" {
				t.Fatal("what stood before was changed")
			}
			if got := p.Unpack(packed[6:], &into); got != &into || !reflect.DeepEqual(seen(got), seen(c)) {
				t.Fatalf("unpacked %+v, want %+v", seen(got), seen(c))
			}
		}
	})
}

// TestDecideOnPackedConsents decides random worlds on the row and on its packed form.
func TestDecideOnPackedConsents(t *testing.T) {
	schema, p := mustSchema(t, birthSchema), newPacked(t)
	var into codecs.Consents
	permits, denials := 0, map[string]bool{}
	decided := func(rt *rapid.T) {
		w, _, _ := drawWorld(t, rt, schema)
		w.consents.Version = int64(rapid.IntRange(0, 1000).Draw(rt, "version"))
		for i := range w.consents.Grants {
			w.consents.Grants[i].Version = int64(rapid.IntRange(0, 1000).Draw(rt, "grant version"))
		}
		snap, now := w.snapshot(), time.UnixMilli(w.now)
		want := snap.Decide(nil, w.event, w.consents, now)
		c := p.Unpack(p.Pack(nil, row(rt, p, w.consents)), &into)
		got := snap.Decide(nil, w.event, c, now)
		if c.Version != w.consents.Version || !reflect.DeepEqual(got, want) {
			rt.Fatalf("decided %+v\nwant %+v\non %+v", got, want, w.consents)
		}
		for i, v := range want {
			if one, ok := snap.DecideOne(w.event, v.Sub.ID, c, now); !ok || !reflect.DeepEqual(one, got[i]) {
				rt.Fatalf("alone %+v, want %+v", one, got[i])
			}
			if v.Permit && v.Reason == ReasonConsent {
				permits++
			}
			denials[v.Reason] = true
		}
	}
	for range 3 {
		rapid.Check(t, decided)
	}
	if permits < 50 || !denials[ReasonObjected] || !denials[ReasonRestricted] || !denials[ReasonDeceased] || !denials[ReasonGrantRefused] {
		t.Errorf("%d permits by consent, and %v: the worlds are too much alike", permits, denials)
	}
}

// TestPackFailsClosed: what cannot be decoded denies; what cannot be decoded yet stays as it is.
func TestPackFailsClosed(t *testing.T) {
	p := newPacked(t)
	whole := row(t, p, &codecs.Consents{Version: 3, Grants: []codecs.Grant{{ID: "g", State: GrantGiven}}})
	var into codecs.Consents
	for name, bad := range map[string][]byte{"empty": {}, "no wire format": []byte("abc"), "cut": whole[:len(whole)-3], "trailing": append(slices.Clone(whole), 0)} {
		packed := p.Pack(nil, bad)
		if c := p.Unpack(packed, &into); len(packed) != 1 || c.Restriction != RestrictionUnreadable || c.Version != -1 {
			t.Errorf("%s: packed as %x, unpacked as %+v", name, packed, c)
		}
	}
	for _, bad := range [][]byte{nil, {markUnreadable}, {markPacked}, {0x81, 0, 0}, {markPacked, 0, 0, 0}, {9}} {
		if c := p.Unpack(bad, &into); c.Restriction != RestrictionUnreadable {
			t.Errorf("%x: %+v", bad, c)
		}
	}
	unknown := append([]byte{0, 0x7f, 0, 0, 1}, whole[5:]...)
	packed := p.Pack(nil, unknown)
	if !slices.Equal(packed, unknown) {
		t.Errorf("a row whose schema is not loaded was packed as %x", packed)
	}
	if c := p.Unpack(packed, &into); c.Restriction != RestrictionUnreadable {
		t.Errorf("it was unpacked as %+v", c)
	}
	if c := p.Unpack(whole, &into); c.Version != 3 || len(c.Grants) != 1 {
		t.Errorf("a whole row was unpacked as %+v", c)
	}
}

// FuzzUnpack: no bytes panic or make much of little, and what is not a packed row denies everything.
func FuzzUnpack(f *testing.F) {
	p := newPacked(f)
	seeds := [][]byte{{markPacked, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}}
	for _, c := range []*codecs.Consents{{}, {Version: 5, Restriction: "protected", EndedAt: noon}, five()} {
		seeds = append(seeds, p.Pack(nil, row(f, p, c)), row(f, p, c))
	}
	mutant.Fuzz(f, 1<<8, func(t testing.TB, b []byte) bool {
		var into codecs.Consents
		c := p.Unpack(b, &into)
		if c != &into {
			if c.Restriction != RestrictionUnreadable {
				t.Fatalf("%x became %+v", b, c)
			}
			return false
		}
		if len(b) > 0 && b[0] == markWhole {
			return true
		}
		if cap(c.Grants) > len(b) || cap(c.Objections) > 4*len(b)+8 {
			t.Fatalf("%d bytes became %d grants and %d objections", len(b), cap(c.Grants), cap(c.Objections))
		}
		if again := p.Unpack(p.append(nil, c), new(codecs.Consents)); !reflect.DeepEqual(seen(again), seen(c)) {
			t.Fatalf("%+v was packed as %+v", c, again)
		}
		return true
	}, seeds...)
}

// TestDictionariesAreBounded floods the dictionaries: what finds no room stands in the row, and reads the same.
func TestDictionariesAreBounded(t *testing.T) {
	p := newPacked(t)
	var into codecs.Consents
	for i := range maxTerms + maxTexts/2 {
		c := &codecs.Consents{Grants: []codecs.Grant{{Recipient: fmt.Sprint("r", i), Purpose: strings.Repeat("p", 100) + fmt.Sprint(i), Scopes: []string{fmt.Sprint("s", i), "all"}}}}
		packed := p.append(nil, c)
		if i%1000 == 0 {
			if got := p.Unpack(packed, &into); !reflect.DeepEqual(seen(got), seen(c)) {
				t.Fatalf("unpacked %+v, want %+v", seen(got), seen(c))
			}
		}
	}
	if n, m := len(*p.texts.values.Load()), len(*p.terms.values.Load()); n != maxTexts || m != maxTerms {
		t.Fatalf("%d texts and %d terms", n, m)
	}
}

func TestPackConcurrently(t *testing.T) {
	p := newPacked(t)
	var all sync.WaitGroup
	for w := range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			var into codecs.Consents
			for i := range 3000 {
				c := &codecs.Consents{Version: int64(i), Grants: []codecs.Grant{{ID: fmt.Sprint(w), Recipient: fmt.Sprint(i * (w%2 + 1)), Scopes: []string{fmt.Sprint(i % 50)}}}}
				if got := p.Unpack(p.append(nil, c), &into); !reflect.DeepEqual(seen(got), seen(c)) {
					t.Errorf("unpacked %+v, want %+v", seen(got), seen(c))
					return
				}
			}
		}()
	}
	all.Wait()
}

// five is a subject who has said yes five times.
func five() *codecs.Consents {
	c := &codecs.Consents{Version: 9}
	for i := range 5 {
		c.Grants = append(c.Grants, codecs.Grant{ID: fmt.Sprintf("0190f3c1-7e57-7000-8000-%012d", i), Version: int64(i), State: GrantGiven, Recipient: fmt.Sprint("org-", i), Purpose: "benefit",
			Scopes: []string{"place", "name"}, ValidFrom: noon - 9, GivenAt: noon - int64(i), Notice: "https://example.org/notice", Language: "fi", Method: "form", ChangedBy: "person"})
	}
	return c
}

// TestUnpackAllocatesNothing: neither does packing a row whose texts are known, into room that is there, beyond decoding it.
func TestUnpackAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	p, c := newPacked(t), five()
	packed := p.append(nil, c)
	into := new(codecs.Consents)
	room := make([]byte, 0, 1000)
	if n := testing.AllocsPerRun(100, func() { p.Unpack(packed, into); p.append(room, c) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if perGrant := len(packed) / 5; perGrant > 36+15 {
		t.Errorf("%d bytes a grant with an id of 36", perGrant)
	}
}

func BenchmarkPackedConsents(b *testing.B) {
	p := newPacked(b)
	whole := row(b, p, five())
	packed := p.Pack(nil, whole)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.record.Decode(whole); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("pack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			packed = p.Pack(packed[:0], whole)
		}
	})
	b.Run("unpack", func(b *testing.B) {
		b.ReportAllocs()
		var into codecs.Consents
		for b.Loop() {
			p.Unpack(packed, &into)
		}
	})
}

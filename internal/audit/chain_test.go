package audit_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/audit"
)

// Whoever has another key cannot write one entry, and a head of theirs is refused.
func TestAnotherKeyIsFoundAtOnce(t *testing.T) {
	records, log := written(t, 3)
	other, err := audit.NewKeys([]byte("another audit key for tests, of 32 bytes or more"))
	must(t, err)
	if f := walk(records, other, 0, log, nil); f == nil || f.Number != 1 {
		t.Errorf("%v", f)
	}
	keys, err := audit.NewKeys(secret)
	must(t, err)
	h := headsOf(other, [][][]byte{log})[0]
	if err := audit.CheckHead(&h, keys.PublicKey()); err == nil {
		t.Error("a foreign head was taken")
	}
	h = headsOf(keys, [][][]byte{log})[0]
	h.Number--
	if err := audit.CheckHead(&h, keys.PublicKey()); err == nil {
		t.Error("a changed head was taken")
	}
}

// What an old enough head vouches for may be gone at the beginning, and nothing else.
func TestWhatHasExpiredIsNotMissing(t *testing.T) {
	records, log := written(t, 10)
	keys, err := audit.NewKeys(secret)
	must(t, err)
	for expired := range int64(6) {
		c := audit.NewChain(0, keys, records.AuditEntry.Decode, nil, expired)
		for i, v := range log[4:] {
			c.Add(int64(i), v)
		}
		if f := c.Finding(); (f == nil) != (expired >= 4) {
			t.Errorf("expired up to %d: %v", expired, f)
		}
	}
}

// Records of the group's inputs that it never saw are found, though the chain is whole, unless their gap was put on record afterwards:
// that one, and not another.
func TestWhatWasNotAuditedIsFound(t *testing.T) {
	keys, err := audit.NewKeys(secret)
	must(t, err)
	gap := func(change func(*codecs.CommandResult)) *codecs.CommandResult {
		g := &codecs.CommandResult{Stream: "audit", Kind: codecs.KindGap, Status: "accepted", Reason: codecs.GapExpired, Topic: "audit-decisions", Follows: 5, Offset: 6}
		change(g)
		return g
	}
	for name, c := range map[string]struct {
		gap       *codecs.CommandResult
		explained bool
	}{
		"nothing on record":      {nil, false},
		"the gap":                {gap(func(*codecs.CommandResult) {}), true},
		"made anew":              {gap(func(g *codecs.CommandResult) { g.Reason, g.Offset = codecs.GapRecreated, 4 }), true},
		"cut elsewhere":          {gap(func(g *codecs.CommandResult) { g.Reason, g.Follows = codecs.GapCut, 9 }), false},
		"a refused command":      {gap(func(g *codecs.CommandResult) { g.Status = "refused" }), false},
		"a command of that name": {gap(func(g *codecs.CommandResult) { g.Kind = "grant" }), false},
		"another group's":        {gap(func(g *codecs.CommandResult) { g.Stream = "usage" }), false},
		"another topic's":        {gap(func(g *codecs.CommandResult) { g.Topic = "command-results" }), false},
		"another partition's":    {gap(func(g *codecs.CommandResult) { g.Partition = 1 }), false},
		"a shorter one":          {gap(func(g *codecs.CommandResult) { g.Offset = 5 }), false},
		"one before it":          {gap(func(g *codecs.CommandResult) { g.Follows = 4 }), false},
	} {
		records, log := writtenAs(t, 1, 10, func(i int, _ *codecs.Decision, r *codecs.CommandResult, follows *uint64) {
			switch {
			case i == 6:
				*follows += 2
			case i == 7 && c.gap != nil:
				*r = *c.gap
			}
		})
		f := walk(records, keys, 0, log[0], headsOf(keys, log))
		if c.explained && f != nil || !c.explained && (f == nil || f.Kind != audit.Unaudited || f.Number != 7) {
			t.Errorf("%s: %v", name, f)
		}
	}
}

// A decision in several parts is one, and a part of it cannot be lost.
func TestPartsBelongTogether(t *testing.T) {
	keys, err := audit.NewKeys(secret)
	must(t, err)
	records, log := writtenAs(t, 1, 3, func(i int, d *codecs.Decision, _ *codecs.CommandResult, _ *uint64) {
		for range i % 2 * 20_000 {
			d.Verdicts = append(d.Verdicts, codecs.VerdictItem{Subscription: "sub-1", Subscriber: "kela.fi"})
		}
	})
	if len(log[0]) < 4 {
		t.Fatalf("%d entries: nothing was split", len(log[0]))
	}
	if f := walk(records, keys, 0, log[0], headsOf(keys, log)); f != nil {
		t.Errorf("as it was written: %s", f)
	}
	if f := walk(records, keys, 0, slices.Delete(slices.Clone(log[0]), 2, 3), nil); f == nil || f.Kind != audit.Removed || f.Number != 3 {
		t.Errorf("%v", f)
	}
}

func TestCoverFindsWhatWasNotDecided(t *testing.T) {
	entry := func(follows, offset int64) *codecs.AuditEntry {
		return &codecs.AuditEntry{Kind: "router", Topic: "life.address", Follows: follows, Offset: offset}
	}
	onRecord := func(group string, lost *codecs.AuditEntry) *codecs.AuditEntry {
		return &codecs.AuditEntry{Kind: "command", CommandKind: codecs.KindGap, Outcome: "accepted", Reason: codecs.GapExpired, Source: group, Topic: lost.Topic, Follows: lost.Follows, Offset: lost.Offset}
	}
	rng := rand.New(rand.NewPCG(5, 6)) // the same order each time
	for range 500 {
		var all []*codecs.AuditEntry
		next := int64(rng.IntN(3))
		for range 20 {
			at := next + int64(rng.IntN(3)) // markers between
			all = append(all, entry(next, at))
			next = at + 1
		}
		lost := 1 + rng.IntN(18)
		for _, c := range []struct {
			kind    string
			entries []*codecs.AuditEntry
		}{
			{"", all}, {audit.Undecided, slices.Delete(slices.Clone(all), lost, lost+1)}, {audit.Twice, append(slices.Clone(all), all[lost])},
			{"", append(slices.Delete(slices.Clone(all), lost, lost+1), onRecord("router", all[lost]))},
			{audit.Undecided, append(slices.Delete(slices.Clone(all), lost, lost+1), onRecord("delivery", all[lost]))},
		} {
			cover := audit.NewCover()
			for _, i := range rng.Perm(len(c.entries)) {
				cover.Add(c.entries[i])
			}
			got := cover.Findings()
			if again := cover.Findings(); !slices.Equal(got, again) {
				t.Fatalf("%v, and asked again %v", got, again)
			}
			if c.kind == "" && len(got) > 0 || c.kind != "" && (len(got) != 1 || got[0].Kind != c.kind) {
				t.Fatalf("%q: %v", c.kind, got)
			}
		}
	}
}

package consent

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
	"civicbus/processors/command"
)

// given lists what a row gives: "id/scope", of grants that hold as far as the row goes (time apart).
func given(row *codecs.Consents) map[string]bool {
	held := map[string]bool{}
	if row == nil || row.Restriction == Erasure || row.EndedAt != 0 {
		return held
	}
	for _, g := range row.Grants {
		for _, scope := range g.Scopes {
			if g.State == Given {
				held[g.ID+"/"+scope] = true
			}
		}
	}
	return held
}

// model is the whole of what consent means: the scopes that each grant gives now, and has ever given.
type model struct {
	now, ever map[string][]string // scopes by grant id
	purpose   map[string]string
	version   map[string]int64
	ended     bool // a death stands
}

func (m *model) withdraw(named func(id string) bool, scopes []string, upTo int64) {
	known := map[string]bool{}
	for id, ever := range m.ever {
		for _, scope := range ever {
			known[scope] = known[scope] || named(id)
		}
	}
	all := len(scopes) == 0 || slices.ContainsFunc(scopes, func(s string) bool { return !known[s] })
	for id, held := range m.now {
		if named(id) && (upTo == 0 || m.version[id] <= upTo) {
			m.now[id] = slices.DeleteFunc(slices.Clone(held), func(s string) bool { return all || slices.Contains(scopes, s) })
		}
	}
}

func (m *model) refuse(purpose string, scopes []string) {
	for id, held := range m.now {
		if m.purpose[id] == purpose {
			m.now[id] = slices.DeleteFunc(slices.Clone(held), func(s string) bool { return len(scopes) == 0 || slices.Contains(scopes, s) })
		}
	}
}

func (m *model) given() map[string]bool {
	held := map[string]bool{}
	if m.ended {
		return held
	}
	for id, scopes := range m.now {
		for _, scope := range scopes {
			held[id+"/"+scope] = true
		}
	}
	return held
}

// Random histories of a subject, with repeats of any of the last sixteen accepted commands, on clocks that differ: the row
// gives what the model gives, its version never falls, and repeats change nothing.
func TestHistoriesAgainstAModel(t *testing.T) {
	scopes := []string{"name", "address", "income", "health"}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{now: map[string][]string{}, ever: map[string][]string{}, purpose: map[string]string{}, version: map[string]int64{}}
		var row *codecs.Consents
		var accepted []func(row *codecs.Consents, at time.Time) (*codecs.Consents, codecs.CommandResult)
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			at := now.Add(time.Duration(i*10+rapid.IntRange(-100, 100).Draw(t, "clock")) * time.Millisecond)
			kind := rapid.SampledFrom([]string{GiveGrant, GiveGrant, GiveGrant, Refuse, Withdraw, Withdraw, Object, Unobject, Restrict, Unrestrict, Death, Revive, Revive, Erase}).Draw(t, "kind")
			if kind == Erase && rapid.IntRange(0, 4).Draw(t, "erase") > 0 {
				kind = Withdraw // else few histories get far
			}
			id := fmt.Sprint("g", rapid.IntRange(0, i).Draw(t, "grant"))
			purpose := rapid.SampledFrom([]string{"tax", "care"}).Draw(t, "purpose")
			some := rapid.SliceOfNDistinct(rapid.SampledFrom(scopes), 0, 3, rapid.ID[string]).Draw(t, "scopes")
			cmd := &codecs.ConsentCommand{Meta: codecs.Meta{ID: fmt.Sprint("c", i), Actor: "wallet"}, Kind: kind, Subscription: "sub", Restriction: Protected,
				Grant: codecs.Grant{ID: id, Recipient: "kela.fi", Purpose: purpose, Scopes: some}}
			named := func(other string) bool { return other == id }
			if kind == Withdraw && rapid.Bool().Draw(t, "by purpose") {
				cmd.Grant.ID = ""
				named = func(other string) bool { return m.purpose[other] == purpose }
			}
			if kind == Withdraw && row != nil && rapid.Bool().Draw(t, "up to") {
				cmd.UpTo = rapid.Int64Range(0, row.Version).Draw(t, "version")
			}
			step := func(row *codecs.Consents, at time.Time) (*codecs.Consents, codecs.CommandResult) {
				return Apply(row, cmd, at)
			}
			if kind == Death {
				step = func(row *codecs.Consents, at time.Time) (*codecs.Consents, codecs.CommandResult) {
					return EndByDeath(row, command.Order{Meta: cmd.Meta, Kind: Death}, at)
				}
			}
			next, result := step(row, at)
			if kind == GiveGrant && m.ended && result.Status == "accepted" {
				t.Fatal("a grant was accepted after a death")
			}
			if result.Status == "accepted" {
				if next == nil {
					t.Fatalf("%s was accepted and is not remembered", kind)
				}
				if row != nil && next.Version < row.Version || result.Version != next.Version {
					t.Fatalf("version %d after %d, answered %d", next.Version, row.Version, result.Version)
				}
				if accepted = append(accepted, step); len(accepted) > command.MaxApplied {
					accepted = accepted[1:]
				}
				switch kind {
				case GiveGrant, Refuse:
					m.purpose[id], m.version[id], m.ever[id] = purpose, next.Version, slices.Clone(some)
					if kind == GiveGrant {
						m.now[id] = slices.Clone(some)
					} else {
						m.refuse(purpose, some)
					}
				case Withdraw:
					m.withdraw(named, some, cmd.UpTo)
				case Death, Revive:
					m.ended = kind == Death
				case Erase:
					clear(m.now)
				}
				row = next
			}
			if row != nil && len(accepted) > 0 && rapid.Bool().Draw(t, "repeat") {
				if next, again := rapid.SampledFrom(accepted).Draw(t, "which")(row, at); next != nil || again.Status != "accepted" {
					t.Fatalf("a repeat changed the row to %+v, answer %+v", next, again)
				}
			}
			if got, want := given(row), m.given(); !maps.Equal(got, want) {
				t.Fatalf("after %s %+v: given %v, want %v", kind, cmd.Grant, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
			if row != nil && (len(row.AppliedIDs) > command.MaxApplied || len(row.AppliedIDs) != len(row.AppliedVersions)) {
				t.Fatalf("%d ids, %d versions", len(row.AppliedIDs), len(row.AppliedVersions))
			}
		}
	})
}

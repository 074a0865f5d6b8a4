package catalog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
	"civicbus/processors/command"
	"civicbus/processors/command/commandtest"
	"civicbus/topology"
)

func bench(t *testing.T) (*commandtest.Bench, *codecs.Records) {
	t.Helper()
	records := commandtest.Records(t)
	g := New(command.Env{Records: records, Now: func() time.Time { return now }, Schema: look(t).Schema})
	return commandtest.New(t, records, topology.Catalog, g.Callbacks()), records
}

func TestGroup(t *testing.T) {
	b, records := bench(t)
	send := func(key string, cmd *codecs.CatalogCommand) codecs.CommandResult {
		t.Helper()
		b.Send(topology.CatalogCommands, key, commandtest.Encode(t, records.CatalogCommand, *cmd), nil)
		under, result := b.Result()
		if under != key {
			t.Fatalf("answered under %q", under)
		}
		return result
	}
	const key = "fi.dvv.person.death"
	if result := send(key, asked(nil)); result.Status != "accepted" || result.Version != 1 {
		t.Fatalf("put: %+v", result)
	}
	if result := send(key, asked(nil)); result.Version != 1 || b.Changes() != 1 {
		t.Fatalf("repeat: %+v", result)
	}
	b.Restart()
	again := asked(nil)
	again.Meta.ID = "c2"
	if result := send(key, again); result.Version != 1 {
		t.Fatalf("the same entry by another command: %+v", result)
	}
	if result := send("fi.dvv.person.birth", asked(nil)); result.Reason != "key_mismatch" {
		t.Fatalf("another key: %+v", result)
	}
	b.Send(topology.CatalogCommands, key, []byte{0, 0, 0, 0, 1}, nil)
	if under, letter := b.DeadLetter(); under != key || letter.Group != "catalog" {
		t.Fatalf("dead letter %+v under %q", letter, under)
	}
	b.Send(topology.CatalogCommands, "__offset", []byte{1}, nil)
	if under, letter := b.DeadLetter(); under == "__offset" || string(letter.Key) != "__offset" {
		t.Fatalf("dead letter %+v under %q", letter, under)
	}
	row := commandtest.Decode(t, records.EventType, b.Row(key))
	if row.Version != 1 || fmt.Sprint(row.Commands, row.AppliedVersions) != "[c1 c2] [1 1]" || len(row.Rules) != 1 {
		t.Fatalf("row %+v", row)
	}
	b.Quiet()
}

// A row that would not fit into a record is refused, and the one before it stays.
func TestTooLarge(t *testing.T) {
	b, records := bench(t)
	send := func(cmd *codecs.CatalogCommand) codecs.CommandResult {
		t.Helper()
		b.Send(topology.CatalogCommands, cmd.EventType.Type, commandtest.Encode(t, records.CatalogCommand, *cmd), nil)
		_, result := b.Result()
		return result
	}
	send(asked(nil))
	large := asked(func(e *codecs.EventType) { e.Description = strings.Repeat("x", command.MaxRowBytes) })
	large.Meta.ID = "c2"
	if result := send(large); result.Reason != "row_too_large" || result.Version != 1 || result.Status != "refused" {
		t.Fatalf("answer %+v", result)
	}
	row := commandtest.Decode(t, records.EventType, b.Row("fi.dvv.person.death"))
	if row.Version != 1 || row.Description != "" {
		t.Fatalf("row of version %d", row.Version)
	}
	fits := asked(func(e *codecs.EventType) { e.Description = strings.Repeat("x", command.MaxRowBytes-4096) })
	fits.Meta.ID = "c3"
	if result := send(fits); result.Status != "accepted" || result.Version != 2 {
		t.Fatalf("answer %+v", result)
	}
	b.Send(topology.CatalogCommands, "fi.dvv.person.death", append(make([]byte, command.MaxRowBytes), 1), map[string][]byte{"h": make([]byte, 1000)})
	if _, letter := b.DeadLetter(); len(letter.Value) >= command.MaxRowBytes-1000 || !strings.Contains(letter.Detail, "too large") || len(letter.Headers) != 1 {
		t.Fatalf("a dead letter of %d bytes: %s", len(letter.Value), letter.Detail)
	}
}

// Repeats of accepted commands, wherever they stand, leave the row as it would be without them.
func TestRepeatsChangeNothing(t *testing.T) {
	lookups := look(t)
	rapid.Check(t, func(t *rapid.T) {
		var plain, repeated *codecs.EventType
		var accepted []*codecs.CatalogCommand
		for i := range rapid.IntRange(1, 30).Draw(t, "commands") {
			cmd := asked(func(e *codecs.EventType) {
				e.Title = rapid.SampledFrom([]string{"A", "B"}).Draw(t, "title")
				e.Retired = rapid.Bool().Draw(t, "retired")
			})
			if rapid.Bool().Draw(t, "retire") {
				cmd.Kind = Retire
			}
			cmd.Meta.ID = fmt.Sprint("c", i)
			next, result := Apply(plain, cmd, lookups, now)
			if next != nil {
				plain = next
			}
			if next, _ = Apply(repeated, cmd, lookups, now); next != nil {
				repeated = next
			}
			if result.Status == "accepted" {
				if accepted = append(accepted, cmd); len(accepted) > command.MaxApplied {
					accepted = accepted[1:]
				}
			}
			if len(accepted) > 0 && rapid.Bool().Draw(t, "repeat") {
				if next, _ := Apply(repeated, rapid.SampledFrom(accepted).Draw(t, "which"), lookups, now); next != nil {
					t.Fatalf("a repeat changed the row to %+v", next)
				}
			}
		}
		if a, b := fmt.Sprintf("%+v", plain), fmt.Sprintf("%+v", repeated); a != b {
			t.Fatalf("with repeats %s, without %s", b, a)
		}
	})
}

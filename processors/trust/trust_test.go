package trust

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
	"civicbus/processors/command"
	"civicbus/processors/command/commandtest"
	"civicbus/topology"
)

func TestGroup(t *testing.T) {
	records := commandtest.Records(t)
	g := New(command.Env{Records: records, Now: func() time.Time { return now }})
	bench := commandtest.New(t, records, topology.Trust, g.Callbacks())
	send := func(cmd *codecs.TrustCommand) codecs.CommandResult {
		t.Helper()
		bench.Send(topology.TrustCommands, cmd.Organisation.ID, commandtest.Encode(t, records.TrustCommand, *cmd), nil)
		key, result := bench.Result()
		if key != cmd.Organisation.ID || result.Topic != "trust-commands" || result.Stream != "trust-commands" {
			t.Fatalf("answer %+v under key %q", result, key)
		}
		return result
	}
	if result := send(asked(Put, nil)); result.Version != 1 || result.Status != "accepted" {
		t.Fatalf("first put: %+v", result)
	}
	if result := send(asked(Revoke, func(c *codecs.TrustCommand) { c.Meta.ID = "c2" })); result.Version != 2 {
		t.Fatalf("revoke: %+v", result)
	}
	bench.Restart()
	if result := send(asked(Put, nil)); result.Version != 1 || result.Status != "accepted" {
		t.Fatalf("the repeat of the put after a restart: %+v, want the first answer", result)
	}
	if result := send(asked(Put, func(c *codecs.TrustCommand) { c.Meta.ID = "c3" })); result.Reason != OrganisationRevoked {
		t.Fatalf("put after revocation: %+v", result)
	}
	row := commandtest.Decode(t, records.Organisation, bench.Row("kela.fi"))
	if row.Status != Revoked || row.Version != 2 {
		t.Fatalf("row %+v", row)
	}
	bench.Quiet()
}

// A row may hold any history of commands; repeats of the last sixteen accepted ones, wherever they are inserted, change
// nothing, and a revocation stays.
func TestRepeatsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var plain, repeated *codecs.Organisation
		var accepted []*codecs.TrustCommand
		answers := map[string]int64{}
		for i := range rapid.IntRange(1, 40).Draw(t, "commands") {
			kind := rapid.SampledFrom([]string{Put, Suspend, Resume, Put, Suspend, Resume, Revoke}).Draw(t, "kind")
			cmd := asked(kind, func(c *codecs.TrustCommand) {
				c.Meta.ID = fmt.Sprint("c", i)
				c.Organisation.Name = rapid.SampledFrom([]string{"A", "B"}).Draw(t, "name")
			})
			at := now.Add(time.Duration(i) * time.Second)
			next, result := Apply(plain, cmd, at)
			if next != nil {
				plain = next
			}
			next, again := Apply(repeated, cmd, at)
			if next != nil {
				repeated = next
			}
			if result.Version != again.Version || result.Reason != again.Reason {
				t.Fatalf("with repeats %+v, without %+v", again, result)
			}
			if result.Status == "accepted" {
				accepted = append(accepted, cmd)
				answers[cmd.Meta.ID] = result.Version
			}
			if len(accepted) > command.MaxApplied {
				accepted = accepted[1:]
			}
			for range rapid.IntRange(0, 3).Draw(t, "repeats") {
				if len(accepted) == 0 {
					break
				}
				repeat := rapid.SampledFrom(accepted).Draw(t, "repeat")
				next, result := Apply(repeated, repeat, at)
				if next != nil || result.Status != "accepted" || result.Version != answers[repeat.Meta.ID] {
					t.Fatalf("repeat of %s: next %v, answer %+v, want version %d", repeat.Meta.ID, next, result, answers[repeat.Meta.ID])
				}
			}
			if plain != nil && len(plain.AppliedIDs) > command.MaxApplied {
				t.Fatalf("%d ids", len(plain.AppliedIDs))
			}
		}
		if a, b := fmt.Sprintf("%+v", plain), fmt.Sprintf("%+v", repeated); a != b {
			t.Fatalf("with repeats %s, without %s", b, a)
		}
	})
}

package subscription

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/processors/command/commandtest"
	"civicbus/topology"
)

func TestGroup(t *testing.T) {
	records, look := commandtest.Records(t), lookups(t)
	g := New(command.Env{Records: records, Now: func() time.Time { return now },
		Snapshot: func() *verdict.Snapshot { return look.Snapshot }, Schema: look.Schema})
	b := commandtest.New(t, records, topology.Subscription, g.Callbacks())
	sent := 0
	send := func(cmd *codecs.SubscriptionCommand) codecs.CommandResult {
		t.Helper()
		sent++
		cmd.Meta.ID = fmt.Sprint("c", sent)
		b.Send(topology.SubscriptionCommands, "sub-1", commandtest.Encode(t, records.SubscriptionCommand, *cmd), nil)
		_, result := b.Result()
		return result
	}
	for i, want := range []struct {
		cmd     *codecs.SubscriptionCommand
		reason  string
		version int64
	}{
		{edit(func(s *codecs.Subscription) { s.Purpose = "advertising" }), "purpose_not_allowed", 0},
		{asked(Put, "anna", nil), "", 1},
		{asked(Approve, "anna", nil), SecondPersonRequired, 1},
		{asked(Approve, "bertta", nil), "", 2},
		{activation(1, vector), "", 2},     // of an older row: ignored
		{activation(2, vector), "", 3},     // the first
		{activation(2, vector[:1]), "", 3}, // late: ignored
		{asked(Pause, Bus, nil), "", 4},
		{asked(Resume, "anna", nil), "", 5},
	} {
		if result := send(want.cmd); result.Reason != want.reason || result.Version != want.version || result.Follows != -1 {
			t.Fatalf("command %d, %s: %+v, want %q version %d", i, want.cmd.Kind, result, want.reason, want.version)
		}
	}
	b.Restart()
	row := commandtest.Decode(t, records.Subscription, b.Row("sub-1"))
	if row.Status != Active || len(row.From) != 2 || row.From[0].Offset != 7 || row.ApprovedBy != "bertta" || len(row.AppliedIDs) != 5 {
		t.Fatalf("row %+v", row)
	}
	repeat := asked(Pause, Bus, nil)
	repeat.Meta.ID = "c8"
	b.Send(topology.SubscriptionCommands, "sub-1", commandtest.Encode(t, records.SubscriptionCommand, *repeat), nil)
	if _, result := b.Result(); result.Version != 4 || result.Status != "accepted" || b.Changes() != 0 {
		t.Fatalf("repeat of the pause: %+v", result)
	}
	b.Send(topology.SubscriptionCommands, "sub-1", nil, nil)
	if key, letter := b.DeadLetter(); key != "sub-1" || letter.Cause != "malformed" || len(letter.Value) > 0 {
		t.Fatalf("dead letter %+v", letter)
	}
	b.Send(topology.SubscriptionCommands, "sub-2", commandtest.Encode(t, records.SubscriptionCommand, *repeat), nil)
	if key, result := b.Result(); key != "sub-2" || result.Reason != "key_mismatch" {
		t.Fatalf("another key: %+v", result)
	}
	b.Quiet()
}

// Random lives of a subscription: it is active only after two persons, or a pre-approved purpose, and a vector of the
// row that was activating; revoked is for ever; repeats of accepted commands change nothing.
func TestLives(t *testing.T) {
	look := lookups(t)
	rapid.Check(t, func(t *rapid.T) {
		var row *codecs.Subscription
		var accepted []*codecs.SubscriptionCommand
		agreed, listed := map[string]bool{}, false // who has asked for or approved the present substance; whether it has a vector
		for i := range rapid.IntRange(1, 40).Draw(t, "commands") {
			kind := rapid.SampledFrom([]string{Put, Put, Approve, Approve, Activated, Activated, Pause, Resume, Revoke}).Draw(t, "kind")
			if kind == Revoke && rapid.IntRange(0, 5).Draw(t, "revoke") > 0 {
				kind = Resume // else few lives get far
			}
			actor := rapid.SampledFrom([]string{"anna", "bertta"}).Draw(t, "actor")
			cmd := asked(kind, actor, nil)
			cmd.Meta.ID = fmt.Sprint("c", i)
			cmd.Subscription.Scopes = rapid.SampledFrom([][]string{{"name"}, {"residency"}}).Draw(t, "scopes")
			cmd.Subscription.Delivery.Thin = rapid.Bool().Draw(t, "thin")
			if row != nil && kind == Activated {
				cmd.Meta.Actor, cmd.Meta.IfVersion = Bus, max(1, row.Version-rapid.Int64Range(0, 1).Draw(t, "late"))
				cmd.Subscription.From = vector
			}
			next, result := Apply(row, cmd, look, now)
			if next != nil && result.Version != versionOf(row) {
				switch kind {
				case Put:
					if next.Status == Pending && (row == nil || row.Status != Pending || row.Scopes[0] != next.Scopes[0]) {
						agreed, listed = map[string]bool{actor: true}, false
					}
				case Approve:
					agreed[actor] = true
				case Activated:
					if row.Status != Activating || cmd.Meta.IfVersion != row.Version {
						t.Fatalf("activated from %+v by version %d", row, cmd.Meta.IfVersion)
					}
					listed = true
				}
			}
			if row != nil && row.Status == Revoked && next != nil {
				t.Fatalf("a revoked subscription became %+v", next)
			}
			if next != nil {
				row = next
				if accepted = append(accepted, cmd); len(accepted) > command.MaxApplied {
					accepted = accepted[1:]
				}
			}
			if row != nil && row.Status == Active && (len(agreed) < 2 || !listed) {
				t.Fatalf("active with %v and a vector %v", agreed, listed)
			}
			if len(accepted) > 0 && rapid.Bool().Draw(t, "repeat") {
				if next, again := Apply(row, rapid.SampledFrom(accepted).Draw(t, "which"), look, now); next != nil || again.Status != "accepted" {
					t.Fatalf("a repeat: %+v, %+v", next, again)
				}
			}
		}
	})
}

// The largest vector fits into the row.
func TestTheLargestVector(t *testing.T) {
	records, look := commandtest.Records(t), lookups(t)
	var from []codecs.StreamPosition
	for _, stream := range topology.EventStreams {
		for partition := range MaxPositions / len(topology.EventStreams) {
			from = append(from, codecs.StreamPosition{Topic: stream.Name, Partition: int32(partition), Offset: 1 << 60})
		}
	}
	next, result := Apply(row(Activating), activation(5, from), look, now)
	if next == nil || len(next.From) != MaxPositions {
		t.Fatalf("answer %+v", result)
	}
	if size := len(commandtest.Encode(t, records.Subscription, *next)); size > 256<<10 {
		t.Errorf("%d bytes", size)
	}
}

func versionOf(row *codecs.Subscription) int64 {
	if row == nil {
		return 0
	}
	return row.Version
}

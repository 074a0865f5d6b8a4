package replay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/processors/command/commandtest"
	"civicbus/topology"
)

var now = commandtest.Start

func snapshot() *verdict.Snapshot {
	return verdict.NewSnapshot().With(verdict.Changes{Subscriptions: map[string]*codecs.Subscription{
		"sub-1": {ID: "sub-1", Subscriber: "kela.fi"}, "sub-2": {ID: "sub-2", Subscriber: "vero.fi"}}})
}

// asked is a command that is accepted, but for what change makes of it.
func asked(kind string, change func(*codecs.ReplayCommand)) *codecs.ReplayCommand {
	cmd := &codecs.ReplayCommand{Meta: codecs.Meta{ID: "c-" + kind, Actor: "operator:anna"}, Kind: kind, Replay: codecs.Replay{ID: "r-1"}}
	switch kind {
	case Start:
		cmd.Replay = codecs.Replay{ID: "r-1", Subscription: "sub-1", EventTypes: []string{"a.b"}, From: 5, To: 9, Rate: 10,
			Offsets: []codecs.OffsetRange{{Topic: "life.birth", Partition: 1, From: 3}}, Scan: []codecs.OffsetRange{{Topic: "audit-decisions", Partition: 1, From: 2, To: 8}}}
	case Approve:
		cmd.Meta.Actor = "operator:bertil"
	case Ended:
		cmd.Meta.Actor, cmd.Replay.Status, cmd.Replay.Counts = Bus, Done, []codecs.ReasonCount{{Reason: "rule", Count: 3}}
	}
	if change != nil {
		change(cmd)
	}
	return cmd
}

// after is the row that commands make, one after another.
func after(t interface{ Fatalf(string, ...any) }, cmds ...*codecs.ReplayCommand) *codecs.Replay {
	var row *codecs.Replay
	for _, cmd := range cmds {
		next, result := Apply(row, cmd, snapshot(), now)
		if result.Status != command.Accepted {
			t.Fatalf("%s: %+v", cmd.Kind, result)
		}
		row = next
	}
	return row
}

func TestALifeOfAReplay(t *testing.T) {
	row := after(t, asked(Start, nil))
	if row.Status != Pending || row.Subscriber != "kela.fi" || row.RequestedBy != "operator:anna" || row.CreatedAt == 0 || row.Version != 1 {
		t.Fatalf("row %+v", row)
	}
	row = after(t, asked(Start, nil), asked(Approve, nil))
	if row.Status != Running || row.ApprovedBy != "operator:bertil" || row.StartedAt == 0 {
		t.Fatalf("row %+v", row)
	}
	row = after(t, asked(Start, nil), asked(Approve, nil), asked(Ended, nil))
	if row.Status != Done || row.EndedAt == 0 || len(row.Counts) != 1 {
		t.Fatalf("row %+v", row)
	}
	row = after(t, asked(Start, nil), asked(Approve, nil), asked(Cancel, nil))
	if row.Status != Cancelled || row.EndedAt == 0 {
		t.Fatalf("row %+v", row)
	}
	if next, result := Apply(row, asked(Ended, nil), snapshot(), now); next != nil || result.Status != command.Accepted {
		t.Fatalf("its end came late: %+v, %+v", next, result)
	}
}

func TestRefusals(t *testing.T) {
	begun := []*codecs.ReplayCommand{asked(Start, nil)}
	running := append(slices.Clone(begun), asked(Approve, nil))
	over := append(slices.Clone(running), asked(Cancel, nil))
	for name, tt := range map[string]struct {
		before []*codecs.ReplayCommand
		cmd    *codecs.ReplayCommand
		reason string
	}{
		"once more":              {begun, asked(Start, func(c *codecs.ReplayCommand) { c.Meta.ID = "other" }), ReplayExists},
		"unknown subscription":   {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Subscription = "sub-9" }), SubscriptionUnknown},
		"another's subscription": {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Subscriber = "vero.fi" }), SubscriptionUnknown},
		"unknown subscriber": {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Subscription, c.Replay.Subscriber = "", "posti.fi" }),
			SubscriptionUnknown},
		"neither":        {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Subscription = "" }), SubscriptionUnknown},
		"times":          {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.To = 5 }), RangeInvalid},
		"no scan":        {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Scan = nil }), RangeInvalid},
		"scan elsewhere": {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Scan[0].Topic = "life.birth" }), RangeInvalid},
		"scan backwards": {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Scan[0].To = 1 }), RangeInvalid},
		"scan without end": {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Scan[0].To = 0 }),
			RangeInvalid},
		"no event stream": {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Offsets[0].Topic = "admitted" }), RangeInvalid},
		"a range twice": {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Offsets = append(c.Replay.Offsets, c.Replay.Offsets[0]) }),
			RangeInvalid},
		"too fast":         {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.Rate = MaxRate + 1 }), RateInvalid},
		"too many types":   {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.EventTypes = make([]string, MaxTypes+1) }), TooLarge},
		"a type is none":   {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.EventTypes = []string{""} }), command.InvalidCommand},
		"id":               {nil, asked(Start, func(c *codecs.ReplayCommand) { c.Replay.ID = "R 1" }), command.InvalidCommand},
		"no such replay":   {nil, asked(Approve, nil), command.NotFound},
		"the same person":  {begun, asked(Approve, func(c *codecs.ReplayCommand) { c.Meta.Actor = "operator:anna" }), SecondPersonRequired},
		"approved already": {running, asked(Approve, func(c *codecs.ReplayCommand) { c.Meta.ID = "other" }), NotPending},
		"over":             {over, asked(Cancel, func(c *codecs.ReplayCommand) { c.Meta.ID = "other" }), NotRunning},
		"ended by someone": {running, asked(Ended, func(c *codecs.ReplayCommand) { c.Meta.Actor = "operator:anna" }), BusOnly},
		"ended how":        {running, asked(Ended, func(c *codecs.ReplayCommand) { c.Replay.Status = "well" }), ReasonUnknown},
		"unknown kind":     {running, asked("pause", nil), command.UnknownKind},
	} {
		t.Run(name, func(t *testing.T) {
			row := after(t, tt.before...)
			next, result := Apply(row, tt.cmd, snapshot(), now)
			if next != nil || result.Status != command.Refused || result.Reason != tt.reason {
				t.Errorf("%+v, %+v, want %s", next, result, tt.reason)
			}
		})
	}
}

// Whatever is asked for in whatever order: nothing runs that one person alone wanted, nothing begins twice, and what has ended
// stays as it is.
func TestNobodyBeginsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var row *codecs.Replay
		for i := range rapid.IntRange(1, 20).Draw(t, "commands") {
			actor := rapid.SampledFrom([]string{"operator:anna", "operator:bertil", Bus}).Draw(t, "actor")
			cmd := asked(rapid.SampledFrom([]string{Start, Approve, Cancel, Ended}).Draw(t, "kind"), func(c *codecs.ReplayCommand) { c.Meta = codecs.Meta{ID: fmt.Sprint("c", i), Actor: actor} })
			before := row
			next, result := Apply(row, cmd, snapshot(), now)
			if next != nil {
				row = next
			}
			if row == nil {
				continue
			}
			if (row.Status == Running || row.Status == Done) && (row.ApprovedBy == "" || row.ApprovedBy == row.RequestedBy) {
				t.Fatalf("%s by one person: %+v", row.Status, row)
			}
			if before != nil && slices.Contains([]string{Done, Cancelled, Failed}, before.Status) && row.Status != before.Status {
				t.Fatalf("%s after %s", row.Status, before.Status)
			}
			if result.Status == command.Refused && next != nil {
				t.Fatal("refused, and changed")
			}
		}
	})
}

func TestGroup(t *testing.T) {
	records := commandtest.Records(t)
	g := New(command.Env{Records: records, Now: func() time.Time { return now }, Snapshot: snapshot})
	bench := commandtest.New(t, records, topology.Replay, g.Callbacks())
	send := func(cmd *codecs.ReplayCommand) codecs.CommandResult {
		t.Helper()
		bench.Send(topology.ReplayCommands, cmd.Replay.ID, commandtest.Encode(t, records.ReplayCommand, *cmd), nil)
		key, result := bench.Result()
		if key != cmd.Replay.ID || result.Stream != "replay-commands" {
			t.Fatalf("answer %+v under key %q", result, key)
		}
		return result
	}
	if result := send(asked(Start, nil)); result.Version != 1 {
		t.Fatalf("start: %+v", result)
	}
	if result := send(asked(Approve, nil)); result.Version != 2 {
		t.Fatalf("approve: %+v", result)
	}
	bench.Restart()
	if result := send(asked(Start, nil)); result.Version != 1 || result.Status != command.Accepted {
		t.Fatalf("the repeat of the start: %+v, want the first answer", result)
	}
	if row := commandtest.Decode(t, records.Replay, bench.Row("r-1")); row.Status != Running || row.Version != 2 {
		t.Fatalf("row %+v", row)
	}
	bench.Send(topology.ReplayCommands, "r-2", []byte("nothing"), nil)
	if key, letter := bench.DeadLetter(); key != "r-2" || letter.Group != "replay" {
		t.Fatalf("dead letter %+v under %q", letter, key)
	}
	bench.Quiet()
}

// The largest row that is accepted fits into one record.
func TestTheBoundOfARow(t *testing.T) {
	cmd := asked(Start, func(c *codecs.ReplayCommand) {
		c.Replay.EventTypes, c.Replay.Offsets, c.Replay.Scan = nil, nil, nil
		for i := range MaxTypes {
			c.Replay.EventTypes = append(c.Replay.EventTypes, fmt.Sprintf("%0*d", maxText, i))
		}
		for p := range int32(256) {
			for _, s := range topology.EventStreams {
				c.Replay.Offsets = append(c.Replay.Offsets, codecs.OffsetRange{Topic: s.Name, Partition: p, From: 1 << 60, To: 1<<60 + 1})
			}
		}
		for p := range int32(MaxRanges) {
			c.Replay.Scan = append(c.Replay.Scan, codecs.OffsetRange{Topic: "audit-decisions", Partition: p, From: 1 << 60, To: 1<<60 + 1})
		}
	})
	row := after(t, cmd)
	if b := commandtest.Encode(t, commandtest.Records(t).Replay, *row); len(b) > command.MaxRowBytes {
		t.Errorf("%d bytes, want at most %d", len(b), command.MaxRowBytes)
	}
	if len(row.Offsets) != MaxRanges {
		t.Errorf("%d ranges, want %d", len(row.Offsets), MaxRanges)
	}
}

package main

import (
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/topology"
)

// replaysSent plans, asks for, approves and watches a replay of what kela.fi got of the address that was published before.
func replaysSent(t *testing.T) {
	of := []string{"--subscription", "sub-kela-address"}
	var plan planShown
	on(t, "", append([]string{"replay", "plan", "-o", "json"}, of...)...).want(t, 0).json(t, &plan)
	if plan.Subscriber != "kela.fi" || plan.Events != 1 || plan.Sent != 1 || !plan.Whole {
		t.Errorf("plan %+v", plan)
	}
	on(t, "", append([]string{"replay", "plan", "--from", "48h", "--type", "no.such.type"}, of...)...).want(t, 0, "0 events")
	on(t, "", append([]string{"replay", "plan"}, of...)...).want(t, 0, "REASON", "rule", "sent", "1 deliveries would be sent again")
	on(t, "", "replay", "plan", "--subscription", "sub-nobody").want(t, 1, "no such subscription")

	on(t, "", append([]string{"replay", "start", "again-1", "--actor", "operator:anna"}, of...)...).want(t, 0, "in effect")
	on(t, "", append([]string{"replay", "start", "again-1", "--actor", "operator:anna"}, of...)...).want(t, 1, "replay_exists")
	on(t, "", "replay", "status", "again-1").want(t, 0, "pending")
	on(t, "", "replay", "approve", "again-1", "--actor", "operator:anna").want(t, 1, "second_person_required")
	on(t, "", "replay", "approve", "again-1", "--actor", "operator:bertta").want(t, 0, "in effect")
	var all []replayShown
	for len(all) == 0 || all[0].Status == "running" {
		on(t, "", "replay", "status", "again-1", "-o", "json").want(t, 0).json(t, &all)
	}
	if all[0].Status != "done" || all[0].Sent != 1 || all[0].Looked != 100 || all[0].ApprovedBy != "operator:bertta" || len(all[0].Scan) != 0 {
		t.Errorf("%+v", all[0])
	}
	if got := on(t, "", "tail", "kela.fi", "-n", "9").want(t, 0).out; strings.Count(got, `"replayed":"true"`) != 1 || strings.Count(got, "\n") != 2 {
		t.Errorf("kela.fi has\n%s", got)
	}
	on(t, "", append([]string{"replay", "start", "again-2"}, of...)...).want(t, 0, "in effect")
	on(t, "", "replay", "cancel", "again-2").want(t, 0, "in effect")
	on(t, "", "replay", "approve", "again-2", "--actor", "operator:bertta").want(t, 1, "not_pending")
	on(t, "", "replay", "status").want(t, 0, "again-1", "again-2", "cancelled")
	on(t, "", "replay", "status", "again-3").want(t, 1, "no such replay")
}

func groupsShown(t *testing.T) {
	on(t, "", "groups").want(t, 0, "router", "stable", "0-7", "test")
	var all []groupShown
	on(t, "", "groups", "-o", "json", "usage").want(t, 0).json(t, &all)
	if len(all) != 1 || all[0].Group != "usage" || len(all[0].Members) != 1 || len(all[0].Members[0].Partitions) != 8 || all[0].Recovering != nil {
		t.Errorf("%+v", all)
	}
	on(t, "", "groups", "--metrics", "http://127.0.0.1:1/metrics").want(t, 1, "read the metrics")
	on(t, "", "groups", "drain", "somebody").want(t, 1, "in no group")
	on(t, "", "groups", "drain", "test").want(t, 0, "router", "nothing was done")
	on(t, "", "groups", "rebuild", "usage").want(t, 0, "rows are dropped", "stop it first")
	on(t, "", "groups", "rebuild", "usage", "--execute").want(t, 1, "still runs")
	on(t, "", "groups", "rebuild", topology.Audit.Name).want(t, 1, "its log is a chain")
	on(t, "", "groups", "rebuild", "frobnicate").want(t, 1, "no group")
	on(t, "", "groups", "gaps").want(t, 0, "there are no gaps")
	on(t, "", "groups", "gaps", "router", "relay", "-o", "json", "--execute").want(t, 0, "[]")
	on(t, "", "groups", "gaps", "frobnicate").want(t, 1, "no group", "relay")
	on(t, "", "groups", "gaps", "--beyond", "lost").want(t, 2, "recreated or cut")
}

func TestRangesOfOffsets(t *testing.T) {
	for text, want := range map[string]codecs.OffsetRange{
		"life.birth/3:120-190": {Topic: "life.birth", Partition: 3, From: 120, To: 190},
		"employment/0:5-":      {Topic: "employment", From: 5},
	} {
		if got, err := parseRange(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "life.birth", "life.birth/3", "life.birth/x:1-2", "life.birth/3:2-2", "life.birth/3:-5", "/3:1-2", "life.birth/3:1", "life.birth/-1:1-2"} {
		if _, err := parseRange(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
	if got := numbers([]int32{0, 1, 2, 5, 7, 8}); got != "0-2,5,7-8" {
		t.Error(got)
	}
}

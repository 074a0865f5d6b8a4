package bench

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"testing"
	"time"

	"civicbus/internal/admin"
	"civicbus/internal/embedded"
)

// TestMain lets this binary be a node of the soak, as the civicbus program is.
func TestMain(m *testing.M) {
	if len(os.Args) <= 2 || os.Args[1] != "bench" {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[2] {
	case "node":
		err = SoakNode(context.Background(), os.Args[3:], os.Stdin, os.Stdout, os.Stderr)
	case "broker":
		err = soakBroker(os.Args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestSoakShort(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("kills real processes for ten seconds, and the race detector makes them too slow for the lease")
	}
	c, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	r, err := soak(t.Context(), Config{Brokers: c.Brokers(), Registry: c.RegistryURL(), Events: 3_000, Kills: 6, For: 10 * time.Second, Seed: 1, Say: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Soak.Err(); err != nil {
		t.Error(err)
	}
	if r.Events != 3_000 || r.Kills < 6 || r.Decisions != 3_000 || r.Deliveries == 0 || r.Commands == 0 || r.AuditLog < 3_000 {
		t.Errorf("too little happened: %+v", r.Soak)
	}
}

// TestSoakModelFinds breaks one thing after another in what came out.
func TestSoakModelFinds(t *testing.T) {
	const event, k = 0, 1
	id := func(event int32, k int) id16 { return id16{byte(event), byte(k)} }
	life := id16{0xff}
	at := time.UnixMilli(10_000)
	tests := map[string]struct {
		spoil                    func(l *ledger, d *decided, out *delivered)
		lost, leaked, duplicates int
		disorder                 int
	}{
		"as it must be":   {spoil: func(*ledger, *decided, *delivered) {}},
		"no decision":     {spoil: func(l *ledger, _ *decided, _ *delivered) { delete(l.decided, event) }, lost: 1, leaked: 1},
		"no delivery":     {spoil: func(l *ledger, _ *decided, _ *delivered) { delete(l.delivered, id(event, k)) }, lost: 1},
		"twice delivered": {spoil: func(_ *ledger, _ *decided, out *delivered) { out.times = 2 }, duplicates: 1},
		"twice decided":   {spoil: func(_ *ledger, d *decided, _ *delivered) { d.decisions = 2 }, duplicates: 1},
		"denied all the same": {spoil: func(l *ledger, d *decided, _ *delivered) {
			d.verdicts[k].permit = false
			delete(l.delivered, id(event, k))
		}, lost: 1},
		"delivered though denied": {spoil: func(_ *ledger, d *decided, _ *delivered) { d.consents = 2; d.verdicts[k].permit = false }, leaked: 1},
		"permitted on a denial":   {spoil: func(_ *ledger, d *decided, _ *delivered) { d.consents = 2 }, leaked: 1},
		"behind the line":         {spoil: func(_ *ledger, d *decided, _ *delivered) { d.at = at.UnixMilli() + 1 }, leaked: 1},
		"paused subscription":     {spoil: func(_ *ledger, d *decided, _ *delivered) { d.verdicts[k].version = 2 }, leaked: 1},
		"a field too many":        {spoil: func(_ *ledger, _ *decided, out *delivered) { out.name = true }, leaked: 1},
		"a field of no scope":     {spoil: func(_ *ledger, _ *decided, out *delivered) { out.id = true }, leaked: 1},
		"a field too few":         {spoil: func(_ *ledger, _ *decided, out *delivered) { out.street = false }, lost: 1},
		"no verdict":              {spoil: func(_ *ledger, d *decided, _ *delivered) { d.verdicts[0].there = false }, lost: 1},
		"subscriber suspended":    {spoil: func(_ *ledger, d *decided, _ *delivered) { d.verdicts[k].trust = 2 }, leaked: 1},
		"subscriber unseen":       {spoil: func(_ *ledger, d *decided, _ *delivered) { d.verdicts[k].trust = 0 }, leaked: 1},
		"denied unseen": {spoil: func(l *ledger, d *decided, _ *delivered) {
			d.verdicts[k].trust, d.verdicts[k].permit = 0, false
			delete(l.delivered, id(event, k))
		}, lost: 1},
		"behind a suspension": {spoil: func(l *ledger, _ *decided, _ *delivered) {
			l.trust[k] = history[bool]{{1, time.UnixMilli(1), true}, {2, at.Add(-time.Second), false}}
		}, leaked: 1},
		"out of order": {spoil: func(l *ledger, _ *decided, _ *delivered) {
			l.newest[k] = map[int32]int32{0: event + 1}
			l.order(event, id(event, k), "there")
		}, disorder: 1},
		"delivery out of the blue": {spoil: func(l *ledger, _ *decided, _ *delivered) { l.delivered[id(9, 9)] = &delivered{times: 1} }, leaked: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var given consentState
			given.given[k] = true
			l := &ledger{consents: []history[consentState]{{{1, time.UnixMilli(1), given}, {2, at, consentState{}}}}, byLife: map[id16]int32{life: event},
				events: []soakEvent{{subject: 0, accepted: true}}, deliveryID: id, decided: map[int32]*decided{}, delivered: map[id16]*delivered{}, accepted: 1}
			d := decided{consents: 1, at: at.UnixMilli()}
			for i := range soakSubscribers {
				l.subscriptions[i] = history[bool]{{1, time.UnixMilli(1), true}, {2, time.UnixMilli(20_000), false}}
				l.trust[i] = history[bool]{{1, time.UnixMilli(1), true}, {2, time.UnixMilli(20_000), false}}
				d.verdicts[i] = soakVerdict{version: 1, trust: 1, there: true, permit: i == k}
			}
			l.decide(life, d)
			l.deliver(life, id(event, k), delivered{street: true})
			if undecided, owed := l.waiting(); undecided != 0 || owed != 0 {
				t.Errorf("waits for %d decisions and %d deliveries, want none", undecided, owed)
			}
			test.spoil(l, l.decided[event], l.delivered[id(event, k)])
			f := l.judge()
			if f.lost != test.lost || f.leaked != test.leaked || f.duplicates != test.duplicates || f.disorder != test.disorder {
				t.Errorf("lost %d, leaked %d, duplicates %d, out of order %d, want %d, %d, %d, %d: %v", f.lost, f.leaked, f.duplicates, f.disorder, test.lost, test.leaked, test.duplicates, test.disorder, f.told)
			}
		})
	}
	if _, ok := parseID(hex.EncodeToString(life[:])); !ok {
		t.Error("an id of 16 bytes is refused")
	}
}

// TestSoakTellsWhatBecameOfACommand: a refusal is told as one at once, whatever the others wait for.
func TestSoakTellsWhatBecameOfACommand(t *testing.T) {
	done := admin.Outcome{About: "put x", ID: "1", Status: admin.Accepted, Version: 3, Row: 3, InEffect: true}
	unseen := admin.Outcome{About: "put x", ID: "2", Status: admin.Accepted, Version: 4, Row: 3}
	silent := admin.Outcome{About: "put x", ID: "3", Status: admin.Unanswered}
	refused := admin.Outcome{About: "put x", ID: "4", Status: admin.Refused, Version: 3, Reason: "grant_exists"}
	for _, test := range []struct {
		outcomes []admin.Outcome
		want     string
	}{
		{[]admin.Outcome{done}, "<nil>"},
		{[]admin.Outcome{done, unseen}, "command 2 (put x) was accepted at version 4 and is not in effect after 1m0s: its row is at version 3"},
		{[]admin.Outcome{silent}, "command 3 (put x) has no answer after 1m0s"},
		{[]admin.Outcome{silent, refused, unseen}, "command 4 (put x) was refused at version 3: grant_exists []"},
	} {
		if got := fmt.Sprint(unfulfilled(test.outcomes, time.Minute)); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

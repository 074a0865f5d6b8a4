package admin_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// played is a trust group whose every step a test decides: it reads one command and answers as it is told.
type played struct {
	*bench
	commands *kgo.Client
}

func (p *played) next() codecs.TrustCommand {
	p.t.Helper()
	for {
		fetches := p.commands.PollFetches(p.t.Context())
		if err := fetches.Err(); err != nil {
			p.t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			cmd, err := p.records.TrustCommand.Decode(r.Value)
			if err != nil {
				p.t.Fatal(err)
			}
			return cmd
		}
	}
}

func (p *played) answer(id, status string, version int64) *kgo.Record {
	result := codecs.CommandResult{CommandID: id, Stream: topology.TrustCommands.Name, Kind: "suspend", Status: status, Version: version}
	if status == admin.Refused {
		result.Reason, result.Faults = "not_found", []codecs.Fault{{Field: "id", Reason: "not_found", Text: "no such organisation"}}
	}
	return &kgo.Record{Topic: topology.CommandResults.Name, Key: []byte("kela.fi"), Value: encode(p.t, p.records.CommandResult, result)}
}

func (p *played) row(version int64) *kgo.Record {
	return &kgo.Record{Topic: topology.TableTopic("trust"), Key: []byte("kela.fi"),
		Value: encode(p.t, p.records.Organisation, codecs.Organisation{ID: "kela.fi", Version: version})}
}

// send sends one command and plays the group's part meanwhile.
func (p *played) send(wait admin.Wait, play func(id string)) admin.Outcome {
	p.t.Helper()
	requests, err := p.ChangeOrganisation(p.t.Context(), admin.By{Actor: "operator:anna"}, "suspend", "kela.fi")
	if err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if cmd := p.next(); play != nil {
			play(cmd.Meta.ID)
		}
	}()
	outcomes, err := p.Send(p.t.Context(), requests, wait)
	<-done
	if err != nil {
		p.t.Fatal(err)
	}
	return outcomes[0]
}

// "In effect" rests on the row in the table topic and on the lease's age after it, on nothing that says so.
func TestInEffect(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	commands, err := b.cfg.Connection.Client(kgo.ConsumeTopics(topology.TrustCommands.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer commands.Close()
	p := &played{b, commands}
	short := admin.Wait{Timeout: 1500 * time.Millisecond} // above the lease's age, so that a false "in effect" would show
	long := admin.Wait{Timeout: 30 * time.Second}

	if o := p.send(short, nil); o.Status != admin.Unanswered || o.InEffect {
		t.Errorf("unanswered: %+v", o)
	}
	if o := p.send(short, func(id string) { p.write(p.answer("another", admin.Accepted, 1), p.row(1)) }); o.Status != admin.Unanswered || o.InEffect {
		t.Errorf("answer to another command: %+v", o)
	}
	if o := p.send(long, func(id string) { p.write(p.answer(id, admin.Refused, 1)) }); o.Status != admin.Refused || o.InEffect || o.Reason != "not_found" || len(o.Faults) != 1 {
		t.Errorf("refused: %+v", o)
	}
	if o := p.send(short, func(id string) { p.write(p.answer(id, admin.Accepted, 2)) }); o.Status != admin.Accepted || o.InEffect {
		t.Errorf("no row: %+v", o)
	}
	if o := p.send(short, func(id string) { p.write(p.answer(id, admin.Accepted, 3), p.row(2)) }); o.InEffect || o.Row != 2 {
		t.Errorf("older row: %+v", o)
	}
	if o := p.send(admin.Wait{AnswerOnly: true}, func(id string) { p.write(p.answer(id, admin.Accepted, 4)) }); o.Status != admin.Accepted || o.Version != 4 || o.InEffect {
		t.Errorf("answer only: %+v", o)
	}

	var written time.Time
	o := p.send(long, func(id string) {
		p.write(p.answer(id, admin.Accepted, 3))
		written = time.Now()
		p.write(p.row(3))
	})
	if held := time.Since(written); !o.InEffect || held < leaseAge {
		t.Errorf("row written: %+v, in effect %v after it, want at least %v", o, held, leaseAge)
	}
	// A repeated command writes no row: it is found where it stands, behind what is newer.
	if o := p.send(long, func(id string) { p.write(p.answer(id, admin.Accepted, 2)) }); !o.InEffect || o.Row != 3 {
		t.Errorf("repeat: %+v", o)
	}
	if o := p.send(long, func(id string) { p.write(p.answer(id, admin.Accepted, 0)) }); !o.InEffect {
		t.Errorf("nothing to change and no row: %+v", o)
	}
}

// A row in a transaction that is open, or was aborted, has been seen by nobody.
func TestUncommittedRowIsNotInEffect(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	commands, err := b.cfg.Connection.Client(kgo.ConsumeTopics(topology.TrustCommands.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer commands.Close()
	p := &played{b, commands}
	tx, err := b.cfg.Connection.Client(kgo.TransactionalID("played"))
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	open := func(version int64) {
		if err := tx.BeginTransaction(); err != nil {
			t.Error(err)
		}
		if err := tx.ProduceSync(context.Background(), p.row(version)).FirstErr(); err != nil {
			t.Error(err)
		}
	}
	o := p.send(admin.Wait{Timeout: 1500 * time.Millisecond}, func(id string) {
		open(1)
		p.write(p.answer(id, admin.Accepted, 1))
	})
	if o.InEffect {
		t.Errorf("in an open transaction: %+v", o)
	}
	if err := tx.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if o := p.send(admin.Wait{Timeout: 1500 * time.Millisecond}, func(id string) { p.write(p.answer(id, admin.Accepted, 1)) }); o.InEffect {
		t.Errorf("in an aborted transaction: %+v", o)
	}
	if o := p.send(admin.Wait{Timeout: 30 * time.Second}, func(id string) {
		open(1)
		p.write(p.answer(id, admin.Accepted, 1))
		if err := tx.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
			t.Error(err)
		}
	}); !o.InEffect {
		t.Errorf("committed: %+v", o)
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	requests, err := b.ChangeOrganisation(t.Context(), admin.By{Actor: "a"}, "suspend", "kela.fi")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.Send(ctx, requests, admin.Wait{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestCommandIDs(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	orgs := []codecs.Organisation{{ID: "a.fi", Version: 7}, {ID: "b.fi"}}
	for _, tt := range []struct {
		by   admin.By
		rows []codecs.Organisation
		want []string
	}{
		{admin.By{Actor: "x", ID: "one"}, orgs[:1], []string{"one"}},
		{admin.By{Actor: "x", ID: "two"}, orgs, []string{"two-1", "two-2"}},
	} {
		got, err := b.PutOrganisations(t.Context(), tt.by, tt.rows...)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range got {
			if r.ID != tt.want[i] {
				t.Errorf("id %q, want %q", r.ID, tt.want[i])
			}
		}
	}
	random := map[string]bool{}
	for range 2 {
		got, err := b.PutOrganisations(t.Context(), admin.By{Actor: "x"}, orgs...)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got {
			random[r.ID] = true
		}
	}
	if len(random) != 4 {
		t.Errorf("ids given by chance repeat: %v", random)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	b := bare(t)
	b.dial(busKey)
	if _, err := b.Settings(t.Context()); !errors.Is(err, admin.ErrNotApplied) {
		t.Errorf("nothing applied: %v", err)
	}
	b = setUp(t)
	s, err := b.Settings(t.Context())
	if err != nil || s.LeaseAgeMillis != leaseAge.Milliseconds() || s.Partitions != 4 {
		t.Errorf("%+v, %v", s, err)
	}
	b.dial([]byte("another bus key, of 32 bytes or more too"))
	if _, err := b.Settings(t.Context()); !errors.Is(err, admin.ErrOtherBusKey) {
		t.Errorf("another bus key: %v", err)
	}
	b.dial(nil)
	if _, err := b.NewPublisher(t.Context()); !errors.Is(err, admin.ErrNoBusKey) {
		t.Errorf("no bus key: %v", err)
	}
	if yes, err := b.Embedded(t.Context()); err != nil || !yes {
		t.Errorf("embedded: %v, %v", yes, err)
	}
}

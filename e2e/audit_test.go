package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/app"
	"civicbus/internal/audit"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// audited reads the audit log and returns what it says, by input, partition and offset.
func (b *bus) audited() map[string]codecs.AuditEntry {
	b.t.Helper()
	all := map[string]codecs.AuditEntry{}
	for _, r := range b.read(topology.AuditLog.Name) {
		e, err := b.records.AuditEntry.Decode(r.Value)
		b.must(err)
		k := fmt.Sprintf("%s/%d at %d part %d", e.Input, r.Partition, e.InputOffset, e.Part)
		if _, twice := all[k]; twice {
			b.t.Errorf("%s is audited twice", k)
		}
		all[k] = e
	}
	return all
}

// inputs are the records that the audit log must have, by the same name.
func (b *bus) inputs() map[string]*kgo.Record {
	b.t.Helper()
	all := map[string]*kgo.Record{}
	for _, r := range b.read(topology.Decisions.Name, topology.CommandResults.Name) {
		all[fmt.Sprintf("%s/%d at %d part 0", r.Topic, r.Partition, r.Offset)] = r
	}
	return all
}

// verified verifies the whole log as an auditor would.
func (b *bus) verified(heads ...codecs.AuditHead) audit.Result {
	b.t.Helper()
	keys, err := audit.NewKeys(b.cfg.AuditKey)
	b.must(err)
	l, err := audit.Open(b.cfg.Connection, b.records)
	b.must(err)
	defer l.Close()
	result, err := l.Verify(b.t.Context(), audit.Check{Keys: keys, Heads: heads, Now: time.Now()})
	b.must(err)
	return result
}

// TestAuditLog stops and kills the node that runs every group while events flow. In the end each decision and each command's
// result is in the audit log exactly once, the chains are whole, and the log tells nobody.
func TestAuditLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "heads.jsonl")
	b := prepare(t, func(c *app.Config) { c.Heads, c.HeadsFile = 100*time.Millisecond, file })
	b.run("edge", "relay", "keepers", "heads")
	first := b.run("work", groups()...)
	b.smallWorld()
	who := people(0, 20)
	var grants []*order
	for _, p := range who[:10] {
		grants = append(grants, b.grantPost(p))
	}
	b.inEffect(grants...)
	l := b.newLedger()
	stop := l.flow(5*time.Millisecond, 10, who)
	defer stop()
	l.more(60)
	first.stop()
	for range 2 { // a kill at a random point of a transaction
		apart := b.runApart("work", groups()...)
		l.more(100)
		apart.kill()
	}
	b.run("work", groups()...)
	l.more(60)
	stop()
	l.await()
	b.eventually("everything is audited", func() bool { return len(b.audited()) >= len(b.inputs()) })

	log, inputs := b.audited(), b.inputs()
	for k := range inputs {
		if _, ok := log[k]; !ok {
			t.Errorf("%s is not audited", k)
		}
	}
	for k := range log {
		if inputs[k] == nil {
			t.Errorf("%s is audited, and was not there", k)
		}
	}
	b.wantWhole(int64(len(inputs)))
	b.wantUnlinked(who)
	b.wantWalk(who[0], l)
	b.wantUsage()
	b.eventually("the heads have caught up", func() bool { return b.headed() == int64(len(inputs)) })
	b.wantCutFound(file)
}

// wantWhole demands that the verifier finds nothing.
func (b *bus) wantWhole(entries int64) {
	b.t.Helper()
	result := b.verified()
	for _, f := range result.Findings {
		b.t.Errorf("the audit log: %s", f)
	}
	if result.Entries != entries || result.BadHeads > 0 {
		b.t.Errorf("%d entries, want %d; %d bad heads", result.Entries, entries, result.BadHeads)
	}
}

// wantUnlinked demands that no subject, no id and no value of a field stands on the log.
func (b *bus) wantUnlinked(who []string) {
	b.t.Helper()
	var told [][]byte
	for _, p := range who {
		told = append(told, []byte(p), []byte(b.subjectOf(p)))
	}
	for _, text := range []string{"Mäkinen", "Tampere", "\x0a33100"} { // as Avro has it: the digits alone may stand in an id
		told = append(told, []byte(text))
	}
	for _, r := range b.read(topology.AuditLog.Name, topology.AuditHeads.Name) {
		for _, text := range told {
			if bytes.Contains(r.Value, text) || bytes.Contains(r.Key, text) || len(r.Headers) > 0 {
				b.t.Fatalf("%s/%d at %d tells who or what it is about", r.Topic, r.Partition, r.Offset)
			}
		}
	}
}

// wantWalk demands that the walk from a subject's row meets each of its decisions, the newest first.
func (b *bus) wantWalk(who string, l *ledger) {
	b.t.Helper()
	keys, err := audit.NewKeys(b.cfg.AuditKey)
	b.must(err)
	log, err := audit.Open(b.cfg.Connection, b.records)
	b.must(err)
	defer log.Close()
	met, last := 0, int64(1)<<62
	b.must(log.Walk(b.t.Context(), keys, b.subjectOf(who), func(e *codecs.AuditEntry) bool {
		if e.Number >= last {
			b.t.Errorf("entry %d comes after entry %d", e.Number, last)
		}
		if last = e.Number; e.Kind == "router" {
			met++
			for sub, want := range granted {
				b.want(codecs.Decision{Outcome: e.Outcome, Verdicts: e.Verdicts}, sub, want)
			}
		}
		return true
	}))
	want := 0
	l.mu.Lock()
	for _, e := range l.entries {
		if e.who == who {
			want++
		}
	}
	l.mu.Unlock()
	if met != want {
		b.t.Errorf("the walk met %d decisions about the subject, want %d", met, want)
	}
	b.must(log.Walk(b.t.Context(), keys, b.subjectOf(person(5_000)), func(*codecs.AuditEntry) bool { b.t.Error("an entry about nobody"); return false }))
}

// wantUsage demands that the counts are those of the decisions.
func (b *bus) wantUsage() {
	b.t.Helper()
	permits, denials := map[string]int64{}, map[string]int64{}
	for _, r := range b.read(topology.Decisions.Name) {
		d, err := b.records.Decision.Decode(r.Value)
		b.must(err)
		for _, v := range d.Verdicts {
			if v.Permit {
				permits[v.Subscription]++
			} else {
				denials[v.Subscription]++
			}
		}
	}
	for _, sub := range []string{agencySub, postSub, insurerSub} {
		b.eventually("the usage of "+sub+" is counted", func() bool {
			var row codecs.UsageRow
			for _, r := range b.read(topology.TableTopic(topology.Usage.Name)) {
				if string(r.Key) == sub {
					var err error
					row, err = b.records.UsageRow.Decode(r.Value)
					b.must(err)
				}
			}
			var denied int64
			for _, d := range row.Denied {
				denied += d.Count
			}
			return row.Delivered == permits[sub] && denied == denials[sub] && row.Repeated == 0
		})
	}
}

// headed adds up how far the newest heads have come.
func (b *bus) headed() (n int64) {
	b.t.Helper()
	keys, err := audit.NewKeys(b.cfg.AuditKey)
	b.must(err)
	l, err := audit.Open(b.cfg.Connection, b.records)
	b.must(err)
	defer l.Close()
	heads, err := l.Heads(b.t.Context(), keys.PublicKey())
	b.must(err)
	for _, h := range heads {
		n += h.Number
	}
	return n
}

// wantCutFound deletes the log and makes an empty one, as someone with the broker in hand could: the heads in the file tell.
func (b *bus) wantCutFound(file string) {
	b.t.Helper()
	text, err := os.ReadFile(file)
	b.must(err)
	heads, err := audit.ReadHeads(strings.NewReader(string(text)))
	b.must(err)
	for _, n := range []string{"work", "edge"} {
		b.mu.Lock()
		nd := b.nodes[n]
		b.mu.Unlock()
		nd.stop()
	}
	_, err = b.admin.DeleteTopics(b.t.Context(), topology.AuditLog.Name, topology.AuditHeads.Name)
	b.must(err)
	b.eventually("the log is made anew", func() bool { _, err := app.Apply(b.t.Context(), b.cfg); return err == nil })
	result := b.verified(heads...)
	if len(result.Findings) == 0 || result.Findings[0].Kind != audit.CutOff || result.Findings[0].Number != 1 {
		b.t.Errorf("a log that was made anew: %v", result.Findings)
	}
}

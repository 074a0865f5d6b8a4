package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/audit"
	"civicbus/internal/kafka"
	writer "civicbus/processors/audit"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"
)

var secret = []byte("an audit key for tests, of 32 bytes or more")

// written is a chain of n entries as the audit group itself writes it, in goka's tester: decisions and results of a few subjects.
func written(t *testing.T, n int) (*codecs.Records, [][]byte) {
	t.Helper()
	records, values := writtenAs(t, n, func(int, *codecs.Decision, *uint64) {})
	if len(values) != n {
		t.Fatalf("%d entries, want %d", len(values), n)
	}
	return records, values
}

// writtenAs is written with decisions, and what the engine says that each follows, as change makes them.
func writtenAs(t *testing.T, n int, change func(i int, d *codecs.Decision, follows *uint64)) (*codecs.Records, [][]byte) {
	t.Helper()
	records := codecs.NewRecords()
	must(t, records.BindLocal())
	keys, err := writer.NewKeys(secret)
	must(t, err)
	chains := map[string][]byte{}
	g := writer.New(writer.Env{Records: records, Keys: keys, Now: time.Now, Partitions: 1,
		Row:    func(_ int32, key string) ([]byte, error) { return chains[key], nil },
		SetRow: func(_ int32, key string, row []byte) error { chains[key] = row; return nil }})
	graph, err := topology.Build(topology.Audit, g.Callbacks())
	must(t, err)
	k := tester.New(t)
	p, err := goka.NewProcessor(nil, graph, goka.WithTester(k))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	log := k.NewQueueTracker(topology.AuditLog.Name)
	offsets := map[string]uint64{}
	for i := range n {
		topic, subject := topology.Decisions.Name, fmt.Sprintf("k1.subject-%d", i%5)
		decision := codecs.Decision{Kind: "router", Topic: "life.address", Offset: int64(i), Follows: int64(i), Outcome: "decided", EventType: "fi.dvv.person.address.changed",
			Verdicts: []codecs.VerdictItem{{Subscription: "sub-1", Subscriber: "kela.fi", Permit: i%3 > 0, Reason: "rule", Basis: "legal_obligation"}}}
		follows := offsets[topic]
		change(i, &decision, &follows)
		value, err := records.Decision.Encode(&decision)
		if i%4 == 3 {
			topic = topology.CommandResults.Name
			follows = offsets[topic]
			value, err = records.CommandResult.Encode(&codecs.CommandResult{Stream: "consent-commands", Kind: "grant", Status: "accepted", Actor: "x", Version: int64(i)})
		}
		must(t, err)
		// The tester counts offsets itself, one count for each topic, from 0 on.
		k.Consume(topic, subject, value, tester.WithHeaders(goka.Headers{kafka.FollowsHeader: binary.BigEndian.AppendUint64(nil, follows)}))
		offsets[topic]++
	}
	var values [][]byte
	for {
		_, value, ok := log.NextRaw()
		if !ok {
			break
		}
		values = append(values, value)
	}
	cancel()
	must(t, <-ended)
	return records, values
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// walk verifies a log of one partition.
func walk(records *codecs.Records, keys *audit.Keys, values [][]byte, heads []codecs.AuditHead) *audit.Finding {
	c := audit.NewChain(0, keys, records.AuditEntry.Decode, heads, 0)
	for i, v := range values {
		c.Add(int64(i), v)
	}
	return c.Finding()
}

func headOf(keys *audit.Keys, values [][]byte) []codecs.AuditHead {
	hash := sha256.Sum256(values[len(values)-1])
	return []codecs.AuditHead{keys.Sign(0, int64(len(values)), hash[:], 1)}
}

// change makes one random change and says what must be found: the kinds that may be named, and the number.
func change(rng *rand.Rand, log [][]byte) (changed [][]byte, kinds []string, number int64) {
	n := len(log)
	values := slices.Clone(log)
	i := rng.IntN(n)
	switch rng.IntN(7) {
	case 0: // one byte
		values[i] = slices.Clone(values[i])
		values[i][rng.IntN(len(values[i]))] ^= byte(1 + rng.IntN(255))
		return values, []string{audit.Changed}, int64(i + 1)
	case 1: // a value cut short, or made longer
		values[i] = slices.Clone(values[i])
		if rng.IntN(2) == 0 {
			values[i] = values[i][:rng.IntN(len(values[i]))]
		} else {
			values[i] = append(values[i], byte(rng.IntN(256)))
		}
		return values, []string{audit.Changed}, int64(i + 1)
	case 2: // entries removed
		j := min(i+1+rng.IntN(5), n)
		if j == n {
			return values[:i], []string{audit.CutOff}, int64(i + 1)
		}
		return slices.Delete(values, i, j), []string{audit.Removed}, int64(i + 1)
	case 3: // something inserted: bytes, or an entry of the log once more
		at := rng.IntN(n + 1)
		extra := slices.Clone(log[i])
		if rng.IntN(2) == 0 {
			extra[rng.IntN(len(extra))] ^= byte(1 + rng.IntN(255))
		}
		number = int64(at + 1)
		if at == i && bytes.Equal(extra, log[i]) {
			number++ // which of two equal ones was there first cannot be told
		}
		return slices.Insert(values, at, extra), []string{audit.Inserted}, number
	case 4: // two swapped
		j := rng.IntN(n - 1)
		if j >= i {
			j++
		}
		values[i], values[j] = values[j], values[i]
		return values, []string{audit.Reordered}, int64(min(i, j) + 1)
	case 5: // one moved
		j := rng.IntN(n - 1)
		if j >= i {
			j++
		}
		v := values[i]
		values = slices.Insert(slices.Delete(values, i, i+1), j, v)
		return values, []string{audit.Reordered}, int64(min(i, j) + 1)
	default: // the end cut off
		return values[:i], []string{audit.CutOff}, int64(i + 1)
	}
}

func TestEverySingleChangeIsFoundAndNamed(t *testing.T) {
	records, log := written(t, 40)
	keys, err := audit.NewKeys(secret)
	must(t, err)
	heads := headOf(keys, log)
	if f := walk(records, keys, log, heads); f != nil {
		t.Fatalf("the log as it was written: %s", f)
	}
	rng := rand.New(rand.NewPCG(1, 2)) // the same changes each time
	found := map[string]int{}
	for i := range 10_000 {
		values, kinds, number := change(rng, log)
		f := walk(records, keys, values, heads)
		if f == nil {
			t.Fatalf("change %d (%v at %d) was not found", i, kinds, number)
		}
		if !slices.Contains(kinds, f.Kind) || f.Number != number {
			t.Errorf("change %d: %s, want %v at entry %d", i, f, kinds, number)
		}
		found[f.Kind]++
	}
	t.Log(found)
}

// Someone without the audit key still finds every change before a head, by the hashes and the head's signature.
func TestAThirdPartyFindsThemTooAgainstAHead(t *testing.T) {
	records, log := written(t, 30)
	keys, err := audit.NewKeys(secret)
	must(t, err)
	heads := headOf(keys, log)
	must(t, audit.CheckHead(&heads[0], keys.PublicKey()))
	rng := rand.New(rand.NewPCG(3, 4)) // the same changes each time
	for i := range 2_000 {
		values, kinds, number := change(rng, log)
		if slices.Equal(kinds, []string{audit.Inserted}) && number > int64(len(log)) {
			continue // behind the head nothing is vouched for
		}
		if walk(records, nil, values, heads) == nil {
			t.Fatalf("change %d (%v at %d) was not found", i, kinds, number)
		}
	}
}

// Whoever has another key cannot write one entry, and a head of theirs is refused.
func TestAnotherKeyIsFoundAtOnce(t *testing.T) {
	records, log := written(t, 3)
	other, err := audit.NewKeys([]byte("another audit key for tests, of 32 bytes or more"))
	must(t, err)
	if f := walk(records, other, log, nil); f == nil || f.Number != 1 {
		t.Errorf("%v", f)
	}
	keys, err := audit.NewKeys(secret)
	must(t, err)
	h := headOf(other, log)[0]
	if err := audit.CheckHead(&h, keys.PublicKey()); err == nil {
		t.Error("a foreign head was taken")
	}
	h = headOf(keys, log)[0]
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

// A record of the group's inputs that it never saw is found, though the chain is whole.
func TestWhatWasNotAuditedIsFound(t *testing.T) {
	keys, err := audit.NewKeys(secret)
	must(t, err)
	records, log := writtenAs(t, 10, func(i int, _ *codecs.Decision, follows *uint64) {
		if i == 6 {
			*follows += 2
		}
	})
	if f := walk(records, keys, log, headOf(keys, log)); f == nil || f.Kind != audit.Unaudited || f.Number != 7 {
		t.Errorf("%v", f)
	}
}

// A decision in several parts is one, and a part of it cannot be lost.
func TestPartsBelongTogether(t *testing.T) {
	keys, err := audit.NewKeys(secret)
	must(t, err)
	records, log := writtenAs(t, 3, func(i int, d *codecs.Decision, _ *uint64) {
		for range i % 2 * 20_000 {
			d.Verdicts = append(d.Verdicts, codecs.VerdictItem{Subscription: "sub-1", Subscriber: "kela.fi"})
		}
	})
	if len(log) < 4 {
		t.Fatalf("%d entries: nothing was split", len(log))
	}
	if f := walk(records, keys, log, headOf(keys, log)); f != nil {
		t.Errorf("as it was written: %s", f)
	}
	if f := walk(records, keys, slices.Delete(slices.Clone(log), 2, 3), nil); f == nil || f.Kind != audit.Removed || f.Number != 3 {
		t.Errorf("%v", f)
	}
}

func TestCoverFindsWhatWasNotDecided(t *testing.T) {
	entry := func(follows, offset int64) *codecs.AuditEntry {
		return &codecs.AuditEntry{Kind: "router", Topic: "life.address", Follows: follows, Offset: offset}
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
		}{{"", all}, {audit.Undecided, slices.Delete(slices.Clone(all), lost, lost+1)}, {audit.Twice, append(slices.Clone(all), all[lost])}} {
			cover := audit.NewCover()
			for _, i := range rng.Perm(len(c.entries)) {
				cover.Add(c.entries[i])
			}
			got := cover.Findings()
			if c.kind == "" && len(got) > 0 || c.kind != "" && (len(got) != 1 || got[0].Kind != c.kind) {
				t.Fatalf("%q: %v", c.kind, got)
			}
		}
	}
}

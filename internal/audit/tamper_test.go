package audit_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"civicbus/internal/audit"
)

// named is what must be found in one partition of a changed log.
type named struct {
	kind   string
	number int64
	offset int64 // of the record at which it shows; -1: the end
}

// change makes one random change to a log of several partitions, and says what must be found by partition: in all other
// partitions nothing. Every place of the log is as likely as any other.
func change(rng *rand.Rand, log [][][]byte) (changed [][][]byte, want map[int]named) {
	changed, want = slices.Clone(log), map[int]named{}
	total := 0
	for _, values := range log {
		total += len(values)
	}
	p, i := 0, rng.IntN(total) // an entry of the log
	for i >= len(log[p]) {
		i -= len(log[p])
		p++
	}
	n := len(log[p])
	values := slices.Clone(log[p])
	j := rng.IntN(n - 1) // another entry of its partition
	if j >= i {
		j++
	}
	at := rng.IntN(n + 1)                          // a place before or behind an entry of its partition
	q := (p + 1 + rng.IntN(len(log)-1)) % len(log) // another partition
	k := rng.IntN(len(log[q]))                     // an entry there
	find := func(partition int, kind string, index int) {
		want[partition] = named{kind, int64(index + 1), offsetOf(index)}
	}
	gone := func(partition, index, left int) { // what was there from the index on is gone
		if index == left {
			want[partition] = named{audit.CutOff, int64(index + 1), -1}
		} else {
			find(partition, audit.Removed, index)
		}
	}
	switch rng.IntN(14) {
	case 0: // one byte is another
		values[i] = slices.Clone(values[i])
		values[i][rng.IntN(len(values[i]))] ^= byte(1 + rng.IntN(255))
		find(p, audit.Changed, i)
	case 1: // one bit
		values[i] = slices.Clone(values[i])
		values[i][rng.IntN(len(values[i]))] ^= 1 << rng.IntN(8)
		find(p, audit.Changed, i)
	case 2: // bytes of a value are removed
		from := rng.IntN(len(values[i]))
		values[i] = slices.Delete(slices.Clone(values[i]), from, min(len(values[i]), from+1+rng.IntN(8)))
		find(p, audit.Changed, i)
	case 3: // a byte is inserted into a value, or behind it
		values[i] = slices.Insert(slices.Clone(values[i]), rng.IntN(len(values[i])+1), byte(rng.IntN(256)))
		find(p, audit.Changed, i)
	case 4: // a value is cut short, down to nothing
		values[i] = values[i][:rng.IntN(len(values[i]))]
		find(p, audit.Changed, i)
	case 5: // an entry is removed
		values = slices.Delete(values, i, i+1)
		gone(p, i, len(values))
	case 6: // several are
		values = slices.Delete(values, i, min(i+2+rng.IntN(5), n))
		gone(p, i, len(values))
	case 7: // something is inserted that was never written
		extra := slices.Clone(log[p][i])
		extra[rng.IntN(len(extra))] ^= byte(1 + rng.IntN(255))
		values = slices.Insert(values, at, extra)
		find(p, audit.Inserted, at)
	case 8: // an entry is inserted once more
		values = slices.Insert(values, at, log[p][i])
		if at == i {
			at++ // which of two equal ones was there first cannot be told
		}
		find(p, audit.Inserted, at)
	case 9: // an entry of another partition is
		values = slices.Insert(values, at, log[q][k])
		find(p, audit.Inserted, at)
	case 10: // two are swapped
		values[i], values[j] = values[j], values[i]
		find(p, audit.Reordered, min(i, j))
	case 11: // two of different partitions are
		changed[q] = slices.Clone(log[q])
		values[i], changed[q][k] = log[q][k], log[p][i]
		find(p, audit.Changed, i)
		find(q, audit.Changed, k)
	case 12: // one is moved
		v := values[i]
		values = slices.Insert(slices.Delete(values, i, i+1), j, v)
		find(p, audit.Reordered, min(i, j))
	case 13: // the end is cut off
		values = values[:i]
		gone(p, i, i)
	}
	changed[p] = values
	return changed, want
}

// TestEverySingleChangeIsFoundAndNamed: of 10,000 changes each is found, with its kind, its partition, the number of the first entry
// concerned and where it stands; and nothing is found elsewhere.
func TestEverySingleChangeIsFoundAndNamed(t *testing.T) {
	records, log := writtenAs(t, 4, 80, nothing)
	keys, err := audit.NewKeys(secret)
	must(t, err)
	heads := headsOf(keys, log)
	for p, values := range log {
		if f := walk(records, keys, p, values, heads); f != nil || len(values) < 5 {
			t.Fatalf("the log as it was written, %d entries: %s", len(values), f)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2)) // the same changes each time
	found, where := map[string]int{}, map[string]bool{}
	for i := range 10_000 {
		changed, want := change(rng, log)
		for p := range log {
			if slices.EqualFunc(changed[p], log[p], bytes.Equal) != (want[p] == named{}) {
				t.Fatalf("change %d: partition %d: %+v", i, p, want)
			}
			if want[p] == (named{}) {
				continue // as it was, which was verified above
			}
			f := walk(records, keys, p, changed[p], heads)
			if f == nil {
				t.Fatalf("change %d (%+v) was not found", i, want)
			}
			if got := (named{f.Kind, f.Number, f.Offset}); got != want[p] || f.Partition != int32(p) {
				t.Errorf("change %d: %s, want %+v in partition %d", i, f, want[p], p)
			}
			found[f.Kind]++
			where[fmt.Sprint(p, f.Number)] = true
		}
	}
	t.Logf("%v at %d places", found, len(where))
	for p, values := range log {
		for i := range values {
			if !where[fmt.Sprint(p, i+1)] {
				t.Errorf("entry %d of partition %d was never changed", i+1, p)
			}
		}
	}
}

// Someone without the audit key still finds every change before a head, by the hashes and the heads' signatures.
func TestAThirdPartyFindsThemTooAgainstAHead(t *testing.T) {
	records, log := writtenAs(t, 3, 60, nothing)
	keys, err := audit.NewKeys(secret)
	must(t, err)
	heads := headsOf(keys, log)
	for i := range heads {
		must(t, audit.CheckHead(&heads[i], keys.PublicKey()))
	}
	rng := rand.New(rand.NewPCG(3, 4)) // the same changes each time
	for i := range 2_000 {
		changed, want := change(rng, log)
		for p, w := range want {
			if w.kind == audit.Inserted && w.number > int64(len(log[p])) {
				continue // behind the head nothing is vouched for
			}
			if walk(records, nil, p, changed[p], heads) == nil {
				t.Fatalf("change %d (%+v) was not found", i, want)
			}
		}
	}
}

// TestSharesNothingWithTheWriter: the verifier must not depend on any package of the groups, so that a fault of the writer is not the
// verifier's too. Both know the records' schemas (codecs), Kafka's connection and the map of topics.
func TestSharesNothingWithTheWriter(t *testing.T) {
	deps := func(pkg string) map[string]bool {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		must(t, err)
		own := map[string]bool{}
		for _, p := range strings.Fields(string(out)) {
			if name, ok := strings.CutPrefix(p, "civicbus/"); ok {
				own[name] = true
			}
		}
		return own
	}
	verifier, group := deps("civicbus/internal/audit"), deps("civicbus/processors/audit")
	if !verifier["internal/audit"] || !group["processors/audit"] {
		t.Fatal("the packages were not listed")
	}
	for p := range verifier {
		if group[p] && !slices.Contains([]string{"schemas", "codecs", "topology", "internal/kafka", "internal/flaw"}, p) {
			t.Errorf("the verifier and the writer share %s", p)
		}
	}
	for p := range verifier {
		if strings.HasPrefix(p, "processors") || strings.HasPrefix(p, "internal/app") {
			t.Errorf("the verifier depends on %s", p)
		}
	}
	if group["internal/audit"] {
		t.Error("the writer depends on the verifier")
	}
}

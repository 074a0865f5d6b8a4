package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/verdict"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// groupOf is the consumer group whose offsets on audit-decisions say how far a replay has come. It has no members.
func groupOf(id string) string { return "replay." + id }

// note is what stands beside each of those offsets: what became of the partition's events until there.
type note struct {
	At     int64            `json:"at"` // when it was committed, Unix milliseconds
	Looked int64            `json:"n"`  // verdicts, by reason below
	Counts map[string]int64 `json:"c,omitempty"`
}

// maxNote bounds a note: Kafka's default bound of an offset's metadata is 4096 bytes.
const maxNote = 4_000

// text is the note as it is committed. The list of reasons is closed, so that it fits; should it not, the counts are lost, and
// nothing else.
func (n *note) text() string {
	b, err := json.Marshal(n)
	if err != nil || len(b) > maxNote {
		b, _ = json.Marshal(note{At: n.At, Looked: n.Looked}) // two numbers always encode
	}
	return string(b)
}

func (n *note) add(reason string) {
	if n.Counts == nil {
		n.Counts = map[string]int64{}
	}
	n.Counts[reason]++
	n.Looked++
}

func (n *note) clone() note {
	return note{n.At, n.Looked, maps.Clone(n.Counts)}
}

// standing is how far one partition has come.
type standing struct {
	at   int64
	note note
}

// standings reads what is committed of a replay, by partition. Where nothing is, it has not begun. With kadm.RequireStable in the
// context an open transaction is an error.
func standings(ctx context.Context, admin *kadm.Client, row *codecs.Replay) (map[int32]standing, error) {
	committed, err := admin.FetchOffsets(ctx, groupOf(row.ID))
	if err == nil {
		err = committed.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("read how far replay %s has come: %w", row.ID, err)
	}
	out := map[int32]standing{}
	for _, r := range row.Scan {
		s := standing{at: r.From}
		if o, ok := committed.Lookup(r.Topic, r.Partition); ok && o.At >= 0 {
			s.at = max(s.at, o.At)
			if err := json.Unmarshal([]byte(o.Metadata), &s.note); err != nil {
				s.note = note{}
			}
		}
		out[r.Partition] = s
	}
	return out, nil
}

// offsets are standings as they are committed.
func offsets(of map[int32]standing) map[string]map[int32]kafka.Progress {
	out := map[int32]kafka.Progress{}
	for p, s := range of {
		out[p] = kafka.Progress{Offset: s.at, Note: s.note.text()}
	}
	return map[string]map[int32]kafka.Progress{decisions: out}
}

// commit commits progress by itself, apart from what was sent: for flaw.ProgressEarly alone.
func commit(ctx context.Context, admin *kadm.Client, id string, progress map[string]map[int32]kafka.Progress) error {
	var at kadm.Offsets
	for topic, partitions := range progress {
		for p, o := range partitions {
			at.Add(kadm.Offset{Topic: topic, Partition: p, At: o.Offset, LeaderEpoch: -1, Metadata: o.Note})
		}
	}
	return admin.CommitAllOffsets(ctx, groupOf(id), at)
}

// Progress is how far a replay has come.
type Progress struct {
	Total     int64                // offsets of audit-decisions to be looked through
	Looked    int64                // of them
	Verdicts  int64                // on events that were found
	Sent      int64                // permits among them
	Counts    []codecs.ReasonCount // verdicts by reason, the most first
	PerSecond float64              // verdicts, from its begin to the last; 0: none yet
	Left      time.Duration        // at the pace at which offsets were looked through; 0: not known, or over
	Last      time.Time            // when something was committed last; zero: never
}

// Sends says whether a reason is that of a permit, which is sent.
func Sends(reason string) bool {
	return reason == verdict.ReasonConsent || reason == verdict.ReasonRule
}

// ProgressOf tells how far a replay has come, from what it has committed; of one that ended long ago, from its row, which does not
// say how far a cancelled one had come.
func ProgressOf(ctx context.Context, admin *kadm.Client, row *codecs.Replay) (Progress, error) {
	at, err := standings(ctx, admin, row)
	if err != nil {
		return Progress{}, err
	}
	var p Progress
	counts := map[string]int64{}
	for _, r := range row.Scan {
		s := at[r.Partition]
		p.Total += r.To - r.From
		p.Looked += min(s.at, r.To) - r.From
		p.Verdicts += s.note.Looked
		if t := time.UnixMilli(s.note.At); s.note.At > 0 && t.After(p.Last) {
			p.Last = t
		}
		for reason, n := range s.note.Counts {
			counts[reason] += n
		}
	}
	p.Counts = sorted(counts)
	if row.EndedAt > 0 && p.Last.IsZero() { // Kafka has forgotten it (offsets.retention.minutes), and the row has not
		p.Counts, p.Verdicts, p.Last = row.Counts, 0, time.UnixMilli(row.EndedAt)
		for _, c := range p.Counts {
			p.Verdicts += c.Count
		}
		if row.Status == done {
			p.Looked = p.Total
		}
	}
	for _, c := range p.Counts {
		if Sends(c.Reason) {
			p.Sent += c.Count
		}
	}
	if took := p.Last.Sub(time.UnixMilli(row.StartedAt)); row.StartedAt > 0 && took > 0 {
		p.PerSecond = float64(p.Verdicts) / took.Seconds()
		if left := p.Total - p.Looked; left > 0 && p.Looked > 0 {
			p.Left = time.Duration(float64(took) / float64(p.Looked) * float64(left))
		}
	}
	return p, nil
}

// sorted lists counts, the most first.
func sorted(counts map[string]int64) []codecs.ReasonCount {
	var out []codecs.ReasonCount
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, codecs.ReasonCount{Reason: reason, Count: counts[reason]})
	}
	slices.SortStableFunc(out, func(a, b codecs.ReasonCount) int { return int(min(1, max(-1, b.Count-a.Count))) })
	return out
}

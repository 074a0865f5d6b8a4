package audit

import (
	"fmt"
	"slices"
	"time"

	"civicbus/codecs"
)

// Cover shows from the decisions' follows that no record of an event stream was passed over: each decision covers the
// offsets from its follows up to and with its own record, and together they must cover one stretch of each partition, once.
// Gaps between follows and the record are no records (transaction markers, aborted data). That holds of the router, which
// decides each record of its streams. Group profile decides only what it drops, since what it publishes is the router's to
// decide: of its decisions it shows that none was made twice. Decisions of one partition may stand in several chains, when a record
// bore a foreign key, so the whole log is looked at before anything is said. Memory grows with the pieces that do not touch
// each other yet, which in a log that was written in order are few.
//
// What an operator has put on record as a gap counts as looked at: it is no finding, and stands in Gaps.
type Cover struct {
	Gaps []Gap // as they stand in the log, chain by chain

	streams map[stream][]stretch
	twice   map[stream]int64 // offset of the first record that was decided twice, by what comes first in the log
}

type stream struct {
	kind, topic string
	partition   int32
}

// stretch is a half-open interval of offsets.
type stretch struct{ from, to int64 }

// decidesAll is the group that decides each record of the streams that it reads.
const decidesAll = "router"

// NewCover begins with nothing.
func NewCover() *Cover { return &Cover{streams: map[stream][]stretch{}, twice: map[stream]int64{}} }

// Gap is what was put on record of records that a group could not read any more.
type Gap struct {
	Group     string    `json:"group"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	From      int64     `json:"from"` // offset that the group had to read next
	To        int64     `json:"to"`   // offset after the last that is gone; From, where its topic was cut or made anew
	Reason    string    `json:"reason"`
	At        time.Time `json:"at"` // when it was put on record
}

// gapOf reads a gap from its entry; false: the entry is none.
func gapOf(e *codecs.AuditEntry) (Gap, bool) {
	if e.Kind != "command" || e.CommandKind != codecs.KindGap || e.Outcome != "accepted" {
		return Gap{}, false
	}
	return Gap{e.Source, e.Topic, e.Partition, e.Follows, e.Offset + 1, e.Reason, time.UnixMilli(e.At).UTC()}, true
}

// Add takes one entry of a whole chain.
func (c *Cover) Add(e *codecs.AuditEntry) {
	if g, ok := gapOf(e); ok {
		c.Gaps = append(c.Gaps, g)
	}
	if e.Kind == "command" || e.Kind == "unreadable" || e.Follows < 0 || e.Part > 0 {
		return
	}
	k := stream{e.Kind, e.Topic, e.Partition}
	all, twice := put(c.streams[k], stretch{e.Follows, e.Offset + 1})
	if _, ok := c.twice[k]; twice && !ok {
		c.twice[k] = e.Offset
	}
	c.streams[k] = all
}

// put adds a stretch to others, which are in order and do not touch, and says whether it lies over one of them.
func put(all []stretch, s stretch) (_ []stretch, over bool) {
	i, _ := slices.BinarySearchFunc(all, s, func(a, b stretch) int {
		switch {
		case a.to < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	for i > 0 && all[i-1].to >= s.from {
		i--
	}
	j := i
	for j < len(all) && all[j].from <= s.to {
		over = over || max(all[j].from, s.from) < min(all[j].to, s.to)
		s = stretch{min(s.from, all[j].from), max(s.to, all[j].to)}
		j++
	}
	return slices.Replace(all, i, j, s), over
}

// Findings lists what the decisions leave out or have twice, one line a partition of a stream at most of each.
func (c *Cover) Findings() []Finding {
	var all []Finding
	for k, stretches := range c.streams {
		if at, ok := c.twice[k]; ok {
			all = append(all, Finding{Kind: Twice, Detail: fmt.Sprintf("%s/%d: the record at offset %d, or one right before it, was decided twice (%s)", k.topic, k.partition, at, k.kind)})
		}
		for _, g := range c.Gaps {
			if g.Group == k.kind && g.Topic == k.topic && g.Partition == k.partition && g.From < g.To {
				stretches, _ = put(slices.Clone(stretches), stretch{g.From, g.To})
			}
		}
		if len(stretches) > 1 && k.kind == decidesAll {
			all = append(all, Finding{Kind: Undecided, Detail: fmt.Sprintf("%s/%d: no decision about the records from offset %d to %d (%s)",
				k.topic, k.partition, stretches[0].to, stretches[1].from-1, k.kind)})
		}
	}
	slices.SortFunc(all, func(a, b Finding) int {
		switch {
		case a.Detail < b.Detail:
			return -1
		case a.Detail > b.Detail:
			return 1
		}
		return 0
	})
	return all
}

package topology

import (
	"slices"
	"time"
)

const (
	day  = 24 * time.Hour
	year = 365 * day

	forever = -1 * time.Millisecond // Kafka's retention.ms=-1
)

// Key says what a record's key is. Streams that are joined must have the same one.
type Key string

// The keys on the map. Every key but AnyKey names one thing whose records stay in order.
const (
	AnyKey         Key = "any"
	BySubject      Key = "subject"
	ByPairwise     Key = "pairwise subject"
	ByEventType    Key = "event type"
	ByOrganisation Key = "organisation"
	BySubscription Key = "subscription"
	ByLifeEvent    Key = "life event"
	ByRow          Key = "row commanded" // of a command's answer: what the command was keyed by, so it fits any table's key
	ByReplay       Key = "replay"
	ByChain        Key = "chain" // one for each partition, which says nothing
)

// Stream is a Kafka topic that is appended to and expires; a name with a {placeholder} stands for one topic each.
type Stream struct {
	Name  string        // topic, kebab-case or dotted; never "_" (metric names collide on it)
	Key   Key           // what its records are keyed by
	Value string        // record name in schemas/, or whose schema it is
	Keep  time.Duration // retention.ms
}

// Group is one goka processor group. The zero value of a field means it has none of that.
type Group struct {
	Name     string
	About    string   // for people, one line
	In       []Stream // inputs, co-partitioned
	Join     []string // groups whose table is joined by the event's own key
	Lookup   []string // groups whose whole table is held as a view
	Out      []Stream // outputs
	OutEach  []Stream // outputs whose topic is named per record
	Loop     Stream   // what the group sends to itself under the table's key; its inputs may then have other keys
	Table    string   // record name of its table's rows; empty: owns no table
	TableKey Key
}

// Edge is a part that reads or writes streams outside goka.
type Edge struct {
	Name, About string
	In, Out     []Stream
	Lookup      []string
}

// TableTopic is the topic of a group's table: goka's own naming.
func TableTopic(group string) string { return group + "-table" }

// loops is the group's loop, if it has one.
func (g Group) loops() []Stream {
	if g.Loop.Name == "" {
		return nil
	}
	return []Stream{g.Loop}
}

// Consumes are the streams whose offsets the group commits: its inputs and its loop.
func (g Group) Consumes() []Stream { return slices.Concat(g.In, g.loops()) }

// GroupByName finds a group of the map; ok is false for a name that is not on it.
func GroupByName(name string) (g Group, ok bool) {
	for _, g := range Groups {
		if g.Name == name {
			return g, true
		}
	}
	return Group{}, false
}

func event(name string) Stream {
	return Stream{Name: name, Key: BySubject, Value: "the source's own", Keep: 90 * day}
}

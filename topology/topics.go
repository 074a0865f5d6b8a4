package topology

import (
	"sort"
	"strconv"
	"strings"
	"time"
)

// Topic is the wanted state of one Kafka topic.
type Topic struct {
	Name       string
	Partitions int32
	Config     map[string]string // only what civicbus demands; everything else is the cluster's own default
}

// Shape is what the wanted configuration depends on besides the map.
type Shape struct {
	Partitions        int32 // of every topic that is keyed by subject, and of all others too: one number to reason about
	Compact           bool  // tables are compacted; false on a broker whose compaction cannot be trusted with transactions: kept for ever
	SubscriberDays    int   // retention of subscriber topics; 0 = 7
	MinInsyncReplicas int   // 0: the cluster's default
}

// MaxRecordBytes bounds every record on a civicbus topic: one MiB, Kafka's own default for max.message.bytes.
const MaxRecordBytes = 1 << 20

// Topics lists every topic of the map that exists once, by name.
func Topics(shape Shape) []Topic {
	seen := map[string]bool{}
	var all []Topic
	add := func(t Topic) {
		if !seen[t.Name] && !strings.Contains(t.Name, "{") {
			seen[t.Name] = true
			all = append(all, t)
		}
	}
	streams := func(ss []Stream) {
		for _, s := range ss {
			add(shape.stream(s, s.Name))
		}
	}
	for _, g := range Groups {
		streams(g.In)
		streams(g.Out)
		streams(g.loops())
		if g.Table != "" {
			add(shape.table(TableTopic(g.Name)))
		}
	}
	for _, e := range Edges {
		streams(e.In)
		streams(e.Out)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// SubscriberTopic is the wanted state of one subscriber's own topic.
func SubscriberTopic(organisation string, shape Shape) Topic {
	s := Subscriber
	if shape.SubscriberDays > 0 {
		s.Keep = time.Duration(shape.SubscriberDays) * day
	}
	return shape.stream(s, SubscriberTopicName(organisation))
}

// InboxTopic is the wanted state of one Kafka source's inbox.
func InboxTopic(organisation string, shape Shape) Topic {
	return shape.stream(Inbox, InboxTopicName(organisation))
}

// SubscriberTopicName is the topic that one organisation consumes.
func SubscriberTopicName(organisation string) string { return "subscriber." + organisation }

// InboxTopicName is the topic that one organisation publishes to with a Kafka client.
func InboxTopicName(organisation string) string { return "inbox." + organisation }

func (s Shape) stream(st Stream, name string) Topic {
	return s.topic(name, map[string]string{
		"cleanup.policy": "delete",
		"retention.ms":   strconv.FormatInt(st.Keep.Milliseconds(), 10),
	})
}

func (s Shape) table(name string) Topic {
	if !s.Compact {
		return s.topic(name, map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"})
	}
	return s.topic(name, map[string]string{"cleanup.policy": "compact"})
}

func (s Shape) topic(name string, config map[string]string) Topic {
	config["max.message.bytes"] = strconv.Itoa(MaxRecordBytes)
	if s.MinInsyncReplicas > 0 {
		config["min.insync.replicas"] = strconv.Itoa(s.MinInsyncReplicas)
	}
	return Topic{Name: name, Partitions: s.Partitions, Config: config}
}

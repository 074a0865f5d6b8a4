package admin

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"civicbus/internal/kafka"
	"civicbus/topology"
)

// Topic is one topic as it is.
type Topic struct {
	Name        string `json:"name"`
	Present     bool   `json:"present"`
	Partitions  int    `json:"partitions"`
	Offsets     int64  `json:"offsets"` // between the first and the last stable ones, markers included: about the records kept
	Cleanup     string `json:"cleanup"` // cleanup.policy
	RetentionMs string `json:"retentionMs"`
}

// Topics lists the topics of the map and those of single organisations, by name.
func (c *Client) Topics(ctx context.Context) ([]Topic, error) {
	want, err := c.wanted(ctx, topology.Shape{})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(want))
	for i, t := range want {
		names[i] = t.Name
	}
	listed, err := c.admin.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	all := make([]Topic, 0, len(names))
	var present []string
	for _, name := range names {
		d, ok := listed[name]
		t := Topic{Name: name, Present: ok && d.Err == nil}
		if t.Present {
			t.Partitions = len(d.Partitions)
			present = append(present, name)
		}
		all = append(all, t)
	}
	return all, c.describe(ctx, all, present)
}

// describe fills in what the topics hold and how they are configured.
func (c *Client) describe(ctx context.Context, all []Topic, present []string) error {
	if len(present) == 0 {
		return nil
	}
	starts, err := c.admin.ListStartOffsets(ctx, present...)
	if err != nil {
		return fmt.Errorf("list offsets: %w", err)
	}
	ends, err := c.admin.ListCommittedOffsets(ctx, present...)
	if err != nil {
		return fmt.Errorf("list offsets: %w", err)
	}
	configs, err := c.admin.DescribeTopicConfigs(ctx, present...)
	if err != nil {
		return fmt.Errorf("describe topic configurations: %w", err)
	}
	for i := range all {
		t := &all[i]
		for p, end := range ends[t.Name] {
			t.Offsets += end.Offset - starts[t.Name][p].Offset
		}
		for _, r := range configs {
			if r.Name != t.Name {
				continue
			}
			for _, entry := range r.Configs {
				switch entry.Key {
				case "cleanup.policy":
					t.Cleanup = entry.MaybeValue()
				case "retention.ms":
					t.RetentionMs = entry.MaybeValue()
				}
			}
		}
	}
	return nil
}

// Diff says in what the topics, those of single organisations too, are not as they are wanted.
func (c *Client) Diff(ctx context.Context, shape topology.Shape) ([]kafka.Difference, error) {
	want, err := c.wanted(ctx, shape)
	if err != nil {
		return nil, err
	}
	return kafka.Diff(ctx, c.admin, want)
}

// wanted is the map's topics and those that organisations have now.
func (c *Client) wanted(ctx context.Context, shape topology.Shape) ([]topology.Topic, error) {
	want := topology.Topics(shape)
	listed, err := c.admin.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	for _, d := range listed {
		if org, ok := strings.CutPrefix(d.Topic, topology.SubscriberTopicName("")); ok {
			want = append(want, topology.SubscriberTopic(org, shape))
		}
		if org, ok := strings.CutPrefix(d.Topic, topology.InboxTopicName("")); ok {
			want = append(want, topology.InboxTopic(org, shape))
		}
	}
	sort.Slice(want, func(i, j int) bool { return want[i].Name < want[j].Name })
	return want, nil
}

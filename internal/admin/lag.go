package admin

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Lag is how far one group is behind on one partition.
type Lag struct {
	Group     string        `json:"group"`
	Topic     string        `json:"topic"`
	Partition int32         `json:"partition"`
	Committed int64         `json:"committed"` // offset of the next record to be handled; -1: the group has committed none there
	First     int64         `json:"first"`     // offset of the first record that is kept
	Stable    int64         `json:"stable"`    // last stable offset: readers of committed data get no further
	Records   int64         `json:"records"`   // from the first record not handled to Stable, markers between them included; 0: nothing is waiting
	Behind    time.Duration `json:"-"`         // age of the first record not handled
	Seconds   float64       `json:"seconds"`   // Behind

	upTo int64 // between Committed and this there are no records
}

// lagAtOnce bounds the partitions that are looked at together.
const lagAtOnce = 16

// Lag measures groups, by group, topic and partition; no name means every group of the map and the relay.
func (c *Client) Lag(ctx context.Context, groups ...string) ([]Lag, error) {
	if len(groups) == 0 {
		groups = everyGroup()
	}
	var all []Lag
	for _, name := range groups {
		lags, err := c.groupLag(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, lags...)
	}
	return all, nil
}

func (c *Client) groupLag(ctx context.Context, name string) ([]Lag, error) {
	committed, err := c.admin.FetchOffsets(kadm.RequireStable(ctx), name)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // a group that never ran has committed nothing
		return nil, fmt.Errorf("fetch the offsets of group %s: %w", name, err)
	}
	topics := map[string]bool{}
	if g, ok := topology.GroupByName(name); ok {
		for _, s := range g.Consumes() {
			topics[s.Name] = true
		}
	}
	for topic := range committed {
		topics[topic] = true
	}
	var lags []Lag
	var behind []span
	for topic := range topics {
		spans, err := c.whole(ctx, topic)
		if missing(err) {
			continue // a source's inbox that is gone, or a cluster not set up
		}
		if err != nil {
			return nil, err
		}
		for _, s := range spans {
			l := Lag{Group: name, Topic: topic, Partition: s.partition, Committed: -1, First: s.from, Stable: s.to}
			if o, ok := committed.Lookup(topic, s.partition); ok && o.At >= 0 {
				l.Committed, l.upTo, s.from = o.At, kafka.ReadUpTo(o.At, o.Metadata), max(s.from, o.At)
			}
			lags = append(lags, l)
			behind = append(behind, s)
		}
	}
	if err := c.measure(ctx, lags, behind); err != nil {
		return nil, err
	}
	sort.Slice(lags, func(i, j int) bool {
		if lags[i].Topic != lags[j].Topic {
			return lags[i].Topic < lags[j].Topic
		}
		return lags[i].Partition < lags[j].Partition
	})
	return lags, nil
}

// measure finds the first record that waits in each span: between a committed offset and the end there may be none, only
// transaction markers.
func (c *Client) measure(ctx context.Context, lags []Lag, spans []span) error {
	var wait sync.WaitGroup
	slots := make(chan struct{}, lagAtOnce)
	errs := make([]error, len(spans))
	for i, s := range spans {
		if s.from >= s.to {
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			for r, err := range c.read(ctx, s) {
				if err != nil {
					errs[i] = err
					return
				}
				lags[i].Records = s.to - r.Offset
				lags[i].Behind = max(0, time.Since(r.Timestamp))
				lags[i].Seconds = lags[i].Behind.Seconds()
				return
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Difference is one way in which a topic is not as it is wanted.
type Difference struct {
	Topic string `json:"topic"`
	What  string `json:"what"` // missing, partitions, or a configuration key
	Want  string `json:"want"`
	Have  string `json:"have"`
}

// String says it for people.
func (d Difference) String() string {
	if d.What == "missing" {
		return fmt.Sprintf("topic %s is missing, want %s", d.Topic, d.Want)
	}
	return fmt.Sprintf("topic %s: %s is %s, want %s", d.Topic, d.What, d.Have, d.Want)
}

// Fixed says whether the difference cannot be applied: a topic's partition number decides where every key lies.
func (d Difference) Fixed() bool { return d.What == "partitions" }

// Diff compares the cluster's topics with what is wanted, by topic.
func Diff(ctx context.Context, admin *kadm.Client, want []topology.Topic) ([]Difference, error) {
	names := make([]string, len(want))
	for i, t := range want {
		names[i] = t.Name
	}
	have, err := admin.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	var present []string
	for _, t := range want {
		if d, ok := have[t.Name]; ok && d.Err == nil {
			present = append(present, t.Name)
		}
	}
	configs := map[string]map[string]string{}
	if len(present) > 0 {
		described, err := admin.DescribeTopicConfigs(ctx, present...)
		if err != nil {
			return nil, fmt.Errorf("describe topic configurations: %w", err)
		}
		for _, r := range described {
			if r.Err != nil {
				return nil, fmt.Errorf("describe the configuration of topic %s: %w", r.Name, r.Err)
			}
			configs[r.Name] = map[string]string{}
			for _, c := range r.Configs {
				configs[r.Name][c.Key] = c.MaybeValue()
			}
		}
	}
	var diffs []Difference
	for _, t := range want {
		if configs[t.Name] == nil {
			diffs = append(diffs, Difference{t.Name, "missing", fmt.Sprintf("%d partitions", t.Partitions), ""})
			continue
		}
		if n := len(have[t.Name].Partitions); n != int(t.Partitions) {
			diffs = append(diffs, Difference{t.Name, "partitions", fmt.Sprint(t.Partitions), fmt.Sprint(n)})
		}
		keys := make([]string, 0, len(t.Config))
		for k := range t.Config {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			if v := configs[t.Name][k]; v != t.Config[k] {
				diffs = append(diffs, Difference{t.Name, k, t.Config[k], v})
			}
		}
	}
	return diffs, nil
}

// Apply creates what is missing and sets what differs, then looks again: what is still different is an error that names
// it. A partition number is never changed.
func Apply(ctx context.Context, admin *kadm.Client, want []topology.Topic, replication int16) ([]Difference, error) {
	diffs, err := Diff(ctx, admin, want)
	if err != nil {
		return nil, err
	}
	byName := map[string]topology.Topic{}
	for _, t := range want {
		byName[t.Name] = t
	}
	var errs []error
	for _, d := range diffs {
		t := byName[d.Topic]
		switch {
		case d.Fixed():
			errs = append(errs, errors.New(d.String()+": it is fixed when the topic is created"))
		case d.What == "missing":
			config := map[string]*string{}
			for k, v := range t.Config {
				config[k] = &v
			}
			if _, err := admin.CreateTopic(ctx, t.Partitions, replication, config, t.Name); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				errs = append(errs, fmt.Errorf("create topic %s: %w", t.Name, err))
			}
		default:
			v := d.Want
			res, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: d.What, Value: &v}}, d.Topic)
			for _, r := range res {
				err = errors.Join(err, r.Err)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("set %s of topic %s: %w", d.What, d.Topic, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return diffs, err
	}
	return diffs, settle(ctx, admin, want)
}

// settle waits until the cluster shows what it was told: a new topic is known a moment later than its creation is answered.
func settle(ctx context.Context, admin *kadm.Client, want []topology.Topic) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := Verify(ctx, admin, want)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Verify is an error that names every difference.
func Verify(ctx context.Context, admin *kadm.Client, want []topology.Topic) error {
	diffs, err := Diff(ctx, admin, want)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range diffs {
		errs = append(errs, errors.New(d.String()))
	}
	return errors.Join(errs...)
}

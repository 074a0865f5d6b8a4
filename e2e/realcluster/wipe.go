package realcluster

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// wipeAgain is how often a group that still has members, or a topic that is being deleted, is looked at again.
const wipeAgain = 50 * time.Millisecond

// Wipe deletes every topic and group, and returns once none is left, or with the context's error.
func (c *Cluster) Wipe(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.MetadataMinAge(wipeAgain)) // else kadm lists for 5 s what is gone
	if err != nil {
		return fmt.Errorf("wipe the cluster: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	tick := time.NewTicker(wipeAgain)
	defer tick.Stop()
	for {
		left, err := wipe(ctx, admin)
		if err == nil && left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wipe the cluster: %w; %d topics and groups are left (%w)", ctx.Err(), left, err)
		}
	}
}

// wipe deletes what there is and counts it: groups first, since a topic that is read may be made again.
func wipe(ctx context.Context, admin *kadm.Client) (found int, err error) {
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return 0, err
	}
	if len(groups) > 0 {
		if err := empty(ctx, admin, groups.Groups()); err != nil {
			return len(groups), err
		}
		_, err = admin.DeleteGroups(ctx, groups.Groups()...)
		return len(groups), err
	}
	topics, err := admin.ListTopics(ctx)
	if err != nil || len(topics) == 0 {
		return 0, err
	}
	_, err = admin.DeleteTopics(ctx, topics.Names()...)
	return len(topics), err
}

// empty ends the memberships that outlive their process: a static member stays until its session has timed out.
func empty(ctx context.Context, admin *kadm.Client, groups []string) error {
	described, err := admin.DescribeGroups(ctx, groups...)
	if err != nil {
		return err
	}
	for name, g := range described {
		var left []string
		for i := range g.Members {
			if id := g.Members[i].InstanceID; id != nil {
				left = append(left, *id)
			}
		}
		if len(left) == 0 {
			continue
		}
		if _, err := admin.LeaveGroup(ctx, kadm.LeaveGroup(name).InstanceIDs(left...).Reason("the test is over")); err != nil {
			return err
		}
	}
	return nil
}

package admin

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"civicbus/topology"
)

// Retention says how long a topic keeps what events say of people.
type Retention struct {
	Topic string
	Keep  time.Duration // Forever: it is not configured to expire
}

// Forever is the Keep of a topic that does not expire.
const Forever = time.Duration(math.MaxInt64)

// personal are the values on the map that hold an event's data: whole, cut down, or inside a dead letter. All other streams
// and the tables hold pseudonyms, versions and reasons, or rows that an erasure takes away.
var personal = []string{topology.Admitted.Value, topology.Subscriber.Value, topology.DeadLetters.Value}

// PersonalData lists the topics that hold what events say of people, as they are configured now, the longest kept first.
func (c *Client) PersonalData(ctx context.Context) ([]Retention, error) {
	topics, err := c.Topics(ctx)
	if err != nil {
		return nil, err
	}
	var all []Retention
	for _, t := range topics {
		if !t.Present || !holdsPersonal(t.Name) {
			continue
		}
		ms, err := strconv.ParseInt(t.RetentionMs, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read retention.ms of topic %s: %w", t.Name, err)
		}
		keep := Forever
		if ms >= 0 && ms < Forever.Milliseconds() {
			keep = time.Duration(ms) * time.Millisecond
		}
		all = append(all, Retention{t.Name, keep})
	}
	if len(all) == 0 {
		return nil, ErrNotApplied
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Keep > all[j].Keep })
	return all, nil
}

// ExpiredBy is when the last of what these topics, the longest kept first, hold at a time has expired; ends is false when
// some of it never does. Kafka deletes whole segments, so the bytes may lie on a disk for a little longer.
func ExpiredBy(at time.Time, kept []Retention) (by time.Time, ends bool) {
	if kept[0].Keep == Forever {
		return time.Time{}, false
	}
	return at.Add(kept[0].Keep), true
}

// holdsPersonal says whether a topic is one of a stream whose value holds personal data.
func holdsPersonal(topic string) bool {
	return slices.ContainsFunc(topology.Streams(), func(s topology.Stream) bool {
		prefix, _, each := strings.Cut(s.Name, "{")
		return slices.Contains(personal, s.Value) && (s.Name == topic || each && strings.HasPrefix(topic, prefix))
	})
}

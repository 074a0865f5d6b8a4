package kafka

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wholeBalancer assigns partition numbers whole: the member that has number p has partition p of every input, or none of
// them. goka demands it (it joins them), and refuses a session whose topics were claimed unevenly; Kafka's own balancers
// give no such promise while a rolling restart adds a stream and members differ in what they subscribe to.
//
// A number stays with the member that had it last, as far as the load stays even: what moves must re-read its tables. Who had
// what is told to every member with its assignment, under instance ids, so that whoever leads next knows it. It is not told in
// the join metadata, which are the same each time: a process that comes back under its instance id with what it joined with
// before is given what it had, at once, and nobody else has to join anew. A leader that knows nothing yet (it was restarted
// while the group was joining) deals anew; members come in the order of their instance ids, so the same group gets the same.
type wholeBalancer struct {
	mu   sync.Mutex
	last map[string][]int32 // numbers by instance id, as far as this process was told; nil: not at all
}

// ProtocolName names the protocol; members with another one cannot join the same group, which is what we want.
func (*wholeBalancer) ProtocolName() string { return "civicbus-whole" }

// IsCooperative is false: a session ends and begins with all its partitions, as goka's does.
func (*wholeBalancer) IsCooperative() bool { return false }

// JoinGroupMetadata tells the topics, and nothing that would be different after a restart.
func (*wholeBalancer) JoinGroupMetadata(topics []string, _ map[string][]int32, _ int32) []byte {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = slices.Sorted(slices.Values(topics))
	return meta.AppendTo(nil)
}

// ParseSyncAssignment reads the consumer protocol's assignment, and remembers what everyone has.
func (b *wholeBalancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	var a kmsg.ConsumerMemberAssignment
	if len(assignment) == 0 {
		return nil, nil
	}
	if err := a.ReadFrom(assignment); err != nil {
		return nil, fmt.Errorf("read the group's assignment: %w", err)
	}
	var all map[string][]int32
	if json.Unmarshal(a.UserData, &all) == nil { // else it was made by a leader of another release, who tells nothing
		b.mu.Lock()
		b.last = all
		b.mu.Unlock()
	}
	claims := map[string][]int32{}
	for _, t := range a.Topics {
		claims[t.Topic] = t.Partitions
	}
	return claims, nil
}

// MemberBalancer reads every member's metadata.
func (b *wholeBalancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	b.mu.Lock()
	last := b.last
	b.mu.Unlock()
	plan := &wholePlan{}
	topics := map[string]struct{}{}
	for i := range members {
		var meta kmsg.ConsumerMemberMetadata
		if err := meta.ReadFrom(members[i].ProtocolMetadata); err != nil {
			return nil, nil, fmt.Errorf("read the join metadata of member %s: %w", members[i].MemberID, err)
		}
		m := wholeMember{id: members[i].MemberID, name: members[i].MemberID, topics: meta.Topics}
		if members[i].InstanceID != nil {
			m.name = *members[i].InstanceID
		}
		m.owned = last[m.name]
		for _, t := range meta.Topics {
			topics[t] = struct{}{}
		}
		plan.members = append(plan.members, m)
	}
	return plan, topics, nil
}

type wholeMember struct {
	id, name string
	topics   []string
	owned    []int32
}

type wholePlan struct{ members []wholeMember }

// Balance deals the numbers out. A topic that a member does not subscribe to is left out of its claims only if no other
// member does either: while a group mixes old and new inputs, the new inputs wait rather than break a session.
func (p *wholePlan) Balance(topics map[string]int32) kgo.IntoSyncAssignment {
	common := p.common(topics)
	var n int32
	for _, t := range common {
		n = max(n, topics[t])
	}
	numbers := assignWhole(n, p.members)
	out := consumerPlan{claims: map[string]map[string][]int32{}, all: map[string][]int32{}}
	for i, m := range p.members {
		out.claims[m.id] = map[string][]int32{}
		if len(numbers[i]) == 0 {
			continue
		}
		out.all[m.name] = numbers[i]
		for _, t := range common {
			out.claims[m.id][t] = numbers[i]
		}
	}
	return out
}

// common lists the topics that every member subscribes to and that exist, sorted.
func (p *wholePlan) common(topics map[string]int32) []string {
	count := map[string]int{}
	for _, m := range p.members {
		for _, t := range m.topics {
			count[t]++
		}
	}
	var all []string
	for t, n := range count {
		if n == len(p.members) && topics[t] > 0 {
			all = append(all, t)
		}
	}
	sort.Strings(all)
	return all
}

// assignWhole deals the numbers [0, n) to the members, each at most one more than another, keeping what a member owned.
// The result is aligned with members; numbers are ascending.
func assignWhole(n int32, members []wholeMember) [][]int32 {
	out := make([][]int32, len(members))
	if len(members) == 0 {
		return out
	}
	low, extra := int(n)/len(members), int(n)%len(members)
	taken := make([]bool, n)
	for i, m := range members { // what was owned stays, up to a fair share
		share := low
		if extra > 0 && len(m.owned) > low {
			share++
		}
		for _, p := range m.owned {
			if p >= 0 && p < n && !taken[p] && len(out[i]) < share {
				taken[p] = true
				out[i] = append(out[i], p)
			}
		}
		if len(out[i]) > low {
			extra--
		}
	}
	var free []int32
	for p := range n {
		if !taken[p] {
			free = append(free, p)
		}
	}
	for i := range members { // fill up to the low share, then hand out the remainder
		for len(out[i]) < low && len(free) > 0 {
			out[i], free = append(out[i], free[0]), free[1:]
		}
	}
	for i := 0; len(free) > 0; i++ {
		if len(out[i]) == low {
			out[i], free = append(out[i], free[0]), free[1:]
		}
	}
	for i := range out {
		sort.Slice(out[i], func(a, b int) bool { return out[i][a] < out[i][b] })
	}
	return out
}

// consumerPlan is what the consumer protocol's assignments are written from: each member's claims, and what all have.
type consumerPlan struct {
	claims map[string]map[string][]int32 // by member id
	all    map[string][]int32            // numbers by instance id
}

// IntoSyncAssignment encodes each member's claims; the same plan gives the same bytes.
func (p consumerPlan) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment {
	told, err := json.Marshal(p.all)
	if err != nil {
		told = nil // which a map of numbers never is; a leader that knows nothing deals anew
	}
	var all []kmsg.SyncGroupRequestGroupAssignment
	for id, claims := range p.claims {
		a := kmsg.ConsumerMemberAssignment{UserData: told}
		for _, t := range slices.Sorted(maps.Keys(claims)) {
			at := kmsg.NewConsumerMemberAssignmentTopic()
			at.Topic, at.Partitions = t, claims[t]
			a.Topics = append(a.Topics, at)
		}
		g := kmsg.NewSyncGroupRequestGroupAssignment()
		g.MemberID, g.MemberAssignment = id, a.AppendTo(nil)
		all = append(all, g)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].MemberID < all[j].MemberID })
	return all
}

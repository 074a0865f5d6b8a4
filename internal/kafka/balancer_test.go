package kafka

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// TestAssignWhole: every number goes to exactly one member, loads differ by one at most, and a member keeps what it had
// as far as that allows.
func TestAssignWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int32Range(0, 70).Draw(t, "partitions")
		members := make([]wholeMember, rapid.IntRange(1, 9).Draw(t, "members"))
		free := make([]int32, n)
		for i := range free {
			free[i] = int32(i)
		}
		overlap := rapid.Bool().Draw(t, "overlap") // a member that was replaced may still claim what another has now
		for i := range members {
			members[i].id = fmt.Sprint("m", i)
			k := rapid.IntRange(0, int(n)).Draw(t, "owned")
			if overlap {
				members[i].owned = append([]int32{-1, n}, free[:k]...)
				continue
			}
			k = min(k, len(free))
			members[i].owned, free = slices.Clone(free[:k]), free[k:]
		}
		got := assignWhole(n, members)
		seen := map[int32]int{}
		low, high := int(n)/len(members), int(n)/len(members)
		if int(n)%len(members) > 0 {
			high++
		}
		for i, ps := range got {
			if len(ps) < low || len(ps) > high || !slices.IsSorted(ps) {
				t.Fatalf("member %d has %v, want %d to %d of them", i, ps, low, high)
			}
			for _, p := range ps {
				seen[p]++
				if p < 0 || p >= n || seen[p] > 1 {
					t.Fatalf("number %d is dealt %d times", p, seen[p])
				}
			}
			if overlap {
				continue
			}
			kept := 0
			for _, p := range ps {
				if slices.Contains(members[i].owned, p) {
					kept++
				}
			}
			if kept < min(len(members[i].owned), low) {
				t.Fatalf("member %d kept %d of %v, its share is at least %d: %v", i, kept, members[i].owned, low, ps)
			}
		}
		if len(seen) != int(n) {
			t.Fatalf("%d of %d numbers are dealt", len(seen), n)
		}
		if !overlap { // what was dealt stays when nothing changes
			for i := range members {
				members[i].owned = got[i]
			}
			for i, ps := range assignWhole(n, members) {
				if !slices.Equal(ps, got[i]) {
					t.Fatalf("member %d had %v and got %v", i, got[i], ps)
				}
			}
		}
	})
}

// balance runs a whole round of the protocol, led by the first member: metadata, plan, assignments as the members read them.
// The members' names are their instance ids; each round gives them new member ids.
func balance(t *testing.T, topics map[string]int32, members map[string][]string, who map[string]*wholeBalancer, round string) map[string]map[string][]int32 {
	t.Helper()
	var join []kmsg.JoinGroupResponseMember
	names := slices.Sorted(maps.Keys(members))
	for _, name := range names {
		if who[name] == nil {
			who[name] = &wholeBalancer{}
		}
		m := kmsg.NewJoinGroupResponseMember()
		m.MemberID, m.InstanceID, m.ProtocolMetadata = round+name, &name, who[name].JoinGroupMetadata(members[name], nil, 3)
		join = append(join, m)
	}
	plan, _, err := who[names[0]].MemberBalancer(join)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string][]int32{}
	for _, a := range plan.Balance(topics).IntoSyncAssignment() {
		name := strings.TrimPrefix(a.MemberID, round)
		claims, err := who[name].ParseSyncAssignment(a.MemberAssignment)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = claims
	}
	return out
}

// TestBalancerRemembers: what a member had stays with it when others come and go and the leader changes; told by nothing but the
// last assignment.
func TestBalancerRemembers(t *testing.T) {
	topics := map[string]int32{"a": 6}
	in := func(names ...string) map[string][]string {
		m := map[string][]string{}
		for _, n := range names {
			m[n] = []string{"a"}
		}
		return m
	}
	who := map[string]*wholeBalancer{}
	first := balance(t, topics, in("c", "d"), who, "1")
	more := balance(t, topics, in("c", "d", "e"), who, "2")
	for _, name := range []string{"c", "d"} {
		for _, p := range more[name]["a"] {
			if !slices.Contains(first[name]["a"], p) {
				t.Errorf("%s had %v and was given %d when a third came", name, first[name]["a"], p)
			}
		}
	}
	who["a"] = &wholeBalancer{} // it leads, and was never told anything
	led := balance(t, topics, in("a", "c", "d", "e"), who, "3")
	for round, name := range []string{"d", "e"} { // each of those that stay leads once
		delete(led, "a")
		members := maps.Clone(in("c", "d", "e"))
		if name == "e" {
			delete(members, "c")
		}
		again := balance(t, topics, members, who, fmt.Sprint("x", round))
		for who, claims := range again {
			for _, p := range led[who]["a"] {
				if !slices.Contains(claims["a"], p) {
					t.Errorf("%s had %v and got %v", who, led[who]["a"], claims["a"])
				}
			}
		}
		led = again
	}
}

// TestBalancerTellsNothingNew: a member joins with the same bytes whatever it was assigned, and whatever order its topics come in.
func TestBalancerTellsNothingNew(t *testing.T) {
	b := &wholeBalancer{}
	first := b.JoinGroupMetadata([]string{"a", "b"}, nil, -1)
	if _, err := b.ParseSyncAssignment(consumerPlan{claims: map[string]map[string][]int32{"m": {"a": {1}}}, all: map[string][]int32{"i": {1}}}.IntoSyncAssignment()[0].MemberAssignment); err != nil {
		t.Fatal(err)
	}
	if again := b.JoinGroupMetadata([]string{"b", "a"}, map[string][]int32{"a": {1}}, 7); !bytes.Equal(first, again) {
		t.Errorf("joined with %x, then with %x", first, again)
	}
}

func TestBalancerKeepsPartitionNumbersWhole(t *testing.T) {
	topics := map[string]int32{"a": 4, "b": 4, "new": 4}
	got := balance(t, topics, map[string][]string{"1": {"a", "b"}, "2": {"b", "a", "new"}, "3": {"a", "b", "gone"}}, map[string]*wholeBalancer{"1": {last: map[string][]int32{"2": {3, 1}}}}, "")
	if len(got) != 3 || !slices.Contains(got["2"]["a"], 3) {
		t.Fatalf("%v", got)
	}
	for id, claims := range got {
		if len(claims) != 2 || !slices.Equal(claims["a"], claims["b"]) {
			t.Errorf("member %s has %v: want the same numbers of the two topics that all of them read", id, claims)
		}
	}
	more := balance(t, topics, map[string][]string{"1": {"a"}, "2": {"a"}, "3": {"a"}, "4": {"a"}, "5": {"a"}}, map[string]*wholeBalancer{}, "")
	empty := 0
	for _, claims := range more {
		if len(claims) == 0 {
			empty++
		}
	}
	if len(more) != 5 || empty != 1 {
		t.Fatalf("five members of four partitions: %v", more)
	}
}

func TestBalancerRefusesWhatItCannotRead(t *testing.T) {
	b := &wholeBalancer{}
	m := kmsg.NewJoinGroupResponseMember()
	m.MemberID, m.ProtocolMetadata = "m", []byte{0, 1, 0, 0, 0, 9}
	if _, _, err := b.MemberBalancer([]kmsg.JoinGroupResponseMember{m}); err == nil {
		t.Fatal("half a metadata was read")
	}
	if _, err := b.ParseSyncAssignment([]byte{0, 1, 0, 0, 0, 9}); err == nil {
		t.Fatal("half an assignment was read")
	}
	if b.IsCooperative() || b.ProtocolName() == kgo.RangeBalancer().ProtocolName() {
		t.Fatal("the protocol must be eager and our own")
	}
}

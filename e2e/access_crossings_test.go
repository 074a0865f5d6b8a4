package e2e

import (
	"errors"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/access"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// neighbours are ids that a careless pattern would take for one another.
var neighbours = []string{"a", "a.a", "a.b", "a.b.c", "a-b", "a-a", "aa", "ab", "b", "b.a", "oma.fi", "oma.fi.south", "oma.fi-south", "oma", "fi", "subscriber", "inbox", "router", "civicbus.fi", "everyone"}

// TestNobodyReachesAnother tries, for each ordered pair of twenty subscribers, every request that could show or change
// something of the other's topic, inbox, groups and replays. Each is also tried on one's own, where it is answered, so that a refusal
// says something.
func TestNobodyReachesAnother(t *testing.T) {
	b := secured(t)
	ids := make([]string, 0, len(neighbours))
	b.smallWorld(func(w *examples.World) {
		var o codecs.Organisation
		var s codecs.Subscription
		for _, x := range w.Organisations {
			if x.ID == post {
				o = x
			}
		}
		for _, x := range w.Subscriptions {
			if x.ID == postSub {
				s = x
			}
		}
		for _, id := range neighbours {
			ids = append(ids, id)
			org, sub := subscriberLike(o, s, id)
			w.Organisations, w.Subscriptions = append(w.Organisations, org), append(w.Subscriptions, sub)
		}
	})
	op := b.operator()
	b.granted(op)
	a, err := op.Access(b.t.Context(), quotas)
	b.must(err)
	clients := map[string]*kgo.Client{}
	for _, id := range ids {
		password, err := access.Issue(b.t.Context(), b.client, a.Wanted[id], a.Have, superuser)
		b.must(err)
		c := access.NewClient(a.Wanted[id], password)
		c.Brokers = b.cfg.Connection.Brokers
		clients[id] = b.as(c, kgo.MaxVersions(kversion.V2_8_0())) // the last that fetches by a topic's name
	}
	tries, crossings, answered := 0, 0, 0
	for _, from := range ids {
		for _, to := range ids {
			for what, ask := range b.intrusions(to) {
				code, err := ask(clients[from])
				if err == nil {
					err = kerr.ErrorForCode(code)
				}
				no := refused(err)
				if !no && !errors.As(err, new(*kerr.Error)) && err != nil {
					b.t.Fatalf("%s asks for %s of %s: %v", from, what, to, err)
				}
				switch {
				case from == to && !no:
					answered++
				case from == to && !strings.HasPrefix(what, "!"):
					b.t.Errorf("%s: %s of its own: %v", from, what, err)
				case from != to:
					tries++
					if !no {
						crossings++
						b.t.Errorf("%s reaches %s: %s: %v", from, to, what, err)
					}
				}
			}
		}
	}
	if want := len(ids) * 7; answered != want {
		b.t.Errorf("%d requests about one's own were answered, want %d", answered, want)
	}
	b.t.Logf("%d ordered pairs, %d requests, %d crossings", len(ids)*(len(ids)-1), tries, crossings)
	seen, err := kadm.NewClient(clients["a"]).ListTopics(b.t.Context())
	b.must(err)
	for name := range seen {
		if name != topology.SubscriberTopicName("a") && name != topology.InboxTopicName("a") {
			b.t.Errorf("a sees that there is %s", name)
		}
	}
}

// intrusions are requests about an organisation's topic, inbox and groups, each with how to find the error in its answer. One
// whose name begins with ! nobody may make, about one's own neither.
func (b *bus) intrusions(of string) map[string]func(*kgo.Client) (int16, error) {
	ctx := b.t.Context()
	topic, inbox, group := topology.SubscriberTopicName(of), topology.InboxTopicName(of), access.GroupPrefix(of)+"reader"
	produce := func(topic string) func(*kgo.Client) (int16, error) {
		return func(cl *kgo.Client) (int16, error) {
			req := kmsg.NewPtrProduceRequest()
			req.Acks, req.TimeoutMillis = -1, 1000
			req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: []byte{0}}}}}
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.Topics[0].Partitions[0].ErrorCode, nil
		}
	}
	fetch := func(topic string) func(*kgo.Client) (int16, error) {
		return func(cl *kgo.Client) (int16, error) {
			partition := kmsg.NewFetchRequestTopicPartition()
			partition.PartitionMaxBytes = 1 << 20
			req := kmsg.NewPtrFetchRequest()
			req.MaxBytes = 1 << 20
			req.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{partition}}}
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.Topics[0].Partitions[0].ErrorCode, nil
		}
	}
	offsets := func(group string) func(*kgo.Client) (int16, error) {
		return func(cl *kgo.Client) (int16, error) {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Group = group
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.ErrorCode, nil
		}
	}
	return map[string]func(*kgo.Client) (int16, error){
		"describe the topic": func(cl *kgo.Client) (int16, error) {
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.Topics[0].ErrorCode, nil
		},
		"fetch": fetch(topic),
		"list offsets": func(cl *kgo.Client) (int16, error) {
			req := kmsg.NewPtrListOffsetsRequest()
			req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: -1}}}}
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.Topics[0].Partitions[0].ErrorCode, nil
		},
		"join the group": func(cl *kgo.Client) (int16, error) {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = group, 6000, 6000, "consumer"
			req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.ErrorCode, nil
		},
		"fetch the group's offsets": offsets(group),
		"describe the group": func(cl *kgo.Client) (int16, error) {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Groups = []string{group}
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.Groups[0].ErrorCode, nil
		},
		"write to the inbox":  produce(inbox),
		"!write to the topic": produce(topic),
		"!delete the group": func(cl *kgo.Client) (int16, error) {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Groups = []string{group}
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.Groups[0].ErrorCode, nil
		},
		"!fetch the inbox":         fetch(inbox),
		"!command a replay":        produce(topology.ReplayCommands.Name), // what the command line does for an operator
		"!read what was decided":   fetch(topology.Decisions.Name),
		"!see a replay's progress": offsets("replay." + of),
	}
}

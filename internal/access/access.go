// Package access gives each trusted organisation its own way to Kafka, and nothing else: a user, rights on its own topics,
// quotas. What an organisation should have follows from its row in the trust registry and its subscriptions; the package
// reads what it has, shows the difference and carries it out.
//
// Its rules:
//   - A subscriber reads its topic and its consumer groups, a source writes its inbox, and nobody has a right beside those.
//     Rights follow the rows within seconds; what an organisation loses is taken away before anything is given.
//   - A user is an organisation's id, with SCRAM-SHA-512. It is made by an operator's hand alone (Issue), because somebody
//     must be told the password: it is shown once, to whoever asked, and kept nowhere but as Kafka's verifier.
//   - Only organisations' users are looked at. Users, rights and quotas of others on the same cluster stay as they are, and
//     so does what denies: it takes nothing from the promise.
//   - All of it is idempotent, so that any number of processes may do it at once.
package access

import (
	"cmp"
	"slices"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Right is one ACL that allows.
type Right struct {
	Resource  kmsg.ACLResourceType
	Name      string
	Pattern   kmsg.ACLResourcePatternType
	Operation kmsg.ACLOperation
	Host      string // from where it may be used; *: from anywhere, as every wanted one
}

const anyHost = "*"

// String says it for people: read topic subscriber.kela.fi.
func (r Right) String() string {
	name := r.Name
	if r.Pattern == kmsg.ACLResourcePatternTypePrefixed {
		name += "*"
	}
	text := word(r.Operation.String()) + " " + word(r.Resource.String()) + " " + name
	if r.Host != anyHost {
		text += " from " + r.Host
	}
	return text
}

// The quotas of a user, as Kafka names them. The byte rates are for each broker by itself.
const (
	readRate    = "consumer_byte_rate"
	writeRate   = "producer_byte_rate"
	requestRate = "request_percentage"
)

// Limits are the quotas of each organisation's user whose row has none of its own. Zero is none.
type Limits struct {
	ReadBytes      int64   // bytes a second that it may fetch from one broker
	WriteBytes     int64   // bytes a second that it may produce to one broker
	RequestPercent float64 // of one broker's request handler time; 100 is one thread
}

// Wanted is what one organisation should have.
type Wanted struct {
	Organisation string
	User         bool // it may have a user: it is not revoked
	Rights       []Right
	Quotas       map[string]float64
}

// GroupPrefix begins the names of an organisation's consumer groups. No id has a colon, so no organisation's prefix begins
// another's, as "kela.fi." would begin that of kela.fi.south.
func GroupPrefix(organisation string) string { return organisation + ":" }

// Want says what each organisation should have, by its id. An organisation that is not active has no right; one that is
// suspended keeps its user, so that its password works again when it is resumed.
func Want(organisations []*codecs.Organisation, subscriptions []*codecs.Subscription, limits Limits) map[string]Wanted {
	reads := map[string]bool{}
	for _, s := range subscriptions {
		if s.Delivery.Kind == deliveredByKafka && slices.Contains(standing, s.Status) {
			reads[s.Subscriber] = true
		}
	}
	wanted := make(map[string]Wanted, len(organisations))
	for _, o := range organisations {
		w := Wanted{Organisation: o.ID, User: o.Status != verdict.StatusRevoked, Quotas: map[string]float64{}}
		if o.Status == verdict.StatusActive {
			w.Rights = rights(o, reads[o.ID] && len(o.Receives) > 0)
		}
		if w.User {
			w.Quotas = limits.of(o).quotas()
		}
		wanted[o.ID] = w
	}
	return wanted
}

const deliveredByKafka = "kafka"

// standing are the states of a subscription that has been approved and not revoked. What a paused one was sent before may
// still be read.
var standing = []string{verdict.StatusActive, verdict.StatusActivating, "paused"}

func rights(o *codecs.Organisation, reads bool) []Right {
	var all []Right
	add := func(resource kmsg.ACLResourceType, name string, pattern kmsg.ACLResourcePatternType, operations ...kmsg.ACLOperation) {
		for _, op := range operations {
			all = append(all, Right{resource, name, pattern, op, anyHost})
		}
	}
	if reads {
		add(kmsg.ACLResourceTypeTopic, topology.SubscriberTopicName(o.ID), kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
		add(kmsg.ACLResourceTypeGroup, GroupPrefix(o.ID), kmsg.ACLResourcePatternTypePrefixed, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
	}
	if o.Inbox {
		// An idempotent producer needs no more (KIP-679). A transactional one would: it is not given, since a transaction that
		// is left open would hold up the relay of the inbox.
		add(kmsg.ACLResourceTypeTopic, topology.InboxTopicName(o.ID), kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe)
	}
	slices.SortFunc(all, compare)
	return all
}

func (r Right) reads() bool {
	return r.Resource == kmsg.ACLResourceTypeTopic && r.Operation == kmsg.ACLOperationRead
}

func (r Right) writes() bool {
	return r.Resource == kmsg.ACLResourceTypeTopic && r.Operation == kmsg.ACLOperationWrite
}

func compare(a, b Right) int {
	return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Host, b.Host))
}

// of are an organisation's own limits, where its row has some.
func (l Limits) of(o *codecs.Organisation) Limits {
	if o.ReadBytes > 0 {
		l.ReadBytes = o.ReadBytes
	}
	if o.WriteBytes > 0 {
		l.WriteBytes = o.WriteBytes
	}
	return l
}

func (l Limits) quotas() map[string]float64 {
	q := map[string]float64{}
	for key, v := range map[string]float64{readRate: float64(l.ReadBytes), writeRate: float64(l.WriteBytes), requestRate: l.RequestPercent} {
		if v > 0 {
			q[key] = v
		}
	}
	return q
}

//go:build synctests

package e2e

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// chaosEvent is one published event, which may have been published several times.
type chaosEvent struct {
	id, who string
	way     string // in; among the events of one way order holds
	number  int
	at      time.Time // of its last acceptance
}

// inboxNumbers is where the numbers of the events begin that come by an inbox.
const inboxNumbers = 100_000

// accepted notes that an event is in.
func (c *chaosRun) accepted(e chaosEvent) {
	e.at = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.model.events[c.b.keys.LifeEvent(registerSite, e.id)] = &e
}

// publish publishes moves one after another, each until it is accepted and sometimes once more.
func (c *chaosRun) publish(ctx context.Context) {
	defer c.work.Done()
	rng := rand.New(rand.NewPCG(c.seed, 2))
	p, err := c.door.Publisher()
	if err != nil {
		c.breach("publish: %v", err)
		return
	}
	defer p.Close()
	for n := 1; ctx.Err() == nil; n++ {
		c.b.pass(time.Duration(50+rng.IntN(500)) * time.Millisecond)
		e := chaosEvent{id: "move-" + strconv.Itoa(n), who: person(rng.IntN(chaosPeople)), way: "door", number: n}
		for times := 1 + rng.IntN(5)/4; times > 0; {
			for in, err := range admission.ReadEvents(strings.NewReader(string(moved(e.id, e.who, strconv.Itoa(n)))), register) {
				if err != nil {
					c.breach("read event: %v", err)
					return
				}
				if a := p.Publish(context.Background(), register, []*admission.Input{in})[0]; a.Status != admission.Accepted {
					c.b.pass(200 * time.Millisecond)
					continue
				}
				times--
				c.accepted(e)
			}
		}
	}
}

// write writes moves into the source's inbox as its own client does, sometimes one of the last ones again, and now and then under
// a new version of the schema. An inbox partition is a person's, so that order holds.
func (c *chaosRun) write(ctx context.Context) {
	defer c.work.Done()
	rng := rand.New(rand.NewPCG(c.seed, 5))
	cl, err := c.b.cfg.Connection.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		c.breach("write to the inbox: %v", err)
		return
	}
	defer cl.Close()
	newest, err := c.b.registry.Latest(context.Background(), c.moves.RegistrySubject)
	if err != nil {
		c.breach("write to the inbox: %v", err)
		return
	}
	schemas := []*codecs.Schema{newest}
	var last []*kgo.Record
	for n := 1; ctx.Err() == nil; {
		c.b.pass(time.Duration(300+rng.IntN(1700)) * time.Millisecond)
		if c.planned(rng) && len(schemas) < chaosVersions {
			newest = c.b.nextVersion(c.moves.RegistrySubject, newest, "extra"+strconv.Itoa(len(schemas)))
			schemas = append(schemas, newest)
		}
		var burst []*kgo.Record
		var events []chaosEvent
		for range 1 + rng.IntN(6) {
			e := chaosEvent{id: "inbox-" + strconv.Itoa(n), who: person(rng.IntN(chaosPeople)), way: "inbox", number: inboxNumbers + n}
			schema := schemas[max(len(schemas)-1-rng.IntN(2), 0)] // not all of the source is upgraded at once
			burst = append(burst, &kgo.Record{Topic: topology.InboxTopicName(register), Partition: kafka.Partition([]byte(e.who), c.b.cfg.Shape.Partitions), Value: c.b.avro(schema, moveData(e.who, strconv.Itoa(e.number))),
				Headers: []kgo.RecordHeader{{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(e.id)}, {Key: "ce_source", Value: []byte(registerSite)},
					{Key: "ce_type", Value: []byte(moveType)}, {Key: "content-type", Value: []byte("application/avro")}}})
			events = append(events, e)
			n++
		}
		fresh := burst
		if len(last) > 0 && rng.IntN(3) == 0 {
			again := last[rng.IntN(len(last))]
			burst = append(burst, &kgo.Record{Topic: again.Topic, Partition: again.Partition, Value: again.Value, Headers: again.Headers})
		}
		if err := cl.ProduceSync(context.Background(), burst...).FirstErr(); err != nil {
			c.breach("write to the inbox: %v", err)
			return
		}
		for _, e := range events {
			c.accepted(e)
		}
		last = fresh
	}
}

const chaosVersions = 8 // of the source's schema

// planned says whether a new version of the schema is due: while some machine cannot reach the registry, if possible.
func (c *chaosRun) planned(rng *rand.Rand) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return rng.IntN(60) == 0 || c.unregistered && rng.IntN(2) == 0
}

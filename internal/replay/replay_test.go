package replay_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/topology"
)

func TestDeliveriesAreSentAgain(t *testing.T) {
	t.Parallel()
	b := newBus(t, 2, 3, 4)
	sub := gatewaytest.Subscription(0)
	before := len(b.stand(topology.Decisions.Name))
	p := b.plan(codecs.Replay{Subscription: sub, Rate: 6})
	if p.Events != 12 || p.Sent != 12 || p.Verdicts != 12 || !p.Whole || count(p.Counts, "consent") != 12 || p.Takes != 2*time.Second || p.Replay.Subscriber != gatewaytest.Subscriber(0) {
		t.Errorf("plan %+v", p)
	}
	if after := len(b.stand(topology.Decisions.Name)); after != before || len(b.deliveries(0, true)) != 0 {
		t.Errorf("planning left %d decisions and %d deliveries", after-before, len(b.deliveries(0, true)))
	}

	row := b.ask(codecs.Replay{ID: "first", Subscription: sub, Rate: 1000})
	requests, err := b.Admin.ChangeReplays(t.Context(), anna, "approve", row.ID)
	b.Must(err)
	if out, err := b.Admin.Send(t.Context(), requests, admin.Wait{}); err != nil || out[0].Reason != "second_person_required" {
		t.Fatalf("approved by who asked: %+v, %v", out, err)
	}
	if len(b.deliveries(0, true)) != 0 {
		t.Error("something was sent before anybody approved it")
	}
	b.InEffect(b.Admin.ChangeReplays(t.Context(), bertil, "approve", row.ID))
	if row := b.over("first"); row.Status != "done" || count(row.Counts, "consent") != 12 || row.ApprovedBy != "operator:bertil" {
		t.Errorf("row %+v", row)
	}
	again, once := b.deliveries(0, true), b.once[topicOf(0)]
	if len(again) != len(once) {
		t.Fatalf("%d deliveries again, want %d", len(again), len(once))
	}
	for i := range again { // both are in the order of each subject, and so of each partition
		same(t, again[i], once[i])
	}
	if other := b.deliveries(1, true); len(other) != 0 {
		t.Errorf("%d deliveries to somebody else", len(other))
	}
	decisions := b.Decisions("replay")
	if len(decisions) != 12 {
		t.Errorf("%d decisions, want 12", len(decisions))
	}
	for _, d := range decisions {
		if len(d.Verdicts) != 1 || !d.Verdicts[0].Permit || d.Verdicts[0].Subscription != sub || d.Topic != topology.Address.Name || d.Follows != -1 || d.LifeEventID == "" {
			t.Errorf("decision %+v", d)
		}
	}
	if p := b.progress("first"); p.Looked != p.Total || p.Sent != 12 || p.PerSecond <= 0 || p.Left != 0 {
		t.Errorf("progress %+v", p)
	}

	known := b.progress("first")
	forgotten, err := b.Admin.Kafka().DeleteGroups(t.Context(), "replay.first") // as Kafka does of itself after a while
	b.Must(errors.Join(err, forgotten.Error()))
	if p := b.progress("first"); p.Looked != p.Total || p.Sent != known.Sent || p.Verdicts != known.Verdicts || !slices.Equal(p.Counts, known.Counts) || p.Left != 0 {
		t.Errorf("long ago: %+v, was %+v", p, known)
	}

	b.start(codecs.Replay{ID: "second", Subscriber: gatewaytest.Subscriber(0), Rate: 1000})
	b.over("second")
	if twice := ids(b.deliveries(0, true)); !maps.Equal(twice, doubled(ids(again))) {
		t.Errorf("two runs sent %v, the first %v", twice, ids(again))
	}
	if p := b.plan(codecs.Replay{Subscription: sub}); p.Events != 12 {
		t.Errorf("%d events, want 12: what a replay has sent is no delivery to be replayed", p.Events)
	}
}

func doubled(all map[string]int) map[string]int {
	out := map[string]int{}
	for id, n := range all {
		out[id] = 2 * n
	}
	return out
}

// A range of times, of offsets, of types: exactly what lies in it.
func TestRanges(t *testing.T) {
	t.Parallel()
	b := newBus(t, 1, 4, 3)
	router := b.Decisions("router")
	slices.SortFunc(router, func(a, b codecs.Decision) int { return int(a.DecidedAt - b.DecidedAt) })
	within := func(row codecs.Replay) int {
		t.Helper()
		row.Subscription = gatewaytest.Subscription(0)
		return int(b.plan(row).Events)
	}
	all := 0
	for i := range router { // by each moment at which something was decided
		at := router[i].DecidedAt
		before := 0
		for _, d := range router {
			if d.DecidedAt < at {
				before++
			}
		}
		if early, late := within(codecs.Replay{To: at}), within(codecs.Replay{From: at}); early != before || early+late != 12 {
			t.Errorf("%d before %d and %d from then on, want %d of 12", early, at, late, before)
		}
	}
	for p := range int32(4) {
		var offsets []int64
		for _, d := range router {
			if d.Topic == topology.Address.Name && d.Partition == p {
				offsets = append(offsets, d.Offset)
			}
		}
		if len(offsets) == 0 {
			continue
		}
		slices.Sort(offsets)
		all += len(offsets)
		r := codecs.OffsetRange{Topic: topology.Address.Name, Partition: p, From: offsets[0], To: offsets[len(offsets)-1]}
		if n := within(codecs.Replay{Offsets: []codecs.OffsetRange{r}}); n != len(offsets)-1 {
			t.Errorf("partition %d: %d before the last, want %d", p, n, len(offsets)-1)
		}
		r.From, r.To = r.To, 0
		if n := within(codecs.Replay{Offsets: []codecs.OffsetRange{r}}); n != 1 {
			t.Errorf("partition %d: %d from the last on, want 1", p, n)
		}
	}
	if all != 12 {
		t.Errorf("%d records of partitions, want 12", all)
	}
	if n := within(codecs.Replay{EventTypes: []string{"other.type"}}); n != 0 {
		t.Errorf("%d of another type", n)
	}
	if n := within(codecs.Replay{EventTypes: []string{"other.type", gatewaytest.EventType}}); n != 12 {
		t.Errorf("%d of the type, want 12", n)
	}
}

// What is not permitted now is not sent, whatever was permitted then, and is on record with its reason.
func TestOnlyWhatIsPermittedNow(t *testing.T) {
	t.Parallel()
	b := newBus(t, 2, 4, 2)
	b.Consent(gatewaytest.Withdraw(1, gatewaytest.Subscriber(0)))
	row := gatewaytest.Row(0)
	objection := gatewaytest.Grant(2, "")
	objection.Command = codecs.ConsentCommand{Kind: "object", Subscription: row.ID}
	b.Consent(objection)
	late := [][]byte{gatewaytest.Moved("denied-then", 1, "Street 9")} // denied then
	b.Publish(late...)
	b.delivered(2, 8)
	b.Eventually("the router has denied it", func() bool { return len(b.Decisions("router")) >= 9 })
	b.Consent(gatewaytest.Grant(1, gatewaytest.Subscriber(0), gatewaytest.Scope)) // permitted now
	p := b.plan(codecs.Replay{Subscription: row.ID})
	if p.Events != 8 || p.Sent != 6 || count(p.Counts, "consent") != 6 || count(p.Counts, "objected") != 2 {
		t.Errorf("plan %+v", p)
	}
	b.Consent(gatewaytest.Withdraw(3, gatewaytest.Subscriber(0)))
	b.start(codecs.Replay{ID: "r", Subscription: row.ID})
	if row := b.over("r"); count(row.Counts, "consent") != 4 || count(row.Counts, "objected") != 2 || count(row.Counts, "grant_withdrawn") != 2 {
		t.Errorf("row %+v", row)
	}
	if n := len(b.deliveries(0, true)); n != 4 {
		t.Errorf("%d deliveries, want 4", n)
	}
	reasons := map[string]int{}
	for _, d := range b.Decisions("replay") {
		reasons[d.Verdicts[0].Reason]++
		if d.Verdicts[0].Permit != (d.Verdicts[0].DeliveryID != "") {
			t.Errorf("decision %+v", d)
		}
	}
	if fmt.Sprint(reasons) != "map[consent:4 grant_withdrawn:2 objected:2]" {
		t.Errorf("decisions by reason %v", reasons)
	}
}

// The smaller of both field sets, whichever it is: then, now, or what both have.
func TestFieldsOfThenAndNow(t *testing.T) {
	t.Parallel()
	b := newBus(t, 1, 0, 0)
	who := gatewaytest.Subscriber(0)
	b.Consent(gatewaytest.Grant(0, who, gatewaytest.Scope, gatewaytest.NameScope), // narrowed later
		gatewaytest.Grant(1, who, gatewaytest.Scope), // widened later
		gatewaytest.Grant(2, who, gatewaytest.Scope)) // another field of the scope, by the catalog
	for p := range 3 {
		b.Publish(gatewaytest.Moved(fmt.Sprint("moved-", p), p, "Street"))
	}
	b.delivered(1, 3)
	agency := func() string { return topology.SubscriberTopicName(gatewaytest.Agency) }
	b.Eventually("the agency has three", func() bool { return len(b.stand(agency())) >= 3 })

	b.Consent(gatewaytest.Withdraw(0, who), gatewaytest.Grant(0, who, gatewaytest.Scope), gatewaytest.Withdraw(1, who), gatewaytest.Grant(1, who, gatewaytest.Scope, gatewaytest.NameScope))
	et := *b.World.Snapshot().EventType(gatewaytest.EventType)
	et.Version = 0
	et.Rules = slices.Clone(et.Rules)
	et.Rules[0].Fields = []string{"data.street", "data.city"} // were name and city
	b.InEffect(b.Admin.PutEventTypes(t.Context(), anna, et))
	b.start(codecs.Replay{ID: "c", Subscriber: who})
	b.start(codecs.Replay{ID: "a", Subscription: gatewaytest.AgencySub})
	if row := b.over("c"); count(row.Counts, "consent") != 3 {
		t.Errorf("row %+v", row)
	}
	if row := b.over("a"); count(row.Counts, "rule") != 3 {
		t.Errorf("row %+v", row)
	}
	for _, r := range b.deliveries(0, true) {
		data := b.data(r.Value)
		if data["street"] == nil || data["city"] == nil || data["person"] != nil {
			t.Errorf("data %v withheld %q: want street and city, and no name", data, header(r, codecs.HeaderWithheld))
		}
	}
	replayed := 0
	for _, r := range b.stand(agency()) {
		if header(r, codecs.HeaderReplayed) == "" {
			continue
		}
		replayed++
		if data := b.data(r.Value); data["city"] == nil || data["street"] != nil || data["person"] != nil {
			t.Errorf("data %v withheld %q: want the city alone, which both rules list", data, header(r, codecs.HeaderWithheld))
		}
	}
	if replayed != 3 {
		t.Errorf("%d deliveries to the agency, want 3", replayed)
	}
}

// data is a delivery's value.
func (b *bus) data(value []byte) map[string]any {
	b.T.Helper()
	id, body, err := codecs.WireID(value)
	b.Must(err)
	s, err := b.Registry.Load(context.Background(), id)
	b.Must(err)
	codec, err := s.Goavro()
	b.Must(err)
	native, _, err := codec.NativeFromBinary(body)
	b.Must(err)
	return native.(map[string]any)
}

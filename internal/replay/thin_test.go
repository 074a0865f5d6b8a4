package replay_test

import (
	"slices"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/gateway/gatewaytest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A thin delivery is sent again as it was: without data, and with the address of the same event.
func TestThinDeliveriesAreSentAgain(t *testing.T) {
	t.Parallel()
	b := newBus(t, 1, 1, 1)
	row := gatewaytest.Row(0)
	row.ID, row.Delivery.Thin = "sub-thin", true
	b.InEffect(b.Admin.PutSubscriptions(t.Context(), anna, row))
	b.Active(row.ID)
	b.Publish(gatewaytest.Moved("thin-1", 0, "thin"), gatewaytest.Moved("thin-2", 0, "thin"))
	b.delivered(1, 1+2*2)
	once := slices.DeleteFunc(slices.Clone(b.once[topicOf(0)]), func(r *kgo.Record) bool { return header(r, codecs.HeaderSubscription) != row.ID })
	b.start(codecs.Replay{ID: "thin", Subscription: row.ID, Rate: 1000})
	b.over("thin")
	again := b.deliveries(0, true)
	if len(once) != 2 || len(again) != 2 {
		t.Fatalf("%d deliveries, %d again", len(once), len(again))
	}
	for i := range again {
		if header(again[i], codecs.HeaderDataRef) == "" {
			t.Errorf("no address of the data: %v", again[i].Headers)
		}
		same(t, again[i], once[i])
	}
}

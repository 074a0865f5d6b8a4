package replay_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/replay"

	"github.com/twmb/franz-go/pkg/kadm"
)

// What Kafka does not take is denied by itself, on record, and everything else is sent once; where nothing can be written, the
// replay ends and says so.
func TestWhatKafkaRefuses(t *testing.T) {
	t.Parallel()
	b := newBus(t, 2, 3, 4)
	large := make([]byte, 8<<10) // which does not compress
	_, _ = rand.Read(large)
	b.Publish(gatewaytest.Moved("large", 1, hex.EncodeToString(large)), gatewaytest.Moved("after", 1, "Street"))
	b.delivered(2, 3*4+2)
	limit := "4096"
	_, err := b.Admin.Kafka().AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &limit}}, topicOf(0))
	b.Must(err)

	b.start(codecs.Replay{ID: "narrow", Subscription: gatewaytest.Subscription(0), Rate: 1000})
	if row := b.over("narrow"); row.Status != "done" || count(row.Counts, "consent") != 13 || count(row.Counts, replay.UndeliverableRefused) != 1 {
		t.Errorf("%s %+v", row.Status, row.Counts)
	}
	want := ids(b.once[topicOf(0)])
	delete(want, b.Keys.Delivery(gatewaytest.Site, "large", b.Subject(1), gatewaytest.Subscription(0)))
	got := ids(b.deliveries(0, true))
	for id := range want {
		if got[id] != 1 {
			t.Errorf("sent again %d times, want once", got[id])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d deliveries, want %d", len(got), len(want))
	}
	denied := 0
	for _, d := range b.Decisions(replay.Kind) {
		if v := d.Verdicts[0]; !v.Permit {
			denied++
			if v.Reason != replay.UndeliverableRefused || v.DeliveryID != "" {
				t.Errorf("verdict %+v", v)
			}
		}
	}
	if denied != 1 {
		t.Errorf("%d denials on record, want 1", denied)
	}

	gone, err := b.Admin.Kafka().DeleteTopics(t.Context(), topicOf(1))
	b.Must(errors.Join(err, gone.Error()))
	b.start(codecs.Replay{ID: "gone", Subscription: gatewaytest.Subscription(1), Rate: 1000})
	if row := b.over("gone"); row.Status != "failed" || row.StatusReason != replay.UndeliverableTopic {
		t.Errorf("%s for %s, %+v", row.Status, row.StatusReason, row.Counts)
	}
}

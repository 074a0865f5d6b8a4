package app

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"civicbus/internal/embedded"
	"civicbus/internal/kafka"
	"civicbus/processors/router"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const kelaTopic = "subscriber.kela.fi"

// A topic that is not there is waited for a while, since that of a new subscriber is being created; then its deliveries
// become dead letters.
func TestAnAbsentTopicIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutlets(nil, silent)
		if o.settled(kelaTopic) {
			t.Fatal("settled at once")
		}
		if len(o.wake) != 1 {
			t.Error("nobody looks for it")
		}
		time.Sleep(time.Hour)
		if o.settled(kelaTopic) {
			t.Fatal("given up without an answer of the cluster")
		}
		o.known = map[string]*outlet{}
		o.settled(kelaTopic)
		time.Sleep(graceFor)
		o.looked = time.Now()
		if o.settled(kelaTopic) {
			t.Fatal("given up too soon")
		}
		time.Sleep(time.Millisecond)
		o.looked = time.Now()
		if !o.settled(kelaTopic) || o.refused(kelaTopic, 1) != router.UndeliverableTopic {
			t.Errorf("after %s: %q", graceFor, o.refused(kelaTopic, 1))
		}
		if o.settled("subscriber.vero.fi") {
			t.Error("another topic is settled by it")
		}
	})
}

// What Kafka refused is known from then on, until the topic is looked at again.
func TestFailuresAreLearnt(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		bytes int
		want  map[int]string // by size
	}{
		{"gone", kerr.UnknownTopicOrPartition, 10, map[int]string{1: router.UndeliverableTopic}},
		{"gone and made again", kerr.UnknownTopicID, 10, map[int]string{1: router.UndeliverableTopic}},
		{"too large", kerr.MessageTooLarge, 1000, map[int]string{999: "", 1000: router.UndeliverableSize, 2000: router.UndeliverableSize}},
		{"batch too large", kerr.RecordListTooLarge, 1, map[int]string{1: "", 2: router.UndeliverableSize}},
		{"not ours", fmt.Errorf("produce: %w", kerr.TopicAuthorizationFailed), 10, map[int]string{1: router.UndeliverableAccess}},
		{"anything else", kerr.NotEnoughReplicas, 10, map[int]string{1: "", 1 << 30: ""}},
	} {
		o := newOutlets(nil, silent)
		o.at(kelaTopic).present = true
		o.failed(kelaTopic, test.bytes, test.err)
		for size, want := range test.want {
			if got := o.refused(kelaTopic, size); got != want {
				t.Errorf("%s: %d bytes are %q, want %q", test.name, size, got, want)
			}
		}
		if !o.settled(kelaTopic) {
			t.Errorf("%s: its events wait", test.name)
		}
	}
}

func TestOutletsLookAtTheCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cl, err := kafka.Connection{Brokers: c.Brokers()}.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	admin := kadm.NewClient(cl)
	o := newOutlets(admin, silent)
	// look looks until every size is answered as wanted: a client keeps what it has read of the cluster for a moment.
	look := func(want string, sizes ...int) {
		t.Helper()
		for {
			if err := o.look(ctx); err != nil {
				t.Fatal(err)
			}
			size, got := 0, want
			for i := 0; i < len(sizes) && got == want; i++ {
				size, got = sizes[i], o.refused(kelaTopic, sizes[i])
			}
			if got == want {
				return
			}
			if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
				t.Fatalf("%d bytes are %q, want %q", size, got, want)
			}
		}
	}
	limit := "2000"
	create := func(name string) {
		t.Helper()
		if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &limit}, name); err != nil {
			t.Fatal(err)
		}
	}
	look(router.UndeliverableTopic, 1)
	create(kelaTopic)
	create("webhook-deliveries")
	create("inbox.kela.fi")
	look("", 1, 2000)
	look(router.UndeliverableSize, 2001)
	if !o.settled(kelaTopic) || !o.settled("webhook-deliveries") || o.settled("inbox.kela.fi") {
		t.Error("which topics are known")
	}
	o.failed(kelaTopic, 10, kerr.TopicAuthorizationFailed)
	look("", 1) // perhaps it is allowed again: the next failure says
	if _, err := admin.DeleteTopic(ctx, kelaTopic); err != nil {
		t.Fatal(err)
	}
	look(router.UndeliverableTopic, 1)
	if o.settled(kelaTopic) {
		t.Error("a topic that went is not waited for")
	}
	limit = "3000"
	create(kelaTopic)
	look("", 3000)
	look(router.UndeliverableSize, 3001)
	if !o.settled(kelaTopic) {
		t.Error("a topic that is back is waited for")
	}
	ended, end := context.WithCancel(ctx)
	end()
	if err := o.look(ended); err == nil {
		t.Error("looked without an answer")
	}
	if o.refused(kelaTopic, 1) != "" {
		t.Error("what was known is forgotten by a look without an answer")
	}
}

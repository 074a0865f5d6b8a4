package kafka_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/internal/kafka"
	"github.com/lovoo/goka/codec"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// world is a broker with the topics of one small group: it counts per key in its table, looks the key up in a rules table
// and writes "count:rule" to its output.
type world struct {
	t                            *testing.T
	cluster                      *kfake.Cluster // nil on a real cluster
	group, in, out, table, rules string
	conn                         kafka.Connection
	admin                        *kadm.Client
	log                          *slog.Logger
	age                          time.Duration

	mu   sync.Mutex
	hold bool // the rules table is not read
}

const parts = 4

// newWorld makes the topics, on a broker of its own or on the cluster that CIVICBUS_TEST_BROKERS names.
func newWorld(t *testing.T, opts ...kfake.Opt) *world {
	t.Helper()
	w := &world{t: t, age: 2 * time.Second, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if os.Getenv("CIVICBUS_TEST_LOG") != "" {
		w.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if brokers := os.Getenv("CIVICBUS_TEST_BROKERS"); brokers != "" {
		w.conn.Brokers = strings.Split(brokers, ",")
	} else {
		c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		w.cluster, w.conn.Brokers = c, c.ListenAddrs()
	}
	cl, err := w.conn.Client()
	if err != nil {
		t.Fatal(err)
	}
	w.admin = kadm.NewClient(cl)
	t.Cleanup(w.admin.Close)
	id := strconv.FormatInt(time.Now().UnixNano(), 36)
	w.group, w.in, w.out, w.rules = "counter-"+id, "in-"+id, "out-"+id, "rules-"+id+"-table"
	w.table = w.group + "-table"
	for _, topic := range []string{w.in, w.out, w.rules, w.table} {
		config := map[string]*string{}
		if w.cluster == nil && strings.HasSuffix(topic, "-table") {
			compact := "compact"
			config["cleanup.policy"] = &compact
		}
		if _, err := w.admin.CreateTopic(context.Background(), parts, -1, config, topic); err != nil {
			t.Fatal(err)
		}
	}
	until(t, 10*time.Second, "the new topics are known", func() bool {
		l, err := w.admin.ListTopics(context.Background(), w.in, w.out, w.rules, w.table)
		return err == nil && l.Error() == nil && len(l) == 4
	})
	return w
}

// fake returns the broker for fault injection; on a real cluster the test is skipped.
func (w *world) fake() *kfake.Cluster {
	if w.cluster == nil {
		w.t.Skip("faults are injected into the embedded broker only")
	}
	return w.cluster
}

type node struct {
	engine *kafka.Engine
	cancel context.CancelFunc
	done   chan error
}

func (w *world) start(instance string, change ...func(*kafka.GroupConfig)) *node {
	w.t.Helper()
	var n *node
	made := make(chan struct{})
	graph := goka.DefineGroup(goka.Group(w.group),
		goka.Input(goka.Stream(w.in), new(codec.Bytes), func(ctx goka.Context, msg any) {
			count := uint64(0)
			if b, ok := ctx.Value().([]byte); ok {
				count = binary.BigEndian.Uint64(b)
			}
			<-made
			rule := n.engine.Row(w.rules, "k0") // not ctx.Lookup: goka closes its views while callbacks may still run
			ctx.SetValue(binary.BigEndian.AppendUint64(nil, count+1))
			ctx.Emit(goka.Stream(w.out), ctx.Key(), []byte(fmt.Sprintf("%s:%d:%s", msg, count+1, rule)))
		}),
		goka.Lookup(goka.Table(w.rules), new(codec.Bytes)),
		goka.Output(goka.Stream(w.out), new(codec.Bytes)), goka.Persist(new(codec.Bytes)))
	n = w.startGraph(instance, graph, change...)
	close(made)
	return n
}

// startGraph runs a group of any graph.
func (w *world) startGraph(instance string, graph *goka.GroupGraph, change ...func(*kafka.GroupConfig)) *node {
	w.t.Helper()
	cfg := kafka.GroupConfig{Connection: w.conn, Graph: graph, Instance: instance, LeaseAge: w.age, Session: 6 * time.Second, Logger: w.log,
		HoldTable: func(topic string, _ int32) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.hold && topic == w.rules
		}}
	for _, c := range change {
		c(&cfg)
	}
	e, err := kafka.NewEngine(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := goka.NewProcessor(nil, graph, e.Options()...)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{engine: e, cancel: cancel, done: make(chan error, 1)}
	go func() { n.done <- p.Run(ctx) }()
	w.t.Cleanup(func() { n.stop(w.t) })
	return n
}

// stop ends a node in an orderly way; a second call does nothing.
func (n *node) stop(t *testing.T) {
	if n.cancel == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n.engine.Drain(ctx)
	n.kill(t)
}

// kill ends a node without letting it finish what it has in hand.
func (n *node) kill(t *testing.T) {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	if err := <-n.done; err != nil {
		t.Errorf("processor: %v", err)
	}
	if err := n.engine.Close(); err != nil {
		t.Error(err)
	}
}

func (w *world) publish(topic string, n, from int) {
	w.t.Helper()
	cl, err := w.conn.Client(kgo.DefaultProduceTopic(topic))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	var rs []*kgo.Record
	for i := from; i < from+n; i++ {
		rs = append(rs, &kgo.Record{Key: []byte("k" + strconv.Itoa(i%50)), Value: []byte(strconv.Itoa(i))})
	}
	if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// outputs reads committed outputs until there are want of them, and then a moment more for a duplicate.
func (w *world) outputs(want int, within time.Duration) []*kgo.Record {
	w.t.Helper()
	cl, err := w.conn.Client(kgo.ConsumeTopics(w.out), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var got []*kgo.Record
	for len(got) < want && ctx.Err() == nil {
		got = append(got, cl.PollFetches(ctx).Records()...)
	}
	more, cancel2 := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel2()
	got = append(got, cl.PollFetches(more).Records()...)
	return got
}

// exactlyOnce checks that each input has one output and that the counts of each key are 1, 2, 3 ... in order.
func (w *world) exactlyOnce(inputs int, within time.Duration) {
	w.t.Helper()
	got := w.outputs(inputs, within)
	seen, last := map[string]int{}, map[string]int{}
	for _, r := range got {
		var in, n int
		var rule string
		if _, err := fmt.Sscanf(string(r.Value), "%d:%d:%s", &in, &n, &rule); err != nil {
			_, _ = fmt.Sscanf(string(r.Value), "%d:%d:", &in, &n)
		}
		seen[strconv.Itoa(in)]++
		if n != last[string(r.Key)]+1 {
			w.t.Errorf("key %s: count %d follows %d", r.Key, n, last[string(r.Key)])
		}
		last[string(r.Key)] = n
	}
	if len(got) != inputs || len(seen) != inputs {
		w.t.Fatalf("%d outputs for %d of %d inputs", len(got), len(seen), inputs)
	}
}

func TestExactlyOnceOverRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a")
	w.publish(w.in, 500, 0)
	w.exactlyOnce(500, 20*time.Second)
	n.stop(t)
	w.publish(w.in, 500, 500)
	n = w.start("a")
	w.exactlyOnce(1000, 20*time.Second)
	w.publish(w.in, 5000, 1000)
	n.kill(t)
	w.start("a")
	w.exactlyOnce(6000, 30*time.Second)
}

func TestExactlyOnceOverScaling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	total := 0
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
				w.publish(w.in, 100, total)
				total += 100
			}
		}
	}()
	a := w.start("a")
	w.outputs(100, 20*time.Second)
	b, c := w.start("b"), w.start("c")
	until(t, 30*time.Second, "three nodes share the partitions", func() bool {
		return len(a.engine.Status().Partitions) < parts && len(b.engine.Status().Partitions) > 0 && len(c.engine.Status().Partitions) > 0
	})
	for name, n := range map[string]*node{"b": b, "c": c} {
		n.stop(t)
		if err := kafka.Leave(context.Background(), w.conn, w.group, name); err != nil {
			t.Fatal(err)
		}
	}
	until(t, 30*time.Second, "one node has all partitions", func() bool { return len(a.engine.Status().Partitions) == parts && a.engine.Status().State == "running" })
	close(stop)
	wg.Wait()
	w.exactlyOnce(total, 60*time.Second)
}

func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

func TestAbortedTransactionsAreTriedAgain(t *testing.T) {
	t.Parallel()
	abortedTransactions(t, []kmsg.Key{kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.Produce})
}

// TestTransactionsOfOldClusters: where a cluster does not have KIP-890's transactions, partitions and offsets are added to
// each by requests of their own.
func TestTransactionsOfOldClusters(t *testing.T) {
	t.Parallel()
	abortedTransactions(t, []kmsg.Key{kmsg.EndTxn, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.Produce}, kfake.MaxVersions(kversion.V3_7_0()))
}

func abortedTransactions(t *testing.T, keys []kmsg.Key, opts ...kfake.Opt) {
	for _, key := range keys {
		t.Run(key.Name(), func(t *testing.T) {
			w := newWorld(t, opts...)
			w.start("a")
			w.publish(w.in, 100, 0)
			w.exactlyOnce(100, 20*time.Second)
			fails := 0
			w.fake().ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
				w.fake().KeepControl()
				if p, ok := req.(*kmsg.ProduceRequest); ok && p.TransactionID == nil {
					return nil, nil, false
				}
				if fails++; fails%4 != 1 || fails > 20 {
					return nil, nil, false
				}
				return refuse(req), nil, true
			})
			w.publish(w.in, 900, 100)
			w.exactlyOnce(1000, 60*time.Second)
			if fails == 0 {
				t.Fatal("the fault was never met")
			}
		})
	}
}

// refuse answers a request with an error that the client cannot retry by itself.
func refuse(req kmsg.Request) kmsg.Response {
	switch req := req.(type) {
	case *kmsg.EndTxnRequest:
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = kerr.UnknownServerError.Code
		return resp
	case *kmsg.AddOffsetsToTxnRequest:
		resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
		resp.ErrorCode = kerr.UnknownServerError.Code
		return resp
	case *kmsg.AddPartitionsToTxnRequest:
		resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewAddPartitionsToTxnResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, kerr.UnknownServerError.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.TxnOffsetCommitRequest:
		resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewTxnOffsetCommitResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.UnknownServerError.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.ProduceRequest:
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.MessageTooLarge.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	}
	return nil
}

func TestLeaseHoldsDecisions(t *testing.T) {
	w := newWorld(t)
	w.age = 300 * time.Millisecond
	w.publish(w.rules, 1, 0)
	n := w.start("a")
	w.publish(w.in, 10, 0)
	w.exactlyOnce(10, 20*time.Second)
	w.mu.Lock()
	w.hold = true
	w.mu.Unlock()
	until(t, 10*time.Second, "readiness shows the lost lease", func() bool { return !n.engine.Status().Leased })
	w.publish(w.in, 10, 10)
	if got := w.outputs(11, time.Second); len(got) != 10 {
		t.Fatalf("%d outputs while the table is not confirmed, want 10", len(got))
	}
	w.mu.Lock()
	w.hold = false
	w.mu.Unlock()
	w.exactlyOnce(20, 20*time.Second)
}

package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// bench is a cluster under test, known by its addresses alone: it may be in this process or in another.
type bench struct {
	t       *testing.T
	brokers []string
	url     string
}

func at(t *testing.T, broker, url string) bench { return bench{t, []string{broker}, url} }

// here is a cluster in this process.
type here struct {
	bench
	*Cluster
}

// start runs a cluster for the length of the test.
func start(t *testing.T, cfg Config) here {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return here{at(t, c.Brokers()[0], c.RegistryURL()), c}
}

// within bounds one step of a test; it is far above what a step takes.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (b bench) connect(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.brokers...))...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cl.Close)
	return cl
}

// fill writes what the restart tests look for: a topic with a configuration, n committed records in one transaction,
// one aborted record, and the offsets of a group committed in that transaction.
func (b bench) fill(n int) {
	t := b.t
	t.Helper()
	ctx := within(t)
	cl := b.connect(kgo.TransactionalID("writer"), kgo.TransactionTimeout(5*time.Second))
	adm := kadm.NewClient(cl)
	retention := "3600000"
	if _, err := adm.CreateTopic(ctx, 4, 1, map[string]*string{"retention.ms": &retention}, "life.birth"); err != nil {
		t.Fatal(err)
	}
	write := func(key string, end kgo.TransactionEndTry) {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		records := 1
		if end == kgo.TryCommit {
			records = n
		}
		for i := range records {
			r := &kgo.Record{Topic: "life.birth", Key: []byte(key), Value: []byte(strconv.Itoa(i))}
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if end == kgo.TryCommit {
			commitInTransaction(ctx, t, cl, int64(n))
		}
		if err := cl.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	write("committed", kgo.TryCommit)
	write("aborted", kgo.TryAbort)
}

// commitInTransaction commits the offset for partition 0 of life.birth in group readers as part of the client's
// transaction.
func commitInTransaction(ctx context.Context, t *testing.T, cl *kgo.Client, offset int64) {
	t.Helper()
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = "writer", id, epoch, "readers"
	added, err := add.RequestWith(ctx, cl)
	if err != nil || kerr.ErrorForCode(added.ErrorCode) != nil {
		t.Fatal(err, kerr.ErrorForCode(added.ErrorCode))
	}
	topics, err := kadm.NewClient(cl).ListTopics(ctx, "life.birth")
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = "writer", id, epoch, "readers"
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{
		Topic:      "life.birth",
		TopicID:    topics["life.birth"].ID,
		Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: 0, Offset: offset, LeaderEpoch: -1}},
	}}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}

// expectFilled checks that everything that fill wrote can be read, and nothing of what it aborted.
func (b bench) expectFilled(n int) {
	t := b.t
	t.Helper()
	ctx := within(t)
	cl := b.connect(kgo.ConsumeTopics("life.birth"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(ctx, "life.birth")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(topics["life.birth"].Partitions); got != 4 {
		t.Errorf("life.birth has %d partitions, want 4", got)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, "life.birth")
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range configs[0].Configs {
		if cfg.Key == "retention.ms" && cfg.MaybeValue() != "3600000" {
			t.Errorf("retention.ms is %s, want 3600000", cfg.MaybeValue())
		}
	}
	offsets, err := adm.FetchOffsets(ctx, "readers")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := offsets.Lookup("life.birth", 0); !ok || o.At != int64(n) {
		t.Errorf("group readers is at %d (known: %v), want %d", o.At, ok, n)
	}
	// The last record of the same key comes last, so nothing aborted can still follow it unseen.
	marker := &kgo.Record{Topic: "life.birth", Key: []byte("aborted"), Value: []byte("marker")}
	if err := cl.ProduceSync(ctx, marker).FirstErr(); err != nil {
		t.Fatal(err)
	}
	seen, marked := 0, false
	for seen < n || !marked {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("after %d of %d records: %v", seen, n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			switch {
			case string(r.Value) == "marker":
				marked = true
			case string(r.Key) == "aborted":
				t.Error("an aborted record was read")
			case string(r.Value) != strconv.Itoa(seen):
				t.Errorf("record %s came as number %d", r.Value, seen)
			default:
				seen++
			}
		})
	}
	if seen != n {
		t.Errorf("%d records read, want %d", seen, n)
	}
}

func TestRestartFindsEverythingAgain(t *testing.T) {
	dir := t.TempDir()
	first, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	running := at(t, first.Brokers()[0], first.RegistryURL())
	running.fill(50)
	ids := running.register()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	again := start(t, Config{DataDir: dir})
	again.expectFilled(50)
	again.expectRegistered(ids)
}

func TestMemoryOnlyForgets(t *testing.T) {
	start(t, Config{}).fill(1)
	topics, err := kadm.NewClient(start(t, Config{}).connect()).ListTopics(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(topics) != 0 {
		t.Errorf("a new cluster in memory has topics %v", topics.Names())
	}
}

func TestOneProcessADataDirectory(t *testing.T) {
	dir := t.TempDir()
	start(t, Config{DataDir: dir})
	_, err := Start(t.Context(), Config{DataDir: dir})
	if !errors.Is(err, ErrInUse) {
		t.Errorf("second start on the same directory: %v, want ErrInUse", err)
	}
}

func TestTakenPortAndWildcardAreRefused(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := l.Addr().(*net.TCPAddr).Port
	for name, cfg := range map[string]Config{
		"kafka port":    {KafkaPort: taken},
		"registry port": {RegistryPort: taken},
		"wildcard":      {Host: "0.0.0.0"},
	} {
		cfg.DataDir = t.TempDir()
		if c, err := Start(t.Context(), cfg); err == nil {
			t.Errorf("%s: started", name)
			_ = c.Close()
		}
		// What was started before the fault must have been let go.
		cfg.Host, cfg.KafkaPort, cfg.RegistryPort = "", 0, 0
		start(t, cfg)
	}
}

func TestTopicsAreNeverMadeByTheWay(t *testing.T) {
	cl := start(t, Config{}).connect(kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(0))
	err := cl.ProduceSync(within(t), &kgo.Record{Topic: "nobody-made-this", Value: []byte("x")}).FirstErr()
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("produce to a topic that nobody made: %v", err)
	}
}

func TestBrokerLimits(t *testing.T) {
	c := start(t, Config{})
	ctx := within(t)
	cl := c.connect(kgo.ProducerBatchMaxBytes(4<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, "life.birth"); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]error{1000 << 10: nil, 1100 << 10: kerr.MessageTooLarge} {
		err := cl.ProduceSync(ctx, &kgo.Record{Topic: "life.birth", Value: make([]byte, size)}).FirstErr()
		if !errors.Is(err, want) {
			t.Errorf("record of %d bytes: %v, want %v", size, err, want)
		}
	}
	member := c.connect(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("life.birth"), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second))
	go member.PollFetches(ctx)
	if _, err := c.Kafka().WaitGroupStable(ctx, "g", 1); err != nil {
		t.Errorf("group with a session of 6 s: %v", err)
	}
	if got := fmt.Sprintf("127.0.0.1:%d", portOf(t, c.Brokers()[0])); c.Brokers()[0] != got {
		t.Errorf("broker address %s is not on 127.0.0.1", c.Brokers()[0])
	}
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

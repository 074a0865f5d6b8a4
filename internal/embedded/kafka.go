package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokerConfigs are the broker's settings where kfake's defaults do not fit.
var brokerConfigs = map[string]string{
	"message.max.bytes":          "1048576",
	"default.replication.factor": "1",
	"min.insync.replicas":        "1",
	// civicbus's transactions last 5 s at most; a client left at its library's default (franz-go: 40 s) still works.
	"transaction.max.timeout.ms": "60000",
	// Kafka forgets the offsets of a group that was away for 7 days. A data directory may lie for longer, and a group
	// without its offsets would begin at the start of its topics.
	"offsets.retention.minutes": "2628000",
}

// minSessionTimeout lies below Kafka's default (6 s), so that tests need not wait long for a dead member to be noticed.
const minSessionTimeout = time.Second

// startKafka starts a broker of one node. An empty dir keeps its data in memory.
func startKafka(ctx context.Context, cfg Config, dir string) (*kfake.Cluster, error) {
	opts := []kfake.Opt{
		kfake.ClusterID("civicbus-embedded"),
		kfake.Ports(cfg.KafkaPort),
		kfake.BrokerConfigs(brokerConfigs),
		kfake.GroupMinSessionTimeout(minSessionTimeout),
		kfake.WithLogger(kafkaLogger{cfg.Logger}),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.ListenConfig).Listen(ctx, network, net.JoinHostPort(cfg.Host, port))
		}),
	}
	if dir != "" {
		opts = append(opts, kfake.DataDir(dir))
	}
	if cfg.Superuser != nil {
		secured, err := securing(*cfg.Superuser, dir)
		if err != nil {
			return nil, err
		}
		opts = append(opts, secured...)
	}
	k, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start embedded kafka on %s port %d: %w", cfg.Host, cfg.KafkaPort, err)
	}
	if cfg.Superuser == nil {
		withoutAuthorizer(k)
	} else if err := offerOldHandshake(ctx, k, *cfg.Superuser); err != nil {
		k.Close()
		return nil, err
	}
	k.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		bound(req.(*kmsg.FetchRequest))
		return nil, nil, false
	})
	return k, nil
}

// leastFetched is the least that a fetch may ask for of a partition, as bound has it.
const leastFetched = 64 << 10

// bound spreads the most bytes that a fetch asks for in all over its partitions. Where kfake's answer reaches that bound in the
// midst of a partition, it leaves out which transactions of that partition were aborted, and a reader of committed data takes
// their records for committed. At the bound of one partition it does not.
func bound(req *kmsg.FetchRequest) {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	each := max(req.MaxBytes/int32(max(n, 1)), leastFetched)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			p := &req.Topics[i].Partitions[j]
			p.PartitionMaxBytes = min(p.PartitionMaxBytes, each)
		}
	}
	req.MaxBytes = math.MaxInt32
}

// kafkaLogger hands kfake's messages to slog. What kfake calls information is a line a request, hence debug here; what
// it calls debug is dropped.
type kafkaLogger struct{ log *slog.Logger }

func (l kafkaLogger) Logf(level kfake.LogLevel, format string, args ...any) {
	var to slog.Level
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	case kfake.LogLevelInfo:
		to = slog.LevelDebug
	default:
		return
	}
	if ctx := context.Background(); l.log.Enabled(ctx, to) {
		l.log.Log(ctx, to, "embedded kafka: "+fmt.Sprintf(format, args...))
	}
}

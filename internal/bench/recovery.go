package bench

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/verdict"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// recoveryVsLevelDB fills a table of consents and reads it from nothing: ours until the lease confirms it as current; theirs
// with goka's view as it comes, the default client and LevelDB, until it says that it has recovered. Both keep whole rows;
// what it takes with rows packed, as the router keeps them, is said beside it. Both take seconds by the clock: the broker's
// share is the same.
func recoveryVsLevelDB(ctx context.Context, c Config) (Result, error) {
	const table = "bench-recovery-table"
	conn := kafka.Connection{Brokers: c.Brokers}
	bytes, err := c.makeTable(ctx, conn, table)
	if err != nil {
		return Result{}, err
	}
	c.Say(fmt.Sprintf("%d rows of %d bytes on average", c.Events, bytes/c.Events))
	last := recoveryKey(c.Events - 1)
	return c.compare("recovery_vs_leveldb", "s",
		func(int) (float64, error) {
			packed, err := c.recoverOurs(ctx, conn, table, last, true)
			if err != nil {
				return 0, err
			}
			c.Say(fmt.Sprintf("with packed rows: ours %.3f s", packed))
			return c.recoverOurs(ctx, conn, table, last, false)
		},
		func(int) (float64, error) { return recoverTheirs(ctx, c.Brokers, table, last) })
}

// makeTable makes a table topic with a row for each of c.Events subjects, and returns the rows' bytes.
func (c *Config) makeTable(ctx context.Context, conn kafka.Connection, table string) (bytes int, err error) {
	cl, err := conn.Client(kgo.ProducerBatchMaxBytes(900_000), kgo.MaxBufferedRecords(50_000), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 8, 1, nil, table); err != nil {
		return 0, err
	}
	return fill(ctx, cl, table, c.Events)
}

// recoveryKey is as random as a pseudonym: sorted keys would spare LevelDB its compactions.
func recoveryKey(i int) string {
	sum := sha256.Sum256(strconv.AppendInt(nil, int64(i), 10))
	return "k1." + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// fill writes n rows of one grant each, whose id is a UUID, and returns their bytes.
func fill(ctx context.Context, cl *kgo.Client, table string, n int) (total int, err error) {
	records := codecs.NewRecords()
	if err := records.BindLocal(); err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var refused error
	for i := range n {
		row, err := records.Consents.Encode(&codecs.Consents{Version: 1, AppliedIDs: []string{fmt.Sprintf("c-%d", i)}, AppliedVersions: []int64{1}, Grants: []codecs.Grant{{
			ID: fmt.Sprintf("0190f3c1-7e57-7000-8000-%012x", i), Version: 1, State: "given", Recipient: subscriber(i % subscribers), Purpose: purpose, Scopes: []string{"address", "identity"},
			GivenAt: 1_750_000_000_000 + int64(i), Notice: fmt.Sprintf("https://example.org/notices/%d", i*31), Language: "fi", Method: "form", GivenVersion: 1, StorageLocation: "FI", Retention: "P2Y", WithdrawalMethod: "https://example.org/withdraw",
			ChangedAt: 1_750_000_000_000 + int64(i), ChangedBy: "person", Jurisdiction: "FI"}}})
		if err != nil {
			return 0, err
		}
		total += len(row)
		cl.Produce(ctx, &kgo.Record{Topic: table, Key: []byte(recoveryKey(i)), Value: row}, func(_ *kgo.Record, failed error) {
			if failed != nil {
				mu.Lock()
				refused = failed
				mu.Unlock()
			}
		})
	}
	err = cl.Flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	return total, errors.Join(err, refused)
}

func (c *Config) recoverOurs(ctx context.Context, conn kafka.Connection, table, last string, pack bool) (float64, error) {
	stopProfile, err := c.profile()
	if err != nil {
		return 0, err
	}
	runtime.GC()
	began := time.Now()
	var took time.Duration
	err = recovered(ctx, conn, table, last, pack, func() { took = time.Since(began) })
	return took.Seconds(), errors.Join(err, stopProfile())
}

// recovered reads a table from nothing, its rows whole or packed as a router keeps them, and calls then while all of it is held.
func recovered(ctx context.Context, conn kafka.Connection, table, last string, pack bool, then func()) error {
	packed, err := packing()
	if err != nil {
		return err
	}
	v, err := kafka.NewView(conn, 500*time.Millisecond, quiet(), nil, table)
	if err != nil {
		return err
	}
	if pack {
		v.Pack(table, packed.Pack)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- v.Run(running) }()
	err = v.Wait(ctx)
	then()
	if row := packed.Unpack(v.Row(table, last), new(codecs.Consents)); err == nil && (len(row.Grants) != 1 || row.Grants[0].State != verdict.GrantGiven) {
		err = errors.New("recovered without the last row")
	}
	stop()
	return errors.Join(err, <-done)
}

func packing() (*verdict.PackedConsents, error) {
	record := codecs.NewRecords().Consents
	return verdict.NewPackedConsents(record), record.BindLocal()
}

func recoverTheirs(ctx context.Context, brokers []string, table, last string) (float64, error) {
	dir, err := os.MkdirTemp("", "civicbus-bench")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	runtime.GC()
	began := time.Now()
	v, err := goka.NewView(brokers, goka.Table(table), new(codec.Bytes), goka.WithViewStorageBuilder(storage.DefaultBuilder(dir)),
		goka.WithViewLogger(log.New(io.Discard, "", 0)), goka.WithViewHasher(kafka.Hasher)) // ours wrote the keys where Kafka puts them
	if err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- v.Run(running) }()
	select {
	case <-v.WaitRunning():
	case err = <-done:
		stop()
		return 0, errors.Join(errors.New("the view ended"), err)
	case <-ctx.Done():
	}
	took := time.Since(began)
	if row, failed := v.Get(last); failed != nil || row == nil || !v.Recovered() {
		err = errors.Join(errors.New("the view runs without the last row"), failed)
	}
	stop()
	return took.Seconds(), errors.Join(err, ctx.Err(), <-done)
}

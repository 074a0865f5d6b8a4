package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
)

// View holds whole tables for a part that is no group: admission, the command line, the gateway. It is goka's views on the
// same reader, tables and lease as an engine's. Safe for concurrent use.
type View struct {
	topics []string
	reader *reader
	tables *tables
	lease  lease
	views  []*goka.View
	broken chan error // why the view must end
}

// NewView makes a view of table topics. changed is as GroupConfig.Changed.
func NewView(c Connection, age time.Duration, log *slog.Logger, changed func(table, key string, row []byte), topics ...string) (*View, error) {
	if len(topics) == 0 {
		return nil, errors.New("make a view: no table is named")
	}
	v := &View{topics: topics, broken: make(chan error, 1)}
	broken := func(err error) {
		select {
		case v.broken <- err:
		default: // the first is enough
		}
	}
	r, err := newReader(c, age, log, nil, broken)
	if err != nil {
		return nil, err
	}
	v.reader, v.tables = r, newTables("", changed, broken)
	v.tables.reader = r
	v.lease = lease{age: age, reader: r, tables: v.tables, views: topics}
	for _, t := range topics {
		view, err := goka.NewView(nil, goka.Table(t), new(codec.Bytes),
			goka.WithViewConsumerSaramaBuilder(func([]string, string) (sarama.Consumer, error) { return r, nil }),
			goka.WithViewTopicManagerBuilder(topicManagerBuilder(r, v.tables)),
			goka.WithViewStorageBuilder(v.tables.builder()),
			goka.WithViewHasher(Hasher),
			goka.WithViewAutoReconnect(),
			goka.WithViewLogger(gokaLogger{log}))
		if err != nil {
			r.close()
			return nil, fmt.Errorf("make a view of %s: %w", t, err)
		}
		v.views = append(v.views, view)
	}
	return v, nil
}

// Pack makes the view keep of a table's rows what pack makes of them: Row and Rows give that. Call it before Run.
func (v *View) Pack(table string, pack Pack) {
	v.tables.mu.Lock()
	defer v.tables.mu.Unlock()
	if v.tables.packs == nil {
		v.tables.packs = map[string]Pack{}
	}
	v.tables.packs[table] = pack
}

// Run keeps the view current until the context ends, or until a table's log is not what was read of it any more: then it is
// an error, and a new view must be made. Call it once.
func (v *View) Run(parent context.Context) error {
	defer v.reader.close()
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	go func() {
		select {
		case err := <-v.broken:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	var wg sync.WaitGroup
	errs := make([]error, len(v.views))
	for i, view := range v.views {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = view.Run(ctx)
		}()
	}
	wg.Wait()
	if parent.Err() != nil {
		return nil
	}
	return errors.Join(errors.Join(errs...), context.Cause(ctx))
}

// Row returns the row of a key; nil when there is none.
func (v *View) Row(table, key string) []byte { return v.tables.row(table, key) }

// Rows calls f with every row of a table.
func (v *View) Rows(table string, f func(key string, row []byte)) { v.tables.each(table, f) }

// Fresh gives the oldest confirmation among the tables' partitions, and whether it is young enough to decide on. Take it
// before reading rows: what is read then is at least as new.
func (v *View) Fresh() (time.Time, bool) { return v.lease.fresh(0) }

// Wait returns once Fresh is true, or with the context's error.
func (v *View) Wait(ctx context.Context) error {
	tick := time.NewTicker(max(v.lease.age/50, time.Millisecond))
	defer tick.Stop()
	for {
		if _, ok := v.Fresh(); ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %v are confirmed current: %w", v.topics, ctx.Err())
		}
	}
}

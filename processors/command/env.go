package command

import (
	"time"

	"github.com/lovoo/goka"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/verdict"
)

// Env is what a group needs of the process it runs in. Everything in it is safe for concurrent use.
type Env struct {
	Records *codecs.Records
	Now     func() time.Time // nil: time.Now

	// Partitions is that of every topic. A record whose key belongs to another partition is a dead letter: goka would write
	// the row of that key into this partition, beside the one that its own partition holds. 0: not checked, for goka's
	// tester, which has one partition.
	Partitions int32

	// Snapshot is compiled from the views of subscription, trust and catalog; the engine hands no record on while it is
	// stale. Subscription and consent need it; the others do not look.
	Snapshot func() *verdict.Snapshot

	// Schema is the newest schema of a registry subject that this process has cached; nil when none is. Callbacks never
	// touch the network.
	Schema func(registrySubject string) *codecs.Schema

	// Follows is the offset after the record handled before this one in its partition. A nil func means -1: not known.
	Follows func(goka.Context) int64
}

// Clock is the time by Env's clock.
func (e Env) Clock() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}

// Misplaced says whether the record's key belongs to another partition than the one that it stands on.
func (e Env) Misplaced(ctx goka.Context) bool {
	return e.Partitions > 0 && kafka.Partition([]byte(ctx.Key()), e.Partitions) != ctx.Partition()
}

func (e Env) follows(ctx goka.Context) int64 {
	if e.Follows == nil {
		return -1
	}
	return e.Follows(ctx)
}

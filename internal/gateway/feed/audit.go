package feed

import (
	"context"
	"fmt"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// auditor writes decisions. Its producer is idempotent: a decision that was written and not acknowledged is one of a
// delivery that was not given out, and stands on record all the same.
type auditor struct {
	client  *kgo.Client
	records *codecs.Records
}

func newAuditor(conn kafka.Connection, records *codecs.Records) (*auditor, error) {
	client, err := conn.Client(kgo.RecordDeliveryTimeout(fetchTime))
	if err != nil {
		return nil, err
	}
	return &auditor{client, records}, nil
}

func (a *auditor) close() { a.client.Close() }

// entry is a decision and whom it is about.
type entry struct {
	key      string
	decision codecs.Decision
}

// same says whether two decisions on one record say the same, whenever they were made.
func (e *entry) same(o *entry) bool {
	a, b := e.decision, o.decision
	if a.Outcome != b.Outcome || a.CatalogVersion != b.CatalogVersion || a.ConsentVersion != b.ConsentVersion || len(a.Verdicts) != len(b.Verdicts) {
		return false
	}
	for i := range a.Verdicts {
		if a.Verdicts[i] != b.Verdicts[i] {
			return false
		}
	}
	return true
}

// write returns once every decision is on record.
func (a *auditor) write(ctx context.Context, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	out := make([]*kgo.Record, len(entries))
	for i := range entries {
		value, err := a.records.Decision.Encode(&entries[i].decision)
		if err != nil {
			return fmt.Errorf("write a decision: %w", err)
		}
		out[i] = &kgo.Record{Topic: topology.Decisions.Name, Key: []byte(entries[i].key), Value: value}
	}
	return a.client.ProduceSync(ctx, out...).FirstErr()
}

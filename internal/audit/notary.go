package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// NotaryConfig says how heads are signed. The zero value of a field takes the default named there.
type NotaryConfig struct {
	Connection kafka.Connection
	Records    *codecs.Records // bound
	Keys       *Keys
	Interval   time.Duration // between two heads of a chain that goes on; 1 minute
	File       string        // heads are appended to it too, one JSON object a line; empty: to none
	Now        func() time.Time
	Logger     *slog.Logger
}

// Notary follows the chains, checks each entry, and signs at an interval how far each chain has come. A chain in which
// something is wrong is not signed any further, and that is logged as an error once; where records of an input have no entry, until
// their gap is on record. Several notaries may run: one that sees
// a head of another waits for its own next interval.
type Notary struct {
	cfg    NotaryConfig
	chains map[int32]*Chain
	signed map[int32]codecs.AuditHead
	at     map[int32]time.Time // when a head of the chain was last seen or made here
	told   map[int32]bool
}

// NewNotary makes one; Run works.
func NewNotary(cfg NotaryConfig) *Notary {
	if cfg.Interval == 0 {
		cfg.Interval = time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Notary{cfg: cfg, chains: map[int32]*Chain{}, at: map[int32]time.Time{}, told: map[int32]bool{}}
}

// Run signs until the context ends; an error is logged and the work begun again from the last head.
func (n *Notary) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := n.once(ctx); err != nil && ctx.Err() == nil {
			n.cfg.Logger.Warn("sign the heads of the audit log: retrying", "error", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

func (n *Notary) once(ctx context.Context) error {
	l, err := Open(n.cfg.Connection, n.cfg.Records)
	if err != nil {
		return err
	}
	defer l.Close()
	heads, _, err := l.signed(ctx, n.cfg.Keys.PublicKey())
	if err != nil {
		return err
	}
	n.signed = Newest(heads)
	from, err := n.resume(ctx, l)
	if err != nil {
		return err
	}
	seen, err := l.spans(ctx, topology.AuditHeads.Name)
	if err != nil {
		return err
	}
	others := map[int32]kgo.Offset{}
	for p, s := range seen {
		others[p] = kgo.NewOffset().At(s.end)
	}
	cl, err := n.cfg.Connection.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topology.AuditLog.Name: from, topology.AuditHeads.Name: others}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		poll, cancel := context.WithTimeout(ctx, n.cfg.Interval)
		fetches := cl.PollFetches(poll)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		fetches.EachRecord(n.take)
		if err := n.sign(ctx, cl); err != nil {
			return err
		}
	}
}

// resume begins each chain where its newest head is, or at the beginning, and says from which offset it is read on.
func (n *Notary) resume(ctx context.Context, l *Log) (map[int32]kgo.Offset, error) {
	spans, err := l.spans(ctx, topology.AuditLog.Name)
	if err != nil {
		return nil, err
	}
	from := map[int32]kgo.Offset{}
	for p, s := range spans {
		c := NewChain(p, n.cfg.Keys, n.cfg.Records.AuditEntry.Decode, nil, 0)
		n.chains[p], from[p] = c, kgo.NewOffset().At(s.start)
		h, ok := n.signed[p]
		if !ok {
			continue
		}
		found, err := l.find(ctx, p, h.Number, s.start, s.end)
		switch {
		case err == nil:
			// The entry itself is walked again, from the one before it, and must then be the head's.
			c.Number, c.Hash = h.Number-1, found.entry.Previous
			c.heads[h.Number] = &h
			from[p] = kgo.NewOffset().At(found.record.Offset)
		case errors.Is(err, ErrNoEntry), errors.As(err, new(codecs.Malformed)):
			n.tell(p, Finding{Kind: CutOff, Partition: p, Number: h.Number, Offset: -1, Detail: "the newest signed head vouches for an entry that is not there"})
			delete(n.chains, p)
		default:
			return nil, err
		}
	}
	return from, nil
}

// take follows one chain by one entry, or learns of another notary's head.
func (n *Notary) take(r *kgo.Record) {
	if r.Topic == topology.AuditHeads.Name {
		h, err := n.cfg.Records.AuditHead.Decode(r.Value)
		if err == nil && CheckHead(&h, n.cfg.Keys.PublicKey()) == nil && h.Number > n.signed[h.Partition].Number {
			n.signed[h.Partition], n.at[h.Partition] = h, time.Now()
		}
		return
	}
	c := n.chains[r.Partition]
	if c == nil || c.odd != nil {
		return
	}
	if c.Add(r.Offset, r.Value) == nil {
		n.tell(r.Partition, *c.Finding())
	}
}

func (n *Notary) tell(p int32, f Finding) {
	if !n.told[p] {
		n.told[p] = true
		n.cfg.Logger.Error("the audit log is not as it was written; its chain is not signed any further: run civicbus audit verify", "finding", f.String())
	}
}

// sign makes the heads that are due.
func (n *Notary) sign(ctx context.Context, cl *kgo.Client) error {
	for p, c := range n.chains {
		if c.odd != nil || c.Number <= n.signed[p].Number || time.Since(n.at[p]) < n.cfg.Interval {
			continue
		}
		if f := c.unexplained(); f != nil {
			n.tell(p, *f)
			continue
		}
		h := n.cfg.Keys.Sign(p, c.Number, c.Hash, codecs.Millis(n.cfg.Now()))
		value, err := n.cfg.Records.AuditHead.Encode(&h)
		if err != nil {
			return err
		}
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topology.AuditHeads.Name, Key: fmt.Appendf(nil, "chain.%d", p), Value: value}).FirstErr(); err != nil {
			return fmt.Errorf("write a head: %w", err)
		}
		n.signed[p], n.at[p] = h, time.Now()
		if err := n.file(h); err != nil {
			return err
		}
	}
	return nil
}

// file appends a head to the file, so that it is on disk when this returns.
func (n *Notary) file(h codecs.AuditHead) error {
	if n.cfg.File == "" {
		return nil
	}
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(n.cfg.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // heads are public
	if err != nil {
		return fmt.Errorf("keep the heads: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

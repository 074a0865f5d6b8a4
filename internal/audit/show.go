package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrForeign says that an entry met on a subject's walk is not genuine, or not the subject's.
var ErrForeign = errors.New("an entry on the subject's walk is not what the audit group wrote: civicbus audit verify tells more")

// Walk gives the entries about a subject, the newest first, until each says stop. subject is the key of its rows: a
// pseudonym, or the id of an organisation, a subscription or an event type. A subject without a row has none: nothing was decided about it, or
// it was erased. Each entry met is checked: its MAC, its number, and that it is about this subject.
func (l *Log) Walk(ctx context.Context, keys *Keys, subject string, each func(*codecs.AuditEntry) (more bool)) error {
	return l.WalkFrom(ctx, keys, subject, 0, each)
}

// WalkFrom is Walk from the entry of a number on, which must be one about the subject: ErrForeign, or ErrNoEntry, if it is
// none. 0: from the newest.
func (l *Log) WalkFrom(ctx context.Context, keys *Keys, subject string, from int64, each func(*codecs.AuditEntry) (more bool)) error {
	spans, err := l.spans(ctx, topology.TableTopic(topology.Audit.Name))
	if err != nil {
		return err
	}
	p := kafka.Partition([]byte(subject), int32(len(spans)))
	var row *codecs.AuditRow
	if err := l.scan(ctx, topology.TableTopic(topology.Audit.Name), map[int32]span{p: spans[p]}, func(r *kgo.Record) {
		if string(r.Key) != subject {
			return
		}
		row = nil
		if a, err := l.records.AuditRow.Decode(r.Value); err == nil {
			row = &a
		}
	}, nil); err != nil {
		return err
	}
	if row == nil {
		return nil
	}
	if spans, err = l.spans(ctx, topology.AuditLog.Name); err != nil {
		return err
	}
	log := spans[p]
	want := keys.commitment(row.Salt, subject)
	to := log.end
	begin := row.Number
	if from > 0 {
		begin = min(from, begin)
	}
	for number := begin; number > 0; {
		found, err := l.find(ctx, p, number, log.start, to)
		if errors.Is(err, ErrNoEntry) && log.start > 0 && to <= log.start+1 {
			return nil // what came before has expired
		}
		if err != nil {
			return err
		}
		if !keys.genuine(p, found.record.Value) || !bytes.Equal(found.entry.Subject, want) || found.entry.Before >= number {
			return fmt.Errorf("entry %d of partition %d: %w", number, p, ErrForeign)
		}
		if !each(&found.entry) {
			return nil
		}
		to = found.record.Offset - (number - found.entry.Before) + 1
		number = found.entry.Before
	}
	return nil
}

// Use is what one subscriber was given, or not, for one purpose, by one way.
type Use struct {
	Subscriber    string           `json:"subscriber"`
	Purpose       string           `json:"purpose"`
	Kind          string           `json:"kind"` // who decided: router, delivery, gateway, replay
	Subscriptions int              `json:"subscriptions"`
	Permitted     int64            `json:"permitted"` // verdicts
	Bases         map[string]int64 `json:"bases"`     // of these, by legal basis
	Denied        map[string]int64 `json:"denied"`    // by reason
	First         time.Time        `json:"first"`
	Last          time.Time        `json:"last"`
}

// Uses adds up verdicts: the register of processing, and the usage report. Its size grows with subscribers and their purposes.
type Uses struct {
	all  map[[3]string]*Use
	subs map[[4]string]bool
}

// NewUses begins with nothing.
func NewUses() *Uses { return &Uses{map[[3]string]*Use{}, map[[4]string]bool{}} }

// Add counts an entry's verdicts.
func (u *Uses) Add(e *codecs.AuditEntry) {
	at := time.UnixMilli(e.At).UTC()
	for i := range e.Verdicts {
		v := &e.Verdicts[i]
		k := [3]string{v.Subscriber, v.Purpose, e.Kind}
		use := u.all[k]
		if use == nil {
			use = &Use{Subscriber: v.Subscriber, Purpose: v.Purpose, Kind: e.Kind, Bases: map[string]int64{}, Denied: map[string]int64{}, First: at, Last: at}
			u.all[k] = use
		}
		if s := [4]string{v.Subscriber, v.Purpose, e.Kind, v.Subscription}; !u.subs[s] {
			u.subs[s] = true
			use.Subscriptions++
		}
		if v.Permit {
			use.Permitted++
			use.Bases[v.Basis]++
		} else {
			use.Denied[v.Reason]++
		}
		if at.Before(use.First) {
			use.First = at
		}
		if at.After(use.Last) {
			use.Last = at
		}
	}
}

// List gives them by subscriber, purpose and kind.
func (u *Uses) List() []Use {
	out := make([]Use, 0, len(u.all))
	for _, use := range u.all {
		out = append(out, *use)
	}
	sortUses(out)
	return out
}

func sortUses(all []Use) {
	slices.SortFunc(all, func(a, b Use) int {
		return cmp.Or(cmp.Compare(a.Subscriber, b.Subscriber), cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Kind, b.Kind))
	})
}

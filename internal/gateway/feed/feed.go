// Package feed gives a subscription its deliveries from a place on its subscriber's topic, for every way that is not Kafka
// itself. It knows nothing of HTTP.
//
// Its rules:
//   - A delivery is decided again at the moment it leaves (DESIGN.md 3.1), by internal/verdict, on tables that are confirmed
//     current within the lease's age (3.2). What is denied now is not given; what is permitted now is cut to the smaller of
//     its own field set and today's. A page says until when its decisions may be used.
//   - Every decision is on audit-decisions, of kind gateway, before the delivery is given out.
//   - Where a reader stands is an opaque text that is authenticated for one subscription (cursor.go). Nothing is passed
//     over unsaid: what retention took ends the reading with a code.
//   - The order is that of the topic's partitions, and so each subject's. Nothing is said of the order between partitions.
//   - A call does a bounded amount of work and holds a bounded amount of memory, however much lies on the topic.
package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/leave"
	"civicbus/internal/pseudonym"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

// Kind is that of this package's decisions.
const Kind = "gateway"

// Config says what a feed works with. A field without a default named is required.
type Config struct {
	Connection kafka.Connection
	Registry   *codecs.Registry
	Records    *codecs.Records // bound
	Keys       *pseudonym.Keys
	Secret     []byte // cursors are authenticated by a key derived from it; the bus key, so that all instances have the same
	Partitions int32  // of every subscriber's topic
	Tables     tables.Current
	Age        time.Duration                         // of the lease
	DataRef    func(subscription, ref string) string // the address of a thin delivery's data
	Now        func() time.Time                      // default time.Now
	Logger     *slog.Logger                          // default: silent
}

// Feed reads deliveries. It is safe for concurrent use.
type Feed struct {
	cfg     Config
	cursors *cursors
	log     *log
	tails   *tails
	exit    *leave.Exit
	acks    *acks
}

// New makes a feed. It reaches for nothing.
func New(cfg Config) (*Feed, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Feed{cfg: cfg}
	var err error
	if f.cursors, err = newCursors(cfg.Secret); err != nil {
		return nil, err
	}
	if f.log, err = newLog(cfg.Connection); err != nil {
		return nil, err
	}
	f.exit, err = leave.New(leave.Config{Kind: Kind, Connection: cfg.Connection, Registry: cfg.Registry, Records: cfg.Records, Keys: cfg.Keys, Tables: cfg.Tables, Age: cfg.Age, Secret: cfg.Secret})
	if err != nil {
		f.log.close()
		return nil, err
	}
	f.acks = newAcks(f.log.admin, cfg.Logger)
	f.tails = newTails(cfg.Connection, f.log, cfg.Logger)
	return f, nil
}

// Close ends every connection. Nothing may be under way.
func (f *Feed) Close() {
	f.tails.close()
	f.acks.close()
	f.exit.Close()
	f.log.close()
}

// Ended says that a reading cannot go on, with a code of a closed list. The reader's last place stays good unless the code is
// one of the two about it.
type Ended struct {
	Code   string
	Detail string // for people
}

func (e *Ended) Error() string { return e.Code + ": " + e.Detail }

// Codes of Ended, beside the reasons of verdicts that are about a subscriber: subscriber_not_trusted, not_entitled,
// certification_missing; and of a single delivery any reason of a denial.
const (
	SubscriptionUnknown = "subscription_unknown" // there is no such subscription
	SubscriptionPending = "subscription_pending" // nobody has approved it yet
	SubscriptionPaused  = "subscription_paused"  // it goes on where it was when it is resumed
	SubscriptionRevoked = "subscription_revoked" // for good
	SubscriptionPushed  = "subscription_webhook" // its deliveries go to its webhook, and are not kept for reading
	CursorInvalid       = "cursor_invalid"       // not a place that was given out for this subscription
	CursorExpired       = "cursor_expired"       // what stood there is not kept any more: deliveries may have been missed
	DeliveryGone        = "delivery_gone"        // a single delivery that is not kept any more
	NotCurrent          = "not_current"          // the tables are not confirmed current: nothing is decided, ask again
	Unavailable         = "unavailable"          // Kafka or the registry is out of reach
)

func ended(code, detail string) error { return &Ended{code, detail} }

// unavailable says that something is out of reach, unless the caller's own context has ended.
func unavailable(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(&Ended{Unavailable, what + " is out of reach"}, fmt.Errorf("%s: %w", what, err))
}

// standing is the subscription, if something of it may leave now. pushed says that it may be one whose deliveries are not read.
func (f *Feed) standing(snap *verdict.Snapshot, subscription string, pushed bool) (*codecs.Subscription, error) {
	sub := snap.Subscription(subscription)
	if sub == nil {
		return nil, ended(SubscriptionUnknown, "there is no such subscription")
	}
	if sub.Delivery.Kind == "webhook" && !pushed {
		return nil, ended(SubscriptionPushed, "its deliveries go to its webhook")
	}
	switch reason := snap.Standing(subscription, f.cfg.Now()); {
	case reason == "":
		return sub, nil
	case reason != verdict.ReasonSubscriptionNotActive:
		return nil, ended(reason, "the subscriber may not receive anything of this subscription now")
	case sub.Status == verdict.StatusRevoked:
		return nil, ended(SubscriptionRevoked, "the subscription was revoked")
	case sub.Status == "paused":
		return nil, ended(SubscriptionPaused, "the subscription is paused; it goes on where it was")
	default:
		return nil, ended(SubscriptionPending, "the subscription is not active yet")
	}
}

// current waits until the tables are confirmed current, no longer than the context or a little while, and gives the
// confirmation and what is known then.
func (f *Feed) current(ctx context.Context) (time.Time, *verdict.Snapshot, error) {
	t, snap, err := f.exit.Now(ctx)
	if errors.Is(err, tables.ErrNotCurrent) {
		err = ended(NotCurrent, err.Error())
	}
	return t, snap, err
}

// Current says whether a decision made on a confirmation may still be used.
func (f *Feed) Current(confirmed time.Time) bool { return f.exit.Current(confirmed) }

// topic is where a subscription's deliveries lie.
func topic(sub *codecs.Subscription) string { return topology.SubscriberTopicName(sub.Subscriber) }

// Check says, on tables that are confirmed current, why nothing of a subscription may leave now: an *Ended, or nil. A stream
// asks before it begins, so that its caller gets an answer in place of a stream that ends at once.
func (f *Feed) Check(ctx context.Context, subscription string) error {
	_, snap, err := f.current(ctx)
	if err != nil {
		return err
	}
	_, err = f.standing(snap, subscription, false)
	return err
}

package access

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"civicbus/codecs"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Rows are what a Keeper follows. Its functions are safe for concurrent use.
type Rows interface {
	// Fresh says whether the rows are confirmed current. It is asked before they are read.
	Fresh() (time.Time, bool)
	Organisations() []*codecs.Organisation
	Subscriptions() []*codecs.Subscription
}

// KeeperConfig says what a Keeper works on. Client, Rows and Wake are required; it does not close the client.
type KeeperConfig struct {
	Client  *kgo.Client
	Rows    Rows
	Wake    <-chan struct{} // a row of an organisation or a subscription has changed
	Own     string          // civicbus's own user; empty: none
	Limits  Limits
	Every   time.Duration // how often it looks without being woken, for what somebody else has changed; 30 s
	Again   time.Duration // how soon at most it looks again: when it is woken, after it failed, while the rows are not current; 200 ms
	Metrics *Metrics      // nil: none
	Logger  *slog.Logger  // nil: silent
}

// Keeper gives and takes access as the rows change. Several may work at once. Rows that are not confirmed current move
// nothing: one that was long away gives no right to who has lost it meanwhile, and takes none for want of having read.
type Keeper struct{ cfg KeeperConfig }

// NewKeeper makes a keeper; Run works.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if cfg.Client == nil || cfg.Rows == nil || cfg.Wake == nil {
		return nil, errors.New("keep access: a client, rows and what wakes it are required")
	}
	if cfg.Every == 0 {
		cfg.Every = 30 * time.Second
	}
	if cfg.Again == 0 {
		cfg.Again = 200 * time.Millisecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	return &Keeper{cfg}, nil
}

// Run works until the context ends.
func (k *Keeper) Run(ctx context.Context) {
	told := false // that there is nothing to manage
	for ctx.Err() == nil {
		wait, looked := k.cfg.Every, time.Now()
		switch changed, err := k.once(ctx); {
		case err == nil:
			told = false
			if changed { // on rows that may have changed meanwhile, if this process was long away
				wait = k.cfg.Again
			}
		case errors.Is(err, errNotCurrent):
			wait = k.cfg.Again
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrNoAuthorizer), errors.Is(err, ErrNotAllowed):
			if !told {
				k.cfg.Logger.Warn("access of organisations to Kafka is not managed", "error", err)
			}
			told = true
			k.cfg.Metrics.failures.Inc()
		default:
			k.cfg.Logger.Warn("give and take access to Kafka: retrying", "error", err)
			k.cfg.Metrics.failures.Inc()
			wait = k.cfg.Again
		}
		if pause(ctx, wait, k.cfg.Wake) {
			pause(ctx, k.cfg.Again-time.Since(looked), nil) // many rows may change at once
		}
	}
}

// pause waits, until it is woken or the context ends; woken says whether it was. nil wakes nobody.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-wake:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

var errNotCurrent = errors.New("the tables are not confirmed current")

// once looks, and mends what is different; changed says whether anything was.
func (k *Keeper) once(ctx context.Context) (changed bool, err error) {
	if _, ok := k.cfg.Rows.Fresh(); !ok {
		return false, errNotCurrent
	}
	wanted := Want(k.cfg.Rows.Organisations(), k.cfg.Rows.Subscriptions(), k.cfg.Limits)
	have, err := Read(ctx, k.cfg.Client)
	if err != nil {
		return false, err
	}
	plan := Compare(wanted, have, k.cfg.Own)
	k.cfg.Metrics.saw(plan)
	todo := plan.todo()
	if len(todo) == 0 {
		return false, nil
	}
	if err := Apply(ctx, k.cfg.Client, todo); err != nil {
		return false, err
	}
	for _, d := range todo {
		k.cfg.Metrics.changes.WithLabelValues(d.What, d.Change).Inc()
		k.cfg.Logger.Info("access to Kafka changed", "organisation", d.Organisation, "change", d.Change, "what", d.What, "detail", d.Detail)
	}
	return true, nil
}

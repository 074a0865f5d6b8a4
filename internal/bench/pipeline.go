package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/refdata"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Stage is one step of an event's way, and what it costs.
type Stage struct {
	Stage     string  `json:"stage"`
	Does      string  `json:"does"`
	CPU       float64 `json:"cpu_us_per_event"`
	PerSecond float64 `json:"events_per_second"` // by the clock, with nothing else running but the broker
	Share     float64 `json:"share"`             // of the processor time of all stages
}

// Table is where the time goes, as ARCHITECTURE.md shows it.
func Table(stages []Stage) string {
	var b strings.Builder
	b.WriteString("| stage | what it does | us CPU an event | share | events/s alone |\n|---|---|--:|--:|--:|\n")
	for _, s := range stages {
		fmt.Fprintf(&b, "| %s | %s | %.1f | %.0f %% | %.0f |\n", s.Stage, s.Does, s.CPU, 100*s.Share, s.PerSecond)
	}
	return b.String()
}

// pipeline sends events the whole way, one stage after another in this process, so that the processor time of each is its own:
// admission with JSON in and Kafka's answer waited for, profile and router as nodes that start, catch up and are measured until
// all is committed (start included), and one reader of all subscribers' topics. The broker is not counted.
func pipeline(ctx context.Context, c Config) (Result, error) {
	w, err := newSoakWorld(ctx, c)
	if err != nil {
		return Result{}, err
	}
	defer w.close()
	w.cfg.Instance = "pipeline"
	w.people = int32(min(soakSubjects, max(c.Events/10, 1)))
	if err := w.running(ctx, []string{"catalog", "trust", "subscription", "consent", app.PartKeepers}, func() error {
		if err := w.load(ctx); err != nil {
			return err
		}
		return w.grantAll(ctx)
	}); err != nil {
		return Result{}, err
	}
	var stages []Stage
	measure := func(name, does string, f func() error) error {
		cpu, began := processorTime(), time.Now()
		if err := f(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		n := float64(c.Events)
		stages = append(stages, Stage{Stage: name, Does: does, CPU: float64((processorTime() - cpu).Microseconds()) / n, PerSecond: n / time.Since(began).Seconds()})
		c.Say(fmt.Sprintf("%s: %.1f us an event, %.0f events/s", name, stages[len(stages)-1].CPU, stages[len(stages)-1].PerSecond))
		return nil
	}
	group := func(name string) func() error {
		return func() error {
			// Asked seldom: what asking costs is in the figure.
			return w.running(ctx, []string{name}, func() error { return caughtUp(ctx, w.operator, name, 2*askEach) })
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	err = errors.Join(
		measure("admission", "JSON to Avro, trust, schema, pseudonym, one record to `admitted`", func() error {
			for left := c.Events; left > 0; left -= 1000 {
				if err := w.publish(ctx, r, min(left, 1000)); err != nil {
					return err
				}
			}
			return nil
		}),
		measure("profile", "drops repeats, folds the subject's row, stamps the event", group(topology.Profile.Name)),
		measure("router", fmt.Sprintf("joins consents, decides for %d subscriptions, %d deliveries and a decision", soakSubscribers, soakSubscribers), group(topology.Router.Name)),
		measure("subscriber", fmt.Sprintf("reads %d deliveries, read_committed", soakSubscribers), func() error { return w.readAll(ctx, c.Events*soakSubscribers) }))
	if err != nil {
		return Result{}, err
	}
	all := 0.0
	for _, s := range stages {
		all += s.CPU
	}
	for i := range stages {
		stages[i].Share = stages[i].CPU / all
	}
	return Result{Name: "pipeline", Ours: all, Unit: "us CPU/event", Runs: 1, Stages: stages}, nil
}

// running runs parts of a node in this process while f works.
func (w *soakWorld) running(ctx context.Context, parts []string, f func() error) error {
	cfg := w.cfg
	cfg.Parts = parts
	n, err := app.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	err = f()
	stop()
	return errors.Join(err, <-ended)
}

// grantAll lets everybody that events are about consent to every subscriber.
func (w *soakWorld) grantAll(ctx context.Context) error {
	for k := range soakSubscribers {
		documents := make([]refdata.Consent, w.people)
		for i := range documents {
			documents[i] = refdata.Consent{Subject: refdata.Subject{Scheme: soakScheme, ID: soakSubject(int32(i))}, Command: codecs.ConsentCommand{Kind: "grant",
				Grant: codecs.Grant{ID: soakSubscription(k), Recipient: soakSubscriber(k), Purpose: purpose, Scopes: []string{"address", "identity"},
					Notice: "https://example.org/notice", Language: "fi", Method: "form"}}}
		}
		requests, err := w.operator.ChangeConsents(ctx, admin.By{Actor: "person"}, documents...)
		if err != nil {
			return err
		}
		if _, err := w.send(ctx, requests); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads so many deliveries, as one subscriber of everything would.
func (w *soakWorld) readAll(ctx context.Context, n int) error {
	cl, err := w.cfg.Connection.Client(kgo.ConsumeTopics(w.topics()[1:]...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for got := 0; got < n; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		got += fetches.NumRecords()
	}
	return nil
}

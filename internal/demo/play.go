package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admission"
	"civicbus/internal/refdata"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Told is what came of one step, beside what had to come.
type Told struct {
	Scenario, Title, EventType string
	Held                       string // the cause, where admission held the event
	Records                    int    // decisions compared
	Lines                      []Line
	Notes                      []Note
	Faults                     []string // where it differs from what was expected; empty: as expected
}

// Note is one delivery of an event of civicbus's own.
type Note struct{ Subscriber, EventType, Text string }

// Line is one verdict.
type Line struct {
	Role, Subscription, Subscriber string
	Permit                         bool
	Reason, Basis, Purpose         string
	Delivered                      []string // data paths that hold a value, for a permit
	Withheld                       []string
}

// Play tells every scenario in order and hands each step's outcome on. The error is of the cluster; what differs from the
// expectation is in Told.Faults.
func (p *Player) Play(ctx context.Context, scenarios []examples.Scenario, tell func(Told)) error {
	for _, s := range scenarios {
		for _, step := range s.Steps {
			told, err := p.step(ctx, s, step)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", s.Name, step.Title, err)
			}
			tell(told)
		}
	}
	return nil
}

func (p *Player) step(ctx context.Context, s examples.Scenario, step examples.Step) (Told, error) {
	told := Told{Scenario: s.Title, Title: step.Title}
	if step.Consents != "" {
		cs, err := examples.Consents(step.Consents)
		if err != nil {
			return told, err
		}
		if err := p.consents(ctx, cs); err != nil {
			return told, err
		}
	}
	if step.Ended != (refdata.Subject{}) {
		if err := p.ended(ctx, step.Ended); err != nil {
			return told, err
		}
	}
	life, err := p.publish(ctx, step, &told)
	if err != nil || step.Held != "" {
		return told, err
	}
	for _, want := range step.Records {
		subject, err := p.client.Subject(ctx, want.Subject)
		if err != nil {
			return told, err
		}
		key := decisionKey{life, subject, want.Role}
		for p.log.decisions[key] == nil {
			if err := p.log.next(ctx); err != nil {
				return told, err
			}
		}
		told.Records++
		if err := p.compare(ctx, want, p.log.decisions[key], &told); err != nil {
			return told, err
		}
	}
	for _, want := range step.Told {
		if err := p.told(ctx, step, want, &told); err != nil {
			return told, err
		}
	}
	return told, nil
}

// publish publishes the step's event as the organisation whose source it names.
func (p *Player) publish(ctx context.Context, step examples.Step, told *Told) (life string, err error) {
	event, err := examples.Event(step.Event)
	if err != nil {
		return "", err
	}
	var names struct{ Source, ID, Type string }
	if err := json.Unmarshal(event, &names); err != nil {
		return "", err
	}
	told.EventType = names.Type
	organisation := p.world.Publisher(names.Source)
	p.lives[step.Event] = p.keys.LifeEvent(names.Source, names.ID)
	if step.Answers.Event != "" {
		if event, err = p.answering(ctx, event, step.Answers, organisation); err != nil {
			return "", err
		}
	}
	var inputs []*admission.Input
	for in, err := range admission.ReadEvents(bytes.NewReader(event), organisation) {
		if err != nil {
			return "", err
		}
		inputs = append(inputs, in)
	}
	a := p.pub.Publish(ctx, organisation, inputs)[0]
	switch {
	case a.Err != nil:
		return "", a.Err
	case step.Held != "":
		told.Held = step.Held
		if a.Status != admission.Held || len(a.Faults) == 0 || a.Faults[0].Reason != step.Held {
			told.fault("the event is %s %v, want held as %s", a.Status, a.Faults, step.Held)
		}
	case a.Status != admission.Accepted:
		return "", fmt.Errorf("the event is %s: %v", a.Status, a.Faults)
	}
	return a.LifeEvent, nil
}

func (t *Told) fault(format string, args ...any) {
	t.Faults = append(t.Faults, fmt.Sprintf(format, args...))
}

// compare holds one record's decision and its deliveries against what had to come.
func (p *Player) compare(ctx context.Context, want examples.Record, got *codecs.Decision, told *Told) error {
	if got.Outcome != "decided" {
		told.fault("%s: outcome %s", want.Role, got.Outcome)
	}
	expected := map[string]examples.Verdict{}
	for _, v := range want.Verdicts {
		expected[v.Subscription] = v
	}
	for i := range got.Verdicts {
		item := &got.Verdicts[i]
		line := Line{Role: want.Role, Subscription: item.Subscription, Subscriber: item.Subscriber, Permit: item.Permit, Reason: item.Reason, Basis: item.Basis, Purpose: item.Purpose}
		v, ok := expected[item.Subscription]
		delete(expected, item.Subscription)
		switch {
		case !ok:
			told.fault("%s: a verdict for %s, want none", want.Role, item.Subscription)
		case v.Permit != item.Permit || v.Reason != item.Reason:
			told.fault("%s: %s is %s, want %s", want.Role, item.Subscription, outcome(item.Permit, item.Reason), outcome(v.Permit, v.Reason))
		}
		if item.Permit {
			rec, err := p.delivery(ctx, item.DeliveryID)
			if err != nil {
				return err
			}
			if err := p.contents(ctx, rec, &line); err != nil {
				return err
			}
			for _, f := range check(line, v) {
				told.fault("%s: %s: %s", want.Role, item.Subscription, f)
			}
		}
		told.Lines = append(told.Lines, line)
	}
	for id := range expected {
		told.fault("%s: no verdict for %s", want.Role, id)
	}
	return nil
}

func outcome(permit bool, reason string) string {
	if permit {
		return "permitted (" + reason + ")"
	}
	return "denied (" + reason + ")"
}

// delivery waits for a delivery on its subscriber's topic: the decision's transaction has it, so it is there or coming.
func (p *Player) delivery(ctx context.Context, id string) (*kgo.Record, error) {
	for p.log.delivered[id] == nil {
		if err := p.log.next(ctx); err != nil {
			return nil, fmt.Errorf("wait for a delivery that is on record: %w", err)
		}
	}
	return p.log.delivered[id], nil
}

// contents reads a delivery as its subscriber would: by the schema that its value names.
func (p *Player) contents(ctx context.Context, rec *kgo.Record, line *Line) error {
	id, body, err := codecs.WireID(rec.Value)
	if err != nil {
		return err
	}
	schema, err := p.client.Registry().Load(ctx, id)
	if err != nil {
		return err
	}
	text, err := schema.ToJSON(nil, body)
	if err != nil {
		return err
	}
	var data any
	if err := json.Unmarshal(text, &data); err != nil {
		return err
	}
	seen := map[string]bool{}
	leaves("data", data, seen)
	for path := range seen {
		path = strings.Replace(path, "data.profile.", "profile.", 1)
		line.Delivered = append(line.Delivered, path)
	}
	sort.Strings(line.Delivered)
	if w := headerOf(rec, codecs.HeaderWithheld); w != "" {
		line.Withheld = strings.Split(w, ",")
	}
	if _, err := p.keys.For(strings.TrimPrefix(rec.Topic, topology.SubscriberTopicName(""))).Open(headerOf(rec, codecs.HeaderSubject)); err != nil {
		return fmt.Errorf("the delivery's subject: %w", err)
	}
	return nil
}

// leaves collects the paths that hold a value.
func leaves(path string, v any, into map[string]bool) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for name, child := range v {
			leaves(path+"."+name, child, into)
		}
	case []any:
		for _, child := range v {
			leaves(path+"[]", child, into)
		}
	default:
		into[path] = true
	}
}

// check compares what was delivered and withheld with the expectation: nothing beyond it, and all that was withheld named.
func check(line Line, want examples.Verdict) (faults []string) {
	for _, d := range line.Delivered {
		if !covered(want.Fields, d) {
			faults = append(faults, d+" is delivered, want only "+strings.Join(want.Fields, ", "))
		}
	}
	for _, w := range line.Withheld {
		if !covered(want.Withheld, w) {
			faults = append(faults, w+" is withheld, want only "+strings.Join(want.Withheld, ", "))
		}
	}
	for _, w := range want.Withheld {
		if !slices.ContainsFunc(line.Withheld, func(h string) bool { return covered([]string{w}, h) }) {
			faults = append(faults, w+" is not withheld")
		}
	}
	return faults
}

// covered says whether a path stands at or below one of the list.
func covered(list []string, path string) bool {
	return slices.ContainsFunc(list, func(l string) bool {
		return l == path || strings.HasPrefix(path, l+".") || strings.HasPrefix(path, l+"[") || strings.HasPrefix(path, l+"{")
	})
}

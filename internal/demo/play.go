package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
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
	Records                    []Record
	Faults                     []string // where it differs from what was expected; empty: as expected
}

// Record is what was decided of one subject's record of the event.
type Record struct {
	Role    string
	Subject refdata.Subject
	Outcome string
	Lines   []Line
}

// Line is one verdict.
type Line struct {
	Subscription, Subscriber string
	Permit                   bool
	Reason, Basis, Purpose   string
	Delivered                []string // data paths that hold a value, for a permit
	Withheld                 []string

	empty []string // fields of the subscriber's schema that are null and not withheld: the event itself has nothing there
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
			told.Faults = Compare(step, told)
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
		got, err := p.record(ctx, p.log.decisions[key])
		if err != nil {
			return told, err
		}
		got.Subject = want.Subject
		told.Records = append(told.Records, got)
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
	case a.Status == admission.Held && len(a.Faults) > 0:
		told.Held = a.Faults[0].Reason
	case a.Status != admission.Accepted:
		return "", fmt.Errorf("the event is %s: %v", a.Status, a.Faults)
	}
	return a.LifeEvent, nil
}

// answering is an event with the correlationid of the delivery that it answers: its publisher's own name of that life event.
func (p *Player) answering(ctx context.Context, event []byte, a examples.Answers, organisation string) ([]byte, error) {
	correlation := p.keys.For(organisation).SealID(p.lives[a.Event])
	for !p.log.has(a.Subscription, correlation) {
		if err := p.log.next(ctx); err != nil {
			return nil, fmt.Errorf("wait for a delivery to %s: %w", a.Subscription, err)
		}
	}
	return correlated(event, correlation)
}

// correlated is an event with a correlationid.
func correlated(event []byte, correlation string) ([]byte, error) {
	var members map[string]json.RawMessage
	err := json.Unmarshal(event, &members)
	if err != nil {
		return nil, err
	}
	if members["correlationid"], err = json.Marshal(correlation); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// record reads one decision, and its deliveries.
func (p *Player) record(ctx context.Context, d *codecs.Decision) (Record, error) {
	r := Record{Role: d.Role, Outcome: d.Outcome}
	for i := range d.Verdicts {
		v := &d.Verdicts[i]
		line := Line{Subscription: v.Subscription, Subscriber: v.Subscriber, Permit: v.Permit, Reason: v.Reason, Basis: v.Basis, Purpose: v.Purpose}
		if v.Permit {
			rec, err := p.delivery(ctx, v.DeliveryID)
			if err != nil {
				return r, err
			}
			if err := p.contents(ctx, rec, &line); err != nil {
				return r, err
			}
		}
		r.Lines = append(r.Lines, line)
	}
	return r, nil
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

// contents looks at a delivery as its subscriber would.
func (p *Player) contents(ctx context.Context, rec *kgo.Record, line *Line) error {
	data, schema, err := p.data(ctx, rec)
	if err != nil {
		return err
	}
	if w := headerOf(rec, codecs.HeaderWithheld); w != "" {
		line.Withheld = strings.Split(w, ",")
	}
	var null []string
	line.Delivered, null = paths(data)
	line.empty = empty(schema.Leaves(), null, line.Withheld)
	if _, err := p.keys.For(strings.TrimPrefix(rec.Topic, topology.SubscriberTopicName(""))).Open(headerOf(rec, codecs.HeaderSubject)); err != nil {
		return fmt.Errorf("the delivery's subject: %w", err)
	}
	return nil
}

// empty lists the fields of a schema at or below those that are null, but not those that were withheld, nor of the profile, which every
// schema has whole.
func empty(schema, null, withheld []string) (fields []string) {
	at := func(list []string, path string) bool {
		return slices.ContainsFunc(list, func(l string) bool { return covers(l, path) })
	}
	for _, path := range schema {
		record := slices.ContainsFunc(schema, func(other string) bool { return other != path && covers(path, other) })
		if !record && at(null, path) && !at(withheld, path) && !covers("data.profile", path) {
			fields = append(fields, path)
		}
	}
	return fields
}

// data reads a delivery by the schema that its value names.
func (p *Player) data(ctx context.Context, rec *kgo.Record) (data any, schema *codecs.Schema, err error) {
	id, body, err := codecs.WireID(rec.Value)
	if err != nil {
		return nil, nil, err
	}
	if schema, err = p.client.Registry().Load(ctx, id); err != nil {
		return nil, nil, err
	}
	text, err := schema.ToJSON(nil, body)
	if err != nil {
		return nil, nil, err
	}
	err = json.Unmarshal(text, &data)
	return data, schema, err
}

// paths lists those of data that hold a value, and those that are null, the first sorted; what is known of the subject stands beside the data.
func paths(data any) (held, null []string) {
	seen := map[string]bool{}
	leaves("data", data, seen)
	for path, value := range seen {
		if value {
			held = append(held, strings.Replace(path, "data.profile.", "profile.", 1))
		} else {
			null = append(null, path)
		}
	}
	slices.Sort(held)
	return held, null
}

// leaves collects paths: true for one that holds a value, be it in one element of an array alone.
func leaves(path string, v any, into map[string]bool) {
	switch v := v.(type) {
	case nil:
		if !into[path] {
			into[path] = false
		}
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

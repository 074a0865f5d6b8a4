package examples

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"

	"civicbus/internal/refdata"
)

// Scenario is one story: steps, in order, each begun when the one before has come to rest.
type Scenario struct {
	Name  string
	Title string // for people
	Steps []Step
}

// Step publishes one event, and says what must come of it.
type Step struct {
	Title    string // for people
	Consents string // a file of consent commands that must be in effect before the event; empty: none
	Event    string // the file of the event
	// Ended is a subject whose consents must have ended (the row's EndedAt) before the event is published: the consent group follows
	// deaths on its own, beside the router. The zero Subject: none.
	Ended   refdata.Subject
	Answers Answers  // the delivery that the event answers; the zero Answers: none
	Held    string   // the cause of the dead letter, where admission holds the event; empty: it is admitted
	Records []Record // one for each distinct subject: each is one record on the event stream and one decision
}

// Answers names a delivery: of an event of an earlier step, to a subscription of whoever publishes the answer.
type Answers struct {
	Event        string // the file of the event
	Subscription string
}

// Record is what must be decided of one subject's record of an event.
type Record struct {
	Role     string
	Index    int // in the role's array; 0 for a role of one
	Subject  refdata.Subject
	Verdicts []Verdict // in no order that means anything; none where nobody subscribes to the role
}

// Verdict is one expected verdict. A path of Fields or Withheld stands for everything below it.
type Verdict struct {
	Subscription string
	Permit       bool
	Reason       string
	Fields       []string // of a permit: what is delivered
	Withheld     []string // of a permit: what this subscriber's schema has, but this delivery may not carry
}

// Totals of a list of scenarios, for the demo's last line.
type Totals struct {
	Events  int // published, held ones included
	Held    int
	Records int // decisions
	Permits int // deliveries
	Denials int
}

// Scenarios are the stories with their expectations, in the order in which they are told: later ones rest on what earlier ones left behind.
// The error is about the file; as embedded it has none.
func Scenarios() ([]Scenario, error) {
	text, err := FS.ReadFile("scenarios.yaml")
	if err != nil {
		return nil, fmt.Errorf("read scenarios: %w", err)
	}
	var form struct{ Scenarios []scenarioForm }
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&form); err != nil {
		return nil, fmt.Errorf("parse scenarios: %w", err)
	}
	scenarios := make([]Scenario, 0, len(form.Scenarios))
	for _, s := range form.Scenarios {
		scenario := Scenario{Name: s.Name, Title: s.Title}
		for _, step := range s.Steps {
			built, err := step.build()
			if err != nil {
				return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
			}
			scenario.Steps = append(scenario.Steps, built)
		}
		scenarios = append(scenarios, scenario)
	}
	return scenarios, nil
}

// Sum counts what the scenarios must come to.
func Sum(scenarios []Scenario) Totals {
	var t Totals
	for _, s := range scenarios {
		for _, step := range s.Steps {
			t.Events++
			if step.Held != "" {
				t.Held++
			}
			for _, r := range step.Records {
				t.Records++
				for _, v := range r.Verdicts {
					if v.Permit {
						t.Permits++
					} else {
						t.Denials++
					}
				}
			}
		}
	}
	return t
}

// The forms are how scenarios.yaml is written; field lists that several verdicts share are YAML anchors there.
type scenarioForm struct {
	Name, Title string
	Steps       []stepForm
}

type stepForm struct {
	Title, Consents, Event, Ended, Held string
	Answers                             Answers
	Records                             []recordForm
}

type recordForm struct {
	Role, Subject string
	Index         int
	Verdicts      []verdictForm
}

type verdictForm struct {
	Subscription     string
	Permit, Deny     string // the reason, under the one that it is
	Fields, Withheld []string
}

func (f stepForm) build() (Step, error) {
	step := Step{Title: f.Title, Consents: f.Consents, Event: f.Event, Held: f.Held, Answers: f.Answers}
	if f.Ended != "" {
		ended, ok := refdata.ParseSubject(f.Ended)
		if !ok {
			return Step{}, fmt.Errorf("step %s: ended is scheme:id", f.Event)
		}
		step.Ended = ended
	}
	for i, r := range f.Records {
		subject, ok := refdata.ParseSubject(r.Subject)
		if !ok {
			return Step{}, fmt.Errorf("step %s: record %d: subject is scheme:id", f.Event, i)
		}
		record := Record{Role: r.Role, Index: r.Index, Subject: subject}
		for _, v := range r.Verdicts {
			if (v.Permit == "") == (v.Deny == "") {
				return Step{}, fmt.Errorf("step %s: %s: either permit or deny", f.Event, v.Subscription)
			}
			record.Verdicts = append(record.Verdicts, Verdict{
				Subscription: v.Subscription, Permit: v.Permit != "", Reason: v.Permit + v.Deny, Fields: v.Fields, Withheld: v.Withheld,
			})
		}
		step.Records = append(step.Records, record)
	}
	return step, nil
}

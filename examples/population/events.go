package population

import (
	"encoding/json"
	"fmt"
	"iter"
	"time"
)

// Event is one life event as its source would publish it.
type Event struct {
	Organisation string            // who publishes it
	Attributes   map[string]string // CloudEvents attributes: specversion, id, source, type, time, datacontenttype
	Data         []byte            // JSON of the type's schema
}

// JSON is the event in CloudEvents' JSON format, on one line.
func (e Event) JSON() ([]byte, error) {
	members := make(map[string]any, len(e.Attributes)+1)
	for name, value := range e.Attributes {
		members[name] = value
	}
	members["data"] = json.RawMessage(e.Data)
	text, err := json.Marshal(members)
	if err != nil {
		return nil, fmt.Errorf("write event of type %s: %w", e.Attributes["type"], err)
	}
	return text, nil
}

// Events never ends; ranging again goes on where the last one stopped. Its times are one minute apart on average.
func (p *Population) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for yield(p.Next()) {
		}
	}
}

// makers make the data of one event each, or nil where it cannot happen now. The weights are of 100.
var makers = []struct {
	weight       int
	organisation string
	kind         string
	make         func(*Population) any
}{
	{35, "dvv.fi", "fi.dvv.person.address.changed", (*Population).move},
	{23, "rakennus.example", "fi.vero.employment.started", (*Population).start},
	{5, "rakennus.example", "fi.vero.employment.annulled", (*Population).annul},
	{14, "hus.fi", "fi.dvv.person.birth", (*Population).birth},
	{7, "dvv.fi", "fi.dvv.person.marriage", (*Population).marry},
	{5, "dvv.fi", "fi.dvv.person.death", (*Population).die},
	{7, "prh.fi", "fi.prh.business.registered", (*Population).form},
	{4, "prh.fi", "fi.prh.business.dissolved", (*Population).dissolve},
}

// Next makes the next event. The error is never of the caller's making: data that cannot be written as JSON.
func (p *Population) Next() (Event, error) {
	p.now = p.now.Add(time.Duration(1+p.random.IntN(120_000)) * time.Millisecond)
	p.sequence++
	for {
		draw, chosen := p.random.IntN(100), 0
		for draw >= makers[chosen].weight {
			draw -= makers[chosen].weight
			chosen++
		}
		maker := &makers[chosen]
		data := maker.make(p)
		if data == nil {
			continue // anyone can always move, so that this ends
		}
		text, err := json.Marshal(data)
		if err != nil {
			return Event{}, fmt.Errorf("write data of type %s: %w", maker.kind, err)
		}
		return Event{
			Organisation: maker.organisation,
			Attributes: map[string]string{
				"specversion": "1.0", "id": fmt.Sprintf("p%d-%d", p.config.Seed, p.sequence), "source": "https://" + maker.organisation,
				"type": maker.kind, "time": p.now.Format(time.RFC3339Nano), "datacontenttype": "application/json",
			},
			Data: text,
		}, nil
	}
}

func isoDate(t time.Time) string { return t.Format(time.DateOnly) }

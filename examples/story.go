package examples

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Story is one birth and what follows from it, told over real connections: who receives by which way, and what everyone must see.
type Story struct {
	Title  string
	Ways   Ways
	People map[string]string // what the story calls somebody -> scheme:id
	Acts   []Act             // in the order in which they are told

	events map[string]json.RawMessage // what is published, by the event's own id
}

// Ways says how deliveries of the story are received. A subscription stands in one of the first three; what is left goes to its
// subscriber's topic.
type Ways struct {
	Webhooks   map[string]string // mode of the request (binary, structured) by subscription
	WebSockets []string          // subscriptions
	Pulls      []string          // subscriptions
	Topics     []string          // organisations that read their own
}

// Act is one part of the story, with everything that is to be seen in it.
type Act struct {
	Name, Title string
	Lines       []Line
}

// Line is one thing that one party does or sees. What one party sees of one subscription by one way comes in the order of its lines;
// parties do not wait for each other.
type Line struct {
	Who          string   // an organisation, an operator or a person
	How          string   // webhook, topic, pull, websocket; a request; or record: by the bus's decisions
	Subscription string   `yaml:",omitempty"`
	What         string   // the event type; else what it is
	Says         string   `yaml:",omitempty"` // what a person reads of it
	Note         string   `yaml:",omitempty"` // of a repeated attempt, or of a replay
	Fields       []string `yaml:",omitempty"` // that hold a value; each stands for everything below it
}

// ReadStory reads the story. The error is about the files; as embedded they have none.
func ReadStory() (*Story, error) {
	text, err := FS.ReadFile("story/story.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the story: %w", err)
	}
	s := &Story{events: map[string]json.RawMessage{}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(s); err != nil {
		return nil, fmt.Errorf("parse the story: %w", err)
	}
	if text, err = FS.ReadFile("story/events.json"); err != nil {
		return nil, fmt.Errorf("read the story's events: %w", err)
	}
	var events []json.RawMessage
	if err := json.Unmarshal(text, &events); err != nil {
		return nil, fmt.Errorf("parse the story's events: %w", err)
	}
	for _, e := range events {
		var named struct{ ID string }
		if err := json.Unmarshal(e, &named); err != nil {
			return nil, fmt.Errorf("parse the story's events: %w", err)
		}
		s.events[named.ID] = e
	}
	return s, nil
}

// Event is one of the story's events, by its own id: a CloudEvent in JSON format. nil: there is none.
func (s *Story) Event(id string) []byte { return s.events[id] }

// Events counts them.
func (s *Story) Events() int { return len(s.events) }

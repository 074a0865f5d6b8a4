package verdict

import (
	"fmt"
	"testing"

	"civicbus/codecs"
)

// What is listed is what is there, in order, whatever was changed and taken away before.
func TestRowsAreListed(t *testing.T) {
	s := NewSnapshot()
	if len(s.EventTypes())+len(s.Organisations())+len(s.Subscriptions()) != 0 {
		t.Fatal("an empty snapshot lists rows")
	}
	for i := range 300 {
		id := fmt.Sprintf("n%03d", 299-i)
		s = s.With(Changes{EventTypes: map[string]*codecs.EventType{id: {Type: id}}, Organisations: map[string]*codecs.Organisation{id: {ID: id}},
			Subscriptions: map[string]*codecs.Subscription{id: {ID: id, EventTypes: []string{id}}}})
	}
	before := s
	s = s.With(Changes{Subscriptions: map[string]*codecs.Subscription{"n000": nil, "n007": {ID: "n007", Purpose: "x"}}})
	if got := s.Subscriptions(); len(got) != 299 || got[0].ID != "n001" || got[6].Purpose != "x" || got[298].ID != "n299" {
		t.Errorf("%d subscriptions, the first %v", len(got), got[0])
	}
	if len(before.Subscriptions()) != 300 || len(s.EventTypes()) != 300 || s.EventTypes()[299].Type != "n299" || s.Organisations()[0].ID != "n000" {
		t.Error("types and organisations are not as they were put")
	}
}

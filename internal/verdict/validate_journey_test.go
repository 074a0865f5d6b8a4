package verdict

import (
	"slices"
	"testing"

	"civicbus/codecs"
)

func TestValidateJourney(t *testing.T) {
	outcome := func(et *codecs.EventType) {
		et.Stream = "services"
		et.Outcome = codecs.Outcome{Path: "data.mother.status", Of: []string{"fi.test.moved"}, Done: []string{"MARRIED"}, Failed: []string{"SINGLE"}}
	}
	for _, c := range []faultCase[*codecs.EventType]{
		{"outcomes are waited for", func(et *codecs.EventType) { et.JourneyHours = 72 }, nil},
		{"as long as can be", func(et *codecs.EventType) { et.JourneyHours = 1080 }, nil},
		{"longer", func(et *codecs.EventType) { et.JourneyHours = 1081 }, []string{"journeyHours bad_interval"}},
		{"backwards", func(et *codecs.EventType) { et.JourneyHours = -1 }, []string{"journeyHours bad_interval"}},
		{"an enum says it", outcome, nil},
		{"a text says it", func(et *codecs.EventType) { outcome(et); et.Outcome.Path = "data.place" }, nil},
		{"on another stream", func(et *codecs.EventType) { outcome(et); et.Stream = "life.birth" }, []string{"stream unknown_stream"}},
		{"no path", func(et *codecs.EventType) { outcome(et); et.Outcome.Path = "" }, []string{"outcome.path bad_path"}},
		{"no such path", func(et *codecs.EventType) { outcome(et); et.Outcome.Path = "data.nowhere" }, []string{"outcome.path unknown_field"}},
		{"a number", func(et *codecs.EventType) { outcome(et); et.Outcome.Path = "data.child.weight" }, []string{"outcome.path bad_type"}},
		{"one of many", func(et *codecs.EventType) { outcome(et); et.Outcome.Path = "data.siblings[].name" }, []string{"outcome.path bad_path"}},
		{"of nothing", func(et *codecs.EventType) { outcome(et); et.Outcome.Of = nil }, []string{"outcome.of bad_type"}},
		{"of no type", func(et *codecs.EventType) { outcome(et); et.Outcome.Of = []string{"births"} }, []string{"outcome.of[0] bad_name"}},
		{"no values", func(et *codecs.EventType) { outcome(et); et.Outcome.Done, et.Outcome.Failed = nil, nil }, []string{"outcome.done bad_type"}},
		{"a value of two meanings", func(et *codecs.EventType) { outcome(et); et.Outcome.NeedsConfirmation = []string{"MARRIED"} }, []string{"outcome.needsConfirmation[0] duplicate"}},
		{"an empty value", func(et *codecs.EventType) { outcome(et); et.Outcome.Done = []string{""} }, []string{"outcome.done[0] bad_name"}},
		{"too many values", func(et *codecs.EventType) { outcome(et); et.Outcome.Failed = make([]string, 101) }, []string{"outcome.failed too_many"}},
	} {
		w := newWorld(t)
		c.do(w.types[birthType])
		got := ValidateEventType(w.types[birthType], []string{"life.birth", "services"}, func(string) *codecs.Schema { return w.schema })
		checkFaults(t, c.name, got, c.want)
	}
}

func TestOutcomeOf(t *testing.T) {
	o := codecs.Outcome{Done: []string{"granted", "ok"}, Failed: []string{"refused"}, NeedsConfirmation: []string{"ask"}}
	var got []string
	for _, v := range []string{"ok", "granted", "refused", "ask", "", "Granted"} {
		got = append(got, OutcomeOf(&o, v))
	}
	if want := []string{"done", "done", "failed", "needs_confirmation", "", ""}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

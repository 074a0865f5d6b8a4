package admin

import (
	"slices"
	"time"

	"civicbus/topology"
)

// Retention says how long a topic keeps what events say of a person.
type Retention struct {
	Topic string        `json:"topic"`
	Keep  time.Duration `json:"-"`
}

// personal are the values on the map that hold an event's data, whole, cut down, or inside a dead letter. All other streams
// hold pseudonyms, versions and reasons.
var personal = []string{topology.Admitted.Value, topology.Subscriber.Value, "dead-letter"}

// PersonalData lists the streams that hold personal data, the longest kept first. subscriber is how long subscribers' topics
// are kept at most; 0: as on the map.
func PersonalData(subscriber time.Duration) []Retention {
	var all []Retention
	add := func(streams []topology.Stream) {
		for _, s := range streams {
			keep := s.Keep
			if s.Name == topology.Subscriber.Name && subscriber > 0 {
				keep = subscriber
			}
			r := Retention{s.Name, keep}
			if slices.Contains(personal, s.Value) && !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	for _, e := range topology.Edges {
		add(slices.Concat(e.In, e.Out))
	}
	for _, g := range topology.Groups {
		add(slices.Concat(g.In, g.Out, g.OutEach))
	}
	slices.SortStableFunc(all, func(a, b Retention) int { return int(b.Keep/time.Hour - a.Keep/time.Hour) })
	return all
}

// ErasedBy is when the last personal data of a subject that was erased at a time has expired from civicbus's own topics: no
// event about them is delivered any more, so nothing new is written under their pseudonym but what a source still publishes.
func ErasedBy(erased time.Time, subscriber time.Duration) time.Time {
	return erased.Add(PersonalData(subscriber)[0].Keep)
}

package journeys

import (
	"fmt"
	"slices"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/verdict"
)

// How one service stands, beside the outcomes of internal/verdict.
const (
	StandsAwaited   = "awaited"   // it has not reported
	StandsConfirmed = "confirmed" // it asked for a confirmation, which was given, and has not reported since
)

// Names gives what things are called; a *verdict.Snapshot is one.
type Names interface {
	EventType(eventType string) *codecs.EventType
	Organisation(id string) *codecs.Organisation
}

// View is what a subject sees of a row, as it is told; ok is false when it is none of its subjects, or nothing of it is for it.
func View(row *codecs.Journey, subject string, names Names) (v codecs.JourneyUpdated, ok bool) {
	at := slices.IndexFunc(row.Subjects, func(s codecs.JourneySubject) bool { return s.Subject == subject && subject != "" })
	if at < 0 || row.Deadline == 0 {
		return v, false
	}
	v = codecs.JourneyUpdated{EventType: row.EventType, Title: row.EventType, Closed: row.Closed != 0}
	if et := names.EventType(row.EventType); et != nil && et.Title != "" {
		v.Title = et.Title
	}
	for i := range row.Items {
		it := &row.Items[i]
		if !shown(row, it, int32(at)) {
			continue
		}
		o := codecs.JourneyOutcome{ID: it.Service, Name: it.Service, Outcome: it.State}
		if org := names.Organisation(it.Service); org != nil && org.Name != "" {
			o.Name = org.Name
		}
		switch {
		case it.State == "":
			o.Outcome = StandsAwaited
			v.Overdue++
		case it.State == verdict.OutcomeFailed:
			v.Failed++
		case it.State == verdict.OutcomeNeedsConfirmation:
			v.Updated++
			if it.ConfirmedAt != 0 {
				o.Outcome = StandsConfirmed
			} else {
				v.Waiting++
			}
		default:
			v.Updated++
		}
		v.Services = append(v.Services, o)
	}
	slices.SortFunc(v.Services, func(a, b codecs.JourneyOutcome) int { return strings.Compare(a.ID, b.ID) })
	v.Text = text(&v)
	return v, len(v.Services) > 0
}

// text is the whole of it for people: "5 services updated. Review and confirm."
func text(v *codecs.JourneyUpdated) string {
	services := func(n int32) string {
		if n == 1 {
			return "1 service"
		}
		return fmt.Sprintf("%d services", n)
	}
	s := services(v.Updated) + " updated."
	if v.Failed > 0 {
		s += " " + services(v.Failed) + " could not."
	}
	if v.Overdue > 0 {
		s += " " + services(v.Overdue) + " not yet."
	}
	if v.Waiting > 0 {
		s += " Review and confirm."
	}
	return s
}

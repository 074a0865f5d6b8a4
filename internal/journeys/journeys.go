// Package journeys is what became of a life event at those who received it: who was told, who has reported an outcome, what
// waits for the person, and what the person is told of it.
//
// Its rules:
//   - Everything is pure and knows no Kafka and no clock but its arguments. Group journey keeps the rows; the gateway shows them.
//   - Who is waited for follows from data: an event of a type with journeyHours was permitted to them, and the trust registry
//     lets them publish a type whose outcome is of that type. A wallet that is merely told is waited for by nobody.
//   - A subject sees the services that the event was permitted to about that very subject, and those that have reported about
//     that subject. What another subject's services do is not for it.
//   - What follows from a row (a notification, a command) has an id that follows from the row too, so that twice is once.
package journeys

import (
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/verdict"
)

// Kinds of a codecs.JourneyInput.
const (
	Decided   = "decided"
	Reported  = "reported"
	Confirmed = "confirmed"
	Erased    = "erased"
)

// Kept is how long a row is kept after its deadline: as long as event streams are.
const Kept = 90 * 24 * time.Hour

// Orphaned is how long outcomes wait for the decision of the event that they are of. The two come by different ways, so the
// outcome may be read first; the outcome of an event that nobody waits for stays an orphan.
const Orphaned = 24 * time.Hour

// Confirmation is what a subject has confirmed to a service.
type Confirmation struct {
	Subject, Service, EventType string
	Report                      string // life event of the outcome that asked for it
}

// Notice is what one subject is to be told of a row.
type Notice struct {
	Subject string
	Closed  bool   // nothing is waited for any more, and the subject was told something else before
	Round   string // tells what the subject is told of a row from what else it is told of it
}

// Apply is the row of a life event after one more input, what was confirmed by it, and who is to be told. It changes nothing
// of the row that it is given. A row without subjects that are still known is gone: ok is false.
func Apply(row codecs.Journey, in *codecs.JourneyInput, now int64) (next codecs.Journey, confirmed []Confirmation, notices []Notice, ok bool) {
	next = row
	next.Subjects, next.Items = slices.Clone(row.Subjects), slices.Clone(row.Items)
	if next.Due == 0 {
		next.Due = now + Orphaned.Milliseconds()
	}
	told := row.Notified != 0
	switch in.Kind {
	case Decided:
		decided(&next, in)
	case Reported:
		if it := reported(&next, in); told && it != nil && Waits(&next, it) { // what is asked late is told at once
			notices = append(notices, Notice{in.Subject, false, in.Report})
		}
	case Confirmed:
		confirmed = confirm(&next, in)
	case Erased:
		if erase(&next, in.Subject) {
			return next, nil, nil, false
		}
	}
	return next, confirmed, append(notices, settle(&next, in.Report, now)...), true
}

// Elapse is the row when its time has come; false: it is not kept any more.
func Elapse(row codecs.Journey, now int64) (next codecs.Journey, notices []Notice, ok bool) {
	if row.Due > now {
		return row, nil, true
	}
	if row.Deadline == 0 || row.Notified != 0 {
		return row, nil, false
	}
	next = row
	notices = settle(&next, "", now)
	return next, notices, true
}

// subject is the place of a subject in the row, which is made where there is room for it; -1: there is none.
func subject(row *codecs.Journey, id string) int32 {
	if i := slices.IndexFunc(row.Subjects, func(s codecs.JourneySubject) bool { return s.Subject == id && id != "" }); i >= 0 {
		return int32(i)
	}
	if len(row.Subjects) >= codecs.MaxJourneySubjects {
		row.Missed++
		return -1
	}
	row.Subjects = append(row.Subjects, codecs.JourneySubject{Subject: id})
	return int32(len(row.Subjects) - 1)
}

// item is what a service has to do with a subject, which is made where there is room for it; nil: there is none.
func item(row *codecs.Journey, service string, at int32) *codecs.JourneyItem {
	for i := range row.Items {
		if row.Items[i].Service == service && row.Items[i].Subject == at {
			return &row.Items[i]
		}
	}
	if len(row.Items) >= codecs.MaxJourneyItems {
		row.Missed++
		return nil
	}
	row.Items = append(row.Items, codecs.JourneyItem{Service: service, Subject: at})
	return &row.Items[len(row.Items)-1]
}

func decided(row *codecs.Journey, in *codecs.JourneyInput) {
	if row.Deadline == 0 {
		row.EventType, row.Records, row.Deadline = in.EventType, in.Records, in.At+(time.Duration(in.Hours)*time.Hour).Milliseconds()
	}
	at := subject(row, in.Subject)
	if at < 0 {
		return
	}
	row.Subjects[at].Decided = true
	for _, s := range in.Services {
		if it := item(row, s.ID, at); it != nil {
			it.Entitled, it.Awaited = true, it.Awaited || s.Awaited
			if it.Purpose == "" {
				it.Purpose = s.Purpose
			}
		}
	}
}

// reported notes an outcome, and gives the item that it changed. One that was noted already changes nothing.
func reported(row *codecs.Journey, in *codecs.JourneyInput) *codecs.JourneyItem {
	at := subject(row, in.Subject)
	if at < 0 {
		return nil
	}
	it := item(row, in.Service, at)
	if it == nil || it.Report == in.Report && !flaw.Planted(flaw.OutcomeTwice) {
		return nil
	}
	it.State, it.Report, it.At, it.ConfirmedAt = in.State, in.Report, in.At, 0
	read := int32(0)
	for i := range row.Items {
		if row.Items[i].Service == in.Service && row.Items[i].Report == in.Report {
			read++
		}
	}
	// An outcome about several subjects is heard when all of its records are: else the first subject is told without the rest.
	if read >= in.Records || len(row.Items) >= codecs.MaxJourneyItems || len(row.Subjects) >= codecs.MaxJourneySubjects {
		for i := range row.Items {
			if row.Items[i].Service == in.Service && row.Items[i].Report == in.Report {
				row.Items[i].Whole = true
			}
		}
	}
	return it
}

// confirm notes a confirmation that is waited for; any other changes nothing.
func confirm(row *codecs.Journey, in *codecs.JourneyInput) []Confirmation {
	for i := range row.Items {
		it := &row.Items[i]
		if it.Service == in.Service && row.Subjects[it.Subject].Subject == in.Subject && in.Subject != "" && (Waits(row, it) || it.ConfirmedAt != 0 && flaw.Planted(flaw.ConfirmedTwice)) {
			it.ConfirmedAt = in.At
			return []Confirmation{{in.Subject, it.Service, row.EventType, it.Report}}
		}
	}
	return nil
}

// erase takes a subject out of the row, true when nobody is left.
func erase(row *codecs.Journey, id string) bool {
	for i := range row.Subjects {
		if row.Subjects[i].Subject == id {
			row.Subjects[i].Subject = ""
			row.Items = slices.DeleteFunc(row.Items, func(it codecs.JourneyItem) bool { return it.Subject == int32(i) })
		}
	}
	return !slices.ContainsFunc(row.Subjects, func(s codecs.JourneySubject) bool { return s.Subject != "" })
}

// Waits says whether an item waits for its subject's confirmation.
func Waits(row *codecs.Journey, it *codecs.JourneyItem) bool {
	return it.State == verdict.OutcomeNeedsConfirmation && it.ConfirmedAt == 0 && row.Deadline != 0 && entitled(row, it.Service)
}

// entitled says whether the event was permitted to a service about anybody.
func entitled(row *codecs.Journey, service string) bool {
	return slices.ContainsFunc(row.Items, func(it codecs.JourneyItem) bool { return it.Service == service && it.Entitled })
}

// standing is how the services that are waited for stand together.
type standing struct {
	known    bool // the decision of every record has been read
	awaited  int  // services
	reported int  // of those: have said something
	final    int  // of those: and nothing of it is waited for
}

func stand(row *codecs.Journey) (s standing) {
	decided := int32(0)
	for _, subject := range row.Subjects {
		if subject.Decided {
			decided++
		}
	}
	s.known = row.Deadline != 0 && decided >= min(row.Records, codecs.MaxJourneySubjects)
	type service struct{ reported, open bool }
	all := map[string]*service{}
	for _, it := range row.Items {
		if it.Awaited && all[it.Service] == nil {
			all[it.Service] = &service{}
		}
	}
	for _, it := range row.Items {
		if one := all[it.Service]; one != nil {
			one.reported = one.reported || it.Whole
			one.open = one.open || it.State == verdict.OutcomeNeedsConfirmation
		}
	}
	s.awaited = len(all)
	for _, one := range all {
		if one.reported {
			s.reported++
			if !one.open {
				s.final++
			}
		}
	}
	return s
}

// settle finds out who is to be told now, and when the row is to be looked at again. Subjects are told once when all who are
// waited for have reported, or the deadline has passed; and again when after that nothing is waited for any more. report is the
// outcome that was read, if it was one.
func settle(row *codecs.Journey, report string, now int64) (notices []Notice) {
	if row.Deadline == 0 {
		return nil
	}
	s := stand(row)
	told := row.Notified != 0
	if !told && (s.known && s.reported == s.awaited || now >= row.Deadline) {
		row.Notified = now
		notices = tell(row, false, "")
	}
	switch closed := s.known && s.final == s.awaited; {
	case !closed:
		row.Closed = 0
	case row.Closed == 0:
		row.Closed = now
		if told {
			notices = tell(row, true, report)
		}
	}
	if row.Due = row.Deadline; row.Notified != 0 {
		row.Due = row.Deadline + Kept.Milliseconds()
	}
	return notices
}

// tell names the subjects for whom there is something to tell.
func tell(row *codecs.Journey, closed bool, round string) (notices []Notice) {
	for i, s := range row.Subjects {
		if s.Subject != "" && slices.ContainsFunc(row.Items, func(it codecs.JourneyItem) bool { return shown(row, &it, int32(i)) }) {
			notices = append(notices, Notice{s.Subject, closed, round})
		}
	}
	return notices
}

// shown says whether a subject sees an item.
func shown(row *codecs.Journey, it *codecs.JourneyItem, at int32) bool {
	return it.Subject == at && entitled(row, it.Service) && (it.Awaited || it.State != "")
}

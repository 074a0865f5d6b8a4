package codecs

// Journey is a row of journey-table. It is of two kinds. Under a life event's id: who got the event, what they have reported of
// it, and what waits for whom. Under a subject: the life events that have such a row with the subject in it (Mine), and
// nothing else. Bounded.
type Journey struct {
	EventType string           `avro:"event_type"` // of the event; empty: no decision of it has been read yet
	Records   int32            `avro:"records"`    // how many records the event became
	Deadline  int64            `avro:"deadline"`   // until when outcomes are waited for, Unix milliseconds, as every time here
	Due       int64            `avro:"due"`        // when the row is looked at again by itself
	Subjects  []JourneySubject `avro:"subjects"`   // at most MaxJourneySubjects; their places never change
	Items     []JourneyItem    `avro:"items"`      // at most MaxJourneyItems
	Missed    int64            `avro:"missed"`     // what had no room
	Notified  int64            `avro:"notified"`   // when its subjects were told; 0: not yet
	Closed    int64            `avro:"closed"`     // when nothing was waited for any more
	Mine      []JourneyRef     `avro:"mine"`       // at most MaxJourneysOfSubject, the oldest first
}

// JourneySubject is one whom the event is about.
type JourneySubject struct {
	Subject string `avro:"subject"` // empty: erased, or protected when it was decided
	Decided bool   `avro:"decided"` // its decision has been read
}

// JourneyItem is what one service has to do with one subject of the event.
type JourneyItem struct {
	Service     string `avro:"service"`      // organisation
	Subject     int32  `avro:"subject"`      // its place among the subjects
	Purpose     string `avro:"purpose"`      // of the first subscription that the event was permitted to
	Entitled    bool   `avro:"entitled"`     // the event was permitted to it about this subject
	Awaited     bool   `avro:"awaited"`      // it may report an outcome of such events
	State       string `avro:"state"`        // done, failed, needs_confirmation; empty: nothing was reported
	Report      string `avro:"report"`       // life event of the outcome that says so
	Whole       bool   `avro:"whole"`        // every record of an outcome of the service about this subject has been read
	At          int64  `avro:"at"`           // when that was read
	ConfirmedAt int64  `avro:"confirmed_at"` // when the subject confirmed it
}

// JourneyRef names a journey of a subject.
type JourneyRef struct {
	LifeEvent string `avro:"life_event"`
	Until     int64  `avro:"until"` // how long its row is kept
}

// Bounds of a Journey row.
const (
	MaxJourneySubjects   = 64
	MaxJourneyItems      = 256
	MaxJourneysOfSubject = 64
)

// JourneyInput is what the journey group learnt of one life event, on its way to that event's row. Key: the life event.
type JourneyInput struct {
	Kind      string           `avro:"kind"` // decided, reported, confirmed or erased
	Subject   string           `avro:"subject"`
	EventType string           `avro:"event_type"` // decided: of the event
	Records   int32            `avro:"records"`    // decided, reported: how many records the event, or the outcome, became
	Hours     int64            `avro:"hours"`      // decided: how long outcomes are waited for
	Services  []JourneyService `avro:"services"`   // decided: whom it was permitted to
	Service   string           `avro:"service"`    // reported: who; confirmed: to whom
	State     string           `avro:"state"`      // reported
	Report    string           `avro:"report"`     // reported: the outcome's own life event
	At        int64            `avro:"at"`
}

// JourneyService is one to whom an event was permitted.
type JourneyService struct {
	ID      string `avro:"id"`
	Purpose string `avro:"purpose"`
	Awaited bool   `avro:"awaited"`
}

// JourneyUpdated is the data of civicbus's own event that tells a subject how a journey stands.
type JourneyUpdated struct {
	Subject   string           `avro:"subject" json:"subject"` // never filled: the subject stands in the envelope
	EventType string           `avro:"eventType" json:"eventType"`
	Title     string           `avro:"title" json:"title"`
	Text      string           `avro:"text" json:"text"`
	Updated   int32            `avro:"updated" json:"updated"`
	Failed    int32            `avro:"failed" json:"failed"`
	Waiting   int32            `avro:"waiting" json:"waiting"`
	Overdue   int32            `avro:"overdue" json:"overdue"`
	Closed    bool             `avro:"closed" json:"closed"`
	Services  []JourneyOutcome `avro:"services" json:"services"`
}

// JourneyOutcome is how one service stands in a JourneyUpdated.
type JourneyOutcome struct {
	ID      string `avro:"id" json:"id"`
	Name    string `avro:"name" json:"name"`
	Outcome string `avro:"outcome" json:"outcome"` // done, failed, needs_confirmation, confirmed or awaited
}

// JourneyConfirm is the data of the command by which a subject, through its wallet or the gateway, confirms what one service
// asked for.
type JourneyConfirm struct {
	Subject string `avro:"subject" json:"subject"` // as JourneyUpdated's
	Service string `avro:"service" json:"service"`
}

// JourneyConfirmed is the data of the command that tells that service.
type JourneyConfirmed struct {
	Subject     string `avro:"subject" json:"subject"` // as JourneyUpdated's
	EventType   string `avro:"eventType" json:"eventType"`
	ConfirmedAt int64  `avro:"confirmedAt" json:"confirmedAt"`
}

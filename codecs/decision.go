package codecs

// Decision is the audit record of one event record's verdicts: ids, versions and reasons, never a value of any field.
// Key: the event's key (its subject).
type Decision struct {
	Kind           string        `avro:"kind" json:"kind"` // router, profile, delivery, gateway, replay
	Topic          string        `avro:"topic" json:"topic"`
	Partition      int32         `avro:"partition" json:"partition"`
	Offset         int64         `avro:"offset" json:"offset"`
	Follows        int64         `avro:"follows" json:"follows"` // offset after the record handled before it there; -1 outside the router and profile, and where it only adds verdicts to the decision before it
	DecidedAt      int64         `avro:"decided_at" json:"decidedAt"`
	LifeEventID    string        `avro:"life_event_id" json:"lifeEventId"`
	Correlation    string        `avro:"correlation" json:"correlation,omitempty"` // of a follow-up: the life event that caused it; empty: nothing did
	Subjects       int32         `avro:"subjects" json:"subjects,omitempty"`       // of the router: how many records the event became, each with a decision of its own
	EventType      string        `avro:"event_type" json:"eventType"`
	Source         string        `avro:"source" json:"source"`
	Role           string        `avro:"role" json:"role"`
	Outcome        string        `avro:"outcome" json:"outcome"` // decided; or why there are no verdicts: repeat, malformed, misplaced, unknown_type, ...
	CatalogVersion int64         `avro:"catalog_version" json:"catalogVersion"`
	ConsentVersion int64         `avro:"consent_version" json:"consentVersion"` // 0: the subject has no row
	ProfileVersion int64         `avro:"profile_version" json:"profileVersion"` // 0: not stamped
	Verdicts       []VerdictItem `avro:"verdicts" json:"verdicts"`
}

// VerdictItem is one verdict inside a Decision.
type VerdictItem struct {
	Subscription        string `avro:"subscription" json:"subscription"`
	SubscriptionVersion int64  `avro:"subscription_version" json:"subscriptionVersion"`
	Subscriber          string `avro:"subscriber" json:"subscriber"`
	TrustVersion        int64  `avro:"trust_version" json:"trustVersion"`
	Permit              bool   `avro:"permit" json:"permit"`
	Reason              string `avro:"reason" json:"reason"` // closed list, see internal/verdict
	Basis               string `avro:"basis" json:"basis"`
	Purpose             string `avro:"purpose" json:"purpose"`
	Reference           string `avro:"reference" json:"reference"` // grant or rule id
	ReferenceVersion    int64  `avro:"reference_version" json:"referenceVersion"`
	DeliveryID          string `avro:"delivery_id" json:"deliveryId"` // of a permit; empty otherwise
	FieldSet            int64  `avro:"field_set" json:"fieldSet"`     // hash of the permitted field list
}

// DeadLetter is what could not be processed or written, with its cause and its origin, whole, so that it can be redriven.
// Key: the record's key.
type DeadLetter struct {
	Cause        string   `avro:"cause" json:"cause"`   // closed list: malformed, no_subject, unknown_schema, misplaced, unknown_type, undeliverable_*
	Detail       string   `avro:"detail" json:"detail"` // for people; never personal data
	Group        string   `avro:"group" json:"group"`   // who gave up: a group, or admission
	Topic        string   `avro:"topic" json:"topic"`   // where it stood, and where it re-enters; empty: admission
	Partition    int32    `avro:"partition" json:"partition"`
	Offset       int64    `avro:"offset" json:"offset"`
	Subscription string   `avro:"subscription" json:"subscription"` // undeliverable_*: the one to decide for; empty: all
	Key          []byte   `avro:"key" json:"-"`
	Value        []byte   `avro:"value" json:"-"`
	Headers      []Header `avro:"headers" json:"headers"`
	At           int64    `avro:"at" json:"at"` // Unix milliseconds
}

// Fit cuts the letter so that key, value, headers and texts take at most so many bytes: first the value, then the headers go. What
// civicbus lets in always fits; what others wrote past it need not. Detail says what was cut. A key that alone is larger stays.
func (l *DeadLetter) Fit(bytes int) {
	const perText = 10 // of a length, at most
	room := bytes - len(l.Cause) - len(l.Detail) - len(l.Group) - len(l.Topic) - len(l.Subscription) - len(l.Key) - 256
	headers := 0
	for i := range l.Headers {
		headers += len(l.Headers[i].Key) + len(l.Headers[i].Value) + 2*perText
	}
	if headers > room {
		l.Headers, l.Detail = nil, l.Detail+"; the headers were too large to be kept"
	} else {
		room -= headers
	}
	if len(l.Value) > room {
		l.Value, l.Detail = l.Value[:max(room, 0)], l.Detail+"; the value was too large to be kept whole"
	}
}

// Header is one Kafka record header.
type Header struct {
	Key   string `avro:"key" json:"key"`
	Value []byte `avro:"value" json:"value"`
}

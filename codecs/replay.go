package codecs

// Replay is a row of replay-table: one replay that was asked for, and what became of it. Bounded. Key: ID. How far it has come
// stands in the offsets of its own consumer group, since they are committed with what it sends.
type Replay struct {
	ID              string        `avro:"id" json:"id"` // [a-z0-9.-]
	Version         int64         `avro:"version" json:"version,omitempty"`
	Subscriber      string        `avro:"subscriber" json:"subscriber"`               // organisation
	Subscription    string        `avro:"subscription" json:"subscription,omitempty"` // the one of the subscriber's; empty: all of them
	EventTypes      []string      `avro:"event_types" json:"eventTypes,omitempty"`    // empty: all
	From            int64         `avro:"from" json:"from,omitempty"`                 // what was decided from then on, Unix milliseconds; 0: whatever is kept
	To              int64         `avro:"to" json:"to,omitempty"`                     // and before then; 0: before it was asked for
	Offsets         []OffsetRange `avro:"offsets" json:"offsets,omitempty"`           // of event streams: only these event records; empty: all
	Scan            []OffsetRange `avro:"scan" json:"scan,omitempty"`                 // of audit-decisions: where it looks, fixed when it was asked for
	Rate            int32         `avro:"rate" json:"rate,omitempty"`                 // records a second at most; 0: no limit but the share that it leaves to others
	Status          string        `avro:"status" json:"status"`                       // pending, running, done, cancelled, failed
	StatusReason    string        `avro:"status_reason" json:"statusReason,omitempty"`
	RequestedBy     string        `avro:"requested_by" json:"requestedBy,omitempty"`
	ApprovedBy      string        `avro:"approved_by" json:"approvedBy,omitempty"`
	CreatedAt       int64         `avro:"created_at" json:"createdAt,omitempty"` // Unix milliseconds
	StartedAt       int64         `avro:"started_at" json:"startedAt,omitempty"`
	EndedAt         int64         `avro:"ended_at" json:"endedAt,omitempty"`
	Counts          []ReasonCount `avro:"counts" json:"counts,omitempty"` // of one that has ended: verdicts by reason
	AppliedIDs      []string      `avro:"commands_applied" json:"-"`
	AppliedVersions []int64       `avro:"versions_applied" json:"-"`
	UpdatedAt       int64         `avro:"updated_at" json:"-"`
}

// OffsetRange is the offsets [From, To) of one partition.
type OffsetRange struct {
	Topic     string `avro:"topic" json:"topic"`
	Partition int32  `avro:"partition" json:"partition"`
	From      int64  `avro:"from" json:"from"`
	To        int64  `avro:"to" json:"to"` // in Replay.Offsets 0: no end
}

// ReasonCount counts the verdicts with one reason.
type ReasonCount struct {
	Reason string `avro:"reason" json:"reason"`
	Count  int64  `avro:"count" json:"count"`
}

// ReplayCommand asks to change one replay. Key: its id.
type ReplayCommand struct {
	Meta   Meta   `avro:"meta"`
	Kind   string `avro:"kind"` // start, approve, cancel; of civicbus itself: ended
	Replay Replay `avro:"replay"`
}

package codecs

// Subscription is a row of subscription-table. Key: ID.
type Subscription struct {
	ID              string           `avro:"id" json:"id"` // sub-kela-birth-001; [a-z0-9.-]
	Version         int64            `avro:"version" json:"version,omitempty"`
	Subscriber      string           `avro:"subscriber" json:"subscriber"` // organisation
	EventTypes      []string         `avro:"event_types" json:"eventTypes"`
	Role            string           `avro:"role" json:"role,omitempty"`     // empty: each type's first role
	Filter          string           `avro:"filter" json:"filter,omitempty"` // JSON: {"data.parentResidency": "Finland"}, {"cel": "..."}, or a CloudEvents filter list; empty: all
	Purpose         string           `avro:"purpose" json:"purpose"`
	Basis           string           `avro:"basis" json:"basis"`             // consent, or the basis of a rule it claims
	Scopes          []string         `avro:"scopes" json:"scopes,omitempty"` // required scopes: a grant must cover all of them
	Fields          []string         `avro:"fields" json:"fields,omitempty"` // narrows what is delivered; empty: all that is permitted
	Delivery        Delivery         `avro:"delivery" json:"delivery"`
	Status          string           `avro:"status" json:"status,omitempty"`              // pending, activating, active, paused, revoked
	StatusReason    string           `avro:"status_reason" json:"statusReason,omitempty"` // why it is paused or revoked, a closed list
	RequestedBy     string           `avro:"requested_by" json:"requestedBy,omitempty"`
	ApprovedBy      string           `avro:"approved_by" json:"approvedBy,omitempty"`
	CreatedAt       int64            `avro:"created_at" json:"createdAt,omitempty"`
	From            []StreamPosition `avro:"from" json:"from,omitempty"` // every event at or after it is decided under the subscription
	AppliedIDs      []string         `avro:"commands_applied" json:"-"`
	AppliedVersions []int64          `avro:"versions_applied" json:"-"` // the versions they were answered with, in the same order
	UpdatedAt       int64            `avro:"updated_at" json:"-"`
	SecretVersion   int64            `avro:"secret_version" json:"-"` // number of the secret that deliveries to the webhook are signed with, from 0
	SecretOverlap   int64            `avro:"secret_overlap" json:"-"` // until when they are signed with the one before it too, Unix milliseconds
}

// Delivery says how a subscription's deliveries leave civicbus.
type Delivery struct {
	Kind string `avro:"kind" json:"kind"`           // kafka (subscriber.{id}; also served by pull, WebSocket and SSE) or webhook
	Sink string `avro:"sink" json:"sink,omitempty"` // https URL of a webhook
	Mode string `avro:"mode" json:"mode,omitempty"` // binary (default) or structured
	Thin bool   `avro:"thin" json:"thin,omitempty"` // the envelope and a dataref only
}

// StreamPosition is the offset of the first record not yet written when it was asked.
type StreamPosition struct {
	Topic     string `avro:"topic" json:"topic"`
	Partition int32  `avro:"partition" json:"partition"`
	Offset    int64  `avro:"offset" json:"offset"`
}

// SubscriptionCommand asks to change one subscription. Key: its id.
type SubscriptionCommand struct {
	Meta         Meta         `avro:"meta"`
	Kind         string       `avro:"kind"` // put, approve, pause, resume, revoke, activated (From only), rotate-secret (SecretOverlap only)
	Subscription Subscription `avro:"subscription"`
	Reason       string       `avro:"reason"` // of a pause or a revocation
}

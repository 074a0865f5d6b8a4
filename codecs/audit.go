package codecs

// AuditEntry is one link of a hash chain on audit-log: one decision, or one command's result, or one input record that
// could not be read. Each partition of audit-log is one chain. It holds ids, versions and reasons, and commitments in place
// of subjects and actors: never a pseudonym, never a value of any field. Key: one per chain, which says nothing.
type AuditEntry struct {
	Number   int64  `avro:"number" json:"number"`     // dense in the chain, from 1
	Previous []byte `avro:"previous" json:"previous"` // SHA-256 of the whole value before it; empty for number 1
	Before   int64  `avro:"before" json:"before"`     // number of the last entry about the same subject; 0: none
	KeyID    string `avro:"key_id" json:"keyId"`      // tells one audit key from another, and nothing about it
	Subject  []byte `avro:"subject" json:"subject"`   // commitment to the input's key; empty: it had none of its own

	Input        string `avro:"input" json:"input"`                // audit-decisions or command-results; their partition is the chain's
	InputOffset  int64  `avro:"input_offset" json:"inputOffset"`   // of the record that was audited
	InputFollows int64  `avro:"input_follows" json:"inputFollows"` // offset after the record audited before it there
	Digest       []byte `avro:"digest" json:"digest"`              // SHA-256 of that record's value
	Part         int32  `avro:"part" json:"part"`                  // which part of that record this is, from 0
	Parts        int32  `avro:"parts" json:"parts"`                // how many there are: many verdicts do not fit into one entry

	Kind           string        `avro:"kind" json:"kind"` // of the decision; or command, or unreadable
	Topic          string        `avro:"topic" json:"topic"`
	Partition      int32         `avro:"partition" json:"partition"`
	Offset         int64         `avro:"offset" json:"offset"`
	Follows        int64         `avro:"follows" json:"follows"` // as the decision or the result says
	At             int64         `avro:"at" json:"at"`           // when it was decided or answered
	LifeEventID    string        `avro:"life_event_id" json:"lifeEventId"`
	EventType      string        `avro:"event_type" json:"eventType"`
	Source         string        `avro:"source" json:"source"` // of a gap: the group
	Role           string        `avro:"role" json:"role"`
	Outcome        string        `avro:"outcome" json:"outcome"` // of a command: accepted or refused
	CatalogVersion int64         `avro:"catalog_version" json:"catalogVersion"`
	ConsentVersion int64         `avro:"consent_version" json:"consentVersion"`
	ProfileVersion int64         `avro:"profile_version" json:"profileVersion"`
	Verdicts       []VerdictItem `avro:"verdicts" json:"verdicts"`

	CommandKind string `avro:"command_kind" json:"commandKind"`
	Actor       []byte `avro:"actor" json:"actor"`     // commitment to who commanded
	Version     int64  `avro:"version" json:"version"` // of the row after the command
	Reason      string `avro:"reason" json:"reason"`   // why it was refused; why there is a gap

	// MAC is HMAC-SHA256 under a key derived from the audit key, over everything before it. It stays the last field of every
	// version of the schema: the value without its last 33 bytes (a length and the MAC) is what was authenticated.
	MAC []byte `avro:"mac" json:"mac"`
}

// AuditRow is a row of audit-table: where one subject's last entry is, or where a chain ends. Bounded. Key: the subject, or
// the chain's own key, which no subject can have.
type AuditRow struct {
	Number int64  `avro:"number"` // of the last entry
	Salt   []byte `avro:"salt"`   // of the subject's commitments; without it nobody can tell whose they are
	Hash   []byte `avro:"hash"`   // a chain: SHA-256 of the last entry
	KeyID  string `avro:"key_id"` // a chain: the audit key that it is written under
}

// AuditHead is a signed statement that a chain had come this far: whoever has it can tell if something before was cut off or
// written anew. Key: the chain's.
type AuditHead struct {
	Partition int32  `avro:"partition" json:"partition"`
	Number    int64  `avro:"number" json:"number"`
	Hash      []byte `avro:"hash" json:"hash"` // SHA-256 of the entry of that number
	At        int64  `avro:"at" json:"at"`     // Unix milliseconds
	PublicKey []byte `avro:"public_key" json:"publicKey"`
	Signature []byte `avro:"signature" json:"signature"` // Ed25519, see package audit
}

// UsageRow is a row of usage-table: what became of one subscription's events. Bounded. Key: the subscription.
type UsageRow struct {
	Subscriber string        `avro:"subscriber" json:"subscriber"`
	Purpose    string        `avro:"purpose" json:"purpose"`
	Delivered  int64         `avro:"delivered" json:"delivered"` // deliveries, each id once as far as Recent reaches
	Repeated   int64         `avro:"repeated" json:"repeated"`   // permits of a delivery id that was counted before
	Denied     []UsageDenial `avro:"denied" json:"denied"`       // by reason; at most MaxUsageReasons
	First      int64         `avro:"first" json:"first"`         // when the first and the last was decided, Unix milliseconds
	Last       int64         `avro:"last" json:"last"`
	Recent     []byte        `avro:"recent" json:"-"` // 8 bytes of each of the last MaxUsageRecent delivery ids, a ring
	Next       int32         `avro:"next" json:"-"`   // where the ring goes on, in ids

	Attempts []UsageAttempt `avro:"attempts" json:"attempts,omitempty"` // the last MaxUsageAttempts at its webhook, the oldest first
}

// UsageAttempt is one attempt to deliver to a webhook.
type UsageAttempt struct {
	DeliveryID string `avro:"delivery_id" json:"deliveryId"`
	EventType  string `avro:"event_type" json:"eventType"`
	Attempt    int32  `avro:"attempt" json:"attempt"`       // from 1
	Outcome    string `avro:"outcome" json:"outcome"`       // closed list, see processors/delivery
	Cause      string `avro:"cause" json:"cause,omitempty"` // why it was not delivered: closed list, see internal/delivery
	Status     int32  `avro:"status" json:"status"`         // of the HTTP answer; 0: none came
	Millis     int64  `avro:"millis" json:"millis"`         // how long it took
	At         int64  `avro:"at" json:"at"`                 // when it began, Unix milliseconds
}

// UsageDenial counts the denials with one reason.
type UsageDenial struct {
	Reason string `avro:"reason" json:"reason"`
	Count  int64  `avro:"count" json:"count"`
}

// Bounds of a UsageRow. Reasons are a closed list much shorter than this; what is beyond it is counted as "other".
const (
	MaxUsageRecent   = 256
	MaxUsageReasons  = 64
	MaxUsageAttempts = 100
)

// UsageItem is one verdict, or one attempt at a webhook, on its way to its subscription's row. Key: the subscription.
type UsageItem struct {
	Subscriber string `avro:"subscriber"`
	Purpose    string `avro:"purpose"`
	Permit     bool   `avro:"permit"`
	Reason     string `avro:"reason"`
	DeliveryID string `avro:"delivery_id"`
	At         int64  `avro:"at"`

	EventType string `avro:"event_type"` // of an attempt, as what follows
	Attempt   int32  `avro:"attempt"`    // from 1; 0: it is a verdict
	Outcome   string `avro:"outcome"`
	Cause     string `avro:"cause"`
	Status    int32  `avro:"status"`
	Millis    int64  `avro:"millis"`
}

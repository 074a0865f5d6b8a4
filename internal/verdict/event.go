package verdict

import "civicbus/codecs"

// Event is one event record as it is decided: the envelope from its headers, the body untouched. It is read only, but
// for Malformed.
type Event struct {
	Type       string
	Role       string // of the record's subject (ce_subjectrole)
	Source     string
	Subject    string   // inside the bus; no decision reads it
	Recipient  string   // of a command: the one organisation it is for
	Publisher  string   // the organisation that published it
	FollowUp   bool     // another event caused it
	Index      int      // of the subject in the array of a role with many; one that the array does not have owns nothing in it
	Authorized []string // the in-event list of authorised subscribers, valid if HasList
	HasList    bool
	Schema     *codecs.Schema // the writer's; nil: not known, and so is every field
	Body       []byte         // Avro, without the wire header
	Stamp      *codecs.Attributes
	// Attr gives a CloudEvents attribute by its name without ce_, for filters; nil: only type, source and role are known.
	Attr func(name string) (string, bool)

	// Malformed is set by Decide where the body does not follow Schema as far as it was read; there are no verdicts then.
	Malformed error
}

// Verdict permits or denies one event to one subscription.
type Verdict struct {
	Sub              *codecs.Subscription
	Permit           bool
	Reason           string   // closed list: reasons.go
	Basis            string   // the one the subscription claims
	Reference        string   // id of the rule or grant that permits, or of the grant that denies; empty: none
	ReferenceVersion int64    // of that grant in the consent row, or of the catalog row that holds the rule
	TrustVersion     int64    // of the subscriber's trust row; 0: it has none
	Fields           []string // of a permit: the paths delivered, ends of the schema in its order, then profile.*; shared
	FieldSet         int64    // a hash of Fields, equal in every process; 0: of a denial

	set *fieldSet
}

// Item is the verdict as a decision holds it, but for what is delivered: the delivery's id and its field set.
func (v *Verdict) Item() codecs.VerdictItem {
	return codecs.VerdictItem{Subscription: v.Sub.ID, SubscriptionVersion: v.Sub.Version, Subscriber: v.Sub.Subscriber, TrustVersion: v.TrustVersion,
		Permit: v.Permit, Reason: v.Reason, Basis: v.Basis, Purpose: v.Sub.Purpose, Reference: v.Reference, ReferenceVersion: v.ReferenceVersion}
}

// Target is one projected schema that must be registered before deliveries to a subscriber can be written.
type Target struct {
	Subscriber string
	EventType  string
	Writer     *codecs.Schema
	Paths      []string // data paths in the writer schema's order; the record profile is there in any case
	Set        int64    // a hash of Paths, equal in every process
}

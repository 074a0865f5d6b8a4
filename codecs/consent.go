package codecs

// Consents is a row of consent-table: everything that one subject has said about sharing, bounded. Key: the subject.
//
// A death sets EndedAt. While it is set no grant holds, whenever it was given, and none is accepted (reason deceased);
// refusals, withdrawals, objections and restrictions are. Grants keep their state: a command of kind revive, by which an
// operator corrects a death told by mistake, clears EndedAt, and they hold again.
type Consents struct {
	Version     int64       `avro:"version" json:"version"`
	Grants      []Grant     `avro:"grants" json:"grants"`           // at most MaxGrants
	Objections  []Objection `avro:"objections" json:"objections"`   // at most MaxObjections
	Restriction string      `avro:"restriction" json:"restriction"` // empty, protected or erasure
	EndedAt     int64       `avro:"ended_at" json:"endedAt"`        // a death: no grant holds; 0: none
	AppliedIDs  []string    `avro:"commands_applied" json:"-"`      // ids of the last 16 commands applied

	AppliedVersions []int64 `avro:"versions_applied" json:"-"` // the versions they were answered with, in the same order
	UpdatedAt       int64   `avro:"updated_at" json:"updatedAt"`
}

// Bounds of a Consents row; a command beyond them is refused (too_many_grants, too_many_objections).
const (
	MaxGrants     = 256
	MaxObjections = 64
)

// Grant is one consent of one subject. A row holds one Grant per (recipient, purpose, id); States are DPV's.
type Grant struct {
	ID        string   `avro:"id" json:"id"`
	Version   int64    `avro:"version" json:"version"` // the row's version at which it was last changed
	State     string   `avro:"state" json:"state"`     // given, refused, withdrawn (expired follows from ValidTo)
	Recipient string   `avro:"recipient" json:"recipient"`
	Purpose   string   `avro:"purpose" json:"purpose"`
	Scopes    []string `avro:"scopes" json:"scopes"`
	ValidFrom int64    `avro:"valid_from" json:"validFrom"` // Unix milliseconds, half-open
	ValidTo   int64    `avro:"valid_to" json:"validTo"`     // 0: no end
	GivenAt   int64    `avro:"given_at" json:"givenAt"`     // when the consent group accepted it
	Notice    string   `avro:"notice" json:"notice"`        // URI of the privacy notice shown (ISO/IEC TS 27560)
	Language  string   `avro:"language" json:"language"`    // of that notice, BCP 47
	Method    string   `avro:"method" json:"method"`        // how it was collected

	GivenVersion    int64    `avro:"given_version" json:"givenVersion,omitempty"`       // the row's version at which it was accepted; UpTo goes by it
	WithdrawnScopes []string `avro:"withdrawn_scopes" json:"withdrawnScopes,omitempty"` // granted once and withdrawn since: no unknown scopes
	ChangedAt       int64    `avro:"changed_at" json:"changedAt"`                       // when the consent group last changed it
	ChangedBy       string   `avro:"changed_by" json:"changedBy"`                       // the actor of that change

	// What else ISO/IEC TS 27560 demands of a consent record and does not change with time; text as the consent service gave it.
	ConsentType      string `avro:"consent_type" json:"consentType,omitempty"`           // expressed or explicit; empty: expressed
	Jurisdiction     string `avro:"jurisdiction" json:"jurisdiction,omitempty"`          // FI, EU
	StorageLocation  string `avro:"storage_location" json:"storageLocation,omitempty"`   // ISO 3166 code or URI
	Retention        string `avro:"retention" json:"retention,omitempty"`                // ISO 8601 duration or URI
	WithdrawalMethod string `avro:"withdrawal_method" json:"withdrawalMethod,omitempty"` // URI
	ProcessingMethod string `avro:"processing_method" json:"processingMethod,omitempty"`
}

// Objection blocks one subscription for the subject.
type Objection struct {
	Subscription string `avro:"subscription" json:"subscription"`
	At           int64  `avro:"at" json:"at"`
}

// ConsentCommand asks to change one subject's consents. Key: the subject.
type ConsentCommand struct {
	Meta         Meta   `avro:"meta"`
	Kind         string `avro:"kind"`         // grant, refuse, withdraw, object, unobject, restrict, unrestrict, revive, erase
	Grant        Grant  `avro:"grant"`        // grant, refuse; withdraw: ID or (Recipient, Purpose) name it, Scopes empty withdraws all of it
	UpTo         int64  `avro:"up_to"`        // withdraw: grants accepted at a newer row version stay; 0: all
	Subscription string `avro:"subscription"` // object, unobject
	Restriction  string `avro:"restriction"`  // restrict: protected; erase sets erasure
}

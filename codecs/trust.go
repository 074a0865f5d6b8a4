package codecs

// Organisation is a row of trust-table: who may publish what, receive what, for which purposes and on which bases. Key: ID.
type Organisation struct {
	ID              string          `avro:"id" json:"id"` // kela.fi; [a-z0-9.-], it names the topic subscriber.{id}
	Version         int64           `avro:"version" json:"version,omitempty"`
	Name            string          `avro:"name" json:"name"`
	DID             string          `avro:"did" json:"did"`                       // did:web:kela.fi
	Status          string          `avro:"status" json:"status"`                 // active, suspended or revoked
	Source          string          `avro:"source" json:"source,omitempty"`       // its ce_source, e.g. https://dvv.fi; empty: publishes nothing
	Publishes       []string        `avro:"publishes" json:"publishes,omitempty"` // event types
	Commands        []string        `avro:"commands" json:"commands,omitempty"`   // event types of category command that it may send
	Inbox           bool            `avro:"inbox" json:"inbox,omitempty"`         // has a topic inbox.{id}
	Receives        []Entitlement   `avro:"receives" json:"receives,omitempty"`   // what it may subscribe to
	Certifications  []Certification `avro:"certifications" json:"certifications,omitempty"`
	PreApproved     []string        `avro:"pre_approved" json:"preApproved,omitempty"`        // purposes whose subscriptions need no second person
	ReadBytes       int64           `avro:"read_bytes" json:"readBytesPerSecond,omitempty"`   // that it may fetch from one broker; 0: what the cluster's settings say
	WriteBytes      int64           `avro:"write_bytes" json:"writeBytesPerSecond,omitempty"` // that it may produce to one broker; 0: the same
	AppliedIDs      []string        `avro:"commands_applied" json:"-"`                        // ids of the last 16 commands applied
	AppliedVersions []int64         `avro:"versions_applied" json:"-"`                        // the versions they were answered with, in the same order
	UpdatedAt       int64           `avro:"updated_at" json:"-"`
}

// Entitlement lets an organisation subscribe to one event type for the listed purposes on the listed bases.
type Entitlement struct {
	EventType     string   `avro:"event_type" json:"eventType"`
	Purposes      []string `avro:"purposes" json:"purposes"`
	Bases         []string `avro:"bases" json:"bases"`                           // consent, legal_obligation, ...
	Certification string   `avro:"certification" json:"certification,omitempty"` // the certification it needs; empty: none
}

// Certification is held within [ValidFrom, ValidTo), Unix milliseconds; ValidTo 0: no end.
type Certification struct {
	Name      string `avro:"name" json:"name"` // ISO27001
	ValidFrom int64  `avro:"valid_from" json:"validFrom"`
	ValidTo   int64  `avro:"valid_to" json:"validTo"`
}

// TrustCommand asks to change one trust row. Key: the organisation's id.
type TrustCommand struct {
	Meta         Meta         `avro:"meta"`
	Kind         string       `avro:"kind"` // put, suspend, resume or revoke
	Organisation Organisation `avro:"organisation"`
}

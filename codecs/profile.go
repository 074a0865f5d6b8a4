package codecs

// Profile is a row of profile-table: what admitted events told about one subject. Key: the subject.
type Profile struct {
	Version    int64      `avro:"version" json:"version"`
	Attributes Attributes `avro:"attributes" json:"attributes"`
	Seen       []Seen     `avro:"seen" json:"-"` // at most MaxSeen, oldest first: repeats of (source, id) are dropped
	UpdatedAt  int64      `avro:"updated_at" json:"updatedAt"`
}

// MaxSeen and SeenForMillis bound the repeat check: the last 256 admitted (source, id, subject), within 24 hours.
const (
	MaxSeen       = 256
	SeenForMillis = 24 * 60 * 60 * 1000
)

// Seen is one admitted event: the first 8 bytes of its delivery identity's hash, and when.
type Seen struct {
	Hash int64 `avro:"hash"`
	At   int64 `avro:"at"`
}

// Attributes is what may be known of a subject beyond the event: a closed list, so that a filter over it can be type-checked.
// Every attribute is text; empty means not known. It is also the event's stamp (header civicbus_profile) and,
// each field nullable, the record `profile` of every projected schema.
type Attributes struct {
	Municipality  string `avro:"municipality" json:"municipality,omitempty"`
	PostalCode    string `avro:"postal_code" json:"postalCode,omitempty"`
	Country       string `avro:"country" json:"country,omitempty"`
	Language      string `avro:"language" json:"language,omitempty"`
	MaritalStatus string `avro:"marital_status" json:"maritalStatus,omitempty"`
	Employment    string `avro:"employment" json:"employment,omitempty"`
	CompanyForm   string `avro:"company_form" json:"companyForm,omitempty"`
	Industry      string `avro:"industry" json:"industry,omitempty"`
	Status        string `avro:"status" json:"status,omitempty"` // alive, deceased; active, dissolved
}

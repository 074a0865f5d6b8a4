package codecs

// Profile is a row of profile-table: what admitted events told about one subject. Key: the subject.
type Profile struct {
	Version    int64      `avro:"version" json:"version"`
	Attributes Attributes `avro:"attributes" json:"attributes"`
	Seen       []Seen     `avro:"seen" json:"-"` // at most MaxSeen, oldest first: repeats are dropped
	UpdatedAt  int64      `avro:"updated_at" json:"updatedAt"`
}

// MaxSeen and SeenForMillis bound the repeat check: the last 256 admitted (source, id, subject), within 24 hours.
const (
	MaxSeen       = 256
	SeenForMillis = 24 * 60 * 60 * 1000
)

// Seen is one admitted event: 8 bytes of a hash over its publisher, source and id, and when.
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

// Attribute is one of Attributes: the name by which paths, scopes and catalog entries call it, and where it stands.
type Attribute struct {
	Name string // of its Avro field: snake_case, as in profile.postal_code
	doc  string // in every projected schema
	of   func(*Attributes) *string
}

// Of is where the attribute stands in a.
func (t *Attribute) Of(a *Attributes) *string { return t.of(a) }

// profileAttributes is the closed list: the fields of Attributes and of fi.civicbus.Profile, in their order.
var profileAttributes = [...]Attribute{
	{"municipality", "Municipality of residence or of the seat.", func(a *Attributes) *string { return &a.Municipality }},
	{"postal_code", "Postal code.", func(a *Attributes) *string { return &a.PostalCode }},
	{"country", "Country of residence or of registration.", func(a *Attributes) *string { return &a.Country }},
	{"language", "Language of contact, BCP 47.", func(a *Attributes) *string { return &a.Language }},
	{"marital_status", "Marital status of a person.", func(a *Attributes) *string { return &a.MaritalStatus }},
	{"employment", "Employment of a person.", func(a *Attributes) *string { return &a.Employment }},
	{"company_form", "Legal form of a company.", func(a *Attributes) *string { return &a.CompanyForm }},
	{"industry", "Industry of a company.", func(a *Attributes) *string { return &a.Industry }},
	{"status", "alive or deceased of a person, active or dissolved of a company.", func(a *Attributes) *string { return &a.Status }},
}

// ProfileAttributes lists every attribute, in the order of the fields of Attributes. They are shared: read only.
func ProfileAttributes() []*Attribute {
	all := make([]*Attribute, len(profileAttributes))
	for i := range profileAttributes {
		all[i] = &profileAttributes[i]
	}
	return all
}

// ProfileAttribute finds an attribute by its name; nil: there is no such one. It allocates nothing.
func ProfileAttribute(name string) *Attribute {
	for i := range profileAttributes {
		if profileAttributes[i].Name == name {
			return &profileAttributes[i]
		}
	}
	return nil
}

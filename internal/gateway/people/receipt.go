package people

import (
	"context"
	"fmt"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/verdict"
)

// Receipt is a consent receipt after ISO/IEC TS 27560:2023, in the terms of the Data Privacy Vocabulary's profile of it
// (https://w3id.org/dpv/schema/dpv-27560), as JSON-LD. What nobody has told the bus is absent.
type Receipt struct {
	Context       []string          `json:"@context"`
	Profile       string            `json:"@type"`
	SchemaVersion string            `json:"schema_version"`
	ReceiptID     string            `json:"receipt_id"`
	RecordID      string            `json:"record_id"`
	Principal     string            `json:"pii_principal_id" doc:"The pseudonym under which the recipient knows the person."`
	Processing    ReceiptProcessing `json:"pii_processing"`
	Parties       []ReceiptParty    `json:"party_identification"`
	Events        []ReceiptEvent    `json:"consent_events"`
}

// ReceiptProcessing says what is done with the data.
type ReceiptProcessing struct {
	Notice           string   `json:"privacy_notice" doc:"That was shown."`
	Language         string   `json:"language,omitempty"`
	Purpose          string   `json:"purpose"`
	LawfulBasis      string   `json:"lawful_basis"`
	ConsentType      string   `json:"consent_type"`
	Information      []string `json:"pii_information" doc:"The scopes of the catalog that are covered now."`
	Controllers      []string `json:"pii_controllers"`
	Recipients       []string `json:"recipient_third_parties"`
	CollectionMethod string   `json:"collection_method,omitempty"`
	ProcessingMethod string   `json:"processing_method,omitempty"`
	StorageLocations []string `json:"storage_locations,omitempty"`
	Retention        string   `json:"retention_period,omitempty"`
	Jurisdiction     string   `json:"jurisdiction,omitempty"`
	WithdrawalMethod string   `json:"withdrawal_method"`
	Rights           []string `json:"rights"`
}

// ReceiptParty is an organisation.
type ReceiptParty struct {
	ID   string `json:"party_id"`
	Name string `json:"party_name"`
	Role string `json:"party_role"`
	URI  string `json:"party_uri,omitempty"`
}

// ReceiptEvent is a change of the consent's state.
type ReceiptEvent struct {
	Time     string   `json:"event_time" format:"date-time"`
	State    string   `json:"event_state" doc:"In DPV's terms."`
	Type     string   `json:"event_type"`
	From     string   `json:"valid_from,omitempty" format:"date-time"`
	Until    string   `json:"valid_until,omitempty" format:"date-time" doc:"Absent: until it is withdrawn."`
	Withdrew []string `json:"pii_withdrawn,omitempty" doc:"Scopes that were taken out of the consent."`
}

const dpv = "https://w3id.org/dpv#"

// states are DPV's consent states.
var states = map[string]string{verdict.GrantGiven: dpv + "ConsentGiven", verdict.GrantRefused: dpv + "ConsentRefused", verdict.GrantWithdrawn: dpv + "ConsentWithdrawn",
	verdict.GrantExpired: dpv + "ConsentExpired", "ended": dpv + "ConsentInvalidated"}

// receipt is the caller's receipt of one of their grants.
func (s *server) receipt(ctx context.Context, g *codecs.Grant) (Receipt, error) {
	row, err := s.rowOf(ctx)
	if err != nil {
		return Receipt{}, err
	}
	return s.receiptOf(web.From(ctx).Person, row, g)
}

func (s *server) receiptOf(person string, row *codecs.Consents, g *codecs.Grant) (Receipt, error) {
	principal, err := s.cfg.Keys.For(g.Recipient).Seal(person)
	if err != nil {
		return Receipt{}, fmt.Errorf("make a receipt: %w", err)
	}
	r := Receipt{Context: []string{"https://w3id.org/dpv/dpv.jsonld", "https://w3id.org/dpv/schema/dpv-27560"}, Profile: "https://w3id.org/dpv/schema/dpv-27560#receipt",
		SchemaVersion: "ISO/IEC TS 27560:2023", ReceiptID: fmt.Sprintf("%s/%d", g.ID, g.Version), RecordID: g.ID, Principal: principal}
	p := &r.Processing
	p.Notice, p.Language, p.Purpose, p.LawfulBasis = g.Notice, g.Language, g.Purpose, dpv+"Consent"
	p.ConsentType = dpv + "ExpressedConsent"
	if g.ConsentType == "explicit" {
		p.ConsentType = dpv + "ExplicitlyExpressedConsent"
	}
	p.Information, p.Controllers, p.Recipients = plain(g.Scopes), []string{g.Recipient}, []string{g.Recipient}
	p.CollectionMethod, p.ProcessingMethod, p.Retention, p.Jurisdiction = g.Method, g.ProcessingMethod, g.Retention, g.Jurisdiction
	if g.StorageLocation != "" {
		p.StorageLocations = []string{g.StorageLocation}
	}
	if p.WithdrawalMethod = g.WithdrawalMethod; p.WithdrawalMethod == "" {
		p.WithdrawalMethod = s.cfg.PublicURL + "/api/me/grants/" + g.ID + "/withdrawal"
	}
	for _, article := range []string{"A7-3", "A13", "A14", "A15", "A16", "A17", "A18", "A20", "A21", "A77"} {
		p.Rights = append(p.Rights, "https://w3id.org/dpv/legal/eu/gdpr#"+article)
	}
	party := ReceiptParty{ID: g.Recipient, Name: g.Recipient, Role: dpv + "DataController"}
	if o := s.cfg.Tables.Snapshot().Organisation(g.Recipient); o != nil {
		party.Name, party.URI = o.Name, o.DID
	}
	r.Parties = []ReceiptParty{party}
	first := verdict.GrantGiven
	if g.State == verdict.GrantRefused {
		first = verdict.GrantRefused
	}
	r.Events = append(r.Events, ReceiptEvent{Time: millis(g.GivenAt), State: states[first], Type: p.ConsentType, From: millis(max(g.ValidFrom, g.GivenAt)), Until: millis(g.ValidTo)})
	switch now := s.state(row, g); {
	case g.ChangedAt > g.GivenAt && g.State == verdict.GrantWithdrawn, g.ChangedAt > g.GivenAt && len(g.WithdrawnScopes) > 0:
		r.Events = append(r.Events, ReceiptEvent{Time: millis(g.ChangedAt), State: states[now], Type: p.ConsentType, Withdrew: g.WithdrawnScopes})
	case now == verdict.GrantExpired:
		r.Events = append(r.Events, ReceiptEvent{Time: millis(g.ValidTo), State: states[now], Type: p.ConsentType})
	case now == "ended":
		r.Events = append(r.Events, ReceiptEvent{Time: millis(row.EndedAt), State: states[now], Type: p.ConsentType})
	}
	return r, nil
}

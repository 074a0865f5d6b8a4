package refdata

import (
	"log/slog"
	"strings"

	"civicbus/codecs"
)

// Subject names a person or company as a document does: scheme:id. It holds a national id, so every way of printing it leaves the id out.
type Subject struct {
	Scheme string // fi-hetu, fi-ytunnus, ...
	ID     string // as written, not yet canonical
}

// String is the scheme alone.
func (s Subject) String() string { return s.Scheme + ":(withheld)" }

// GoString is the scheme alone.
func (s Subject) GoString() string { return s.String() }

// LogValue is the scheme alone.
func (s Subject) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is the scheme alone, so that JSON and YAML encoders give nothing away either.
func (s Subject) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseSubject reads scheme:id. The id's own check is the pseudonym package's.
func ParseSubject(text string) (Subject, bool) {
	scheme, id, found := strings.Cut(strings.TrimSpace(text), ":")
	if !found || scheme == "" || id == "" {
		return Subject{}, false
	}
	return Subject{Scheme: scheme, ID: id}, true
}

// Consent is one consent document: a command, and the subject it is for. The caller turns the subject into the record's key and
// fills Command.Meta.
type Consent struct {
	Subject Subject
	Command codecs.ConsentCommand
}

// ConsentKinds are the kinds of a consent document.
var ConsentKinds = []string{"grant", "refuse", "withdraw", "object", "unobject", "restrict", "unrestrict", "revive", "erase"}

// consentDocument is the flat form of a consent document; a person should not have to know where a command keeps what.
type consentDocument struct {
	Subject      string   `json:"subject"`
	Kind         string   `json:"kind"`
	ID           string   `json:"id"`
	Recipient    string   `json:"recipient"`
	Purpose      string   `json:"purpose"`
	Scopes       []string `json:"scopes"`
	ValidFrom    int64    `json:"validFrom"`
	ValidTo      int64    `json:"validTo"`
	Notice       string   `json:"notice"`
	Language     string   `json:"language"`
	Method       string   `json:"method"`
	UpTo         int64    `json:"upTo"`
	Subscription string   `json:"subscription"`

	ConsentType      string `json:"consentType"`
	Jurisdiction     string `json:"jurisdiction"`
	StorageLocation  string `json:"storageLocation"`
	Retention        string `json:"retention"`
	WithdrawalMethod string `json:"withdrawalMethod"`
	ProcessingMethod string `json:"processingMethod"`
}

// ParseConsents reads consent documents in their order; otherwise as ParseEventTypes. The scheme of an id is always given: what looks like
// a national id of one country may be one of another. With any fault there are no consents, so that none can be printed by mistake.
func ParseConsents(file []byte) ([]Consent, []codecs.Fault) {
	docs, faults := documents(file)
	var consents []Consent
	for _, doc := range docs {
		if len(faults) >= codecs.MaxFaults {
			break
		}
		var form consentDocument
		faults = append(faults, doc.decode(&form)...)
		subject, ok := ParseSubject(form.Subject)
		if !ok {
			faults = append(faults, doc.fault(doc.root, "subject", ReasonBadSubject, "a subject is scheme:id, for instance fi-hetu: and an identity code"))
		}
		faults = append(faults, doc.consentFaults(form)...)
		consents = append(consents, Consent{Subject: subject, Command: form.command()})
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return consents, nil
}

// consentFaults finds what the kind needs and the document lacks.
func (d document) consentFaults(form consentDocument) []codecs.Fault {
	var faults []codecs.Fault
	need := func(field, value string) {
		if value == "" {
			faults = append(faults, d.fault(d.root, field, ReasonMissing, "a consent document of kind "+form.Kind+" needs it"))
		}
	}
	switch form.Kind {
	case "grant", "refuse":
		need("recipient", form.Recipient)
		need("purpose", form.Purpose)
		if form.Kind == "grant" && len(form.Scopes) == 0 {
			faults = append(faults, d.fault(d.root, "scopes", ReasonMissing, "a grant without scopes covers nothing"))
		}
	case "withdraw":
		if form.ID == "" {
			need("recipient", form.Recipient)
			need("purpose", form.Purpose)
		}
	case "object", "unobject":
		need("subscription", form.Subscription)
	case "restrict", "unrestrict", "revive", "erase":
	default:
		faults = append(faults, d.fault(d.root, "kind", ReasonUnknownValue, "one of "+strings.Join(ConsentKinds, ", ")))
	}
	return faults
}

func (form consentDocument) command() codecs.ConsentCommand {
	command := codecs.ConsentCommand{
		Kind: form.Kind, UpTo: form.UpTo, Subscription: form.Subscription,
		Grant: codecs.Grant{
			ID: form.ID, Recipient: form.Recipient, Purpose: form.Purpose, Scopes: form.Scopes,
			ValidFrom: form.ValidFrom, ValidTo: form.ValidTo, Notice: form.Notice, Language: form.Language, Method: form.Method,
			ConsentType: form.ConsentType, Jurisdiction: form.Jurisdiction, StorageLocation: form.StorageLocation, Retention: form.Retention,
			WithdrawalMethod: form.WithdrawalMethod, ProcessingMethod: form.ProcessingMethod,
		},
	}
	if form.Kind == "restrict" {
		command.Restriction = "protected"
	}
	return command
}

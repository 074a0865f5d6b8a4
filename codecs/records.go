package codecs

import "context"

// Records are civicbus's own record types, each on the topic that gives it its registry subject.
type Records struct {
	EventType           *Record[EventType]
	Organisation        *Record[Organisation]
	Subscription        *Record[Subscription]
	Consents            *Record[Consents]
	Profile             *Record[Profile]
	Attributes          *Record[Attributes] // the stamp in header civicbus_profile, which stands for a topic here
	CatalogCommand      *Record[CatalogCommand]
	TrustCommand        *Record[TrustCommand]
	SubscriptionCommand *Record[SubscriptionCommand]
	ConsentCommand      *Record[ConsentCommand]
	CommandResult       *Record[CommandResult]
	Decision            *Record[Decision]
	DeadLetter          *Record[DeadLetter]
	Settings            *Record[Settings]
	AuditEntry          *Record[AuditEntry]
	AuditRow            *Record[AuditRow]
	AuditHead           *Record[AuditHead]
	UsageRow            *Record[UsageRow]
	UsageItem           *Record[UsageItem]
	DeliveryRow         *Record[DeliveryRow]
	DeliveryReport      *Record[DeliveryReport]
	Journey             *Record[Journey]
	JourneyInput        *Record[JourneyInput]
	JourneyUpdated      *Record[JourneyUpdated] // the data of civicbus's own events, whose types stand for topics here
	JourneyConfirm      *Record[JourneyConfirm]
	JourneyConfirmed    *Record[JourneyConfirmed]
	Replay              *Record[Replay]
	ReplayCommand       *Record[ReplayCommand]
}

// NewRecords describes them all; Bind or BindLocal makes them usable.
func NewRecords() *Records {
	return &Records{
		EventType:           NewRecord[EventType]("event-type", "catalog-table"),
		Organisation:        NewRecord[Organisation]("organisation", "trust-table"),
		Subscription:        NewRecord[Subscription]("subscription", "subscription-table"),
		Consents:            NewRecord[Consents]("consents", "consent-table"),
		Profile:             NewRecord[Profile]("profile", "profile-table"),
		Attributes:          NewRecord[Attributes]("attributes", "civicbus_profile"),
		CatalogCommand:      NewRecord[CatalogCommand]("catalog-command", "catalog-commands"),
		TrustCommand:        NewRecord[TrustCommand]("trust-command", "trust-commands"),
		SubscriptionCommand: NewRecord[SubscriptionCommand]("subscription-command", "subscription-commands"),
		ConsentCommand:      NewRecord[ConsentCommand]("consent-command", "consent-commands"),
		CommandResult:       NewRecord[CommandResult]("command-result", "command-results"),
		Decision:            NewRecord[Decision]("decision", "audit-decisions"),
		DeadLetter:          NewRecord[DeadLetter]("dead-letter", "dead-letters"),
		Settings:            NewRecord[Settings]("settings", "settings"),
		AuditEntry:          NewRecord[AuditEntry]("audit-entry", "audit-log"),
		AuditRow:            NewRecord[AuditRow]("audit-row", "audit-table"),
		AuditHead:           NewRecord[AuditHead]("audit-head", "audit-heads"),
		UsageRow:            NewRecord[UsageRow]("usage-row", "usage-table"),
		UsageItem:           NewRecord[UsageItem]("usage-item", "usage-loop"),
		DeliveryRow:         NewRecord[DeliveryRow]("delivery-row", "delivery-table"),
		DeliveryReport:      NewRecord[DeliveryReport]("delivery-report", "delivery-loop"),
		Journey:             NewRecord[Journey]("journey", "journey-table"),
		JourneyInput:        NewRecord[JourneyInput]("journey-input", "journey-loop"),
		JourneyUpdated:      NewRecord[JourneyUpdated]("journey-updated", "fi.civicbus.journey.updated"),
		JourneyConfirm:      NewRecord[JourneyConfirm]("journey-confirm", "fi.civicbus.journey.confirm"),
		JourneyConfirmed:    NewRecord[JourneyConfirmed]("journey-confirmed", "fi.civicbus.journey.confirmed"),
		Replay:              NewRecord[Replay]("replay", "replay-table"),
		ReplayCommand:       NewRecord[ReplayCommand]("replay-command", "replay-commands"),
	}
}

// binder is any Record, whatever its type.
type binder interface {
	Name() string
	RegistrySubject() string
	Bind(context.Context, *Registry) error
}

// all lists the records, so that none is forgotten; a test compares it with the fields.
func (r *Records) all() []binder {
	return []binder{
		r.EventType, r.Organisation, r.Subscription, r.Consents, r.Profile, r.Attributes, r.CatalogCommand,
		r.TrustCommand, r.SubscriptionCommand, r.ConsentCommand, r.CommandResult, r.Decision, r.DeadLetter, r.Settings,
		r.AuditEntry, r.AuditRow, r.AuditHead, r.UsageRow, r.UsageItem, r.Journey, r.JourneyInput, r.JourneyUpdated, r.JourneyConfirm, r.JourneyConfirmed, r.DeliveryRow, r.DeliveryReport, r.Replay, r.ReplayCommand,
	}
}

// Bind binds every record to one registry; the first error ends it.
func (r *Records) Bind(ctx context.Context, registry *Registry) error {
	for _, record := range r.all() {
		if err := record.Bind(ctx, registry); err != nil {
			return err
		}
	}
	return nil
}

// BindLocal binds every record to one registry in memory, whose ids are the same in every process: for tests and tools.
func (r *Records) BindLocal() error { return r.Bind(context.Background(), NewLocalRegistry()) }

// Package topology is the map of civicbus, as data: every stream, table, group and edge. Read this page first.
//
// It promises nothing of how groups run (internal/kafka) or what they decide (processors, internal/verdict). The rest of
// the package turns the map into goka graphs (build.go), checks it (validate.go), prints it (describe.go) and says which
// configuration every topic must have (topics.go).
package topology

// Streams are append-only topics. The key decides the partition, so only streams of one key can be joined.
var (
	Inbox    = Stream{Name: "inbox.{organisation}", Key: AnyKey, Value: "the source's own", Keep: 1 * day} // one topic a Kafka source
	Admitted = Stream{Name: "admitted", Key: BySubject, Value: "the source's own", Keep: 7 * day}

	Birth         = event("life.birth")
	Death         = event("life.death") // whatever ends consents
	Family        = event("life.family")
	Address       = event("life.address")
	Employment    = event("employment")
	Business      = event("business")
	Services      = event("services") // outcomes that subscribers report
	Orders        = event("commands") // events of category command, each to the one organisation it names
	Notifications = event("notifications")

	CatalogCommands      = Stream{Name: "catalog-commands", Key: ByEventType, Value: "catalog-command", Keep: 5 * year}
	TrustCommands        = Stream{Name: "trust-commands", Key: ByOrganisation, Value: "trust-command", Keep: 5 * year}
	SubscriptionCommands = Stream{Name: "subscription-commands", Key: BySubscription, Value: "subscription-command", Keep: 5 * year}
	ConsentCommands      = Stream{Name: "consent-commands", Key: BySubject, Value: "consent-command", Keep: 5 * year}
	ReplayCommands       = Stream{Name: "replay-commands", Key: ByReplay, Value: "replay-command", Keep: 5 * year}
	CommandResults       = Stream{Name: "command-results", Key: ByRow, Value: "command-result", Keep: 5 * year}

	Decisions         = Stream{Name: "audit-decisions", Key: BySubject, Value: "decision", Keep: 5 * year}
	AuditLog          = Stream{Name: "audit-log", Key: ByChain, Value: "audit-entry", Keep: 5 * year}          // each partition is one hash chain
	AuditHeads        = Stream{Name: "audit-heads", Key: ByChain, Value: "audit-head", Keep: forever}          // signed: how far each chain had come
	DeliveryReports   = Stream{Name: "delivery-loop", Key: BySubject, Value: "delivery-report", Keep: 7 * day} // what came of attempts at webhooks
	UsageItems        = Stream{Name: "usage-loop", Key: BySubscription, Value: "usage-item", Keep: 7 * day}
	JourneyInputs     = Stream{Name: "journey-loop", Key: ByLifeEvent, Value: "journey-input", Keep: 7 * day}
	Settings          = Stream{Name: "settings", Key: AnyKey, Value: "settings", Keep: forever} // what every process of a cluster must agree on
	DeadLetters       = Stream{Name: "dead-letters", Key: AnyKey, Value: "dead-letter", Keep: 30 * day}
	WebhookDeliveries = Stream{Name: "webhook-deliveries", Key: BySubject, Value: "projected", Keep: 30 * day}
	Subscriber        = Stream{Name: "subscriber.{organisation}", Key: ByPairwise, Value: "projected", Keep: 7 * day} // one topic a subscriber
)

// EventStreams are what the router decides. A type's catalog entry names its stream; types whose mutual order matters share one.
var EventStreams = []Stream{Birth, Death, Family, Address, Employment, Business, Services, Orders, Notifications}

// Groups are goka processor groups: consume, decide, produce and commit in one Kafka transaction. A group's table is
// {name}-table, written by that group alone.
var (
	Catalog = Group{Name: "catalog", About: "event types, roles, field scopes, legal rules",
		In: []Stream{CatalogCommands}, Out: []Stream{CommandResults, DeadLetters}, Table: "event-type", TableKey: ByEventType}
	Trust = Group{Name: "trust", About: "organisations: what they may publish and receive",
		In: []Stream{TrustCommands}, Out: []Stream{CommandResults, DeadLetters}, Table: "organisation", TableKey: ByOrganisation}
	Subscription = Group{Name: "subscription", About: "who wants which events, for which purpose",
		In: []Stream{SubscriptionCommands}, Lookup: []string{"trust", "catalog"},
		Out: []Stream{CommandResults, DeadLetters}, Table: "subscription", TableKey: BySubscription}
	Consent = Group{Name: "consent", About: "grants, objections, restrictions; a death ends grants",
		In: []Stream{ConsentCommands, Death}, Lookup: []string{"catalog"},
		Out: []Stream{CommandResults, DeadLetters}, Table: "consents", TableKey: BySubject}
	Profile = Group{Name: "profile", About: "drops repeats, keeps what events tell of a subject, stamps each event with it",
		In: []Stream{Admitted, ConsentCommands}, Lookup: []string{"catalog"},
		Out: append([]Stream{Decisions, DeadLetters}, EventStreams...), Table: "profile", TableKey: BySubject}
	Router = Group{Name: "router", About: "permits or denies each (event, subscription) and minimises what is permitted",
		In: EventStreams, Join: []string{"consent"}, Lookup: []string{"subscription", "trust", "catalog"},
		Out: []Stream{Decisions, DeadLetters, WebhookDeliveries, SubscriptionCommands}, OutEach: []Stream{Subscriber}}
	Audit = Group{Name: "audit", About: "chains every decision and command result into a log that cannot be cut unseen",
		In: []Stream{Decisions, CommandResults}, Out: []Stream{AuditLog, DeadLetters}, Table: "audit-row", TableKey: BySubject}
	Delivery = Group{Name: "delivery", About: "which deliveries wait for webhooks, and until when",
		In: []Stream{WebhookDeliveries, ConsentCommands}, Loop: DeliveryReports,
		Out: []Stream{Decisions, DeadLetters, SubscriptionCommands}, Table: "delivery-row", TableKey: BySubject}
	Usage = Group{Name: "usage", About: "counts deliveries and denials of each subscription, knows its last attempts at a webhook",
		In: []Stream{Decisions, DeliveryReports}, Loop: UsageItems, Table: "usage-row", TableKey: BySubscription}
	Replay = Group{Name: "replay", About: "which deliveries are to be sent again, and who approved it",
		In: []Stream{ReplayCommands}, Lookup: []string{"subscription"}, Out: []Stream{CommandResults, DeadLetters}, Table: "replay", TableKey: ByReplay}
	Journey = Group{Name: "journey", About: "who has reported what came of a life event; tells its subjects, takes their confirmations",
		In: []Stream{Decisions, Services, Notifications, Orders, ConsentCommands}, Loop: JourneyInputs, Join: []string{"consent"}, Lookup: []string{"subscription", "trust", "catalog"},
		Out: []Stream{Admitted, Decisions, DeadLetters}, Table: "journey", TableKey: ByLifeEvent}
)

// Groups lists every group, in the order in which an event meets them.
var Groups = []Group{Catalog, Trust, Subscription, Consent, Profile, Router, Delivery, Audit, Usage, Journey, Replay}

// Edges are the ways in and out that are not goka groups.
var Edges = []Edge{
	{Name: "publish", About: "admission for the command line and HTTP: who may publish what, schema, roles, pseudonyms", Out: []Stream{Admitted, DeadLetters}},
	{Name: "relay", About: "admission for Kafka sources: each inbox into admitted, one transaction a poll", In: []Stream{Inbox}, Out: []Stream{Admitted, DeadLetters}},
	{Name: "topics", About: "topics apply: creates and checks every topic, records the cluster's settings", Out: []Stream{Settings}},
	{Name: "activator", About: "records from which offsets a new subscription is decided", Lookup: []string{"subscription"}, Out: []Stream{SubscriptionCommands}},
	{Name: "letters", About: "counts dead letters by cause, for whoever watches", In: []Stream{DeadLetters}},
	{Name: "access", About: "gives organisations their rights on Kafka: a subscriber reads its topic, a source writes its inbox", Lookup: []string{"trust", "subscription"}},
	{Name: "webhooks", About: "beside group delivery: decides what is due again, sends it, and reports what came of it", In: []Stream{WebhookDeliveries},
		Lookup: []string{"delivery", "consent", "subscription", "trust", "catalog"}, Out: []Stream{Decisions, DeliveryReports}},
	{Name: "replays", About: "sends deliveries again that were permitted once and are permitted now, each with a decision", In: append([]Stream{Decisions}, EventStreams...),
		Lookup: []string{"replay", "consent", "subscription", "trust", "catalog"}, Out: []Stream{Subscriber, WebhookDeliveries, Decisions, ReplayCommands}},
	{Name: "heads", About: "follows the audit log's chains and signs at an interval how far each has come", In: []Stream{AuditLog, AuditHeads}, Out: []Stream{AuditHeads}},
}

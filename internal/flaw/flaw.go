// Package flaw names the defects that the chaos tests plant, one at a time, to prove that they would notice them.
//
// Without the build tag synctests nothing can be planted: Planted is the constant false there, and the compiler leaves out
// what depends on it. No binary that anyone runs is built with the tag.
package flaw

// Flaw is one defect. The zero value is none.
type Flaw int

// Defects of the engine (internal/kafka).
const (
	None               Flaw = iota
	CommitsEarly            // a batch is committed when its last record was handed on
	LeaseUnchecked          // tables are taken for current
	JoinUnchecked           // joined tables are taken for current, looked-up ones are not
	LeaseUncheckedLate      // they are looked at before a decision, not before its commit
	LeaseFromAnswer         // a table is confirmed as of the leader's answer, not as of the question
	OverlayKept             // an abort leaves its writes to the group's table in place
	OverlayEarly            // writes to the group's table do not wait for the commit
	OverlayAssumed          // a commit of unknown outcome is taken for done
	OffsetsPolled           // everything that was polled is committed
	OffsetsKept             // after a commit of unknown outcome the broker is not asked
	QueueKept               // an abort does not give its records back
	FillerForgotten         // positions without a record are not told to goka
	GateOpen                // an output slips in between the flush and the end
	ReadsUncommitted        // tables are read with what was aborted
	RecoveredKept           // what a later session reads of the group's table is taken for uncommitted
	MemberUnnamed           // offsets are committed by whoever asks
	engineEnd
)

// Defects of the bus around the engine.
const (
	TrustStale          Flaw = engineEnd + 1 + iota // a change of a trust row is not applied to the compiled view
	CatalogStale                                    // nor one of a catalog row
	IndexStale                                      // the index of subscriptions keeps a row as it first was
	RestrictionIgnored                              // a subject's restriction stops nothing
	ObjectionUnwritten                              // an objection is accepted and not written
	WithdrawalTombstone                             // a withdrawal deletes the row of the subject's consents
	GrantEternal                                    // a grant holds beyond its end
	AckEarly                                        // a change is acknowledged with its answer, unread and at once
	CommandRepeated                                 // a command that comes again is carried out again
	RepeatPassed                                    // the repeat check is dropped
	RepeatUnrecorded                                // the decision of a repeat is dropped
	RowTwice                                        // an event is folded into its subject's profile twice
	DeliveryByOffset                                // a delivery id follows from the record's offset
	BodyWhole                                       // a delivery has every field
	SubjectShared                                   // all subscribers see a subject under one pseudonym
	PrefixSkipped                                   // the relay commits what it polled, moved or not
	EntrySkipped                                    // some decisions are not audited
	ChainInMemory                                   // where a chain ends is remembered beside the transaction
	UsageTwice                                      // a permit is counted as a delivery twice
	busEnd
)

// Defects of what is sent later, and of what comes back.
const (
	AttemptUndecided Flaw = busEnd + 1 + iota // an attempt at a webhook is made whatever is decided then
	RetryForgotten                            // what was not taken does not wait any more
	ReportTwice                               // a report of an attempt counts as often as it comes
	ReplayUndecided                           // what was withdrawn or objected to is sent again
	ProgressEarly                             // how far a replay has come is committed before what it sends
	OutcomeTwice                              // an outcome counts as often as it is read
	ConfirmedTwice                            // a confirmation is handed on as often as it comes
	ConfirmUnasked                            // anybody may confirm for anybody
	laterEnd
)

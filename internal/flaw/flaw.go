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
	LeaseUncheckedLate      // they are looked at before a decision, not before its commit
	OverlayKept             // an abort leaves its writes to the group's table in place
	OverlayEarly            // writes to the group's table do not wait for the commit
	OverlayAssumed          // a commit of unknown outcome is taken for done
	OffsetsPolled           // everything that was polled is committed
	OffsetsKept             // after a commit of unknown outcome the broker is not asked
	QueueKept               // an abort does not give its records back
	FillerForgotten         // positions without a record are not told to goka
	GateOpen                // an output slips in between the flush and the end
	ReadsUncommitted        // tables are read with what was aborted
	MemberUnnamed           // offsets are committed by whoever asks
	EngineCount             // is not a flaw: those of the engine are the ones before it
)

// Defects of the bus around the engine.
const (
	TrustStale       Flaw = EngineCount + 1 + iota // a change of a trust row is not applied to the compiled view
	RepeatPassed                                   // the repeat check is dropped
	DeliveryByOffset                               // a delivery id follows from the record's offset
	BodyWhole                                      // a delivery has every field
	EntrySkipped                                   // some decisions are not audited
	RowTwice                                       // an event is folded into its subject's profile twice
	BusCount                                       // is not a flaw: those of the bus are the ones before it
)

package kafka

// flaw is a defect that the chaos test plants, one at a time, to prove that it would notice it. Nothing else sets planted.
type flaw int

const (
	noFlaw             flaw = iota
	commitsEarly            // a batch is committed when its last record was handed on
	leaseUnchecked          // tables are taken for current
	leaseUncheckedLate      // they are looked at before a decision, not before its commit
	overlayKept             // an abort leaves its writes to the group's table in place
	overlayEarly            // writes to the group's table do not wait for the commit
	overlayAssumed          // a commit of unknown outcome is taken for done
	offsetsPolled           // everything that was polled is committed
	offsetsKept             // after a commit of unknown outcome the broker is not asked
	queueKept               // an abort does not give its records back
	fillerForgotten         // positions without a record are not told to goka
	gateOpen                // an output slips in between the flush and the end
	readsUncommitted        // tables are read with what was aborted
	memberUnnamed           // offsets are committed by whoever asks
	flawCount
)

var planted flaw

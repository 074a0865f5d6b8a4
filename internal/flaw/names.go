//go:build synctests

package flaw

var names = map[Flaw]string{
	CommitsEarly: "commits early", LeaseUnchecked: "lease unchecked", JoinUnchecked: "joined table unchecked", LeaseUncheckedLate: "lease unchecked before the commit", LeaseFromAnswer: "lease from the answer",
	OverlayKept: "overlay kept on abort", OverlayEarly: "no overlay", OverlayAssumed: "unknown commit taken for done", OffsetsPolled: "offsets of the whole poll",
	OffsetsKept: "offsets kept after an unknown commit", QueueKept: "records not given back", FillerForgotten: "markers not counted",
	GateOpen: "outputs after the flush", ReadsUncommitted: "tables read uncommitted", RecoveredKept: "recovery taken for uncommitted", MemberUnnamed: "offsets of a stranger",

	TrustStale: "stale view of trust", CatalogStale: "stale view of the catalog", IndexStale: "stale index", RestrictionIgnored: "restriction ignored",
	ObjectionUnwritten: "objection unwritten", WithdrawalTombstone: "tombstone in place of a withdrawal", GrantEternal: "grant beyond its end",
	AckEarly: "acknowledged too early", CommandRepeated: "repeated command carried out", RepeatPassed: "repeat check dropped",
	RepeatUnrecorded: "decision of a repeat dropped", RowTwice: "profile row written twice", DeliveryByOffset: "delivery id by offset",
	BodyWhole: "withheld fields delivered", SubjectShared: "one pseudonym for all subscribers", PrefixSkipped: "prefix not contiguous",
	AttemptUndecided: "attempt undecided", RetryForgotten: "retry forgotten", ReportTwice: "report counted twice", ReplayUndecided: "replay undecided",
	ProgressEarly: "progress before the sends", OutcomeTwice: "outcome counted twice", ConfirmedTwice: "confirmed twice", ConfirmUnasked: "confirmed by anybody",

	EntrySkipped: "audit entry skipped", ChainInMemory: "chain kept beside the transaction", UsageTwice: "delivery counted twice",
}

// String names a flaw.
func (f Flaw) String() string { return names[f] }

// Engine lists the defects of the engine.
func Engine() []Flaw { return between(None, engineEnd) }

// Bus lists the defects of the bus around it.
func Bus() []Flaw { return between(engineEnd, busEnd) }

// Later lists the defects of what is sent later, and of what comes back.
func Later() []Flaw { return between(busEnd, laterEnd) }

func between(after, before Flaw) (all []Flaw) {
	for f := after + 1; f < before; f++ {
		all = append(all, f)
	}
	return all
}

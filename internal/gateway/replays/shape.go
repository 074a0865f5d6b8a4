package replays

import (
	"strings"
	"time"

	"civicbus/codecs"
)

// ReplayWanted is what a replay is asked to be about.
type ReplayWanted struct {
	ID           string        `json:"id,omitempty" maxLength:"100" pattern:"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$" example:"after-the-outage" doc:"Absent: it gets one."`
	Subscription string        `json:"subscription,omitempty" maxLength:"128" example:"sub-kela-birth-001" doc:"Of this one subscription."`
	Subscriber   string        `json:"subscriber,omitempty" maxLength:"128" example:"kela.fi" doc:"Of all subscriptions of this organisation; one of the two is required."`
	EventTypes   []string      `json:"eventTypes,omitempty" maxItems:"256" doc:"Only these event types; absent: all."`
	From         *time.Time    `json:"from,omitempty" doc:"Only what was decided from then on."`
	To           *time.Time    `json:"to,omitempty" doc:"Only what was decided before then."`
	Offsets      []ReplayRange `json:"offsets,omitempty" maxItems:"2304" doc:"Only these records of event streams; absent: all."`
	Rate         *int32        `json:"rate,omitempty" minimum:"0" maximum:"100000" doc:"Events a second at most; 0: as fast as a quarter of one process's time lets it. Absent: 100."`
}

// ReplayRange is a part of one partition of an event stream.
type ReplayRange struct {
	Stream    string `json:"stream" maxLength:"100" example:"life.birth"`
	Partition int32  `json:"partition" minimum:"0"`
	From      int64  `json:"from" minimum:"0" doc:"The first offset."`
	To        int64  `json:"to,omitempty" minimum:"0" doc:"The offset after the last; absent: no end."`
}

// defaultRate is that of who names none.
const defaultRate = 100

// row is the replay's, without where it looks.
func (w *ReplayWanted) row() codecs.Replay {
	r := codecs.Replay{ID: w.ID, Subscription: w.Subscription, Subscriber: w.Subscriber, EventTypes: w.EventTypes, Rate: defaultRate}
	if w.Rate != nil {
		r.Rate = *w.Rate
	}
	if w.From != nil {
		r.From = codecs.Millis(*w.From)
	}
	if w.To != nil {
		r.To = codecs.Millis(*w.To)
	}
	for _, o := range w.Offsets {
		r.Offsets = append(r.Offsets, codecs.OffsetRange{Topic: o.Stream, Partition: o.Partition, From: o.From, To: o.To})
	}
	return r
}

// pointer finds in a request what a field of a command is called there.
func pointer(field string) string {
	name, ok := strings.CutPrefix(field, "replay.")
	if !ok {
		return ""
	}
	head, rest, _ := strings.Cut(name, "[")
	if index, _, ok := strings.Cut(rest, "]"); ok {
		return "/" + head + "/" + index
	}
	return "/" + head
}

// ReplayCount is how many verdicts had one reason.
type ReplayCount struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

func counts(all []codecs.ReasonCount) []ReplayCount {
	out := make([]ReplayCount, 0, len(all))
	for _, c := range all {
		out = append(out, ReplayCount{c.Reason, c.Count})
	}
	return out
}

// ReplayPlanned is what a replay would do.
type ReplayPlanned struct {
	Subscriber string        `json:"subscriber"`
	Events     int64         `json:"events" doc:"That were delivered and lie in the range."`
	Sent       int64         `json:"sent" doc:"Deliveries that would be sent again, decided now."`
	Verdicts   int64         `json:"verdicts"`
	Reasons    []ReplayCount `json:"reasons"`
	Seconds    float64       `json:"seconds,omitempty" doc:"How long it takes at its rate."`
	Whole      bool          `json:"whole" doc:"False: the range is too large to be counted in one request, and the rest is not counted."`
}

// ReplayShown is a replay as it is told.
type ReplayShown struct {
	ID           string        `json:"id"`
	Version      int64         `json:"version"`
	Status       string        `json:"status" enum:"pending,running,done,cancelled,failed"`
	StatusReason string        `json:"statusReason,omitempty"`
	Subscriber   string        `json:"subscriber"`
	Subscription string        `json:"subscription,omitempty"`
	EventTypes   []string      `json:"eventTypes,omitempty"`
	From         string        `json:"from,omitempty"`
	To           string        `json:"to,omitempty"`
	Rate         int32         `json:"rate"`
	RequestedBy  string        `json:"requestedBy"`
	ApprovedBy   string        `json:"approvedBy,omitempty"`
	CreatedAt    string        `json:"createdAt"`
	StartedAt    string        `json:"startedAt,omitempty"`
	EndedAt      string        `json:"endedAt,omitempty"`
	Looked       float64       `json:"lookedPercent" doc:"How much of the record was looked through."`
	Sent         int64         `json:"sent"`
	Verdicts     int64         `json:"verdicts"`
	Reasons      []ReplayCount `json:"reasons,omitempty"`
	PerSecond    float64       `json:"perSecond"`
	SecondsLeft  float64       `json:"secondsLeft,omitempty" doc:"At the pace so far."`
}

// ReplayList is some replays, the newest first.
type ReplayList struct {
	Replays []ReplayShown `json:"replays"`
}

func shown(r *codecs.Replay, p *Progress) ReplayShown {
	s := ReplayShown{ID: r.ID, Version: r.Version, Status: r.Status, StatusReason: r.StatusReason, Subscriber: r.Subscriber, Subscription: r.Subscription, EventTypes: r.EventTypes,
		From: instant(r.From), To: instant(r.To), Rate: r.Rate, RequestedBy: r.RequestedBy, ApprovedBy: r.ApprovedBy, CreatedAt: instant(r.CreatedAt), StartedAt: instant(r.StartedAt),
		EndedAt: instant(r.EndedAt), Looked: 100, Sent: p.Sent, Verdicts: p.Verdicts, Reasons: counts(p.Counts), PerSecond: p.PerSecond}
	if p.Total > 0 {
		s.Looked = 100 * float64(p.Looked) / float64(p.Total)
	}
	if r.Status == "running" {
		s.SecondsLeft = p.Left.Seconds()
	}
	return s
}

func instant(millis int64) string {
	if millis == 0 {
		return ""
	}
	return time.UnixMilli(millis).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

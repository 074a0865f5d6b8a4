package journey

import (
	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/journeys"
	"civicbus/internal/verdict"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
)

var consentTable = topology.TableTopic(topology.Consent.Name)

// permitted decides whether a confirmation is taken for its subject's. The subject's own, by way of the gateway, is. Anybody
// else's is while that organisation may be told how the subject's services stand: a wallet speaks for those who let it. That
// verdict is put on record. Where the session is being stopped nothing is permitted, and nothing concluded from that.
func (g *Group) permitted(ctx goka.Context, r *event.Record, cause string) bool {
	who := r.Envelope.Organisation
	if who == journeys.Organisation || flaw.Planted(flaw.ConfirmUnasked) {
		return true
	}
	row, err := g.env.Joined(ctx, consentTable, r.Key)
	if err != nil {
		ctx.DeferCommit()(err)
		return false
	}
	if event.Stopped(ctx) {
		return false
	}
	d := r.Decision(event.Decided)
	d.Correlation = cause
	var consents *codecs.Consents
	if row != nil {
		consents = g.env.Consents.Unpack(row, new(codecs.Consents))
		d.ConsentVersion = consents.Version
	}
	item := codecs.VerdictItem{Subscriber: who, Reason: verdict.ReasonSubscriptionNotActive} // it has none
	snap := g.env.Snapshot()
	if et := snap.EventType(journeys.UpdatedType); et != nil && len(et.Roles) > 0 {
		told := verdict.Event{Type: et.Type, Role: et.Roles[0].Name, Subject: r.Key}
		told.Schema, _ = g.env.Schema(g.env.Records.JourneyUpdated.ID()) // known: this process has registered it
		if v, ok := snap.DecideTold(&told, who, consents, g.env.Now()); ok {
			item = v.Item()
		}
	}
	d.Verdicts = []codecs.VerdictItem{item}
	r.Decide(d)
	if !item.Permit {
		g.env.Count(CountDenied)
	}
	return item.Permit
}

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admission"
)

// TestStories tells every story of the example world and compares each verdict and each delivery with what was worked out
// by hand.
func TestStories(t *testing.T) {
	b := start(t)
	w := b.world()
	scenarios, err := examples.Scenarios()
	b.must(err)
	for _, s := range scenarios {
		b.sub(s.Name, func() {
			for _, step := range s.Steps {
				b.tell(w, step)
			}
		})
	}
	b.sub("no national id outside the data", func() {
		ids := b.nationalIDs()
		if len(ids) < 15 {
			b.t.Errorf("the stories have %d national ids: are they found?", len(ids))
		}
		a := b.publish("hus.fi", []byte(`{"specversion":"1.0","id":"`+ids[0]+`","source":"https://hus.fi","type":"fi.dvv.person.birth","data":{"child":{"id":"`+ids[1]+`"}}}`))[0]
		for _, id := range ids {
			if a.Status == admission.Accepted || strings.Contains(fmt.Sprint(a), id) {
				b.t.Errorf("the answer to a bad event: %s, or it holds a national id", a.Status)
			}
		}
		b.noTrace(nil, ids...)
	})
}

// nationalIDs are all that stand in the example world.
func (b *bus) nationalIDs() []string {
	b.t.Helper()
	var ids []string
	b.must(fs.WalkDir(examples.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := examples.FS.ReadFile(path)
		ids = append(ids, regexp.MustCompile(`\b\d{6}[-+A-FU-Y]9\d\d[0-9A-Y]\b`).FindAllString(string(text), -1)...)
		return err
	}))
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (b *bus) tell(w *examples.World, step examples.Step) {
	b.t.Helper()
	if step.Consents != "" {
		cs, err := examples.Consents(step.Consents)
		b.must(err)
		b.inEffect(b.consents(cs...)...)
	}
	if step.Ended.ID != "" {
		subject := b.subject(step.Ended.Scheme, step.Ended.ID)
		b.eventually("the subject's consents have ended", func() bool {
			row, err := b.records.Consents.Decode(b.tables.row("consent-table", subject))
			return err == nil && row.EndedAt > 0
		})
		b.inEffect()
	}
	event, err := examples.Event(step.Event)
	b.must(err)
	source, id := eventNames(b, event)
	answer := b.publish(w.Publisher(source), event)[0]
	life := b.keys.LifeEvent(source, id)
	if step.Held != "" {
		if answer.Status != admission.Held || answer.Faults[0].Reason != step.Held {
			b.t.Fatalf("%s: %s %v, want held as %s", step.Title, answer.Status, answer.Faults, step.Held)
		}
		return
	}
	if answer.Status != admission.Accepted {
		b.t.Fatalf("%s: %s %v %v", step.Title, answer.Status, answer.Faults, answer.Err)
	}
	for _, want := range step.Records {
		subject := b.subject(want.Subject.Scheme, want.Subject.ID)
		var got codecs.Decision
		b.eventually(step.Title+": a decision for "+want.Role, func() (ok bool) {
			got, ok = b.decisions.find(func(key string, d *codecs.Decision) bool {
				return key == subject && d.LifeEventID == life && d.Role == want.Role && d.Kind == "router"
			})
			return ok
		})
		b.compare(step, want, got)
	}
}

func (b *bus) compare(step examples.Step, want examples.Record, got codecs.Decision) {
	b.t.Helper()
	if got.Outcome != "decided" {
		b.t.Errorf("%s, %s: outcome %s", step.Title, want.Role, got.Outcome)
	}
	var have, expect []string
	for _, v := range got.Verdicts {
		have = append(have, line(v.Subscription, v.Permit, v.Reason))
	}
	for _, v := range want.Verdicts {
		expect = append(expect, line(v.Subscription, v.Permit, v.Reason))
	}
	slices.Sort(have)
	slices.Sort(expect)
	if !slices.Equal(have, expect) {
		b.t.Errorf("%s, %s: verdicts\n  %s\nwant\n  %s", step.Title, want.Role, strings.Join(have, "\n  "), strings.Join(expect, "\n  "))
	}
	for _, v := range want.Verdicts {
		if !v.Permit {
			continue
		}
		for _, item := range got.Verdicts {
			if item.Subscription == v.Subscription {
				b.delivered(step, v, item)
			}
		}
	}
}

func line(subscription string, permit bool, reason string) string {
	return subscription + " " + outcome(permit, reason)
}

func (b *bus) delivered(step examples.Step, want examples.Verdict, item codecs.VerdictItem) {
	b.t.Helper()
	rec, ok := b.delivery(item.DeliveryID)
	if !ok {
		b.t.Errorf("%s: delivery for %s is not on its topic", step.Title, item.Subscription)
		return
	}
	withheld := strings.Split(header(rec.Headers, codecs.HeaderWithheld), ",")
	if header(rec.Headers, codecs.HeaderWithheld) == "" {
		withheld = nil
	}
	for _, w := range withheld {
		if !covered(want.Withheld, w) {
			b.t.Errorf("%s: %s: %s is withheld, want only %v", step.Title, item.Subscription, w, want.Withheld)
		}
	}
	for _, w := range want.Withheld {
		if !slices.ContainsFunc(withheld, func(h string) bool { return covered([]string{w}, h) }) {
			b.t.Errorf("%s: %s: %s is not withheld: %v", step.Title, item.Subscription, w, withheld)
		}
	}
}

// covered says whether a path stands at or below one of the list.
func covered(list []string, path string) bool {
	return slices.ContainsFunc(list, func(l string) bool {
		return l == path || strings.HasPrefix(path, l+".") || strings.HasPrefix(path, l+"[")
	})
}

func eventNames(b *bus, event []byte) (source, id string) {
	b.t.Helper()
	var e struct{ Source, ID string }
	b.must(json.Unmarshal(event, &e))
	return e.Source, e.ID
}

package examples_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admission"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/processors/consent"
	"civicbus/processors/profile"
	"civicbus/topology"
)

// world is the example world held in maps, and run by the pure rules alone: what the processors do, without Kafka.
type world struct {
	*examples.World
	t        *testing.T
	schemas  map[string]*codecs.Schema   // by registry subject
	snapshot *verdict.Snapshot           // with every subscription active
	consents map[string]*codecs.Consents // by pseudonym
	profiles map[string]*codecs.Profile
	resolver *admission.Resolver
	door     *admission.Door
	now      time.Time
	commands int
}

func load(t *testing.T) *world {
	t.Helper()
	loaded, err := examples.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{World: loaded, t: t, schemas: map[string]*codecs.Schema{}, consents: map[string]*codecs.Consents{}, profiles: map[string]*codecs.Profile{},
		now: time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)}
	registry := codecs.NewLocalRegistry()
	for name, text := range loaded.Schemas {
		if w.schemas[name], err = registry.Register(t.Context(), name, text); err != nil {
			t.Fatalf("schema %s: %v", name, err)
		}
	}
	keys, err := pseudonym.NewKeys([]byte("a bus key of at least 32 bytes for the examples"))
	if err != nil {
		t.Fatal(err)
	}
	w.resolver = admission.NewResolver(registry, nil)
	w.door = &admission.Door{Keys: keys, Belongs: w.resolver.Belongs, RegistryURL: "http://registry.example/"}
	changes := verdict.Changes{EventTypes: map[string]*codecs.EventType{}, Organisations: map[string]*codecs.Organisation{}, Subscriptions: map[string]*codecs.Subscription{}}
	for i := range loaded.EventTypes {
		changes.EventTypes[loaded.EventTypes[i].Type] = &loaded.EventTypes[i]
	}
	for i := range loaded.Organisations {
		changes.Organisations[loaded.Organisations[i].ID] = &loaded.Organisations[i]
	}
	for i := range loaded.Subscriptions {
		active := loaded.Subscriptions[i]
		active.Status = "active"
		changes.Subscriptions[active.ID] = &active
	}
	w.snapshot = verdict.NewSnapshot().With(changes)
	return w
}

func (w *world) schema(registrySubject string) *codecs.Schema { return w.schemas[registrySubject] }

// key is the subject's pseudonym.
func (w *world) key(subject refdata.Subject) string {
	w.t.Helper()
	canonical, err := pseudonym.Canonicalise(subject.Scheme, subject.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.door.Keys.Subject(subject.Scheme, canonical)
}

// apply runs consent commands through the consent group's rule.
func (w *world) apply(consents []refdata.Consent) {
	w.t.Helper()
	for i := range consents {
		w.commands++
		w.now = w.now.Add(time.Second)
		c := consents[i].Command
		c.Meta = codecs.Meta{ID: fmt.Sprintf("c%d", w.commands), Actor: "test"}
		row, result := consent.Apply(w.consents[w.key(consents[i].Subject)], &c, w.now)
		if result.Status != "accepted" {
			w.t.Fatalf("consent command %d (%s): %+v", w.commands, c.Kind, result)
		}
		w.consents[w.key(consents[i].Subject)] = row
	}
}

// record is one subject's record of an event, as admission made it.
type record struct {
	key, role, kind, source, recipient string
	index                              int
	hasList                            bool
	authorized                         []string
	body                               []byte
}

// admit does what publish does: the event's file through the one door.
func (w *world) admit(file string) (admission.Status, []record) {
	w.t.Helper()
	text, err := examples.Event(file)
	if err != nil {
		w.t.Fatal(err)
	}
	var event struct{ Source string }
	if err := json.Unmarshal(text, &event); err != nil {
		w.t.Fatalf("%s: %v", file, err)
	}
	for in, err := range admission.ReadEvents(bytes.NewReader(text), w.Publisher(event.Source)) {
		if err != nil {
			w.t.Fatalf("%s: %v", file, err)
		}
		if err := w.resolver.Resolve(w.t.Context(), w.door, in, w.snapshot); err != nil {
			w.t.Fatalf("%s: %v", file, err)
		}
		result := w.door.Admit(in, w.snapshot, w.now)
		if result.Status == admission.Refused {
			w.t.Fatalf("%s: %+v", file, result.Faults)
		}
		return result.Status, w.records(file, result.Records)
	}
	w.t.Fatalf("%s holds no event", file)
	return "", nil
}

// records reads what admission wrote, and looks for ids where none may stand.
func (w *world) records(file string, written []admission.Record) []record {
	w.t.Helper()
	records := make([]record, 0, len(written))
	for _, one := range written {
		headers := map[string]string{}
		for _, header := range one.Headers {
			headers[header.Key] = string(header.Value)
			if identity.Match(header.Value) {
				w.t.Errorf("%s: header %s holds an identity code", file, header.Key)
			}
		}
		if identity.Match(one.Key) {
			w.t.Errorf("%s: the key holds an identity code", file)
		}
		_, body, err := codecs.WireID(one.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		r := record{key: string(one.Key), role: headers["ce_subjectrole"], kind: headers["ce_type"], source: headers["ce_source"], recipient: headers["ce_recipient"], body: body}
		r.index, _ = strconv.Atoi(headers["ce_subjectindex"]) // absent for a role of one
		var list string
		if list, r.hasList = headers["ce_authorizedsubscribers"]; r.hasList {
			r.authorized = strings.Split(list, ",")
		}
		records = append(records, r)
	}
	return records
}

// stamp does what the profile group does: the subject's state as of this event.
func (w *world) stamp(eventType *codecs.EventType, r record) *codecs.Attributes {
	w.t.Helper()
	row := codecs.Profile{}
	if had := w.profiles[r.key]; had != nil {
		row = *had
	}
	told := map[string]string{}
	for _, stamp := range eventType.Profile {
		if stamp.Role != r.role {
			continue
		}
		values, err := w.schemas[eventType.RegistrySubject].Texts(r.body, stamp.Path)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(values) == 1 && values[0].Kind == codecs.String {
			told[stamp.Attribute] = string(values[0].Bytes)
		}
	}
	row = profile.Fold(row, told, int64(len(w.profiles)+1), w.now.UnixMilli())
	w.profiles[r.key] = &row
	return &row.Attributes
}

// decide does what the router does with one record.
func (w *world) decide(r record) (*verdict.Event, []verdict.Verdict) {
	w.t.Helper()
	eventType := w.snapshot.EventType(r.kind)
	ev := &verdict.Event{
		Type: r.kind, Role: r.role, Source: r.source, Subject: r.key, Recipient: r.recipient, Index: r.index, HasList: r.hasList, Authorized: r.authorized,
		Schema: w.schemas[eventType.RegistrySubject], Body: r.body, Stamp: w.stamp(eventType, r),
	}
	verdicts := w.snapshot.Decide(nil, ev, w.consents[r.key], w.now)
	if ev.Malformed != nil {
		w.t.Fatal(ev.Malformed)
	}
	if eventType.EndsConsents && r.role == eventType.Roles[0].Name {
		order := command.Order{Meta: codecs.Meta{ID: "death " + r.key, Actor: "civicbus"}, Stream: eventType.Stream, Kind: consent.Death}
		if row, _ := consent.EndByDeath(w.consents[r.key], order, w.now); row != nil {
			w.consents[r.key] = row
		}
	}
	return ev, verdicts
}

// The heart: every verdict of every scenario, its fields and what is withheld, by the rules that the bus itself runs.
func TestScenariosHold(t *testing.T) {
	w := load(t)
	w.apply(w.Consents)
	scenarios, err := examples.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	for _, scenario := range scenarios {
		for _, step := range scenario.Steps {
			name := scenario.Name + ": " + step.Event
			if step.Consents != "" {
				consents, err := examples.Consents(step.Consents)
				if err != nil {
					t.Fatal(err)
				}
				w.apply(consents)
			}
			if step.Ended.Scheme != "" {
				if row := w.consents[w.key(step.Ended)]; row == nil || row.EndedAt == 0 {
					t.Errorf("%s: the consents have not ended", name)
				}
			}
			status, records := w.admit(step.Event)
			if (status == admission.Held) != (step.Held != "") {
				t.Errorf("%s: %s, want it held for %q", name, status, step.Held)
			}
			if len(records) != len(step.Records) {
				t.Errorf("%s: %d records, want %d", name, len(records), len(step.Records))
				continue
			}
			for i, want := range step.Records {
				r := records[i]
				if r.role != want.Role || r.index != want.Index || r.key != w.key(want.Subject) {
					t.Errorf("%s: record %d is of %s[%d], want %s[%d], or of another subject", name, i, r.role, r.index, want.Role, want.Index)
					continue
				}
				ev, verdicts := w.decide(r)
				w.compare(fmt.Sprintf("%s: %s[%d]", name, r.role, r.index), ev, verdicts, want.Verdicts)
			}
		}
	}
}

// compare holds verdicts against the table. Paths of the table stand for everything below them.
func (w *world) compare(name string, ev *verdict.Event, got []verdict.Verdict, want []examples.Verdict) {
	w.t.Helper()
	byID := map[string]verdict.Verdict{}
	for _, v := range got {
		byID[v.Sub.ID] = v
	}
	for _, expected := range want {
		at := name + ": " + expected.Subscription
		v, ok := byID[expected.Subscription]
		if !ok {
			w.t.Errorf("%s: no verdict", at)
			continue
		}
		delete(byID, expected.Subscription)
		if v.Permit != expected.Permit || v.Reason != expected.Reason {
			w.t.Errorf("%s: permit %v (%s), want %v (%s)", at, v.Permit, v.Reason, expected.Permit, expected.Reason)
			continue
		}
		if !v.Permit {
			continue
		}
		if missing, extra := differ(v.Fields, expected.Fields); len(missing)+len(extra) > 0 {
			w.t.Errorf("%s: nothing delivered under %v; delivered though not expected: %v", at, missing, extra)
		}
		if missing, extra := differ(w.withheld(ev, &v), expected.Withheld); len(missing)+len(extra) > 0 {
			w.t.Errorf("%s: nothing withheld under %v; withheld though not expected: %v", at, missing, extra)
		}
	}
	for id, v := range byID {
		w.t.Errorf("%s: %s: unexpected verdict, permit %v (%s)", name, id, v.Permit, v.Reason)
	}
}

// withheld is what the delivery's header would name; the body under the projected schema is checked on the way.
func (w *world) withheld(ev *verdict.Event, v *verdict.Verdict) []string {
	w.t.Helper()
	target, ok := w.snapshot.Target(v.Sub.Subscriber, ev.Type, ev.Schema)
	if !ok {
		w.t.Fatalf("no projected schema for %s", v.Sub.Subscriber)
	}
	projection, err := ev.Schema.Projection(target.Paths)
	if err != nil {
		w.t.Fatal(err)
	}
	body, withheld, err := w.snapshot.Project(nil, ev, v, projection)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := projection.Schema().Validate(body); err != nil {
		w.t.Fatal(err)
	}
	if v.Basis == verdict.BasisConsent {
		for _, id := range identity.FindAllString(string(body), -1) {
			if w.key(refdata.Subject{Scheme: pseudonym.Hetu, ID: id}) != ev.Subject {
				w.t.Errorf("%s is told of someone else on the consent of one", v.Sub.ID)
			}
		}
	}
	for _, path := range v.Fields {
		if attribute, ok := strings.CutPrefix(path, "profile."); ok && *codecs.ProfileAttribute(attribute).Of(ev.Stamp) != "" &&
			!strings.Contains(string(body), *codecs.ProfileAttribute(attribute).Of(ev.Stamp)) {
			w.t.Errorf("%s is not told %s", v.Sub.ID, path)
		}
	}
	return withheld
}

// differ gives the wanted paths under which nothing was got, and what was got under none of them.
func differ(got, want []string) (missing, extra []string) {
	under := func(path, top string) bool {
		return path == top || strings.HasPrefix(path, top) && strings.ContainsRune(".[{", rune(path[len(top)]))
	}
	for _, top := range want {
		if !slices.ContainsFunc(got, func(path string) bool { return under(path, top) }) {
			missing = append(missing, top)
		}
	}
	for _, path := range got {
		if !slices.ContainsFunc(want, func(top string) bool { return under(path, top) }) {
			extra = append(extra, path)
		}
	}
	return missing, extra
}

// What apply would refuse is refused here first.
func TestReferenceDataIsValid(t *testing.T) {
	w := load(t)
	var streams []string
	for _, stream := range topology.EventStreams {
		streams = append(streams, stream.Name)
	}
	for i := range w.EventTypes {
		if faults := verdict.ValidateEventType(&w.EventTypes[i], streams, w.schema); len(faults) > 0 {
			t.Errorf("%s: %+v", w.EventTypes[i].Type, faults)
		}
	}
	for i := range w.Organisations {
		if faults := verdict.ValidateOrganisation(&w.Organisations[i]); len(faults) > 0 {
			t.Errorf("%s: %+v", w.Organisations[i].ID, faults)
		}
	}
	for i := range w.Subscriptions {
		if faults := verdict.ValidateSubscription(&w.Subscriptions[i], w.snapshot, w.schema, w.now); len(faults) > 0 {
			t.Errorf("%s: %+v", w.Subscriptions[i].ID, faults)
		}
	}
	for name := range w.Schemas {
		if !slices.ContainsFunc(w.EventTypes, func(e codecs.EventType) bool { return e.RegistrySubject == name }) {
			t.Errorf("schema %s has no catalog entry", name)
		}
	}
}

package people_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/admission"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/gateway/people"
	"civicbus/internal/gateway/web"
	"civicbus/internal/journeys"
	"civicbus/internal/verdict"
)

// family is a bus on which every two people after each other have one life event in common: the i-th row is about persons i and
// i+1. A service of each asks for a confirmation.
type family struct {
	*house
	rows map[string]*codecs.Journey

	mu        sync.Mutex
	published []*admission.Input
}

func startFamily(t *testing.T, n int) *family {
	t.Helper()
	b := gatewaytest.Start(t, 0)
	b.InEffect(b.Admin.PutOrganisations(context.Background(), admin.By{Actor: "operator:anna"}, journeys.OwnOrganisation("urn:civicbus")))
	b.InEffect(b.Admin.PutEventTypes(context.Background(), admin.By{Actor: "operator:anna"}, journeys.OwnEventTypes()...))
	f := &family{rows: map[string]*codecs.Journey{}}
	now := int64(1_770_000_000_000)
	for i := range n - 1 {
		life := b.Keys.LifeEvent(gatewaytest.Site, fmt.Sprint("family-", i))
		var row codecs.Journey
		for at, person := range []int{i, i + 1} {
			service := fmt.Sprintf("service-%d-%d.test", i, at)
			for _, in := range []codecs.JourneyInput{
				{Kind: journeys.Decided, Subject: b.Subject(person), EventType: gatewaytest.EventType, Records: 2, Hours: 1, At: now, Services: []codecs.JourneyService{{ID: service, Awaited: true}}},
				{Kind: journeys.Reported, Subject: b.Subject(person), Service: service, State: verdict.OutcomeNeedsConfirmation, Report: life, At: now},
			} {
				row, _, _, _ = journeys.Apply(row, &in, now)
			}
			own := f.rows[b.Subject(person)]
			if own == nil {
				own = &codecs.Journey{}
				f.rows[b.Subject(person)] = own
			}
			own.Mine = append(own.Mine, codecs.JourneyRef{LifeEvent: life})
		}
		f.rows[life] = &row
	}
	_, s := b.Serve(func(a *web.API) error {
		closed, err := people.Mount(a, people.Config{Connection: b.Config.Connection, Registry: b.Registry, Records: b.Records, Keys: b.Keys,
			Partitions: b.Config.Shape.Partitions, Tables: b.World, Commands: b.Sender(), Logger: slog.New(slog.DiscardHandler),
			Journeys: people.Journeys{
				Row: func(_ context.Context, key string) (*codecs.Journey, error) { return f.rows[key], nil },
				Publish: func(ctx context.Context, organisation string, inputs []*admission.Input) []admission.Answer {
					f.mu.Lock()
					f.published = append(f.published, inputs...)
					f.mu.Unlock()
					return b.Publisher.Publish(ctx, organisation, inputs)
				}}})
		if err == nil {
			t.Cleanup(closed)
		}
		return err
	})
	f.house = &house{b, t, s}
	return f
}

func TestJourneys(t *testing.T) {
	f := startFamily(t, familySize)
	t.Run("nobody sees another's", f.crossings)
	t.Run("a confirmation is one event", f.once)
}

const familySize = 6

func (f *family) crossings(t *testing.T) {
	const n = familySize
	var mine [n]struct{ Journeys []people.Journey }
	for i := range n {
		status, text := f.ask(i, "GET", "/api/me/journeys", "", &mine[i])
		f.want(200, status, text)
		if want := map[bool]int{true: 1, false: 2}[i == 0 || i == n-1]; len(mine[i].Journeys) != want {
			t.Fatalf("person %d sees %d journeys, want %d", i, len(mine[i].Journeys), want)
		}
		for _, j := range mine[i].Journeys {
			if j.Text != "1 service updated. Review and confirm." || j.Title != "A person has moved" || len(j.Services) != 1 || j.Services[0].Outcome != verdict.OutcomeNeedsConfirmation {
				t.Errorf("person %d: %+v", i, j)
			}
		}
	}
	// Every person on every journey, naming each of its services: only its own one of its own journey.
	allowed := 0
	for i := range n {
		for k := range n - 1 {
			id := journeys.Name(f.Keys, f.Keys.LifeEvent(gatewaytest.Site, fmt.Sprint("family-", k)))
			for at := range 2 {
				service := fmt.Sprintf("service-%d-%d.test", k, at)
				status, text := f.ask(i, "POST", "/api/me/journeys/"+id+"/confirm", `{"service":"`+service+`"}`, nil)
				switch {
				case i == k+at:
					f.want(202, status, text)
					allowed++
				case i == k+1-at:
					f.want(409, status, text)
				default:
					f.want(404, status, text)
				}
			}
		}
	}
	if allowed != 2*(n-1) || len(f.published) != allowed {
		t.Errorf("%d confirmations, %d published", allowed, len(f.published))
	}
}

func (f *family) once(t *testing.T) {
	f.published = nil
	life := f.Keys.LifeEvent(gatewaytest.Site, "family-0")
	id := journeys.Name(f.Keys, life)
	confirm := func(id string, want int) string {
		t.Helper()
		status, text := f.ask(0, "POST", "/api/me/journeys/"+id+"/confirm", `{"service":"service-0-0.test"}`, nil)
		f.want(want, status, text)
		return text
	}
	confirm(id, 202)
	confirm(id, 202)
	if len(f.published) != 2 || f.published[0].Attributes["id"] != f.published[1].Attributes["id"] || f.published[0].Attributes["recipient"] != journeys.Organisation || !f.published[0].Internal {
		t.Fatalf("published %+v", f.published)
	}
	f.rows[life].Items[0].ConfirmedAt = 1
	if confirm(id, 202); len(f.published) != 2 {
		t.Error("what has been confirmed was published again")
	}
	for _, wrong := range []string{"c1.", id[:len(id)-1], f.Keys.For(gatewaytest.Agency).SealID(life)} {
		if text := confirm(wrong, 404); code(text) != "journey_unknown" {
			t.Errorf("%q: %s", wrong, text)
		}
	}
}

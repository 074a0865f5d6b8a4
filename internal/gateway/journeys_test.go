package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/pseudonym"
)

// A birth, the register's answer, what the mother sees of it and what she confirms: over HTTP alone, through every group.
func TestAJourneyOverHTTP(t *testing.T) {
	b := start(t)
	for _, s := range b.world.Subscriptions {
		if s.ID == "sub-dvv-birth" { // its purpose is approved beforehand
			b.inEffect(b.admin.PutSubscriptions(t.Context(), admin.By{Actor: "operator:anna"}, s))
		}
	}
	const mother, father, child, stranger = "fi-hetu:140392-9029", "fi-hetu:021190-903H", "fi-hetu:180926A904R", "fi-hetu:240285V920P"
	keys, err := pseudonym.NewKeys(b.config.BusKey)
	b.must(err)
	publish := func(who string, text []byte, correlation, outcome string) {
		t.Helper()
		var event map[string]any
		b.must(json.Unmarshal(text, &event))
		if correlation != "" {
			event["correlationid"] = correlation
			event["data"].(map[string]any)["outcome"] = outcome
		}
		text, err := json.Marshal(event)
		b.must(err)
		b.want(http.StatusAccepted, who, "POST", "/api/events", string(text), "Content-Type", "application/cloudevents+json")
	}
	birth, err := examples.Event("events/birth.json")
	b.must(err)
	publish("hus.fi", birth, "", "")
	life := keys.LifeEvent("https://hus.fi", "birth-2026-09-18-0001")
	story, err := examples.ReadStory()
	b.must(err)
	answer := strings.NewReplacer("140595-922A", "140392-9029", "031126A924A", "180926A904R").Replace(string(story.Event("outcome-dvv-0005"))) // of this birth
	publish("dvv.fi", []byte(answer), keys.For("dvv.fi").SealID(life), "needsConfirmation")

	type journey struct {
		ID, Text        string
		Waiting, Failed int
		Services        []struct{ ID, Name, Outcome string }
	}
	seen := func(who string) []journey {
		t.Helper()
		var list struct{ Journeys []journey }
		b.must(json.Unmarshal([]byte(b.want(http.StatusOK, who, "GET", "/api/me/journeys", "").text), &list))
		return list.Journeys
	}
	var hers []journey
	b.eventually("the mother sees the register's answer", func() bool {
		hers = seen(mother)
		return len(hers) == 1 && hers[0].Waiting == 1
	})
	if j := hers[0]; j.Text != "1 service updated. Review and confirm." || len(j.Services) != 1 || j.Services[0].Name != "Digital and Population Data Services Agency" {
		t.Errorf("she sees %+v", j)
	}
	if n := len(seen(child)); n != 1 {
		t.Errorf("the child sees %d journeys", n)
	}
	for _, other := range []string{father, stranger} { // nobody has answered about him
		if list := seen(other); len(list) > 0 {
			t.Errorf("%s sees %+v", other, list)
		}
		if p := b.want(http.StatusNotFound, other, "POST", "/api/me/journeys/"+hers[0].ID+"/confirm", `{"service":"dvv.fi"}`).problem(); p != "journey_unknown" {
			t.Error(p)
		}
	}
	if p := b.want(http.StatusConflict, mother, "POST", "/api/me/journeys/"+hers[0].ID+"/confirm", `{"service":"kela.fi"}`).problem(); p != "not_waiting" {
		t.Error(p)
	}
	// A wallet that she has told nothing cannot confirm for her, and she sees that it tried.
	sealed, err := keys.For("wallet.example").Seal(keys.Subject("fi-hetu", "140392-9029"))
	b.must(err)
	b.want(http.StatusAccepted, "wallet.example", "POST", "/api/events", `{"specversion": "1.0", "id": "for-her", "source": "https://wallet.example", "type": "fi.civicbus.journey.confirm", "subject": "`+sealed+
		`", "correlationid": "`+keys.For("wallet.example").SealID(life)+`", "recipient": "civicbus", "datacontenttype": "application/json", "data": {"service": "dvv.fi"}}`, "Content-Type", "application/cloudevents+json")
	b.eventually("it stands in her history", func() bool {
		var history struct {
			Entries []struct{ What, Outcome, Recipient, Reason string }
		}
		b.must(json.Unmarshal([]byte(b.want(http.StatusOK, mother, "GET", "/api/me/history", "").text), &history))
		for _, e := range history.Entries {
			if e.What == "confirmation" {
				return e.Outcome == "denied" && e.Recipient == "wallet.example" && e.Reason == "subscription_not_active"
			}
		}
		return false
	})
	if hers = seen(mother); hers[0].Waiting != 1 {
		t.Errorf("it was taken: %+v", hers)
	}
	for range 2 {
		b.want(http.StatusAccepted, mother, "POST", "/api/me/journeys/"+hers[0].ID+"/confirm", `{"service":"dvv.fi"}`)
	}
	b.eventually("she sees that she has confirmed", func() bool {
		hers = seen(mother)
		return hers[0].Waiting == 0 && hers[0].Services[0].Outcome == "confirmed"
	})
	if his := seen(child); his[0].Waiting != 1 {
		t.Errorf("her confirmation is the child's: %+v", his)
	}
}

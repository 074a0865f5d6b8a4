package people_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/gateway/people"
	"civicbus/internal/gateway/web"
)

// house is a bus with what people see of it.
type house struct {
	*gatewaytest.Bus
	t      *testing.T
	server *httptest.Server
}

func start(t *testing.T, subscribers int) *house {
	t.Helper()
	b := gatewaytest.Start(t, subscribers)
	_, s := b.Serve(func(a *web.API) error {
		closed, err := people.Mount(a, people.Config{Connection: b.Config.Connection, Registry: b.Registry, Records: b.Records, Keys: b.Keys, AuditKey: b.Config.AuditKey,
			Partitions: b.Config.Shape.Partitions, Tables: b.World, Commands: b.Sender(), PublicURL: "https://bus.test", Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Cleanup(closed)
		}
		return err
	})
	return &house{b, t, s}
}

var later = time.Now().Add(24 * time.Hour)

// ask makes a request as a person and reads the answer into out; out nil: into nothing. It gives the status and the text.
func (h *house) ask(person int, method, path, body string, out any, headers ...string) (int, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, h.server.URL+path, strings.NewReader(body))
	h.Must(err)
	req.Header.Set("Authorization", "Bearer "+gatewaytest.PersonToken(person, later))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	h.Must(err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	h.Must(err)
	if strings.Contains(string(text), "k1.") || strings.Contains(string(text), h.Subject(person)) {
		h.t.Errorf("%s %s shows a bus pseudonym: %s", method, path, text)
	}
	if out != nil && res.StatusCode < 300 {
		h.Must(json.Unmarshal(text, out))
	}
	return res.StatusCode, string(text)
}

func (h *house) want(status int, got int, text string) {
	h.t.Helper()
	if got != status {
		h.t.Fatalf("%d %s, want %d", got, text, status)
	}
}

func code(text string) string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(text), &p)
	return p.Code
}

func consentText(recipient string, scopes ...string) string {
	text, _ := json.Marshal(map[string]any{"recipient": recipient, "purpose": gatewaytest.Purpose, "scopes": scopes, "notice": "https://notice.test", "language": "fi"})
	return string(text)
}

func TestPeople(t *testing.T) {
	h := start(t, 4)
	t.Run("consent", h.consent)
	t.Run("refusals", h.refusals)
	t.Run("objection", h.objection)
	t.Run("history and export", h.history)
	t.Run("no crossings", h.noCrossings)
}

func (h *house) of(t *testing.T) *house { return &house{h.Bus, t, h.server} }

func (h *house) consent(t *testing.T) {
	h = h.of(t)
	var before people.Consents
	status, text := h.ask(0, "GET", "/api/me/grants", "", &before)
	h.want(200, status, text)
	if before.Version != 0 || len(before.Grants) != 0 {
		t.Errorf("%+v", before)
	}
	recipient, sub := gatewaytest.Subscriber(0), gatewaytest.Subscription(0)
	begun := time.Now()
	var given people.Given
	status, text = h.ask(0, "POST", "/api/me/grants", consentText(recipient, gatewaytest.Scope, gatewaytest.NameScope), &given)
	h.want(201, status, text)
	effective, err := time.Parse(time.RFC3339, given.EffectiveAt)
	if err != nil || !given.InEffect || effective.Before(begun.Add(h.Config.LeaseAge).Truncate(time.Millisecond)) {
		t.Errorf("%+v: it cannot be in effect before the lease's age is over", given)
	}
	h.Publish(gatewaytest.Moved("c-1", 0, "given"))
	at, err := h.Feed.Oldest(t.Context(), sub)
	h.Must(err)
	r := h.Feed.Reader(sub)
	defer r.Close()
	page, err := r.Read(t.Context(), at, 10, time.Minute)
	h.Must(err)
	if len(page.Events) != 1 {
		t.Fatalf("%d deliveries on the consent", len(page.Events))
	}

	var receipt people.Receipt
	status, text = h.ask(0, "GET", given.Receipt, "", &receipt)
	h.want(200, status, text)
	pairwise, err := h.Keys.For(recipient).Seal(h.Subject(0))
	h.Must(err)
	if receipt.Principal != pairwise || receipt.Processing.Purpose != gatewaytest.Purpose || receipt.Parties[0].ID != recipient || len(receipt.Events) != 1 ||
		receipt.Events[0].State != "https://w3id.org/dpv#ConsentGiven" || receipt.RecordID != given.ID || !strings.HasPrefix(receipt.Processing.WithdrawalMethod, "https://bus.test/api/me/grants/") {
		t.Errorf("%s", text)
	}
	for _, member := range []string{`"@context"`, `"privacy_notice"`, `"storage_locations"`, `"jurisdiction"`, `"party_name"`, `"event_time"`, `"rights"`} {
		if has := strings.Contains(text, member); has == (member == `"storage_locations"` || member == `"jurisdiction"`) {
			t.Errorf("%s: %t", member, has)
		}
	}

	var change people.Change
	if status, text = h.ask(0, "POST", "/api/me/grants/"+given.ID+"/withdrawal", `{}`, nil, "If-Match", `"99"`); status != 412 {
		t.Errorf("withdrawn on another version: %d %s", status, text)
	}
	status, text = h.ask(0, "POST", "/api/me/grants/"+given.ID+"/withdrawal", `{"scopes":["name"]}`, &change, "If-Match", fmt.Sprintf("%q", fmt.Sprint(given.Version)))
	h.want(200, status, text)
	status, text = h.ask(0, "POST", "/api/me/grants/"+given.ID+"/withdrawal", "{}", &change)
	h.want(200, status, text)
	if !change.InEffect || change.EffectiveAt == "" || change.Version <= given.Version {
		t.Errorf("%+v", change)
	}
	if page, err := r.Read(t.Context(), at, 10, 0); err != nil || len(page.Events) != 0 {
		t.Errorf("%d deliveries after the answer, %v", len(page.Events), err)
	}
	var after people.Consents
	status, text = h.ask(0, "GET", "/api/me/grants", "", &after)
	h.want(200, status, text)
	if len(after.Grants) != 1 || after.Grants[0].State != "withdrawn" || after.Version != change.Version {
		t.Errorf("%s", text)
	}
	if _, text = h.ask(0, "GET", given.Receipt, "", &receipt); len(receipt.Events) != 2 || !strings.HasSuffix(receipt.Events[1].State, "ConsentWithdrawn") {
		t.Errorf("%s", text)
	}
	for _, path := range []string{given.Receipt} { // another's is not there
		if status, text = h.ask(1, "GET", path, "", nil); status != 404 || code(text) != "grant_unknown" {
			t.Errorf("%d %s", status, text)
		}
	}
	if status, text = h.ask(1, "POST", "/api/me/grants/"+given.ID+"/withdrawal", "{}", nil); status != 404 {
		t.Errorf("another withdraws: %d %s", status, text)
	}
}

func (h *house) refusals(t *testing.T) {
	h = h.of(t)
	good := consentText(gatewaytest.Subscriber(1), gatewaytest.Scope)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/api/me/grants", consentText("nobody.test", gatewaytest.Scope), 422, "recipient_unknown"},
		{"POST", "/api/me/grants", consentText(gatewaytest.Subscriber(1)), 422, "grant_invalid"},
		{"POST", "/api/me/grants", strings.Replace(good, "{", `{"validTo":"yesterday",`, 1), 422, "invalid"},
		{"POST", "/api/me/grants", strings.Replace(good, "{", `{"validTo":"2001-01-01T00:00:00Z",`, 1), 422, "validity_empty"},
		{"POST", "/api/me/grants", strings.Replace(good, "{", `{"subject":"k1.x",`, 1), 422, "invalid"},
		{"POST", "/api/me/grants", "{", 400, "malformed"},
		{"POST", "/api/me/grants/none/withdrawal", "{}", 404, "grant_unknown"},
		{"GET", "/api/me/grants/none/receipt", "", 404, "grant_unknown"},
		{"PUT", "/api/me/objections/sub-none", "", 404, "subscription_unknown"},
		{"DELETE", "/api/me/objections/" + gatewaytest.Subscription(1), "", 404, "not_objected"},
		{"GET", "/api/me/history?cursor=!!", "", 400, "cursor_invalid"},
		{"GET", "/api/me/history?limit=0", "", 422, "invalid"},
		{"GET", "/api/me/history?subject=k1.x", "", 422, "invalid"},
		{"GET", "/api/me/export?subject=k1.x", "", 422, "invalid"},
	} {
		if status, text := h.ask(2, c.method, c.path, c.body, nil); status != c.status || code(text) != c.code {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, status, text, c.status, c.code)
		}
	}
	for _, path := range []string{"/api/me/grants", "/api/me/history", "/api/me/export"} { // an organisation is nobody's person
		req, err := http.NewRequest(http.MethodGet, h.server.URL+path, nil)
		h.Must(err)
		req.Header.Set("Authorization", "Bearer "+gatewaytest.Token(gatewaytest.Agency, later))
		res, err := http.DefaultClient.Do(req)
		h.Must(err)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

func (h *house) objection(t *testing.T) {
	h = h.of(t)
	recipient, sub := gatewaytest.Subscriber(1), gatewaytest.Subscription(1)
	status, text := h.ask(3, "POST", "/api/me/grants", consentText(recipient, gatewaytest.Scope), nil)
	h.want(201, status, text)
	var change people.Change
	status, text = h.ask(3, "PUT", "/api/me/objections/"+sub, "", &change)
	h.want(200, status, text)
	if !change.InEffect {
		t.Errorf("%s", text)
	}
	h.Publish(gatewaytest.Moved("o-1", 3, "objected"))
	reasons := map[string]string{}
	h.Eventually("the decision", func() bool {
		for _, d := range h.Decisions("router") {
			if d.LifeEventID == h.Keys.LifeEvent(gatewaytest.Site, "o-1") {
				for _, v := range d.Verdicts {
					reasons[v.Subscription] = v.Reason
				}
			}
		}
		return len(reasons) > 0
	})
	if reasons[sub] != "objected" || reasons[gatewaytest.AgencySub] != "rule" {
		t.Errorf("%v", reasons)
	}
	status, text = h.ask(3, "DELETE", "/api/me/objections/"+sub, "", &change)
	h.want(200, status, text)
}

func (h *house) history(t *testing.T) {
	h = h.of(t)
	recipient, sub := gatewaytest.Subscriber(2), gatewaytest.Subscription(2)
	status, text := h.ask(5, "POST", "/api/me/grants", consentText(recipient, gatewaytest.Scope), nil)
	h.want(201, status, text)
	h.Publish(gatewaytest.Moved("h-1", 5, "history one"), gatewaytest.Moved("h-2", 5, "history two"), gatewaytest.Moved("h-3", 6, "another's"))
	at, err := h.Feed.Oldest(t.Context(), sub)
	h.Must(err)
	r := h.Feed.Reader(sub)
	defer r.Close()
	for got := 0; got < 2; {
		page, err := r.Read(t.Context(), at, 10, time.Minute)
		h.Must(err)
		got, at = got+len(page.Events), page.Next
	}
	// One consent given, two events for each of five subscriptions, two accesses.
	want := 1 + 2*5 + 2
	var all []people.Entry
	h.Eventually("the whole history", func() bool {
		all = nil
		path := "/api/me/history?limit=3"
		for path != "" {
			var page people.History
			status, text := h.ask(5, "GET", path, "", &page)
			h.want(200, status, text)
			all, path = append(all, page.Entries...), page.Next
		}
		return len(all) >= want
	})
	count := map[string]int{}
	for _, e := range all {
		count[strings.Join([]string{e.What, e.Outcome, e.Recipient, e.Reason, e.Change}, " ")]++
		switch {
		case e.What == "delivery" && e.Recipient == gatewaytest.Agency:
			if e.Rule != "law-1" || e.Citation != "Act 1" || fmt.Sprint(e.Fields) != "[data.person.name data.city]" || e.Basis != "legal_obligation" {
				t.Errorf("%+v", e)
			}
		case e.Recipient == recipient && e.Outcome == "permitted":
			if e.Grant == "" || e.Purpose != gatewaytest.Purpose || fmt.Sprint(e.Fields) != "[data.street data.city]" || e.Title != "A person has moved" || e.Delivery == "" {
				t.Errorf("%+v", e)
			}
		}
	}
	for what, n := range map[string]int{"change accepted   grant": 1, "delivery permitted agency.test rule ": 2, "delivery permitted s2.test consent ": 2,
		"delivery denied s0.test no_grant ": 2, "delivery denied s1.test no_grant ": 2, "delivery denied s3.test no_grant ": 2, "access permitted s2.test consent ": 2} {
		if count[what] != n {
			t.Errorf("%s: %d, want %d", what, count[what], n)
		}
	}
	if len(all) != want {
		t.Errorf("%d entries, want %d: %v", len(all), want, count)
	}

	var export people.Export
	status, text = h.ask(5, "GET", "/api/me/export", "", &export)
	h.want(200, status, text)
	if !export.Complete || len(export.History) != want || len(export.Receipts) != 1 || len(export.Consents.Grants) != 1 {
		t.Errorf("%s", text)
	}
	for _, not := range []string{"another's", gatewaytest.Person(5), "history one"} { // the bus keeps no data of events, and no ids
		if strings.Contains(text, not) {
			t.Errorf("the export has %q", not)
		}
	}

	// Another's cursor is refused, whatever it says.
	var page people.History
	h.ask(5, "GET", "/api/me/history?limit=3", "", &page)
	next, err := url.Parse(page.Next)
	h.Must(err)
	if status, text := h.ask(6, "GET", "/api/me/history?cursor="+next.Query().Get("cursor"), "", nil); status != 400 || code(text) != "cursor_invalid" {
		var other people.History
		_ = json.Unmarshal([]byte(text), &other)
		for _, e := range other.Entries {
			if e.Recipient == recipient && e.Outcome == "permitted" {
				t.Errorf("another's entry: %+v", e)
			}
		}
	}
}

// noCrossings: of all ordered pairs of 20 people nobody sees anything of another.
func (h *house) noCrossings(t *testing.T) {
	h = h.of(t)
	const n = 20
	subscriber, sub := gatewaytest.Subscriber(3), gatewaytest.Subscription(3)
	given := h.giveAll(n, subscriber)
	var events [][]byte
	for i := range n {
		events = append(events, gatewaytest.Moved(fmt.Sprint("x-", i), i, fmt.Sprint("street ", i)))
	}
	h.Publish(events...)
	deliveries := map[string]int{} // whose
	at, err := h.Feed.Oldest(t.Context(), sub)
	h.Must(err)
	r := h.Feed.Reader(sub)
	defer r.Close()
	for len(deliveries) < n {
		page, err := r.Read(t.Context(), at, 100, time.Minute)
		h.Must(err)
		at = page.Next
		for _, e := range page.Events {
			deliveries[e.ID] = ownerOf(t, e)
		}
	}
	own := map[int]map[string]bool{}
	for i := range n {
		h.Eventually("the history of a person", func() bool {
			var export people.Export
			status, text := h.ask(i, "GET", "/api/me/export", "", &export)
			h.want(200, status, text)
			own[i] = map[string]bool{}
			for _, e := range export.History {
				if e.Delivery == "" || e.Recipient != subscriber {
					continue
				}
				if deliveries[e.Delivery] != i {
					t.Fatalf("person %d sees what is person %d's", i, deliveries[e.Delivery])
				}
				own[i][e.Delivery+e.What] = true
			}
			return len(own[i]) == 2 // delivered and read
		})
	}
	for i := range n {
		for j := range n {
			if i == j {
				continue
			}
			for id := range own[i] {
				if own[j][id] {
					t.Errorf("persons %d and %d see the same delivery", i, j)
				}
			}
			for _, c := range []struct{ method, path, body string }{{"GET", given[j].Receipt, ""}, {"POST", "/api/me/grants/" + given[j].ID + "/withdrawal", "{}"}} {
				if status, text := h.ask(i, c.method, c.path, c.body, nil); status != http.StatusNotFound || code(text) != "grant_unknown" {
					t.Fatalf("%s of %d by %d: %d %s", c.path, j, i, status, text)
				}
			}
		}
	}
	h.noForeignPages(t, n, deliveries)
	for i := range n { // nobody has withdrawn anything
		var mine people.Consents
		status, text := h.ask(i, "GET", "/api/me/grants", "", &mine)
		h.want(200, status, text)
		if !slices.ContainsFunc(mine.Grants, func(g people.Grant) bool { return g.ID == given[i].ID && g.State == "given" }) {
			t.Errorf("%d: %s", i, text)
		}
	}
}

// giveAll makes each of the first n people consent, by their own tokens and all at once.
func (h *house) giveAll(n int, recipient string) []people.Given {
	h.t.Helper()
	given := make([]people.Given, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if status, text := h.ask(i, "POST", "/api/me/grants", consentText(recipient, gatewaytest.Scope), &given[i]); status != http.StatusCreated {
				h.t.Errorf("%d: %d %s", i, status, text)
			}
		})
	}
	wg.Wait()
	return given
}

// noForeignPages: with another's place in the history one is refused, or sees one's own.
func (h *house) noForeignPages(t *testing.T, n int, deliveries map[string]int) {
	next := make([]string, n)
	for i := range n {
		var page people.History
		status, text := h.ask(i, "GET", "/api/me/history?limit=1", "", &page)
		h.want(200, status, text)
		next[i] = page.Next
	}
	for i := range n { // each with the next one's place: a walk is too slow for all pairs
		var page people.History
		status, text := h.ask(i, "GET", next[(i+1)%n], "", &page)
		if status != http.StatusOK && status != http.StatusBadRequest {
			t.Errorf("%d: %d %s", i, status, text)
		}
		for _, e := range page.Entries {
			if of, ours := deliveries[e.Delivery]; ours && of != i {
				t.Errorf("%d sees what is %d's", i, of)
			}
		}
	}
}

func ownerOf(t *testing.T, e feed.Event) (person int) {
	t.Helper()
	var event struct{ Data struct{ Street string } }
	if err := json.Unmarshal(e.JSON, &event); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(event.Data.Street, "street %d", &person); err != nil {
		t.Fatal(err)
	}
	return person
}

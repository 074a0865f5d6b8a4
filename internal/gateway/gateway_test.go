package gateway_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/app"
)

// The request and the answer of the README, to the letter.
const (
	seedRequest = `{"subscriberId": "kela.fi", "eventTypes": ["fi.dvv.person.birth"], "filter": {"data.parentResidency": "Finland"}, "webhook": "https://kela.fi/api/event-handler",
 "consent": {"requiredScopes": ["birth-notification", "benefit-eligibility"], "purpose": "Automatic child benefit processing"}}`
	seedAnswer = `{"subscriptionId": "sub-kela-birth-001", "status": "active", "eventsDelivered": 0, "createdAt": "2026-01-01T00:00:00Z"}`
)

func TestGateway(t *testing.T) {
	b := start(t)
	type story struct {
		name string
		run  func(*bus)
	}
	tell := func(t *testing.T, together bool, stories ...story) {
		for _, s := range stories {
			t.Run(s.name, func(t *testing.T) {
				if together {
					t.Parallel()
				}
				own := *b
				own.t = t
				s.run(&own)
			})
		}
	}
	tell(t, false, story{"a subscription as the README has it", readme})
	t.Run("together", func(t *testing.T) {
		tell(t, true, story{"publishing", publishing}, story{"the CloudEvents SDK publishes", sdkPublishes}, story{"a second person", secondPerson},
			story{"replaying", replaying}, story{"editing", editing}, story{"CloudEvents' shape", cloudEventsShape}, story{"a filter on a sample", dryRun})
	})
	tell(t, false, story{"lists", lists}, story{"who may not", whoMayNot}, story{"the catalog", catalogue}, story{"bombs", bombs},
		story{"a restarted node", restarted}, story{"no national id", noNationalID})
}

// curl posts JSON by curl, where it is installed.
func (b *bus) curl(who, path, body string) *answer {
	b.t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		b.t.Log("curl is not installed")
		return b.ask(who, "POST", path, body)
	}
	cmd := exec.CommandContext(b.t.Context(), "curl", "-si", b.base+path, "-H", "Authorization: Bearer "+b.token(who), "-H", "Content-Type: application/json", "--data", "@-")
	cmd.Stdin = strings.NewReader(body)
	out, err := cmd.Output()
	b.must(err)
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
	b.must(err)
	text, err := io.ReadAll(res.Body)
	b.must(errors.Join(err, res.Body.Close()))
	return &answer{res.StatusCode, res.Header, string(text)}
}

// restarted: what was counted before a node stopped is counted after it, and nothing twice.
func restarted(b *bus) {
	const path = "/api/subscriptions/sub-kela-birth-001"
	was := b.want(http.StatusOK, "kela.fi", "GET", path, "").text
	if !strings.Contains(was, `"eventsDelivered": `) || strings.Contains(was, `"eventsDelivered": 0`) {
		b.t.Fatal(was)
	}
	b.stop()
	b.base, _ = b.node(b.config)
	if is := b.want(http.StatusOK, "kela.fi", "GET", path, "").text; is != was {
		b.t.Errorf("%s\nwas %s", is, was)
	}
}

func readme(b *bus) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	b.must(err)
	for _, shown := range []string{seedRequest, strings.Replace(seedAnswer, "2026-01-01T00:00:00Z", "…", 1)} {
		if !strings.Contains(string(text), "\n"+shown+"\n") {
			b.t.Errorf("README.md does not show\n%s", shown)
		}
	}
	a := b.curl("kela.fi", "/api/subscriptions", seedRequest)
	if got := strings.TrimSuffix(a.text, "\n"); a.status != http.StatusCreated || got != seedAnswer {
		b.t.Fatalf("%d\n%s\nwant\n%s", a.status, got, seedAnswer)
	}
	if a.header.Get("Location") != "/api/subscriptions/sub-kela-birth-001" || a.header.Get("ETag") == "" {
		b.t.Errorf("%v", a.header)
	}
	b.inEffect(b.admin.ChangeConsents(b.t.Context(), admin.By{Actor: "operator:anna"}, b.world.Consents...))
	event, err := examples.Event("events/birth.json")
	b.must(err)
	for range 2 { // the second is a repeat
		a = b.want(http.StatusAccepted, "hus.fi", "POST", "/api/events", string(event), "Content-Type", "application/cloudevents+json")
		if !strings.Contains(a.text, `{"status": "accepted", "id": "birth-2026-09-18-0001", "lifeEventId": "`) {
			b.t.Errorf("%s", a.text)
		}
	}
	delivered := func(n int) func() bool {
		return func() bool {
			return strings.Contains(b.want(http.StatusOK, "kela.fi", "GET", "/api/subscriptions/sub-kela-birth-001", "").text, fmt.Sprintf(`"eventsDelivered": %d`, n))
		}
	}
	b.eventually("the delivery is counted", delivered(1))
	other := b.config
	other.Instance, other.Parts = "other", []string{app.PartGateway}
	base, stop := b.node(other)
	first := b.base
	b.base = base
	b.eventually("a gateway that was started later counts it too", delivered(1))
	b.base = first
	stop()
}

func secondPerson(b *bus) {
	body := `{"subscriberId": "vero.fi", "eventTypes": ["fi.dvv.person.birth"], "role": "child", "purpose": "taxation", "basis": "legal_obligation"}`
	a := b.want(http.StatusCreated, "vero.fi", "POST", "/api/subscriptions", body)
	if !strings.HasPrefix(a.text, `{"subscriptionId": "sub-vero-birth-001", "status": "pending"`) {
		b.t.Fatal(a.text)
	}
	if p := b.want(http.StatusForbidden, "vero.fi", "POST", "/api/subscriptions/sub-vero-birth-001/approve", "").problem(); p != "wrong_caller" {
		b.t.Error(p)
	}
	if a := b.want(http.StatusOK, "@bertil", "POST", "/api/subscriptions/sub-vero-birth-001/approve", ""); !strings.Contains(a.text, `"status": "active"`) || !strings.Contains(a.text, `"approvedBy": "operator:bertil"`) {
		b.t.Error(a.text)
	}
	if p := b.want(http.StatusConflict, "@bertil", "POST", "/api/subscriptions/sub-vero-birth-001/approve", "").problem(); !strings.HasPrefix(p, "not_pending") {
		b.t.Error(p)
	}
	b.want(http.StatusCreated, "@anna", "POST", "/api/subscriptions", body)
	if p := b.want(http.StatusForbidden, "@anna", "POST", "/api/subscriptions/sub-vero-birth-002/approve", "").problem(); !strings.HasPrefix(p, "second_person_required") {
		b.t.Error(p)
	}
	for _, step := range []struct {
		who, kind, body, status string
		want                    int
	}{
		{"vero.fi", "pause", "", "paused", 200},
		{"vero.fi", "resume", "", "active", 200},
		{"vero.fi", "resume", "", "not_paused", 409},
		{"@anna", "pause", `{"reason": "security"}`, "paused", 200},
		{"vero.fi", "resume", "", "paused_by_operator", 409},
		{"@anna", "resume", "", "active", 200},
		{"vero.fi", "revoke", `{"reason": "ended"}`, "revoked", 200},
		{"@anna", "resume", "", "subscription_revoked", 409},
	} {
		a := b.want(step.want, step.who, "POST", "/api/subscriptions/sub-vero-birth-001/"+step.kind, step.body)
		if !strings.Contains(a.text, `"`+step.status+`"`) {
			b.t.Errorf("%s by %s: %s", step.kind, step.who, a.text)
		}
	}
}

func editing(b *bus) {
	const path = "/api/subscriptions/sub-helsinki-birth-001"
	body := func(more string) string {
		return `{"subscriberId": "helsinki.fi", "eventTypes": ["fi.dvv.person.birth"], "role": "child", "purpose": "early-education", "basis": "public_task"` + more + `}`
	}
	made := b.want(http.StatusCreated, "helsinki.fi", "POST", "/api/subscriptions", body(""), "Idempotency-Key", "one")
	if again := b.want(http.StatusCreated, "helsinki.fi", "POST", "/api/subscriptions", body(""), "Idempotency-Key", "one"); again.text != made.text {
		b.t.Errorf("the same key again: %s", again.text)
	}
	if p := b.want(http.StatusUnprocessableEntity, "helsinki.fi", "POST", "/api/subscriptions", body(`, "thin": true`), "Idempotency-Key", "one").problem(); p != "idempotency_key_reused" {
		b.t.Error(p)
	}
	if p := b.want(http.StatusPreconditionRequired, "helsinki.fi", "PUT", path, body(`, "thin": true`)).problem(); p != "version_required" {
		b.t.Error(p)
	}
	edited := b.want(http.StatusOK, "helsinki.fi", "PUT", path, body(`, "thin": true`), "If-Match", made.header.Get("ETag"))
	if !strings.Contains(edited.text, `"thin": true`) || edited.header.Get("ETag") == made.header.Get("ETag") {
		b.t.Errorf("%s %v", edited.text, edited.header)
	}
	for _, old := range []string{made.header.Get("ETag"), "7", `"x"`, `W/"1"`} {
		if a := b.ask("helsinki.fi", "PUT", path, body(""), "If-Match", old); a.status != http.StatusPreconditionFailed {
			b.t.Errorf("If-Match %s: %d %s", old, a.status, a.text)
		}
	}
	b.want(http.StatusOK, "helsinki.fi", "PUT", path, body(""), "If-Match", "*")
	for _, c := range []struct{ more, want string }{
		{`, "filter": {"data.mother.bankAccount": "x"}`, "subscription_refused/filter_field_not_permitted@/filter"},
		{`, "filter": {"sql": "1=1"}`, "subscription_refused/filter_unknown_dialect@/filter"},
		{`, "filter": [{"sql": "1=1"}]`, "subscription_refused/filter_unknown_dialect@/filter"},
		{`, "filter": {"data.numberOfChildren": 1, "data.numberOfChildren": 2}`, "subscription_refused/filter_malformed@/filter"},
		{`, "fields": ["data.numberOfChildren", "data.nothing"]`, "subscription_refused/unknown_field@/fields/1"},
		{`, "webhook": "http://helsinki.fi"`, "subscription_refused/bad_sink@/webhook"},
		{`, "mode": "other"`, "invalid/invalid@/mode"},
		{`, "sinkcredential": {"token": "x"}`, "invalid/unknown@/sinkcredential"},
		{`, "consent": {"purpose": "early-education"}`, "invalid/invalid@/consent"},
	} {
		a := b.ask("helsinki.fi", "PUT", path, body(c.more), "If-Match", "*")
		if a.status != http.StatusUnprocessableEntity || a.problem() != c.want {
			b.t.Errorf("%s: %d %s, want %s", c.more, a.status, a.problem(), c.want)
		}
	}
	p := b.want(http.StatusUnprocessableEntity, "kela.fi", "POST", "/api/subscriptions", strings.Replace(seedRequest, "Automatic child benefit processing", "Marketing", 1))
	if p.problem() != "unknown_purpose/unknown_purpose@/consent/purpose" || !strings.Contains(p.text, "one of child-benefit") {
		b.t.Error(p.text)
	}
}

func lists(b *bus) {
	seen := map[string]bool{}
	path := "/api/subscriptions?limit=1"
	for pages := 0; path != ""; pages++ {
		a := b.want(http.StatusOK, "@anna", "GET", path, "")
		var page struct {
			Subscriptions []struct{ SubscriptionID, SubscriberID string }
		}
		b.read(a.text, &page)
		if len(page.Subscriptions) != 1 || seen[page.Subscriptions[0].SubscriptionID] || pages > 20 {
			b.t.Fatalf("%s: %s", path, a.text)
		}
		seen[page.Subscriptions[0].SubscriptionID] = true
		link := a.header.Get("Link")
		if path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">"); link != "" && !strings.HasSuffix(link, `>; rel="next"`) {
			b.t.Fatal(link)
		}
	}
	for _, id := range []string{"sub-kela-birth-001", "sub-vero-birth-001", "sub-vero-birth-002", "sub-helsinki-birth-001"} {
		if !seen[id] {
			b.t.Errorf("%s is not listed", id)
		}
	}
	if a := b.want(http.StatusOK, "kela.fi", "GET", "/api/subscriptions", ""); strings.Contains(a.text, "vero") || !strings.Contains(a.text, "sub-kela-birth-001") {
		b.t.Error(a.text)
	}
	first := b.want(http.StatusOK, "@anna", "GET", "/api/subscriptions?limit=1", "")
	next, _, _ := strings.Cut(strings.TrimPrefix(first.header.Get("Link"), "<"), ">")
	for _, forged := range []string{"/api/subscriptions?cursor=AAAA", "/api/subscriptions?cursor=%21", next[:len(next)-2]} {
		if p := b.want(http.StatusBadRequest, "@anna", "GET", forged, "").problem(); !strings.HasPrefix(p, "cursor_invalid") {
			b.t.Error(p)
		}
	}
	b.want(http.StatusBadRequest, "kela.fi", "GET", next, "") // another's cursor
	b.want(http.StatusUnprocessableEntity, "@anna", "GET", "/api/subscriptions?limit=0", "")
}

func cloudEventsShape(b *bus) {
	const body = `{"id": "ce-shape", "source": "https://hus.fi", "types": ["fi.dvv.person.birth"], "filters": [{"prefix": {"type": "fi.dvv."}}, {"not": {"exact": {"subjectrole": "child"}}}],
 "config": {"purpose": "child-benefit", "scopes": ["birth-notification"], "role": "mother"}, "protocol": "HTTP", "sink": "https://kela.fi/ce", "protocolsettings": {"contentmode": "structured"}}`
	made := b.want(http.StatusCreated, "kela.fi", "POST", "/subscriptions", body)
	const want = `{"id": "ce-shape", "source": "https://hus.fi", "types": ["fi.dvv.person.birth"], "config": {"subscriber": "kela.fi", "purpose": "child-benefit", "basis": "consent", "scopes": ["birth-notification"], "role": "mother"}, ` +
		`"filters": [{"prefix": {"type": "fi.dvv."}}, {"not": {"exact": {"subjectrole": "child"}}}], "sink": "https://kela.fi/ce", "protocol": "HTTP", "protocolsettings": {"contentmode": "structured"}, "status": "active"}` + "\n"
	if made.text != want || made.header.Get("Location") != "/subscriptions/ce-shape" {
		b.t.Fatalf("\n%s\nwant\n%s", made.text, want)
	}
	if a := b.want(http.StatusOK, "kela.fi", "GET", "/subscriptions/ce-shape", ""); a.text != want {
		b.t.Error(a.text)
	}
	if p := b.want(http.StatusConflict, "kela.fi", "POST", "/subscriptions", body).problem(); p != "subscription_exists" {
		b.t.Error(p)
	}
	if p := b.want(http.StatusConflict, "vero.fi", "POST", "/subscriptions", strings.NewReplacer("child-benefit", "taxation", `"scopes": ["birth-notification"], "role": "mother"`, `"basis": "legal_obligation", "role": "child"`, "kela.fi", "vero.fi").Replace(body)).problem(); p != "subscription_exists" {
		b.t.Error("another's id: " + p)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"filters": [`, `"filters": [{"sql": "x = 1"}, `, "subscription_refused/filter_unknown_dialect@/filters"},
		{`"protocol": "HTTP"`, `"protocol": "MQTT"`, "invalid/invalid@/protocol"},
		{`"protocol": "HTTP"`, `"protocol": "http"`, "invalid/invalid@/protocol"},
		{`"protocol": "HTTP"`, `"protocol": "KAFKA"`, "unsupported/unsupported@/protocolsettings"},
		{`"id": "ce-shape"`, `"id": "ce-shape-2", "sinkcredential": {"credentialtype": "PLAIN", "secret": "hush"}`, "unsupported/unsupported@/sinkcredential"},
		{`"id": "ce-shape"`, `"id": "CE_shape"`, "invalid/invalid@/id"},
		{`"id": "ce-shape"`, `"id": "sub-010594y9032"`, "invalid/invalid@/id"},
		{`"https://kela.fi/ce"`, `"ftp://kela.fi/ce"`, "subscription_refused/bad_sink@/sink"},
	} {
		a := b.ask("kela.fi", "POST", "/subscriptions", strings.Replace(strings.Replace(body, c.old, c.new, 1), `"ce-shape"`, `"ce-shape-3"`, 1))
		if a.status != http.StatusUnprocessableEntity || a.problem() != c.want || strings.Contains(a.text, "hush") {
			b.t.Errorf("%s: %d %s, want %s", c.new, a.status, a.problem(), c.want)
		}
	}
	edited := b.want(http.StatusOK, "kela.fi", "PUT", "/subscriptions/ce-shape", strings.Replace(strings.Replace(body, `"protocol": "HTTP", "sink": "https://kela.fi/ce", "protocolsettings": {"contentmode": "structured"}`, `"protocol": "KAFKA"`, 1), `"source": "https://hus.fi", `, "", 1))
	if !strings.Contains(edited.text, `"sink": "subscriber.kela.fi", "protocol": "KAFKA"`) || strings.Contains(edited.text, `"source"`) {
		b.t.Error(edited.text)
	}
	b.want(http.StatusNotFound, "kela.fi", "PUT", "/subscriptions/ce-other", strings.Replace(body, "ce-shape", "ce-other", 1))
	b.want(http.StatusNoContent, "kela.fi", "DELETE", "/subscriptions/ce-shape", "")
	if a := b.want(http.StatusOK, "kela.fi", "GET", "/subscriptions", ""); !strings.Contains(a.text, `"id": "ce-shape"`) || !strings.Contains(a.text, `"status": "revoked"`) || strings.Contains(a.text, "vero") {
		b.t.Error(a.text)
	}
}

func dryRun(b *bus) {
	event, err := examples.Event("events/birth.json")
	b.must(err)
	var sample struct{ Data rawJSON }
	b.read(string(event), &sample)
	for _, c := range []struct{ filter, more, want string }{
		{`{"data.parentResidency": "Finland"}`, "", `{"matches": true, "truth": "true", "errors": []}`},
		{`{"data.parentResidency": "Sweden"}`, "", `{"matches": false, "truth": "false", "errors": []}`},
		{`{"profile.municipality": "Helsinki"}`, `, "profile": {"municipality": "Helsinki"}`, `"truth": "true"`},
		{`{"profile.municipality": "Helsinki"}`, "", `{"matches": false, "truth": "unknown", "errors": []}`},
		{`{"exact": {"time": "2026"}}`, `, "attributes": {"time": "2026"}`, `"truth": "true"`},
		{`{"not": {"exact": {"time": "2026"}}}`, "", `"truth": "unknown"`},
		{`{"exact": {"id": "7"}}`, "", `"filter_field_not_permitted"`},
		{`{"data.mother.apgar": 1}`, "", `"pointer": "/subscription/filter"`},
	} {
		body := fmt.Sprintf(`{"subscription": {"subscriberId": "kela.fi", "eventTypes": ["fi.dvv.person.birth"], "filter": %s, "consent": {"requiredScopes": ["birth-notification", "benefit-eligibility"], "purpose": "child-benefit"}}, "sample": {"data": %s%s}}`, c.filter, sample.Data, c.more)
		if a := b.want(http.StatusOK, "kela.fi", "POST", "/api/filters/test", body); !strings.Contains(a.text, c.want) {
			b.t.Errorf("%s: %s", c.filter, a.text)
		}
	}
	body := `{"subscription": {"subscriberId": "kela.fi", "eventTypes": ["fi.dvv.person.birth"], "consent": {"purpose": "child-benefit"}}, "sample": {"data": {"mother": {"id": "010594Y9032"}}}}`
	if p := b.want(http.StatusUnprocessableEntity, "kela.fi", "POST", "/api/filters/test", body).problem(); !strings.Contains(p, "@/sample/data") {
		b.t.Error(p)
	}
}

// An organisation acts for itself alone, and what is another's is not there for it.
func whoMayNot(b *bus) {
	const mine = "/api/subscriptions/sub-kela-birth-001"
	for _, c := range []struct {
		who, method, path, body string
		status                  int
		want                    string
	}{
		{"vero.fi", "POST", "/api/subscriptions", seedRequest, 403, "wrong_subscriber"},
		{"vero.fi", "GET", mine, "", 404, "not_found"},
		{"vero.fi", "PUT", mine, seedRequest, 404, "not_found"},
		{"vero.fi", "POST", mine + "/pause", "", 404, "not_found"},
		{"vero.fi", "POST", mine + "/resume", "", 404, "not_found"},
		{"vero.fi", "POST", mine + "/revoke", "", 404, "not_found"},
		{"vero.fi", "DELETE", "/subscriptions/sub-kela-birth-001", "", 404, "not_found"},
		{"vero.fi", "GET", "/subscriptions/sub-kela-birth-001", "", 404, "not_found"},
		{"vero.fi", "POST", "/api/filters/test", `{"subscription": ` + seedRequest + `, "sample": {"data": {}}}`, 403, "wrong_subscriber"},
		{"vero.fi", "POST", mine + "/approve", "", 403, "wrong_caller"},
		{"fi-hetu:010594Y9032", "GET", "/api/subscriptions", "", 403, "wrong_caller"},
		{"fi-hetu:010594Y9032", "POST", "/api/events", "{}", 403, "wrong_caller"},
		{"@anna", "POST", "/api/events", "{}", 403, "wrong_caller"},
		{"", "GET", mine, "", 401, "token_missing"},
		{"kela.fi", "GET", "/api/subscriptions/sub-nothing", "", 404, "not_found"},
	} {
		a := b.ask(c.who, c.method, c.path, c.body, "If-Match", "*")
		if a.status != c.status || !strings.HasPrefix(a.problem(), c.want) {
			b.t.Errorf("%s %s as %s: %d %s", c.method, c.path, c.who, a.status, a.text)
		}
	}
}

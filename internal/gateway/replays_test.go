package gateway_test

import (
	"net/http"
	"strings"

	"civicbus/internal/gateway/gatewaytest"
)

// replaying asks for a replay as one operator and approves it as another.
func replaying(b *bus) {
	const row = `{"id": "after-the-outage", "subscriber": "kela.fi", "rate": 500}`
	b.want(http.StatusForbidden, "kela.fi", "POST", "/api/replays", row)
	b.want(http.StatusUnprocessableEntity, "@anna", "POST", "/api/replay-plans", `{}`)
	b.want(http.StatusUnprocessableEntity, "@anna", "POST", "/api/replay-plans", `{"subscription": "sub-nobody"}`)
	if a := b.want(http.StatusOK, "@anna", "POST", "/api/replay-plans", `{"subscriber": "kela.fi"}`); !strings.Contains(strings.ReplaceAll(a.text, " ", ""), `"whole":true`) {
		b.t.Errorf("plan %s", a.text)
	}
	if a := b.want(http.StatusCreated, "@anna", "POST", "/api/replays", row); !strings.Contains(a.text, "pending") {
		b.t.Errorf("started: %s", a.text)
	}
	b.want(http.StatusConflict, "@anna", "POST", "/api/replays", row)
	b.want(http.StatusForbidden, "@anna", "POST", "/api/replays/after-the-outage/approve", "")
	b.want(http.StatusOK, "@bertil", "POST", "/api/replays/after-the-outage/approve", "")
	b.eventually("the replay is done", func() bool {
		return strings.Contains(b.want(http.StatusOK, "@anna", "GET", "/api/replays/after-the-outage", "").text, `"done"`)
	})
	b.want(http.StatusConflict, "@anna", "POST", "/api/replays/after-the-outage/cancel", "")
	b.want(http.StatusNotFound, "@anna", "GET", "/api/replays/none", "")
	b.want(http.StatusNotFound, "@anna", "POST", "/api/replays/none/cancel", "")
	if a := b.want(http.StatusOK, "@anna", "GET", "/api/replays", ""); !strings.Contains(a.text, "after-the-outage") {
		b.t.Errorf("list: %s", a.text)
	}
	before := b.want(http.StatusOK, "@anna", "GET", "/api/replays", "").text
	whose := []string{"fi-hetu:240285V920P", "kela.fi"} // a person, whose deliveries were replayed, and others
	for i := range 19 {
		whose = append(whose, gatewaytest.Subscriber(i))
	}
	for _, who := range whose {
		for _, other := range whose { // one's own deliveries neither
			body := `{"id": "not-mine", "subscriber": "` + other + `"}`
			for _, ask := range []string{"/api/replay-plans", "/api/replays"} {
				b.want(http.StatusForbidden, who, "POST", ask, body)
			}
		}
		b.want(http.StatusForbidden, who, "GET", "/api/replays", "")
		for _, id := range []string{"after-the-outage", "none"} { // nobody learns whether it is there
			b.want(http.StatusForbidden, who, "GET", "/api/replays/"+id, "")
			b.want(http.StatusForbidden, who, "POST", "/api/replays/"+id+"/approve", "")
			b.want(http.StatusForbidden, who, "POST", "/api/replays/"+id+"/cancel", "")
		}
	}
	if after := b.want(http.StatusOK, "@anna", "GET", "/api/replays", "").text; after != before {
		b.t.Errorf("replays %s, were %s", after, before)
	}
}

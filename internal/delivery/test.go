package delivery

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"time"

	"civicbus/codecs"
	"civicbus/internal/leave"
)

// Tried is what came of a test delivery.
type Tried struct {
	ID     string // its webhook-id
	Taken  bool   // it was answered with 2xx
	Cause  string // why it was not: closed list; empty: it was
	Status int    // of the answer; 0: none came
	Took   time.Duration
}

// TestType is the CloudEvents type of a test delivery.
const TestType = "civicbus.webhook.test"

// Try sends a signed test event to a subscription's webhook, by the way that deliveries go, after the handshake. The event says
// nothing of anybody. Nothing is repeated, and nothing is written down.
func (c *Client) Try(ctx context.Context, sub *codecs.Subscription, now time.Time) Tried {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	t := Tried{ID: "test-" + hex.EncodeToString(id[:])}
	begun := time.Now()
	status, err := c.try(ctx, sub, t.ID, now)
	t.Took, t.Status = time.Since(begun), status
	switch {
	case err != nil:
		t.Cause = causeOf(err)
	case status >= 300 && status < 400:
		t.Cause = CauseRedirect
	case status > 299:
		t.Cause = CauseStatus
	default:
		t.Taken = true
	}
	return t
}

func (c *Client) try(ctx context.Context, sub *codecs.Subscription, id string, now time.Time) (status int, err error) {
	u, err := parseSink(sub.Delivery.Sink, c.settings.Development)
	if err != nil {
		return 0, err
	}
	if _, err := c.handshake(ctx, u); err != nil {
		return 0, err
	}
	data := json.RawMessage(`{"test":true}`)
	e := leave.Event{ID: id, Data: data, Attributes: []leave.Attribute{{Name: "specversion", Value: "1.0"}, {Name: "id", Value: id}, {Name: "source", Value: "urn:civicbus"},
		{Name: "type", Value: TestType}, {Name: "time", Value: now.UTC().Format(time.RFC3339)}, {Name: "subscription", Value: sub.ID}}}
	whole := map[string]any{"datacontenttype": "application/json", "data": data}
	for _, a := range e.Attributes {
		whole[a.Name] = a.Value
	}
	if e.JSON, err = json.Marshal(whole); err != nil {
		return 0, err
	}
	r, err := c.request(ctx, u, sub, &e, now)
	if err != nil {
		return 0, err
	}
	a, err := c.send(ctx, u, r, nil)
	return a.status, err
}

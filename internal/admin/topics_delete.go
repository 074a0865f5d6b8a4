package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Deletion is one topic that is asked to be deleted.
type Deletion struct {
	Topic        string `json:"topic"`
	Organisation string `json:"organisation"`
	Status       string `json:"status"`            // of the organisation; empty: the trust registry has none of that id
	Offsets      int64  `json:"offsets"`           // about the records that go with it
	Refused      string `json:"refused,omitempty"` // why it is kept; empty: it may go
}

// PlanDeletion says which of the topics may be deleted. Only single organisations' topics may, and only of organisations that
// are revoked or unknown: the bus needs all others, and what a subscriber has not read yet would be lost.
func (c *Client) PlanDeletion(ctx context.Context, topics ...string) ([]Deletion, error) {
	rows, err := Organisations.All(ctx, c)
	if err != nil {
		return nil, err
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	listed, err := c.admin.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	plan := make([]Deletion, 0, len(topics))
	for _, name := range topics {
		d := Deletion{Topic: name}
		var own bool
		if d.Organisation, own = ownerOf(name); !own {
			d.Refused = "it is no single organisation's"
			plan = append(plan, d)
			continue
		}
		row, known := rows[d.Organisation]
		if d.Status = row.Status; known && row.Status != verdict.StatusRevoked {
			d.Refused = "its organisation is not revoked"
		}
		if t, ok := listed[name]; !ok || t.Err != nil {
			d.Refused = "there is no such topic"
			plan = append(plan, d)
			continue
		}
		of := []Topic{{Name: name}}
		if err := c.describe(ctx, of, []string{name}); err != nil {
			return nil, err
		}
		d.Offsets = of[0].Offsets
		plan = append(plan, d)
	}
	return plan, nil
}

// ownerOf is the organisation whose own topic it is.
func ownerOf(topic string) (organisation string, own bool) {
	for _, prefix := range []string{topology.SubscriberTopicName(""), topology.InboxTopicName("")} {
		if organisation, own = strings.CutPrefix(topic, prefix); own {
			return organisation, true
		}
	}
	return "", false
}

// ErrKept says that a plan holds topics that may not be deleted: then none is.
var ErrKept = errors.New("nothing was deleted: not all of the topics may be")

// Delete carries a plan out, whole or not at all. What was on the topics is gone for good.
func (c *Client) Delete(ctx context.Context, plan []Deletion) error {
	names := make([]string, len(plan))
	for i, d := range plan {
		if d.Refused != "" {
			return ErrKept
		}
		names[i] = d.Topic
	}
	deleted, err := c.admin.DeleteTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("delete topics: %w", err)
	}
	var errs []error
	for _, d := range deleted.Sorted() {
		if d.Err != nil && !errors.Is(d.Err, kerr.UnknownTopicOrPartition) { // it was deleted meanwhile
			errs = append(errs, fmt.Errorf("delete topic %s: %w", d.Topic, d.Err))
		}
	}
	return errors.Join(errs...)
}

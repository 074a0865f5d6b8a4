package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"civicbus/codecs"
	"civicbus/topology"
)

// Table is the table of a reference-data group, and the stream of its commands; or that of a group that nobody commands.
type Table[T any] struct {
	group   topology.Group
	record  func(*codecs.Records) *codecs.Record[T]
	version func(*T) int64
}

// The tables that commands change.
var (
	EventTypes = Table[codecs.EventType]{topology.Catalog,
		func(r *codecs.Records) *codecs.Record[codecs.EventType] { return r.EventType },
		func(row *codecs.EventType) int64 { return row.Version }}
	Organisations = Table[codecs.Organisation]{topology.Trust,
		func(r *codecs.Records) *codecs.Record[codecs.Organisation] { return r.Organisation },
		func(row *codecs.Organisation) int64 { return row.Version }}
	Subscriptions = Table[codecs.Subscription]{topology.Subscription,
		func(r *codecs.Records) *codecs.Record[codecs.Subscription] { return r.Subscription },
		func(row *codecs.Subscription) int64 { return row.Version }}
	Consents = Table[codecs.Consents]{topology.Consent,
		func(r *codecs.Records) *codecs.Record[codecs.Consents] { return r.Consents },
		func(row *codecs.Consents) int64 { return row.Version }}
)

// Usage is what became of each subscription's events. No command changes it, and its rows have no version.
var Usage = Table[codecs.UsageRow]{topology.Usage,
	func(r *codecs.Records) *codecs.Record[codecs.UsageRow] { return r.UsageRow },
	func(*codecs.UsageRow) int64 { return 0 }}

// All reads the whole table, by key.
func (t Table[T]) All(ctx context.Context, c *Client) (map[string]T, error) {
	if err := c.bind(ctx); err != nil {
		return nil, err
	}
	spans, err := c.whole(ctx, t.topic())
	if err != nil {
		return nil, err
	}
	values := map[string][]byte{}
	for _, s := range spans {
		for r, err := range c.read(ctx, s) {
			if err != nil {
				return nil, err
			}
			if r.Value == nil {
				delete(values, string(r.Key))
				continue
			}
			values[string(r.Key)] = r.Value
		}
	}
	rows := make(map[string]T, len(values))
	for key, value := range values {
		if rows[key], err = t.record(c.records).DecodeLoading(ctx, value); err != nil {
			return nil, fmt.Errorf("decode a row of %s: %w", t.topic(), err)
		}
	}
	return rows, nil
}

// One reads the row of a key; nil when there is none. It reads the one partition that the key lies in.
func (t Table[T]) One(ctx context.Context, c *Client, key string) (*T, error) {
	if err := c.bind(ctx); err != nil {
		return nil, err
	}
	value, err := c.lastOf(ctx, t.topic(), key)
	if err != nil || value == nil {
		return nil, err
	}
	row, err := t.record(c.records).DecodeLoading(ctx, value)
	if err != nil {
		return nil, fmt.Errorf("decode a row of %s: %w", t.topic(), err)
	}
	return &row, nil
}

// topic is the table's own.
func (t Table[T]) topic() string { return topology.TableTopic(t.group.Name) }

// commands is the stream of the group's commands: the first of its inputs on the map.
func (t Table[T]) commands() string { return t.group.In[0].Name }

// versionOf is the version that a row's bytes say.
func (t Table[T]) versionOf(ctx context.Context, c *Client, value []byte) (int64, error) {
	row, err := t.record(c.records).DecodeLoading(ctx, value)
	if err != nil {
		return 0, fmt.Errorf("decode a row of %s: %w", t.topic(), err)
	}
	return t.version(&row), nil
}

// Receiver is one subscription to an event type, for the catalog's readers.
type Receiver struct {
	Subscription string   `json:"subscription"`
	Subscriber   string   `json:"subscriber"`
	Status       string   `json:"status"`
	Role         string   `json:"role"` // empty: the type's first
	Purpose      string   `json:"purpose"`
	Basis        string   `json:"basis"`
	Scopes       []string `json:"scopes,omitempty"`
	Fields       []string `json:"fields,omitempty"` // empty: all that the basis permits
}

// Receivers lists who receives an event type, revoked subscriptions included, by subscription.
func Receivers(ctx context.Context, c *Client, eventType string) ([]Receiver, error) {
	all, err := Subscriptions.All(ctx, c)
	if err != nil {
		return nil, err
	}
	var receivers []Receiver
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if s := all[id]; slices.Contains(s.EventTypes, eventType) {
			receivers = append(receivers, Receiver{s.ID, s.Subscriber, s.Status, s.Role, s.Purpose, s.Basis, s.Scopes, s.Fields})
		}
	}
	return receivers, nil
}

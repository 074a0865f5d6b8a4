package admin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"
)

// By says who asks, and on what.
type By struct {
	Actor     string // the person or client, e.g. operator:anna; required, never a national id
	ID        string // of the command, so that it can be repeated; of several, the first is ID-1. Empty: a random one
	IfVersion int64  // the row's version that the change was made on; 0: the one that the document names, or any
}

// meta is that of the i-th of n commands.
func (b By) meta(i, n int, version int64) codecs.Meta {
	m := codecs.Meta{ID: b.ID, Actor: b.Actor, IssuedAt: codecs.Millis(time.Now()), IfVersion: version}
	if b.IfVersion != 0 {
		m.IfVersion = b.IfVersion
	}
	switch {
	case m.ID == "":
		var random [16]byte
		_, _ = rand.Read(random[:]) // never fails, see crypto/rand
		m.ID = hex.EncodeToString(random[:])
	case n > 1:
		m.ID += "-" + strconv.Itoa(i+1)
	}
	return m
}

// PutEventTypes asks for catalog rows as given.
func (c *Client) PutEventTypes(ctx context.Context, by By, rows ...codecs.EventType) ([]Request, error) {
	return requests(ctx, c, EventTypes, c.records.CatalogCommand, rows, func(i int, row codecs.EventType) (string, string, string, codecs.CatalogCommand) {
		m := by.meta(i, len(rows), row.Version)
		return m.ID, row.Type, "put " + row.Type, codecs.CatalogCommand{Meta: m, Kind: "put", EventType: row}
	})
}

// RetireEventType asks that no new events of a type be admitted.
func (c *Client) RetireEventType(ctx context.Context, by By, eventType string) ([]Request, error) {
	return requests(ctx, c, EventTypes, c.records.CatalogCommand, []string{eventType}, func(i int, name string) (string, string, string, codecs.CatalogCommand) {
		m := by.meta(i, 1, 0)
		return m.ID, name, "retire " + name, codecs.CatalogCommand{Meta: m, Kind: "retire", EventType: codecs.EventType{Type: name}}
	})
}

// PutOrganisations asks for trust rows as given.
func (c *Client) PutOrganisations(ctx context.Context, by By, rows ...codecs.Organisation) ([]Request, error) {
	return requests(ctx, c, Organisations, c.records.TrustCommand, rows, func(i int, row codecs.Organisation) (string, string, string, codecs.TrustCommand) {
		m := by.meta(i, len(rows), row.Version)
		return m.ID, row.ID, "put " + row.ID, codecs.TrustCommand{Meta: m, Kind: "put", Organisation: row}
	})
}

// ChangeOrganisation asks to suspend, resume or revoke an organisation.
func (c *Client) ChangeOrganisation(ctx context.Context, by By, kind, id string) ([]Request, error) {
	return requests(ctx, c, Organisations, c.records.TrustCommand, []string{id}, func(i int, id string) (string, string, string, codecs.TrustCommand) {
		m := by.meta(i, 1, 0)
		return m.ID, id, kind + " " + id, codecs.TrustCommand{Meta: m, Kind: kind, Organisation: codecs.Organisation{ID: id}}
	})
}

// PutSubscriptions asks for subscription rows as given; a new one is pending until someone else approves it.
func (c *Client) PutSubscriptions(ctx context.Context, by By, rows ...codecs.Subscription) ([]Request, error) {
	return requests(ctx, c, Subscriptions, c.records.SubscriptionCommand, rows, func(i int, row codecs.Subscription) (string, string, string, codecs.SubscriptionCommand) {
		m := by.meta(i, len(rows), row.Version)
		return m.ID, row.ID, "put " + row.ID, codecs.SubscriptionCommand{Meta: m, Kind: "put", Subscription: row}
	})
}

// ChangeSubscriptions asks to approve, pause, resume or revoke subscriptions. reason is for pause and revoke, of the
// group's closed list; empty: requested.
func (c *Client) ChangeSubscriptions(ctx context.Context, by By, kind, reason string, ids ...string) ([]Request, error) {
	return requests(ctx, c, Subscriptions, c.records.SubscriptionCommand, ids, func(i int, id string) (string, string, string, codecs.SubscriptionCommand) {
		m := by.meta(i, len(ids), 0)
		return m.ID, id, kind + " " + id, codecs.SubscriptionCommand{Meta: m, Kind: kind, Reason: reason, Subscription: codecs.Subscription{ID: id}}
	})
}

// ChangeConsents asks for what consent documents say, each for its own subject.
func (c *Client) ChangeConsents(ctx context.Context, by By, documents ...refdata.Consent) ([]Request, error) {
	keys := make([]string, len(documents))
	for i, d := range documents {
		var err error
		if keys[i], err = c.Subject(ctx, d.Subject); err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
	}
	return requests(ctx, c, Consents, c.records.ConsentCommand, documents, func(i int, d refdata.Consent) (string, string, string, codecs.ConsentCommand) {
		command := d.Command
		command.Meta = by.meta(i, len(documents), 0)
		return command.Meta.ID, keys[i], fmt.Sprintf("%s (document %d)", command.Kind, i+1), command
	})
}

// EraseSubject asks to deny everything about a subject at once and for good, and to drop what the bus keeps of them.
func (c *Client) EraseSubject(ctx context.Context, by By, subject refdata.Subject) ([]Request, error) {
	key, err := c.Subject(ctx, subject)
	if err != nil {
		return nil, err
	}
	return requests(ctx, c, Consents, c.records.ConsentCommand, []string{key}, func(i int, key string) (string, string, string, codecs.ConsentCommand) {
		m := by.meta(i, 1, 0)
		return m.ID, key, "erase", codecs.ConsentCommand{Meta: m, Kind: "erase", Restriction: "erasure"}
	})
}

// Subject is the bus pseudonym of a subject. The error holds nothing of the id.
func (c *Client) Subject(ctx context.Context, subject refdata.Subject) (string, error) {
	keys, err := c.pseudonyms(ctx)
	if err != nil {
		return "", err
	}
	id, err := pseudonym.Canonicalise(subject.Scheme, subject.ID)
	if err != nil {
		return "", err
	}
	return keys.Subject(subject.Scheme, id), nil
}

// requests encodes one command for each item; command gives its id, its key, what it is about, and itself.
func requests[Item, Row, Command any](ctx context.Context, c *Client, to Table[Row], record *codecs.Record[Command], items []Item, command func(i int, item Item) (id, key, about string, cmd Command)) ([]Request, error) {
	if err := c.bind(ctx); err != nil {
		return nil, err
	}
	var out []Request
	for i, item := range items {
		id, key, about, cmd := command(i, item)
		value, err := record.Encode(&cmd)
		if err != nil {
			return nil, fmt.Errorf("write the command %q: %w", about, err)
		}
		out = append(out, Request{About: about, ID: id, key: key, value: value, to: to})
	}
	return out, nil
}

package admin

import (
	"context"
	"fmt"

	"civicbus/internal/access"
)

// Access is what organisations should have on Kafka, and what they have.
type Access struct {
	Wanted map[string]access.Wanted
	Have   *access.State
	Plan   access.Plan
}

// Access reads both, of some organisations, of all if none is named. The error is access.ErrNoAuthorizer where the cluster
// lets everybody do everything.
func (c *Client) Access(ctx context.Context, limits access.Limits, organisations ...string) (*Access, error) {
	have, err := access.Read(ctx, c.kafka)
	if err != nil {
		return nil, err
	}
	rows, err := Organisations.All(ctx, c)
	if err != nil {
		return nil, err
	}
	subs, err := Subscriptions.All(ctx, c)
	if err != nil {
		return nil, err
	}
	all := access.Want(pointers(rows), pointers(subs), limits)
	wanted := all
	if len(organisations) > 0 {
		wanted = map[string]access.Wanted{}
		for _, id := range organisations {
			w, ok := all[id]
			if !ok {
				return nil, fmt.Errorf("there is no organisation %q", id)
			}
			wanted[id] = w
		}
	}
	return &Access{Wanted: wanted, Have: have, Plan: access.Compare(wanted, have, c.ownUser())}, nil
}

func pointers[T any](rows map[string]T) []*T {
	all := make([]*T, 0, len(rows))
	for _, r := range rows {
		all = append(all, &r)
	}
	return all
}

// ownUser is who civicbus is on Kafka; empty: nobody.
func (c *Client) ownUser() string { return c.cfg.Connection.SASL.User }

// ApplyAccess gives and takes what the plan says, and returns once the cluster shows it. Users who are to be issued are left.
func (c *Client) ApplyAccess(ctx context.Context, a *Access) error {
	if err := access.Apply(ctx, c.kafka, a.Plan.Differences); err != nil {
		return err
	}
	return access.Settle(ctx, c.kafka, a.Wanted, c.ownUser())
}

// IssueAccess makes the Kafka user of one organisation, or with rotate gives it a new password, and sees to it that it has
// its rights. The password in the answer is kept nowhere else.
func (c *Client) IssueAccess(ctx context.Context, limits access.Limits, organisation string, rotate bool) (access.Client, error) {
	a, err := c.Access(ctx, limits, organisation)
	if err != nil {
		return access.Client{}, err
	}
	w, do := a.Wanted[organisation], access.Issue
	if rotate {
		do = access.Rotate
	}
	password, err := do(ctx, c.kafka, w, a.Have, c.ownUser())
	if err != nil {
		return access.Client{}, err
	}
	client := access.NewClient(w, password)
	client.Brokers, client.TLS, client.Registry = c.cfg.Connection.Brokers, c.cfg.Connection.TLS.Enabled, c.cfg.Registry.URL
	// The password is told even if the rights take longer: it is not shown again.
	return client, c.ApplyAccess(ctx, a)
}

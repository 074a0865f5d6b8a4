// Package commands is how the gateway asks for a change of state: as everyone does, by a command on the group's stream. What
// sends them is made outside, by whoever puts the process together.
package commands

import (
	"context"
	"net/http"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
)

// Outcome is what became of one command.
type Outcome struct {
	Accepted bool
	Reason   string         // why it was refused: of the group's closed list
	Faults   []codecs.Fault // of a refusal: each thing that is wrong
	Version  int64          // of the row after the command; of the row that refused it
	InEffect bool           // no decision anywhere uses the old state any more (DESIGN.md 3.2)
	At       time.Time      // since when that is known; zero unless InEffect
}

// Sender sends commands and waits until each is in effect or refused. A command without an id gets one; its Actor is who asks.
// The error web's Unavailable says that it is not known what became of it, or that Kafka cannot be reached: the command may
// still be carried out. Safe for concurrent use.
type Sender interface {
	Subscription(ctx context.Context, cmd codecs.SubscriptionCommand) (Outcome, error)
	Consent(ctx context.Context, subject string, cmd codecs.ConsentCommand) (Outcome, error)
}

// Reasons that every group shares, and what status each is answered with.
const versionConflict = "version_conflict"

// Problem is the error for a refusal. pointer is as web.Faults'.
func (o *Outcome) Problem(pointer func(field string) string) error {
	status := http.StatusUnprocessableEntity
	switch o.Reason {
	case "not_found":
		status = http.StatusNotFound
	case versionConflict:
		status = http.StatusPreconditionFailed
	case "not_pending", "not_active", "not_paused", "not_running", "replay_exists", "subscription_revoked":
		status = http.StatusConflict
	case "second_person_required", "subscriber_fixed":
		status = http.StatusForbidden
	}
	return web.Fail(status, o.Reason, "the command was refused", web.Faults(o.Faults, pointer)...)
}

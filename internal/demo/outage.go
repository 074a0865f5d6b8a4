package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"civicbus/topology"
)

// The subscriptions to moves: the post office's rests on consent and goes to its webhook, the benefits agency's on a law and goes to its
// topic.
const (
	toPost   = "sub-posti-address"
	toAgency = "sub-kela-address"
)

// outage is a server that is down while one person withdraws: it is back before what waits for it is tried again, which is 5 seconds
// after the first attempt. Venla moves, then Iida twice, then Venla again, and once more when she has withdrawn.
func (s *story) outage(ctx context.Context) error {
	at := s.at()
	if err := s.move(ctx, "address-2026-11-10-2001"); err != nil {
		return err
	}
	if err := s.in.arrived(ctx, at, map[string]int{toPost: 1}); err != nil {
		return err
	}
	s.hooks.fail(toPost)
	s.did("posti.fi", "its server", "breaks every connection", "")
	for _, id := range []string{"address-2026-11-11-2002", "address-2026-11-12-2003", "address-2026-11-13-2004"} {
		if err := s.move(ctx, id); err != nil {
			return err
		}
	}
	if err := s.in.wait(ctx, at, "an attempt about each of the two", func(seen []Seen) bool {
		failed := 0
		for _, l := range seen {
			if l.Note == down {
				failed++
			}
		}
		return failed >= 2
	}); err != nil {
		return err
	}
	var withdrawn struct{ InEffect bool }
	if err := s.web.do(ctx, s.person("Venla"), http.MethodPost, "/api/me/grants/venla-posti/withdrawal", nil, &withdrawn); err != nil {
		return err
	}
	s.did("Venla", "POST /api/me/grants/{id}/withdrawal", "to posti.fi", map[bool]string{true: "in effect"}[withdrawn.InEffect])
	s.hooks.fail("")
	s.did("posti.fi", "its server", "is back", "")
	if err := s.move(ctx, "address-2026-11-14-2005"); err != nil {
		return err
	}
	if err := s.record(ctx, topology.Router.Name, "address-2026-11-14-2005", "the verdict on her last move"); err != nil {
		return err
	}
	if err := s.record(ctx, topology.Delivery.Name, "address-2026-11-13-2004", "the verdicts at each attempt on the move that waited"); err != nil {
		return err
	}
	return s.in.arrived(ctx, at, map[string]int{toPost: 3})
}

// move publishes a move and waits until the agency has it that is told by law.
func (s *story) move(ctx context.Context, id string) error {
	at := s.at()
	if err := s.post(ctx, id, ""); err != nil {
		return err
	}
	return s.in.arrived(ctx, at, map[string]int{toAgency: 1})
}

// record waits until it is on record that a move was not to be told to the post after all, and notes all verdicts of one kind of decision
// on it, in their order.
func (s *story) record(ctx context.Context, kind, id, what string) error {
	var event struct{ Source string }
	if err := json.Unmarshal(s.of.Event(id), &event); err != nil {
		return fmt.Errorf("event %s: %w", id, err)
	}
	life := s.p.keys.LifeEvent(event.Source, id)
	for {
		var all []string
		denied := false
		for _, d := range s.p.log.all {
			for _, v := range d.Verdicts {
				if d.Kind == kind && d.LifeEventID == life && v.Subscription == toPost {
					all, denied = append(all, outcome(v.Permit, v.Reason)), !v.Permit
				}
			}
		}
		if denied {
			s.did(s.whose[toPost], "on record", what, strings.Join(all, ", then "))
			return nil
		}
		if err := s.p.log.next(ctx); err != nil {
			return fmt.Errorf("wait for a denial by %s: %w", kind, err)
		}
	}
}

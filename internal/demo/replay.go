package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"civicbus/examples"
	"civicbus/topology"
)

// replay sends the post again what it lost: one operator asks, and cannot approve; another one does.
func (s *story) replay(ctx context.Context) error {
	at := s.at()
	wanted := map[string]any{"subscription": toPost, "from": s.in.began.UTC().Format(time.RFC3339Nano)}
	anna, bertil := Who{Operator: "anna"}, Who{Operator: "bertil"}
	var plan struct {
		Events, Sent int
		Reasons      reasons
	}
	if err := s.web.do(ctx, anna, http.MethodPost, "/api/replay-plans", wanted, &plan); err != nil {
		return err
	}
	s.did("anna, operator", "POST /api/replay-plans", "a plan", fmt.Sprintf("%d of %d would be sent again: %s", plan.Sent, plan.Events, plan.Reasons))
	wanted["id"] = "what-the-post-lost"
	var row struct {
		Status  string
		Sent    int
		Reasons reasons
	}
	if err := s.web.do(ctx, anna, http.MethodPost, "/api/replays", wanted, &row); err != nil {
		return err
	}
	s.did("anna, operator", "POST /api/replays", "a replay", row.Status)
	const approve = "/api/replays/what-the-post-lost/approve"
	refused, err := s.web.ask(ctx, anna, http.MethodPost, approve, "", nil)
	if err != nil {
		return err
	}
	s.did("anna, operator", "POST /api/replays/{id}/approve", "her own replay", refused.code())
	asked := time.Since(s.in.began) // it is answered when the approval is in effect everywhere: the replay may have begun
	if err := s.web.do(ctx, bertil, http.MethodPost, approve, nil, nil); err != nil {
		return err
	}
	s.in.add(Seen{Line: examples.Line{Who: "bertil, operator", How: "POST /api/replays/{id}/approve", What: "the replay", Says: "approved"}, At: asked})
	if err := s.in.arrived(ctx, at, map[string]int{toPost: 2}); err != nil {
		return err
	}
	if err := poll(ctx, func() (bool, error) {
		err := s.web.do(ctx, anna, http.MethodGet, "/api/replays/what-the-post-lost", nil, &row)
		return row.Status == "done", err
	}); err != nil {
		return err
	}
	s.did("anna, operator", "GET /api/replays/{id}", "the replay", fmt.Sprintf("done, %d sent again: %s", row.Sent, row.Reasons))
	return s.record(ctx, topology.Replay.Name, "address-2026-11-10-2001", "the replay's verdict on her first move")
}

// reasons are how many verdicts had which reason.
type reasons []struct {
	Reason string
	Count  int
}

// String lists them by name.
func (r reasons) String() string {
	var all []string
	for _, one := range r {
		all = append(all, fmt.Sprint(one.Reason, " ", one.Count))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

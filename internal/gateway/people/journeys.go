package people

import (
	"context"
	"net/http"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/gateway/web"
	"civicbus/internal/journeys"
)

// Journeys is what the routes about journeys stand on; the zero value: they are not served.
type Journeys struct {
	// Row gives a row of journey-table as it was read last; nil: there is none. The error says that nothing can be told now.
	Row func(ctx context.Context, key string) (*codecs.Journey, error)
	// Publish lets events of civicbus's own in; an *admission.Publisher's.
	Publish func(ctx context.Context, organisation string, inputs []*admission.Input) []admission.Answer
}

// Journey is what became of one life event of the caller's at those who received it.
type Journey struct {
	ID        string    `json:"id" doc:"The same as long as it is kept."`
	EventType string    `json:"eventType"`
	Title     string    `json:"title" doc:"Of the event type."`
	Text      string    `json:"text" doc:"The whole of it in a sentence or two."`
	Updated   int32     `json:"updated" doc:"How many services have reported and not failed."`
	Failed    int32     `json:"failed" doc:"How many will not do their part."`
	Waiting   int32     `json:"waiting" doc:"How many wait for the caller's confirmation."`
	Overdue   int32     `json:"overdue" doc:"How many have not reported."`
	Closed    bool      `json:"closed" doc:"Nothing is waited for any more."`
	Deadline  string    `json:"deadline" format:"date-time" doc:"Until when the services are to report."`
	Services  []Service `json:"services"`
}

// Service is how one service stands.
type Service struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Outcome string `json:"outcome" enum:"done,failed,needs_confirmation,confirmed,awaited"`
}

func (s *server) journeyRoutes(a *web.API) {
	if s.cfg.Journeys.Row == nil {
		return
	}
	a.Explain("journey_unknown", "The caller has no such journey.")
	a.Explain("not_waiting", "The service waits for no confirmation of the caller's.")
	type list struct {
		Body struct {
			Journeys []Journey `json:"journeys"`
		}
	}
	web.Handle(a, web.Route{ID: "list-my-journeys", Method: http.MethodGet, Path: "/api/me/journeys", Tag: tag, Summary: "What became of my life events",
		Description: "For each event about the caller that services are to answer: who has, who has not, and what waits for the caller. The newest first. Only what services do about the caller is told, never what they do about others whom the event is about too.",
		For:         web.People, Scope: web.ScopePersonRead},
		func(ctx context.Context, _ *struct{}) (*list, error) {
			out := &list{}
			var err error
			out.Body.Journeys, err = s.journeys(ctx)
			return out, err
		})
	type confirmation struct {
		ID   string `path:"id" maxLength:"64"`
		Body struct {
			Service string `json:"service" minLength:"1" maxLength:"128" doc:"The service that waits for it."`
		}
	}
	type confirmed struct {
		Body struct {
			Status string `json:"status" enum:"accepted" doc:"The confirmation is on its way to the service."`
		}
	}
	web.Handle(a, web.Route{ID: "confirm-journey", Method: http.MethodPost, Path: "/api/me/journeys/{id}/confirm", Tag: tag, Summary: "Confirm what a service asks for",
		Description: "It becomes one command to that service. Confirming again changes nothing.", For: web.People, Scope: web.ScopePersonWrite, Status: http.StatusAccepted,
		Problems: []int{http.StatusNotFound, http.StatusConflict}},
		func(ctx context.Context, in *confirmation) (*confirmed, error) {
			unknown := web.Fail(http.StatusNotFound, "journey_unknown", "the caller has no such journey")
			lifeEvent, err := journeys.Open(s.cfg.Keys, in.ID)
			if err != nil {
				return nil, unknown
			}
			j, row, err := s.journey(ctx, lifeEvent)
			if err != nil {
				return nil, err
			}
			if j == nil {
				return nil, unknown
			}
			out := &confirmed{}
			out.Body.Status = "accepted"
			return out, s.confirm(ctx, lifeEvent, row, in.Body.Service)
		})
}

// journeys are the caller's, the newest first.
func (s *server) journeys(ctx context.Context) ([]Journey, error) {
	all := []Journey{}
	if s.cfg.Journeys.Row == nil {
		return all, nil
	}
	own, err := s.cfg.Journeys.Row(ctx, web.From(ctx).Person)
	if err != nil || own == nil {
		return all, err
	}
	for i := len(own.Mine) - 1; i >= 0; i-- {
		j, _, err := s.journey(ctx, own.Mine[i].LifeEvent)
		if err != nil {
			return nil, err
		}
		if j != nil {
			all = append(all, *j)
		}
	}
	return all, nil
}

// journey is the caller's view of a life event's row, and the row; nil where the caller has none.
func (s *server) journey(ctx context.Context, lifeEvent string) (*Journey, *codecs.Journey, error) {
	row, err := s.cfg.Journeys.Row(ctx, lifeEvent)
	if err != nil || row == nil {
		return nil, nil, err
	}
	v, ok := journeys.View(row, web.From(ctx).Person, s.cfg.Tables.Snapshot())
	if !ok {
		return nil, nil, nil
	}
	j := &Journey{ID: journeys.Name(s.cfg.Keys, lifeEvent), EventType: v.EventType, Title: v.Title, Text: v.Text, Updated: v.Updated, Failed: v.Failed,
		Waiting: v.Waiting, Overdue: v.Overdue, Closed: v.Closed, Deadline: millis(row.Deadline), Services: []Service{}}
	for _, o := range v.Services {
		j.Services = append(j.Services, Service(o))
	}
	return j, row, nil
}

// confirm publishes the caller's confirmation as a wallet would: group journey makes one command of it. The event's id follows
// from what is confirmed, so that it is one event however often it is asked for.
func (s *server) confirm(ctx context.Context, lifeEvent string, row *codecs.Journey, service string) error {
	person := web.From(ctx).Person
	report := ""
	for i := range row.Items {
		it := &row.Items[i]
		if it.Service != service || row.Subjects[it.Subject].Subject != person {
			continue
		}
		if it.ConfirmedAt != 0 {
			return nil
		}
		if journeys.Waits(row, it) {
			report = it.Report
		}
	}
	if report == "" {
		return web.Fail(http.StatusConflict, "not_waiting", "the service waits for no confirmation of the caller's")
	}
	source := journeys.SourceOf(s.cfg.Tables.Snapshot().Organisation(journeys.Organisation))
	value, err := s.cfg.Records.JourneyConfirm.Encode(&codecs.JourneyConfirm{Service: service})
	if err != nil {
		return err
	}
	in := journeys.Event(source, journeys.ConfirmType, journeys.ConfirmID(lifeEvent, person, service, report), lifeEvent, person, journeys.Organisation, s.cfg.Now(), value, nil)
	switch a := s.cfg.Journeys.Publish(ctx, journeys.Organisation, []*admission.Input{in})[0]; a.Status {
	case admission.Accepted:
		return nil
	case admission.Unavailable:
		return web.Unavailable("it is not known whether the confirmation was taken: confirm again, that does no harm")
	}
	return web.Unavailable("journeys are not set up on this bus: civicbus journeys setup")
}

package demo

import (
	"context"
	"net/http"
	"net/url"
)

func (s *story) birth(ctx context.Context) error {
	at := s.at()
	if err := s.post(ctx, "birth-2026-11-03-0005", ""); err != nil {
		return err
	}
	return s.in.arrived(ctx, at, map[string]int{"sub-dvv-birth": 1, "sub-etk-birth": 1, "sub-helsinki-daycare": 1, "sub-kela-birth": 1, "sub-neuvola-birth": 1, "sub-vero-birth": 1, "sub-wallet-birth-mother": 1})
}

func (s *story) outcomes(ctx context.Context) error {
	at := s.at()
	for _, answer := range []struct{ subscription, event string }{{"sub-dvv-birth", "outcome-dvv-0005"}, {"sub-vero-birth", "outcome-vero-0005"},
		{"sub-etk-birth", "outcome-etk-0005"}, {"sub-neuvola-birth", "outcome-neuvola-0005"}, {"sub-kela-birth", "benefit-2026-11-04-0005"}} {
		if err := s.answer(ctx, answer.subscription, answer.event); err != nil {
			return err
		}
	}
	return s.in.arrived(ctx, at, map[string]int{"sub-wallet-benefit": 1, "sub-wallet-journey": 1})
}

func (s *story) confirmation(ctx context.Context) error {
	at := s.at()
	id, err := s.journey(ctx, func(j journey) bool { return j.Waiting == 1 })
	if err != nil {
		return err
	}
	if err := s.web.do(ctx, s.person("Iida"), http.MethodPost, "/api/me/journeys/"+url.PathEscape(id)+"/confirm", map[string]string{"service": "kela.fi"}, nil); err != nil {
		return err
	}
	s.did("Iida", "POST /api/me/journeys/{id}/confirm", "to kela.fi", "accepted")
	if err := s.in.arrived(ctx, at, map[string]int{"sub-kela-journey": 1}); err != nil {
		return err
	}
	if err := s.answer(ctx, "sub-kela-birth", "benefit-2026-11-05-0005"); err != nil {
		return err
	}
	if err := s.in.arrived(ctx, at, map[string]int{"sub-wallet-benefit": 1, "sub-wallet-journey": 1}); err != nil {
		return err
	}
	_, err = s.journey(ctx, func(j journey) bool { return j.Closed })
	return err
}

// person is one of the story's people.
func (s *story) person(name string) Who { return Who{Person: s.of.People[name]} }

// journey is what a person sees of one of hers.
type journey struct {
	ID, Text string
	Waiting  int
	Closed   bool
}

// journey waits until the mother's only journey is as it is to be, which the gateway shows a moment after it is so.
func (s *story) journey(ctx context.Context, is func(journey) bool) (id string, err error) {
	var seen struct{ Journeys []journey }
	err = poll(ctx, func() (bool, error) {
		err := s.web.do(ctx, s.person("Iida"), http.MethodGet, "/api/me/journeys", nil, &seen)
		return err == nil && len(seen.Journeys) == 1 && is(seen.Journeys[0]), err
	})
	if err != nil {
		return "", err
	}
	s.did("Iida", "GET /api/me/journeys", "her journey", seen.Journeys[0].Text)
	return seen.Journeys[0].ID, nil
}

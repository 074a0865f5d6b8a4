package people

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/verdict"
)

// Grant is one consent, or refusal, as its giver sees it.
type Grant struct {
	ID              string   `json:"id"`
	State           string   `json:"state" doc:"given, refused, withdrawn, expired, or ended by a death."`
	Recipient       string   `json:"recipient" doc:"The organisation that may receive."`
	RecipientName   string   `json:"recipientName"`
	Purpose         string   `json:"purpose"`
	Scopes          []string `json:"scopes" doc:"What it covers."`
	WithdrawnScopes []string `json:"withdrawnScopes,omitempty" doc:"What it covered once."`
	ValidFrom       string   `json:"validFrom,omitempty" format:"date-time"`
	ValidTo         string   `json:"validTo,omitempty" format:"date-time" doc:"Absent: until it is withdrawn."`
	GivenAt         string   `json:"givenAt" format:"date-time"`
	ChangedAt       string   `json:"changedAt" format:"date-time"`
	Notice          string   `json:"notice" doc:"The privacy notice that was shown."`
	Language        string   `json:"language,omitempty" doc:"Of that notice."`
	Version         int64    `json:"version" doc:"Of the caller's consents when it was last changed."`
	Receipt         string   `json:"receipt" doc:"Where its receipt is."`
}

// Objection blocks one subscription.
type Objection struct {
	Subscription string `json:"subscription"`
	At           string `json:"at" format:"date-time"`
}

// Consents is everything that the caller has said about sharing.
type Consents struct {
	Version     int64       `json:"version" doc:"It counts changes; 0: there was none yet."`
	Grants      []Grant     `json:"grants"`
	Objections  []Objection `json:"objections"`
	Restriction string      `json:"restriction,omitempty" doc:"protected, or erasure; absent: none."`
	EndedAt     string      `json:"endedAt,omitempty" format:"date-time" doc:"A death has ended every consent."`
}

// GrantRequest is what a person consents to.
type GrantRequest struct {
	Recipient    string   `json:"recipient" minLength:"1" maxLength:"128" doc:"The organisation that may receive."`
	Purpose      string   `json:"purpose" minLength:"1" maxLength:"100"`
	Scopes       []string `json:"scopes" minItems:"1" maxItems:"32" doc:"What it covers, as the catalog names it."`
	ValidFrom    string   `json:"validFrom,omitempty" format:"date-time" maxLength:"40" doc:"Absent: from now on."`
	ValidTo      string   `json:"validTo,omitempty" format:"date-time" maxLength:"40" doc:"Absent: until it is withdrawn."`
	Notice       string   `json:"notice" minLength:"1" maxLength:"192" doc:"URI of the privacy notice that was shown."`
	Language     string   `json:"language" minLength:"1" maxLength:"35" doc:"Of that notice (BCP 47)."`
	Method       string   `json:"method,omitempty" maxLength:"64" doc:"How it was collected; absent: this interface."`
	Explicit     bool     `json:"explicit,omitempty" doc:"It was given explicitly, as special categories of data need."`
	Jurisdiction string   `json:"jurisdiction,omitempty" maxLength:"64"`
	Retention    string   `json:"retention,omitempty" maxLength:"64" doc:"How long the recipient keeps what it gets: ISO 8601 duration or URI."`
	Storage      string   `json:"storageLocation,omitempty" maxLength:"64" doc:"Where: ISO 3166 code or URI."`
	Processing   string   `json:"processingMethod,omitempty" maxLength:"64"`
}

// Given answers a consent.
type Given struct {
	ID string `json:"id" doc:"Of the grant."`
	Change
	Receipt string `json:"receipt" doc:"Where its receipt is."`
}

// Withdrawal is what is withdrawn.
type Withdrawal struct {
	Scopes []string `json:"scopes,omitempty" maxItems:"32" doc:"Only these; absent: all of it."`
}

const tag = "people"

func (s *server) grantRoutes(a *web.API) {
	type none struct{}
	type list struct {
		ETag string `header:"ETag"`
		Body Consents
	}
	web.Handle(a, web.Route{ID: "list-my-grants", Method: http.MethodGet, Path: "/api/me/grants", Tag: tag, Summary: "What I have consented and objected to",
		For: web.People, Scope: web.ScopePersonRead}, func(ctx context.Context, _ *none) (*list, error) {
		row, err := s.rowOf(ctx)
		if err != nil {
			return nil, err
		}
		c := s.consents(row)
		return &list{etag(c.Version), c}, nil
	})
	type give struct {
		IfMatch string `header:"If-Match" maxLength:"64" doc:"Only if the consents are as they were then."`
		Body    GrantRequest
	}
	type given struct {
		Location string `header:"Location"`
		ETag     string `header:"ETag"`
		Body     Given
	}
	web.Handle(a, web.Route{ID: "give-grant", Method: http.MethodPost, Path: "/api/me/grants", Tag: tag, Summary: "Consent to an organisation receiving something",
		Description: "Answers when the consent is in effect.", For: web.People, Scope: web.ScopePersonWrite, Status: http.StatusCreated, Problems: []int{http.StatusPreconditionFailed}},
		func(ctx context.Context, in *give) (*given, error) {
			grant, err := s.grant(&in.Body)
			if err != nil {
				return nil, err
			}
			change, err := s.command(ctx, in.IfMatch, codecs.ConsentCommand{Kind: "grant", Grant: grant})
			if err != nil {
				return nil, err
			}
			return &given{"/api/me/grants", etag(change.Version), Given{grant.ID, *change, receiptPath(grant.ID)}}, nil
		})
	type withdraw struct {
		ID      string `path:"id" maxLength:"64"`
		IfMatch string `header:"If-Match" maxLength:"64" doc:"Only if the consents are as they were then."`
		Body    *Withdrawal
	}
	type changed struct {
		ETag string `header:"ETag"`
		Body Change
	}
	web.Handle(a, web.Route{ID: "withdraw-grant", Method: http.MethodPost, Path: "/api/me/grants/{id}/withdrawal", Tag: tag, Summary: "Withdraw a consent, or a part of it",
		Description: "Answers when the withdrawal is in effect: from effectiveAt on nothing leaves the bus on this consent, by any way. Withdrawing again changes nothing.",
		For:         web.People, Scope: web.ScopePersonWrite, Problems: []int{http.StatusNotFound, http.StatusPreconditionFailed}},
		func(ctx context.Context, in *withdraw) (*changed, error) {
			if _, err := s.ownGrant(ctx, in.ID); err != nil {
				return nil, err
			}
			name := codecs.Grant{ID: in.ID}
			if in.Body != nil {
				name.Scopes = in.Body.Scopes
			}
			change, err := s.command(ctx, in.IfMatch, codecs.ConsentCommand{Kind: "withdraw", Grant: name})
			if err != nil {
				return nil, err
			}
			return &changed{etag(change.Version), *change}, nil
		})
	type receipt struct {
		ContentType string `header:"Content-Type"`
		Body        Receipt
	}
	web.Handle(a, web.Route{ID: "get-receipt", Method: http.MethodGet, Path: "/api/me/grants/{id}/receipt", Tag: tag, Summary: "The receipt of a consent",
		Description: "After ISO/IEC TS 27560:2023, as JSON-LD in the terms of the W3C's Data Privacy Vocabulary.", For: web.People, Scope: web.ScopePersonRead, Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"64"`
		}) (*receipt, error) {
			g, err := s.ownGrant(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			r, err := s.receipt(ctx, g)
			return &receipt{"application/ld+json", r}, err
		})
}

func (s *server) objectionRoutes(a *web.API) {
	type changed struct {
		ETag string `header:"ETag"`
		Body Change
	}
	web.Handle(a, web.Route{ID: "object", Method: http.MethodPut, Path: "/api/me/objections/{subscription}", Tag: tag, Summary: "Object to one subscription",
		Description: "It gets nothing about the caller any more, unless by a legal obligation. Answers when that is in effect.", For: web.People, Scope: web.ScopePersonWrite, Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct {
			Subscription string `path:"subscription" maxLength:"128"`
		}) (*changed, error) {
			if s.cfg.Tables.Snapshot().Subscription(in.Subscription) == nil {
				return nil, web.Fail(http.StatusNotFound, "subscription_unknown", "there is no such subscription")
			}
			change, err := s.command(ctx, "", codecs.ConsentCommand{Kind: "object", Subscription: in.Subscription})
			if err != nil {
				return nil, err
			}
			return &changed{etag(change.Version), *change}, nil
		})
	web.Handle(a, web.Route{ID: "take-objection-back", Method: http.MethodDelete, Path: "/api/me/objections/{subscription}", Tag: tag, Summary: "Take an objection back",
		For: web.People, Scope: web.ScopePersonWrite, Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct {
			Subscription string `path:"subscription" maxLength:"128"`
		}) (*changed, error) {
			row, err := s.rowOf(ctx)
			if err != nil {
				return nil, err
			}
			if row == nil || !slices.ContainsFunc(row.Objections, func(o codecs.Objection) bool { return o.Subscription == in.Subscription }) {
				return nil, web.Fail(http.StatusNotFound, "not_objected", "there is no such objection")
			}
			change, err := s.command(ctx, "", codecs.ConsentCommand{Kind: "unobject", Subscription: in.Subscription})
			if err != nil {
				return nil, err
			}
			return &changed{etag(change.Version), *change}, nil
		})
}

// grant is what a consent asks to be put on record.
func (s *server) grant(c *GrantRequest) (codecs.Grant, error) {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	g := codecs.Grant{ID: "g-" + hex.EncodeToString(random[:]), Recipient: c.Recipient, Purpose: c.Purpose, Scopes: c.Scopes, Notice: c.Notice, Language: c.Language, Method: c.Method,
		Jurisdiction: c.Jurisdiction, Retention: c.Retention, StorageLocation: c.Storage, ProcessingMethod: c.Processing, ConsentType: "expressed"}
	if c.Explicit {
		g.ConsentType = "explicit"
	}
	if g.Method == "" {
		g.Method = "civicbus"
	}
	g.WithdrawalMethod = s.cfg.PublicURL + "/api/me/grants/" + g.ID + "/withdrawal"
	if len(g.WithdrawalMethod) > 192 {
		g.WithdrawalMethod = ""
	}
	if s.cfg.Tables.Snapshot().Organisation(c.Recipient) == nil {
		return g, web.Fail(http.StatusUnprocessableEntity, "recipient_unknown", "there is no such organisation", web.Fault{Field: "recipient", Pointer: "/recipient", Code: "recipient_unknown"})
	}
	for _, t := range []struct {
		field, text string
		to          *int64
	}{{"validFrom", c.ValidFrom, &g.ValidFrom}, {"validTo", c.ValidTo, &g.ValidTo}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t.text)
		if err != nil || at.UnixMilli() <= 0 {
			return g, web.Fail(http.StatusUnprocessableEntity, "invalid", "a time is not as documented", web.Fault{Field: t.field, Pointer: "/" + t.field, Code: "invalid", Detail: "want a time after 1970 (RFC 3339)"})
		}
		*t.to = at.UnixMilli()
	}
	return g, nil
}

// ownGrant is the caller's grant of an id.
func (s *server) ownGrant(ctx context.Context, id string) (*codecs.Grant, error) {
	row, err := s.rowOf(ctx)
	if err != nil {
		return nil, err
	}
	if row != nil {
		for i := range row.Grants {
			if row.Grants[i].ID == id {
				return &row.Grants[i], nil
			}
		}
	}
	return nil, web.Fail(http.StatusNotFound, "grant_unknown", "there is no such grant of the caller's")
}

// consents is a row as its subject sees it.
func (s *server) consents(row *codecs.Consents) Consents {
	out := Consents{Grants: []Grant{}, Objections: []Objection{}}
	if row == nil {
		return out
	}
	out.Version, out.Restriction, out.EndedAt = row.Version, row.Restriction, millis(row.EndedAt)
	snap := s.cfg.Tables.Snapshot()
	for i := range row.Grants {
		g := &row.Grants[i]
		out.Grants = append(out.Grants, Grant{ID: g.ID, State: s.state(row, g), Recipient: g.Recipient, RecipientName: s.nameOf(snap, g.Recipient), Purpose: g.Purpose, Scopes: plain(g.Scopes),
			WithdrawnScopes: g.WithdrawnScopes, ValidFrom: millis(g.ValidFrom), ValidTo: millis(g.ValidTo), GivenAt: millis(g.GivenAt), ChangedAt: millis(g.ChangedAt),
			Notice: g.Notice, Language: g.Language, Version: g.Version, Receipt: receiptPath(g.ID)})
	}
	for _, o := range row.Objections {
		out.Objections = append(out.Objections, Objection{o.Subscription, millis(o.At)})
	}
	return out
}

// state is a grant's state as it is now.
func (s *server) state(row *codecs.Consents, g *codecs.Grant) string {
	switch {
	case g.State != verdict.GrantGiven:
		return g.State
	case row.EndedAt != 0:
		return "ended"
	case g.ValidTo != 0 && g.ValidTo <= s.cfg.Now().UnixMilli():
		return verdict.GrantExpired
	}
	return g.State
}

// plain is a list that is never null in JSON.
func plain(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

func receiptPath(id string) string { return "/api/me/grants/" + id + "/receipt" }

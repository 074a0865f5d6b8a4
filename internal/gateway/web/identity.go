package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Identity is who asks, as a token showed. Exactly one of Organisation, Person and Operator is set; none without a token.
type Identity struct {
	Client       string    // the client of the issuer, for rate limits and logs; never personal
	Organisation string    // an organisation's id in the trust registry
	Person       string    // a person's bus pseudonym: never shown, never logged
	Operator     string    // one of civicbus's own staff
	Scopes       []string  // what the token allows
	Expires      time.Time // of the token: no stream outlives it
	Actor        string    // who a command names as asking: tells one person or client from another, never personal
}

// Kind says what kinds of callers a route is for; kinds are added up.
type Kind int

// The kinds of callers.
const (
	Organisations Kind = 1 << iota
	People
	Operators
	Anyone Kind = 0 // without a token too; with one, it is not looked at
)

// kind is the one that an identity is of.
func (id *Identity) kind() Kind {
	switch {
	case id.Organisation != "":
		return Organisations
	case id.Person != "":
		return People
	case id.Operator != "":
		return Operators
	}
	return Anyone
}

// Has says whether the token allows what a scope stands for.
func (id *Identity) Has(scope string) bool { return slices.Contains(id.Scopes, scope) }

// Authenticator finds out who holds a token. Its errors hold nothing of the token.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (*Identity, error)
}

// ErrUnavailable is wrapped by an Authenticator's error when it could not find out; every other error of it means that the
// token is not accepted.
var ErrUnavailable = errors.New("the issuer cannot be reached")

type identityKey struct{}

// From is who asks; the zero Identity on a route for Anyone.
func From(ctx context.Context) Identity {
	if id, _ := ctx.Value(identityKey{}).(*Identity); id != nil {
		return *id
	}
	return Identity{}
}

// realm is what WWW-Authenticate names.
const realm = "civicbus"

// maxToken bounds a token: the largest that issuers make are a few KiB.
const maxToken = 16 << 10

// bearer takes the token out of a request: header Authorization alone, because addresses end up in logs. (RFC 6750 2.)
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", refuse(http.StatusUnauthorized, "token_missing", "a token is needed: Authorization: Bearer ...", challenge(""))
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t,") {
		return "", refuse(http.StatusUnauthorized, "token_invalid", "Authorization must be Bearer and one token", challenge("invalid_token"))
	}
	return token, nil
}

// challenge is WWW-Authenticate's header (RFC 6750 3).
func challenge(reason string, scopes ...string) http.Header {
	text := `Bearer realm="` + realm + `"`
	if reason != "" {
		text += `, error="` + reason + `"`
	}
	if len(scopes) > 0 {
		text += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	return http.Header{"Www-Authenticate": {text}}
}

// identify authenticates a request for a route and says whether the route is for who asks.
func (a *API) identify(ctx context.Context, h http.Header, r *Route) (*Identity, error) {
	token, err := bearer(h)
	if err != nil {
		return nil, err
	}
	id, err := a.cfg.Authenticator.Authenticate(ctx, token)
	switch {
	case errors.Is(err, ErrUnavailable):
		a.log.Warn("authenticate a caller", "error", err)
		return nil, Unavailable("the token's issuer cannot be reached")
	case err != nil:
		return nil, refuse(http.StatusUnauthorized, "token_invalid", "the token is not accepted: "+err.Error(), challenge("invalid_token"))
	case !a.cfg.Now().Before(id.Expires):
		return nil, refuse(http.StatusUnauthorized, "token_invalid", "the token is not accepted: expired", challenge("invalid_token"))
	}
	return id, nil
}

// permit says whether a route is for who asks, once their rate limit has let them through.
func (r *Route) permit(id *Identity) error {
	switch {
	case id.kind()&r.For == 0:
		return Fail(http.StatusForbidden, "wrong_caller", "this is not for callers of your kind: "+r.For.String())
	case r.Scope != "" && !id.Has(r.Scope):
		return refuse(http.StatusForbidden, "scope_missing", "the token lacks the scope "+r.Scope, challenge("insufficient_scope", r.Scope))
	}
	return nil
}

// String names the kinds for people.
func (k Kind) String() string {
	var names []string
	for _, n := range []struct {
		kind Kind
		name string
	}{{Organisations, "organisations"}, {People, "people"}, {Operators, "operators"}} {
		if k&n.kind != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "anyone"
	}
	return strings.Join(names, ", ")
}

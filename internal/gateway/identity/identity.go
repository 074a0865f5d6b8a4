// Package identity finds out who holds an access token: a JWT of an OAuth 2 or OpenID Connect issuer (RFC 9068), checked
// against that issuer's published keys, and bound by the access file to one organisation, one operator, or to people.
//
// Its rules:
//   - Which key checks a token is decided here, by issuer and key id among the keys that the issuer publishes, never by
//     anything else in the token: a header that brings or names a key (jwk, jku, x5u, x5c) is refused.
//   - Algorithms are asymmetric and on a list, and fit the key.
//   - A token is for this gateway (audience), in time, of a known issuer, and of a client that the access file binds.
//   - A person's national id is in the token alone: it becomes a pseudonym at once. No error holds anything of a token.
package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"civicbus/internal/gateway/web"
	"civicbus/internal/pseudonym"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// Config says whom to believe. Keys and at least one of AccessFile and Development are required.
type Config struct {
	AccessFile  string       // issuers and clients, YAML; read again when it changes. Empty: none but Development
	Development *Development // a development issuer, which can be anybody; nil: none
	Audience    string       // of Development's tokens, and of the access file's unless it names another; civicbus
	Keys        *pseudonym.Keys
	HTTP        *http.Client // to the issuers; nil: one with bounds and without redirects
	Logger      *slog.Logger
	Now         func() time.Time
}

const (
	skew        = 30 * time.Second // between the issuer's clock and ours
	maxLifetime = 24 * time.Hour   // of a token: who is taken off the issuer's list is to be kept out by the next day
	cacheFor    = 10 * time.Second // a token is taken for what it was found to be
	maxCached   = 10_000
	lookEvery   = 2 * time.Second // at the access file
)

// DefaultAudience is what a token is for unless the settings say otherwise.
const DefaultAudience = "civicbus"

// Why a token is not accepted: all that its holder is told.
var (
	errMalformed = errors.New("it is no signed JWT")
	errAlgorithm = errors.New("its algorithm is not accepted")
	errHeader    = errors.New("its header brings or names a key, or has extensions")
	errType      = errors.New("it is no access token")
	errIssuer    = errors.New("its issuer is not known")
	errKey       = errors.New("its key is not among the issuer's")
	errSignature = errors.New("its signature is wrong")
	errAudience  = errors.New("it is not for this gateway")
	errTime      = errors.New("it is expired, not valid yet, or valid for longer than a day")
	errBound     = errors.New("it is bound to its sender, which this gateway cannot check")
	errClient    = errors.New("its client is not known here")
	errPerson    = errors.New("it does not say which person it is about")
)

// algorithms are those of RFC 7518 and RFC 8037 that use a key pair.
var algorithms = map[string]jwa.KeyType{
	"RS256": jwa.RSA(), "RS384": jwa.RSA(), "RS512": jwa.RSA(), "PS256": jwa.RSA(), "PS384": jwa.RSA(), "PS512": jwa.RSA(),
	"ES256": jwa.EC(), "ES384": jwa.EC(), "ES512": jwa.EC(), "EdDSA": jwa.OKP(),
}

// Authenticator is a web.Authenticator. Safe for concurrent use.
type Authenticator struct {
	cfg Config

	mu      sync.Mutex
	access  *access
	looked  time.Time
	issuers map[string]*issuer
	cache   map[[sha256.Size]byte]cached
}

type cached struct {
	identity   *web.Identity
	until      time.Time
	access     *access
	generation int64 // of the issuer's keys
	issuer     *issuer
}

// New reads the access file. The issuers are asked when a token of theirs comes.
func New(cfg Config) (*Authenticator, error) {
	if cfg.Keys == nil || cfg.AccessFile == "" && cfg.Development == nil {
		return nil, errors.New("authenticate callers: keys and an access file (gateway.access_file) are required")
	}
	if cfg.Audience == "" {
		cfg.Audience = DefaultAudience
	}
	if cfg.HTTP == nil {
		cfg.HTTP = newHTTP()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Authenticator{cfg: cfg, issuers: map[string]*issuer{}, cache: map[[sha256.Size]byte]cached{}, access: &access{}}
	if cfg.AccessFile != "" {
		var err error
		if a.access, err = readAccess(cfg.AccessFile, cfg.Audience); err != nil {
			return nil, err
		}
	}
	a.looked = time.Now()
	return a, nil
}

// Authenticate says who holds a token. An error wraps web.ErrUnavailable when it could not find out.
func (a *Authenticator) Authenticate(ctx context.Context, token string) (*web.Identity, error) {
	now := a.cfg.Now()
	access := a.current()
	sum := sha256.Sum256([]byte(token))
	a.mu.Lock()
	known, ok := a.cache[sum]
	a.mu.Unlock()
	if ok && known.access == access && now.Before(known.until) && known.issuer.fresh(known.generation) {
		return known.identity, nil
	}
	id, from, generation, err := a.check(ctx, token, access, now)
	if err != nil {
		return nil, err
	}
	until := now.Add(cacheFor)
	if id.Expires.Before(until) {
		until = id.Expires
	}
	a.mu.Lock()
	if len(a.cache) >= maxCached {
		clear(a.cache)
	}
	a.cache[sum] = cached{id, until, access, generation, from}
	a.mu.Unlock()
	return id, nil
}

// current is the access file as it is now, looked at from time to time. One that cannot be read leaves the old one.
func (a *Authenticator) current() *access {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cfg.AccessFile == "" || time.Since(a.looked) < lookEvery {
		return a.access
	}
	a.looked = time.Now()
	if !a.access.changed(a.cfg.AccessFile) {
		return a.access
	}
	next, err := readAccess(a.cfg.AccessFile, a.cfg.Audience)
	if err != nil {
		a.cfg.Logger.Error("the access file changed and cannot be read: the old one stays", "error", err)
		return a.access
	}
	a.access = next
	return next
}

// check verifies a token from its beginning.
func (a *Authenticator) check(ctx context.Context, token string, access *access, now time.Time) (*web.Identity, *issuer, int64, error) {
	header, err := readHeader(token)
	if err != nil {
		return nil, nil, 0, err
	}
	unverified, err := jwt.ParseInsecure([]byte(token))
	if err != nil {
		return nil, nil, 0, errMalformed
	}
	name, _ := unverified.Issuer()
	from, audience, err := a.issuer(name, access)
	if err != nil {
		return nil, nil, 0, err
	}
	key, generation, err := from.key(ctx, header)
	if err != nil {
		return nil, nil, 0, err
	}
	if _, err := jws.Verify([]byte(token), jws.WithKey(header.alg, key), jws.WithCompact()); err != nil {
		return nil, nil, 0, errSignature
	}
	verified, err := jwt.Parse([]byte(token), jwt.WithKey(header.alg, key), jwt.WithValidate(true), jwt.WithClock(jwt.ClockFunc(func() time.Time { return now })),
		jwt.WithAcceptableSkew(skew), jwt.WithIssuer(name), jwt.WithRequiredClaim("exp"))
	if err != nil {
		return nil, nil, 0, errTime
	}
	if audiences, _ := verified.Audience(); !slices.Contains(audiences, audience) {
		return nil, nil, 0, errAudience
	}
	expires, _ := verified.Expiration()
	if expires.Sub(now) > maxLifetime || !now.Before(expires) { // the skew is for nbf and iat
		return nil, nil, 0, errTime
	}
	if verified.Has("cnf") {
		return nil, nil, 0, errBound
	}
	id, err := a.bind(verified, name, access)
	if err != nil {
		return nil, nil, 0, err
	}
	id.Expires = expires
	return id, from, generation, nil
}

// header is what decides on the key.
type header struct {
	alg jwa.SignatureAlgorithm
	kid string
}

// readHeader takes a compact JWS apart and refuses what no access token has.
func readHeader(token string) (header, error) {
	if strings.Count(token, ".") != 2 {
		return header{}, errMalformed
	}
	message, err := jws.Parse([]byte(token), jws.WithCompact())
	if err != nil || len(message.Signatures()) != 1 {
		return header{}, errMalformed
	}
	h := message.Signatures()[0].ProtectedHeaders()
	for _, name := range []string{"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"} {
		if h.Has(name) {
			return header{}, errHeader
		}
	}
	alg, ok := h.Algorithm()
	if _, listed := algorithms[alg.String()]; !ok || !listed {
		return header{}, errAlgorithm
	}
	switch typ, _ := h.Type(); strings.ToLower(typ) {
	case "", "jwt", "at+jwt", "application/at+jwt":
	default:
		return header{}, errType
	}
	kid, _ := h.KeyID()
	return header{alg, kid}, nil
}

// fits says whether a published key may check a token with this header.
func (h header) fits(key jwk.Key) bool {
	if kid, ok := key.KeyID(); h.kid != "" && (!ok || kid != h.kid) {
		return false
	}
	if alg, ok := key.Algorithm(); ok && alg.String() != h.alg.String() {
		return false
	}
	if use, ok := key.KeyUsage(); ok && use != "sig" {
		return false
	}
	return key.KeyType() == algorithms[h.alg.String()]
}

// issuer is that of a token, with the audience that its tokens must have.
func (a *Authenticator) issuer(name string, access *access) (*issuer, string, error) {
	if a.cfg.Development != nil && name == DevelopmentIssuer {
		return a.cfg.Development.issuer, a.cfg.Audience, nil
	}
	declared := access.issuer(name)
	if declared == nil {
		return nil, "", errIssuer
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at := name + " " + declared.Discovery
	if a.issuers[at] == nil {
		a.issuers[at] = &issuer{name: name, discovery: declared.Discovery, http: a.cfg.HTTP, log: a.cfg.Logger}
	}
	return a.issuers[at], declared.Audience, nil
}

// bind says for whom the client of a verified token stands.
func (a *Authenticator) bind(token jwt.Token, name string, access *access) (*web.Identity, error) {
	if a.cfg.Development != nil && name == DevelopmentIssuer {
		return a.bindDevelopment(token)
	}
	client := text(token, "client_id")
	if client == "" {
		client = text(token, "azp") // OpenID Connect Core 2: Keycloak, Entra ID
	}
	subject, _ := token.Subject()
	b := access.binding(name, client, subject)
	if client == "" || b == nil {
		return nil, errClient
	}
	id := &web.Identity{Client: b.Issuer + " " + b.Client, Scopes: scopes(token)}
	if len(b.Scopes) > 0 {
		id.Scopes = slices.DeleteFunc(id.Scopes, func(s string) bool { return !slices.Contains(b.Scopes, s) })
	}
	switch {
	case b.Organisation != "":
		id.Organisation, id.Actor = b.Organisation, b.Organisation+"/"+b.Client
	case b.Operator != "":
		id.Operator, id.Actor = b.Operator, "operator:"+b.Operator
	default:
		person := access.issuer(name).Person
		return id, a.person(id, person.Scheme, text(token, person.Claim), b.Client)
	}
	return id, nil
}

// person makes an identity that of a person.
func (a *Authenticator) person(id *web.Identity, scheme, given, client string) error {
	canonical, err := pseudonym.Canonicalise(scheme, given)
	if err != nil || given == "" {
		return errPerson
	}
	id.Person, id.Actor = a.cfg.Keys.Subject(scheme, canonical), "person@"+client
	return nil
}

// text is a claim that is text; empty when it is absent or something else.
func text(token jwt.Token, claim string) string {
	var v string
	if token.Get(claim, &v) != nil {
		return ""
	}
	return v
}

// scopes are those of claim scope (RFC 9068 2.2.3), or of scp, as text or as a list.
func scopes(token jwt.Token) []string {
	for _, claim := range []string{"scope", "scp"} {
		var given any
		if token.Get(claim, &given) != nil {
			continue
		}
		switch v := given.(type) {
		case string:
			return strings.Fields(v)
		case []any:
			var all []string
			for _, s := range v {
				all = append(all, fmt.Sprint(s))
			}
			return all
		}
	}
	return nil
}

package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"civicbus/internal/gateway/web"
	"civicbus/internal/pseudonym"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// idp is an issuer with a key set that a test changes.
type idp struct {
	*httptest.Server
	keys  atomic.Pointer[[]byte]
	asked atomic.Int64
	down  atomic.Bool
}

func newIDP(t *testing.T, keys ...jwk.Key) *idp {
	p := &idp{}
	p.publish(t, keys...)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			p.asked.Add(1)
			_, _ = fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, p.URL, p.URL+"/keys")
		case "/keys":
			_, _ = w.Write(*p.keys.Load())
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// publish replaces the published keys; private ones are published as they are, as a careless issuer would.
func (p *idp) publish(t *testing.T, keys ...jwk.Key) {
	set := jwk.NewSet()
	for _, k := range keys {
		if err := set.AddKey(k); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	p.keys.Store(&raw)
}

func newKey(t *testing.T, raw any, kid string) jwk.Key {
	k, err := jwk.Import(raw)
	if err == nil && kid != "" {
		err = k.Set(jwk.KeyIDKey, kid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicOf(t *testing.T, k jwk.Key) jwk.Key {
	p, err := jwk.PublicKeyOf(k)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	rsaKey, _   = rsa.GenerateKey(rand.Reader, 2048)
	otherRSA, _ = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _    = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ = ed25519.GenerateKey(rand.Reader)
)

// claims are those of a good token; change makes it another.
func claims(p *idp, change func(map[string]any)) map[string]any {
	c := map[string]any{"iss": p.URL, "aud": "civicbus", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "client_id": "kela-bus", "sub": "kela-bus", "scope": "events:publish events:receive"}
	if change != nil {
		change(c)
	}
	return c
}

// sign makes a token by the library.
func sign(t *testing.T, c map[string]any, alg jwa.SignatureAlgorithm, key any, headers map[string]any) string {
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	h := jws.NewHeaders()
	for k, v := range headers {
		if err := h.Set(k, v); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := jws.Sign(payload, jws.WithKey(alg, key, jws.WithProtectedHeaders(h)))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// forge makes a token by hand, as no library would.
func forge(t *testing.T, header, claims any, sign func(input string) []byte) string {
	encode := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	input := encode(header) + "." + encode(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

func newAuthenticator(t *testing.T, p *idp) *Authenticator {
	file := filepath.Join(t.TempDir(), "access.yaml")
	write(t, file, fmt.Sprintf(`
issuers:
  - issuer: %[1]s
    person: {claim: hetu, scheme: fi-hetu}
clients:
  - {issuer: %[1]s, client: kela-bus, organisation: kela.fi}
  - {issuer: %[1]s, client: narrow, organisation: kela.fi, scopes: [events:receive]}
  - {issuer: %[1]s, client: own-data, people: true}
  - {issuer: %[1]s, client: console, subject: anna, operator: anna}
`, p.URL))
	keys, err := pseudonym.NewKeys([]byte("the bus key of tests, of 32 bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{AccessFile: file, Keys: keys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func write(t *testing.T, file, text string) {
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGoodTokens(t *testing.T) {
	p := newIDP(t, publicOf(t, newKey(t, rsaKey, "r")), publicOf(t, newKey(t, ecKey, "e")), publicOf(t, newKey(t, edKey, "d")))
	a := newAuthenticator(t, p)
	for _, alg := range []struct {
		alg jwa.SignatureAlgorithm
		key any
		kid string
	}{{jwa.RS256(), rsaKey, "r"}, {jwa.PS512(), rsaKey, "r"}, {jwa.ES256(), ecKey, "e"}, {jwa.EdDSA(), edKey, "d"}} {
		id, err := a.Authenticate(t.Context(), sign(t, claims(p, nil), alg.alg, alg.key, map[string]any{"kid": alg.kid, "typ": "at+jwt"}))
		if err != nil || id.Organisation != "kela.fi" || id.Actor != "kela.fi/kela-bus" || !id.Has(web.ScopePublish) || id.Has(web.ScopeApprove) || id.Person+id.Operator != "" {
			t.Errorf("%s: %+v %v", alg.alg, id, err)
		}
	}
	good := func(change func(map[string]any)) *web.Identity {
		t.Helper()
		id, err := a.Authenticate(t.Context(), sign(t, claims(p, change), jwa.ES256(), ecKey, map[string]any{"kid": "e"}))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if id := good(func(c map[string]any) {
		delete(c, "client_id")
		c["azp"] = "kela-bus"
		c["aud"] = []string{"x", "civicbus"}
	}); id.Organisation != "kela.fi" {
		t.Errorf("azp: %+v", id)
	}
	if id := good(func(c map[string]any) { c["client_id"] = "narrow" }); id.Has(web.ScopePublish) || !id.Has(web.ScopeReceive) {
		t.Errorf("scopes that the binding leaves: %v", id.Scopes)
	}
	if id := good(func(c map[string]any) {
		c["client_id"], c["sub"], c["scope"], c["scp"] = "console", "anna", nil, []string{"subscriptions:approve"}
		delete(c, "scope")
	}); id.Operator != "anna" || id.Actor != "operator:anna" || !id.Has(web.ScopeApprove) {
		t.Errorf("operator: %+v", id)
	}
	person := good(func(c map[string]any) { c["client_id"], c["hetu"] = "own-data", "010594Y9032" })
	other := good(func(c map[string]any) { c["client_id"], c["hetu"] = "own-data", "020594X903P" })
	if !strings.HasPrefix(person.Person, "k1.") || person.Person == other.Person || person.Organisation != "" || strings.Contains(fmt.Sprint(*person), "010594Y9032") {
		t.Errorf("person: %+v", person)
	}
	if p.asked.Load() != 1 {
		t.Errorf("the issuer was asked %d times", p.asked.Load())
	}
}

// Every attack is refused, and no refusal quotes the token.
func TestAttacks(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	published := []jwk.Key{publicOf(t, newKey(t, rsaKey, "r")), publicOf(t, newKey(t, ecKey, "e")), newKey(t, []byte("a symmetric key that was published by mistake"), "s")}
	p := newIDP(t, published...)
	set := strings.Replace(string(*p.keys.Load()), `{"keys":[`, fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"w","e":"AQAB","n":%q},{"kty":"RSA","kid":"broken"},`, base64.RawURLEncoding.EncodeToString(weak.N.Bytes())), 1)
	raw := []byte(set)
	p.keys.Store(&raw)
	a := newAuthenticator(t, p)
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	mac := func(secret []byte) func(string) []byte {
		return func(input string) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write([]byte(input))
			return m.Sum(nil)
		}
	}
	rs256 := func(key *rsa.PrivateKey) func(string) []byte {
		return func(input string) []byte {
			sum := sha256.Sum256([]byte(input))
			s, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	attackers := newIDP(t, publicOf(t, newKey(t, otherRSA, "r")))
	nothing := func(string) []byte { return nil }
	plain := claims(p, nil)
	good := sign(t, plain, jwa.RS256(), rsaKey, map[string]any{"kid": "r"})
	parts := strings.Split(good, ".")
	richer, err := json.Marshal(claims(p, func(c map[string]any) { c["scope"] = "subscriptions:approve" }))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(map[string]any)) string {
		return sign(t, claims(p, change), jwa.RS256(), rsaKey, map[string]any{"kid": "r"})
	}
	h := func(more ...any) map[string]any {
		m := map[string]any{"alg": "RS256", "kid": "r"}
		for i := 0; i+1 < len(more); i += 2 {
			m[more[i].(string)] = more[i+1]
		}
		return m
	}
	tokens := map[string]string{
		"nothing":                       "",
		"no JWT":                        "abc",
		"alg none":                      forge(t, h("alg", "none"), plain, nothing),
		"alg None":                      forge(t, h("alg", "None"), plain, nothing),
		"alg absent":                    forge(t, map[string]any{"kid": "r"}, plain, nothing),
		"alg none with a signature":     forge(t, h("alg", "none"), plain, rs256(rsaKey)),
		"signature cut off":             parts[0] + "." + parts[1] + ".",
		"signature of another token":    parts[0] + "." + base64.RawURLEncoding.EncodeToString(richer) + "." + parts[2],
		"HS256 by the public key, PEM":  forge(t, h("alg", "HS256"), plain, mac(asPEM)),
		"HS256 by the public key, DER":  forge(t, h("alg", "HS256"), plain, mac(der)),
		"HS256 by the modulus":          forge(t, h("alg", "HS256"), plain, mac(rsaKey.N.Bytes())),
		"HS256 by the empty key":        forge(t, h("alg", "HS256", "kid", ""), plain, mac(nil)),
		"HS256 by a published key":      forge(t, h("alg", "HS256", "kid", "s"), plain, mac([]byte("a symmetric key that was published by mistake"))),
		"HS256 called RS256":            forge(t, h(), plain, mac(asPEM)),
		"ES256 named for the RSA key":   sign(t, plain, jwa.ES256(), ecKey, map[string]any{"kid": "r"}),
		"RS256 named for the EC key":    sign(t, plain, jwa.RS256(), rsaKey, map[string]any{"kid": "e"}),
		"another key under a known kid": sign(t, plain, jwa.RS256(), otherRSA, map[string]any{"kid": "r"}),
		"unknown kid":                   sign(t, plain, jwa.RS256(), otherRSA, map[string]any{"kid": "x"}),
		"unknown kid, known key":        sign(t, plain, jwa.RS256(), rsaKey, map[string]any{"kid": "x"}),
		"kid as a path":                 sign(t, plain, jwa.RS256(), otherRSA, map[string]any{"kid": "../../dev/null"}),
		"no kid where there are many":   forge(t, map[string]any{"alg": "RS256"}, plain, rs256(otherRSA)),
		"jwk":                           forge(t, h("jwk", publicOf(t, newKey(t, otherRSA, "r"))), plain, rs256(otherRSA)),
		"jwk with the good key":         forge(t, h("jwk", publicOf(t, newKey(t, rsaKey, "r"))), plain, rs256(rsaKey)),
		"jku":                           forge(t, h("jku", attackers.URL+"/keys"), plain, rs256(otherRSA)),
		"x5u":                           forge(t, h("x5u", attackers.URL+"/keys"), plain, rs256(otherRSA)),
		"x5c":                           forge(t, h("x5c", []string{base64.StdEncoding.EncodeToString(der)}), plain, rs256(otherRSA)),
		"crit":                          forge(t, h("crit", []string{"x"}, "x", 1), plain, rs256(rsaKey)),
		"b64 false":                     forge(t, h("b64", false), plain, rs256(rsaKey)),
		"logout token":                  forge(t, h("typ", "logout+jwt"), plain, rs256(rsaKey)),
		"wrong audience":                with(func(c map[string]any) { c["aud"] = "other" }),
		"no audience":                   with(func(c map[string]any) { delete(c, "aud") }),
		"audience that begins so":       with(func(c map[string]any) { c["aud"] = "civicbus2" }),
		"ID token":                      with(func(c map[string]any) { c["aud"] = "kela-bus" }),
		"expired":                       with(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Second).Unix() }),
		"no expiry":                     with(func(c map[string]any) { delete(c, "exp") }),
		"expiry as text":                with(func(c map[string]any) { c["exp"] = "never" }),
		"huge expiry":                   with(func(c map[string]any) { c["exp"] = 1e300 }),
		"valid for a year":              with(func(c map[string]any) { c["exp"] = time.Now().Add(365 * 24 * time.Hour).Unix() }),
		"not yet valid":                 with(func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() }),
		"issued tomorrow":               with(func(c map[string]any) { c["iat"] = time.Now().Add(24 * time.Hour).Unix() }),
		"unknown issuer":                sign(t, claims(attackers, nil), jwa.RS256(), otherRSA, map[string]any{"kid": "r"}),
		"no issuer":                     with(func(c map[string]any) { delete(c, "iss") }),
		"issuer in other letters":       with(func(c map[string]any) { c["iss"] = strings.ToUpper(p.URL) }),
		"development issuer":            with(func(c map[string]any) { c["iss"] = DevelopmentIssuer; c[claimOperator] = "anna" }),
		"unknown client":                with(func(c map[string]any) { c["client_id"] = "vero-bus" }),
		"no client":                     with(func(c map[string]any) { delete(c, "client_id") }),
		"client in other letters":       with(func(c map[string]any) { c["client_id"] = "KELA-BUS" }),
		"operator of another name":      with(func(c map[string]any) { c["client_id"], c["sub"] = "console", "bertil" }),
		"person without an id":          with(func(c map[string]any) { c["client_id"] = "own-data" }),
		"person with a wrong id":        with(func(c map[string]any) { c["client_id"], c["hetu"] = "own-data", "010594Y9033" }),
		"person with a list":            with(func(c map[string]any) { c["client_id"], c["hetu"] = "own-data", []string{"010594Y9032"} }),
		"bound to a sender":             with(func(c map[string]any) { c["cnf"] = map[string]string{"jkt": "x"} }),
		"JSON serialisation":            `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"encrypted form":                good + ".x.y",
		"padding":                       good + "=",
	}
	tokens["weak key"] = forge(t, h("kid", "w"), plain, rs256(weak))
	for name, token := range tokens {
		id, err := a.Authenticate(t.Context(), token)
		if err == nil || id != nil {
			t.Errorf("%s: accepted as %+v", name, id)
			continue
		}
		if errors.Is(err, web.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		for _, part := range strings.Split(token, ".") {
			if len(part) > 5 && strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "010594") {
				t.Errorf("%s: the error quotes the token: %v", name, err)
			}
		}
	}
	if attackers.asked.Load() != 0 {
		t.Error("an address from a token was asked")
	}
	if _, err := a.Authenticate(t.Context(), good); err != nil {
		t.Errorf("the good token: %v", err)
	}
	t.Logf("%d attacks refused", len(tokens))
}

// A key that the issuer publishes anew is used without a restart, and unknown key ids cannot make the gateway ask at will.
func TestRotation(t *testing.T) {
	p := newIDP(t, publicOf(t, newKey(t, rsaKey, "one")))
	a := newAuthenticator(t, p)
	token := func(key *rsa.PrivateKey, kid string) string {
		return sign(t, claims(p, nil), jwa.RS256(), key, map[string]any{"kid": kid})
	}
	if _, err := a.Authenticate(t.Context(), token(rsaKey, "one")); err != nil {
		t.Fatal(err)
	}
	p.publish(t, publicOf(t, newKey(t, otherRSA, "two")))
	for range 50 {
		if _, err := a.Authenticate(t.Context(), token(otherRSA, "flood")); err == nil {
			t.Fatal("accepted")
		}
	}
	if n := p.asked.Load(); n > 2 {
		t.Errorf("the issuer was asked %d times for keys that it has not", n)
	}
	from := a.issuers[p.URL+" "+p.URL+"/.well-known/openid-configuration"]
	from.mu.Lock()
	from.asked = time.Now().Add(-askEvery)
	from.mu.Unlock()
	if _, err := a.Authenticate(t.Context(), token(otherRSA, "two")); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), token(rsaKey, "one")); err == nil {
		t.Error("the withdrawn key is still used, though the keys were read since")
	}
}

// An issuer out of reach is no reason to accept, nor to call a token wrong.
func TestIssuerDown(t *testing.T) {
	p := newIDP(t, publicOf(t, newKey(t, rsaKey, "r")))
	p.down.Store(true)
	a := newAuthenticator(t, p)
	token := sign(t, claims(p, nil), jwa.RS256(), rsaKey, map[string]any{"kid": "r"})
	if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, web.ErrUnavailable) {
		t.Fatal(err)
	}
	p.down.Store(false)
	from := a.issuers[p.URL+" "+p.URL+"/.well-known/openid-configuration"]
	from.asked = time.Time{}
	if _, err := a.Authenticate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	p.down.Store(true)
	from.mu.Lock()
	from.read, from.asked = time.Now().Add(-keysFor-time.Minute), time.Time{}
	from.mu.Unlock()
	if _, err := a.Authenticate(t.Context(), token); err != nil {
		t.Errorf("keys of six minutes ago, the issuer down: %v", err)
	}
	from.mu.Lock()
	from.read, from.asked = time.Now().Add(-keysAtMost-time.Minute), time.Time{}
	from.mu.Unlock()
	if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, web.ErrUnavailable) {
		t.Errorf("keys of half an hour ago, the issuer down: %v", err)
	}
}

// A client that is taken out of the access file is no longer let in, without a restart.
func TestAccessFileIsReadAgain(t *testing.T) {
	p := newIDP(t, publicOf(t, newKey(t, rsaKey, "r")))
	a := newAuthenticator(t, p)
	token := sign(t, claims(p, nil), jwa.RS256(), rsaKey, map[string]any{"kid": "r"})
	if _, err := a.Authenticate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	look := func() { a.mu.Lock(); a.looked = time.Time{}; a.mu.Unlock() }
	write(t, a.cfg.AccessFile, "issuers: [")
	look()
	if _, err := a.Authenticate(t.Context(), token); err != nil {
		t.Errorf("a file that cannot be read: %v", err)
	}
	write(t, a.cfg.AccessFile, fmt.Sprintf("issuers: [{issuer: %q}]\nclients: []\n", p.URL))
	look()
	if id, err := a.Authenticate(t.Context(), token); err == nil {
		t.Errorf("still let in: %+v", id)
	}
}

func TestAccessFileFaults(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":    {"issuers: [{issuer: 'https://a', name: b}]", "field name not found"},
		"plain http":     {"issuers: [{issuer: 'http://idp.example'}]", "https"},
		"twice":          {"issuers: [{issuer: 'https://a'}, {issuer: 'https://a'}]", "stand once"},
		"development":    {"issuers: [{issuer: 'urn:civicbus:development', discovery: 'https://a'}]", "must be a URL"},
		"half a person":  {"issuers: [{issuer: 'https://a', person: {claim: x}}]", "claim and scheme"},
		"no such issuer": {"issuers: []\nclients: [{issuer: 'https://a', client: c, organisation: o}]", "none of issuers"},
		"nobody":         {"issuers: [{issuer: 'https://a'}]\nclients: [{issuer: 'https://a', client: c}]", "must stand for"},
		"two":            {"issuers: [{issuer: 'https://a'}]\nclients: [{issuer: 'https://a', client: c, organisation: o, operator: x}]", "must stand for"},
		"people, no id":  {"issuers: [{issuer: 'https://a'}]\nclients: [{issuer: 'https://a', client: c, people: true}]", "person.claim"},
		"unknown scope":  {"issuers: [{issuer: 'https://a'}]\nclients: [{issuer: 'https://a', client: c, organisation: o, scopes: [everything]}]", "no scope"},
		"client twice":   {"issuers: [{issuer: 'https://a'}]\nclients: [{issuer: 'https://a', client: c, organisation: o}, {issuer: 'https://a', client: c, organisation: p}]", "stands twice"},
		"a national id":  {"issuers: [{issuer: 'https://a'}]\nclients: [{issuer: 'https://a', client: c, operator: 010594Y9032}]", "personal identity code"},
		"no YAML":        {"issuers: [", "read the access file"},
	} {
		file := filepath.Join(t.TempDir(), "access.yaml")
		write(t, file, c.text)
		if _, err := readAccess(file, "x"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDevelopment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dev.key")
	d, err := OpenDevelopment(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenDevelopment(file)
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenDevelopment(filepath.Join(t.TempDir(), "dev.key"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pseudonym.NewKeys([]byte("the bus key of tests, of 32 bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Development: d, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from  *Development
		grant Grant
		ok    bool
		want  func(*web.Identity) bool
	}{
		{d, Grant{Organisation: "dvv.fi", Scopes: []string{web.ScopePublish}}, true, func(id *web.Identity) bool { return id.Organisation == "dvv.fi" && id.Has(web.ScopePublish) }},
		{again, Grant{Operator: "anna"}, true, func(id *web.Identity) bool { return id.Actor == "operator:anna" }},
		{again, Grant{Person: "fi-hetu:010594Y9032"}, true, func(id *web.Identity) bool { return id.Person == keys.Subject("fi-hetu", "010594Y9032") }},
		{d, Grant{Person: "fi-hetu:010594Y9033"}, false, nil},
		{d, Grant{Operator: "anna", Audience: "other"}, false, nil},
		{d, Grant{Operator: "anna", Lifetime: -time.Minute}, false, nil},
		{other, Grant{Operator: "anna"}, false, nil},
	} {
		token, err := c.from.Token(c.grant, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		id, err := a.Authenticate(context.Background(), token)
		if (err == nil) != c.ok || c.ok && !c.want(id) {
			t.Errorf("%+v: %+v %v", c.grant, id, err)
		}
	}
	if _, err := d.Token(Grant{Operator: "a", Organisation: "b"}, time.Now()); err == nil {
		t.Error("a token for two")
	}
	p := newIDP(t, publicOf(t, newKey(t, rsaKey, "r")))
	token, err := d.Token(Grant{Operator: "anna"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if id, err := newAuthenticator(t, p).Authenticate(t.Context(), token); err == nil {
		t.Errorf("a gateway without the development issuer takes its token: %+v", id)
	}
	if _, err := jwt.ParseInsecure([]byte(token)); err != nil {
		t.Error(err)
	}
}

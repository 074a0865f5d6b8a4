package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"civicbus/internal/gateway/web"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// DevelopmentIssuer is the name of the built-in issuer of an embedded cluster. No access file can name it.
const DevelopmentIssuer = "urn:civicbus:development"

// The claims by which a development token says for whom it stands.
const (
	claimOrganisation = "civicbus_organisation"
	claimOperator     = "civicbus_operator"
	claimPerson       = "civicbus_person" // scheme:id
)

// Development is an issuer for trying things out: whoever can read its key can be anybody. It belongs to an embedded
// cluster, whose data directory holds everything anyway.
type Development struct {
	key    jwk.Key
	issuer *issuer
}

// OpenDevelopment reads the issuer's key from a file, and makes one when there is none.
func OpenDevelopment(path string) (*Development, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the development issuer: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("open the development issuer: %s holds no PEM", path)
	}
	private, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("open the development issuer: %s: %w", path, err)
	}
	key, err := jwk.Import(private)
	if err != nil {
		return nil, fmt.Errorf("open the development issuer: %w", err)
	}
	public, err := jwk.PublicKeyOf(key)
	if err != nil {
		return nil, fmt.Errorf("open the development issuer: %w", err)
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		return nil, fmt.Errorf("open the development issuer: %w", err)
	}
	return &Development{key: key, issuer: &issuer{name: DevelopmentIssuer, set: set}}, nil
}

func makeKey(path string) ([]byte, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, err
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	_, err = f.Write(raw)
	return raw, errors.Join(err, f.Sync(), f.Close())
}

// Grant is whom a development token stands for: exactly one of the three.
type Grant struct {
	Organisation string
	Operator     string
	Person       string // scheme:id
	Scopes       []string
	Audience     string        // DefaultAudience
	Lifetime     time.Duration // 1 hour
}

// Token makes a token.
func (d *Development) Token(g Grant, now time.Time) (string, error) {
	kinds, client := 0, ""
	b := jwt.NewBuilder().Issuer(DevelopmentIssuer).IssuedAt(now).Claim("scope", strings.Join(g.Scopes, " "))
	for _, k := range []struct{ claim, value, client string }{{claimOrganisation, g.Organisation, "dev-" + g.Organisation}, {claimOperator, g.Operator, "dev-operator-" + g.Operator}, {claimPerson, g.Person, "dev-person"}} {
		if k.value != "" {
			kinds++
			client = k.client
			b = b.Claim(k.claim, k.value)
		}
	}
	if kinds != 1 {
		return "", errors.New("make a token: it stands for an organisation, an operator or a person")
	}
	if g.Audience == "" {
		g.Audience = DefaultAudience
	}
	if g.Lifetime == 0 {
		g.Lifetime = time.Hour
	}
	token, err := b.Audience([]string{g.Audience}).Expiration(now.Add(g.Lifetime)).Claim("client_id", client).Subject(client).Build()
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	headers := jws.NewHeaders()
	if err := headers.Set(jws.TypeKey, "at+jwt"); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	signed, err := jwt.Sign(token, jwt.WithKey(jwa.ES256(), d.key, jws.WithProtectedHeaders(headers)))
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return string(signed), nil
}

// bindDevelopment believes what a development token says.
func (a *Authenticator) bindDevelopment(token jwt.Token) (*web.Identity, error) {
	client := text(token, "client_id")
	id := &web.Identity{Client: DevelopmentIssuer + " " + client, Scopes: scopes(token)}
	organisation, operator, person := text(token, claimOrganisation), text(token, claimOperator), text(token, claimPerson)
	switch {
	case organisation != "":
		id.Organisation, id.Actor = organisation, organisation+"/"+client
	case operator != "":
		id.Operator, id.Actor = operator, "operator:"+operator
	case person != "":
		scheme, given, _ := strings.Cut(person, ":")
		return id, a.person(id, scheme, given, client)
	default:
		return nil, errClient
	}
	return id, nil
}

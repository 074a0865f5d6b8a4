package identity

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"civicbus/internal/gateway/web"
	"civicbus/internal/pseudonym"

	"go.yaml.in/yaml/v3"
)

// access is the access file: which issuers are believed, and for whom their clients stand.
type access struct {
	Issuers []declaredIssuer `yaml:"issuers"`
	Clients []binding        `yaml:"clients"`

	at   time.Time // when the file was changed
	size int64
}

// declaredIssuer is an issuer that is believed.
type declaredIssuer struct {
	Issuer    string `yaml:"issuer"`    // as its tokens name it
	Discovery string `yaml:"discovery"` // address of its metadata; default {issuer}/.well-known/openid-configuration
	Audience  string `yaml:"audience"`  // that its tokens must have; default gateway.audience
	Person    struct {
		Claim  string `yaml:"claim"`  // of a person's token: their id
		Scheme string `yaml:"scheme"` // of that id, such as fi-hetu
	} `yaml:"person"` // needed where a client stands for people
}

// binding says for whom one client stands: one organisation, one operator, or the person that each token is about.
type binding struct {
	Issuer       string   `yaml:"issuer"`
	Client       string   `yaml:"client"`
	Subject      string   `yaml:"subject"` // only tokens with this sub: for operators, who share a client; empty: any
	Organisation string   `yaml:"organisation"`
	Operator     string   `yaml:"operator"`
	People       bool     `yaml:"people"`
	Scopes       []string `yaml:"scopes"` // at most these; empty: what the token says
}

// readAccess reads the access file; every fault of it is told at once.
func readAccess(path, audience string) (*access, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the access file: %w", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the access file: %w", err)
	}
	a := &access{at: info.ModTime(), size: info.Size()}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(a); err != nil {
		return nil, fmt.Errorf("read the access file %s: %w", path, err)
	}
	if err := a.complete(audience); err != nil {
		return nil, fmt.Errorf("read the access file %s: %w", path, err)
	}
	return a, nil
}

func (a *access) changed(path string) bool {
	info, err := os.Stat(path)
	return err == nil && (!info.ModTime().Equal(a.at) || info.Size() != a.size)
}

// complete fills in the defaults and finds every fault.
func (a *access) complete(audience string) error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for n := range a.Issuers {
		i := &a.Issuers[n]
		if i.Discovery == "" {
			i.Discovery = strings.TrimSuffix(i.Issuer, "/") + "/.well-known/openid-configuration"
		}
		if i.Audience == "" {
			i.Audience = audience
		}
		if i.Issuer == "" || i.Issuer == DevelopmentIssuer || a.issuer(i.Issuer) != i {
			fault("issuers[%d]: issuer must be a URL, and stand once", n)
		}
		if err := secure(i.Discovery); err != nil {
			fault("issuers[%d]: discovery: %w", n, err)
		}
		if (i.Person.Claim == "") != (i.Person.Scheme == "") {
			fault("issuers[%d]: person has claim and scheme, or neither", n)
		}
	}
	for n, b := range a.Clients {
		kinds := 0
		for _, is := range []bool{b.Organisation != "", b.Operator != "", b.People} {
			if is {
				kinds++
			}
		}
		from := a.issuer(b.Issuer)
		switch {
		case from == nil:
			fault("clients[%d]: issuer is none of issuers", n)
		case b.Client == "" || len(b.Client) > 80:
			fault("clients[%d]: client must be the client's id, of at most 80 bytes", n)
		case kinds != 1:
			fault("clients[%d]: must stand for an organisation, for an operator, or for people", n)
		case b.People && from.Person.Claim == "":
			fault("clients[%d]: people need person.claim and person.scheme of the issuer", n)
		case pseudonym.HoldsHetu(b.Client + " " + b.Subject + " " + b.Operator + " " + b.Organisation):
			fault("clients[%d]: holds a personal identity code", n)
		}
		for _, s := range b.Scopes {
			if !slices.Contains(web.Scopes(), s) {
				fault("clients[%d]: there is no scope %q, want some of %v", n, s, web.Scopes())
			}
		}
		if slices.ContainsFunc(a.Clients[:n], func(o binding) bool { return o.Issuer == b.Issuer && o.Client == b.Client && o.Subject == b.Subject }) {
			fault("clients[%d]: stands twice", n)
		}
	}
	return errors.Join(errs...)
}

func (a *access) issuer(name string) *declaredIssuer {
	for n := range a.Issuers {
		if a.Issuers[n].Issuer == name {
			return &a.Issuers[n]
		}
	}
	return nil
}

// binding is the client's own, one for its subject before one for any.
func (a *access) binding(issuer, client, subject string) *binding {
	var found *binding
	for n := range a.Clients {
		b := &a.Clients[n]
		if b.Issuer != issuer || b.Client != client {
			continue
		}
		if b.Subject == "" && found == nil || b.Subject != "" && b.Subject == subject {
			found = b
		}
	}
	return found
}

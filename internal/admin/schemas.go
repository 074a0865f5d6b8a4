package admin

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"civicbus/codecs"
	"civicbus/schemas"
)

// OwnSchema is one of civicbus's own records, and what the registry has of it.
type OwnSchema struct {
	Record          string  `json:"record"`
	RegistrySubject string  `json:"registrySubject"`
	Published       int     `json:"published"` // versions in this program
	IDs             []int32 `json:"ids"`       // of the versions in the registry, the oldest first
}

// OwnSchemas lists civicbus's own records in the order of codecs.Records. It registers nothing.
func (c *Client) OwnSchemas(ctx context.Context) ([]OwnSchema, error) {
	var all []OwnSchema
	// Every field of Records is a record; a list of them here would be forgotten when one is added.
	for _, field := range reflect.ValueOf(c.records).Elem().Fields() {
		record := field.Interface().(interface {
			Name() string
			RegistrySubject() string
		})
		own := OwnSchema{Record: record.Name(), RegistrySubject: record.RegistrySubject(), Published: len(schemas.Versions(record.Name()))}
		versions, err := c.registry.Versions(ctx, own.RegistrySubject)
		if err != nil && !errors.Is(err, codecs.ErrUnknownSubject) {
			return nil, err
		}
		for _, v := range versions {
			own.IDs = append(own.IDs, v.ID())
		}
		all = append(all, own)
	}
	return all, nil
}

// RegisterSource registers a source's own schema under a registry subject and returns its id. A registry subject that is
// not there yet gets FULL_TRANSITIVE compatibility: projections of its versions must be readable by every subscriber.
func (c *Client) RegisterSource(ctx context.Context, registrySubject, schema string) (int32, error) {
	if _, err := c.registry.Latest(ctx, registrySubject); errors.Is(err, codecs.ErrUnknownSubject) {
		if err := c.registry.SetCompatibility(ctx, registrySubject, codecs.FullTransitive); err != nil {
			return 0, err
		}
	} else if err != nil {
		return 0, err
	}
	s, err := c.registry.Register(ctx, registrySubject, schema)
	if err != nil {
		return 0, err
	}
	return s.ID(), nil
}

// CheckSource says whether a schema is valid Avro and FULL_TRANSITIVE compatible with every version of its registry subject.
func (c *Client) CheckSource(ctx context.Context, registrySubject, schema string) error {
	if _, err := codecs.ParseSchema(schema); err != nil {
		return err
	}
	versions, err := c.registry.Versions(ctx, registrySubject)
	if err != nil && !errors.Is(err, codecs.ErrUnknownSubject) {
		return err
	}
	var texts []string
	for _, v := range versions {
		texts = append(texts, v.JSON())
	}
	return schemas.Check(append(texts, schema))
}

// CheckOwn checks every published version of civicbus's own records against every other. It needs no registry.
func CheckOwn() error {
	var errs []error
	for _, name := range schemas.Names() {
		if err := schemas.Check(schemas.Versions(name)); err != nil {
			errs = append(errs, fmt.Errorf("record %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

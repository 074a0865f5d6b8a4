package codecs

import (
	"errors"
	"fmt"

	"github.com/riferrei/srclient"
)

// Error codes of the Schema Registry's REST API.
const (
	codeSubjectNotFound = 40401
	codeVersionNotFound = 40402
	codeSchemaNotFound  = 40403
	codeIncompatible    = 409
	codeIncompatibleSub = 40901
	codeInvalidSchema   = 42201
)

// remoteStore is a registry behind Confluent's REST API.
type remoteStore struct {
	client *srclient.SchemaRegistryClient
}

func (s *remoteStore) schema(id int32) (string, error) {
	got, err := s.client.GetSchema(int(id))
	if err != nil {
		return "", registryError(err)
	}
	return s.whole(got)
}

func (s *remoteStore) register(subject, text string) (int32, error) {
	got, err := s.client.CreateSchema(subject, text, srclient.Avro)
	if err != nil {
		return 0, registryError(err)
	}
	return int32(got.ID()), nil
}

func (s *remoteStore) version(subject string, version int) (int32, string, error) {
	var got *srclient.Schema
	var err error
	if version == 0 {
		got, err = s.client.GetLatestSchema(subject)
	} else {
		got, err = s.client.GetSchemaByVersion(subject, version)
	}
	if err != nil {
		return 0, "", registryError(err)
	}
	text, err := s.whole(got)
	return int32(got.ID()), text, err
}

func (s *remoteStore) versions(subject string) ([]int, error) {
	got, err := s.client.GetSchemaVersions(subject)
	if err != nil {
		return nil, registryError(err)
	}
	return got, nil
}

func (s *remoteStore) setCompatibility(subject, level string) error {
	if _, err := s.client.ChangeSubjectCompatibilityLevel(subject, srclient.CompatibilityLevel(level)); err != nil {
		return registryError(err)
	}
	return nil
}

// whole gives the text of a schema with the types of the schemas that it references written into it.
func (s *remoteStore) whole(got *srclient.Schema) (string, error) {
	if t := got.SchemaType(); t != nil && *t != srclient.Avro && *t != "" {
		return "", fmt.Errorf("%w: it is of type %s", ErrUnknownSchema, *t)
	}
	if len(got.References()) == 0 {
		return got.Schema(), nil
	}
	in := newInliner()
	if err := s.references(in, got.References(), 0); err != nil {
		return "", err
	}
	return in.inline(got.Schema())
}

// references reads what a schema references, the deepest first.
func (s *remoteStore) references(in *inliner, refs []srclient.Reference, depth int) error {
	if depth > MaxSchemaDepth || len(refs) > MaxSchemaDepth {
		return fmt.Errorf("%w: its references nest too deep", ErrUnknownSchema)
	}
	for _, ref := range refs {
		if !in.visit(ref.Subject, ref.Version) {
			continue
		}
		got, err := s.client.GetSchemaByVersion(ref.Subject, ref.Version)
		if err != nil {
			return registryError(err)
		}
		if err := s.references(in, got.References(), depth+1); err != nil {
			return err
		}
		if err := in.define(got.Schema()); err != nil {
			return err
		}
	}
	return nil
}

// registryError sorts the registry's answers; what is no answer of its own means that it is out of reach.
func registryError(err error) error {
	var e srclient.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case codeSchemaNotFound:
		return fmt.Errorf("%w: %s", ErrUnknownSchema, e.Message)
	case codeSubjectNotFound, codeVersionNotFound:
		return fmt.Errorf("%w: %s", ErrUnknownSubject, e.Message)
	case codeIncompatible, codeIncompatibleSub:
		return fmt.Errorf("%w: %s", ErrIncompatible, e.Message)
	case codeInvalidSchema:
		return fmt.Errorf("%w: %s", ErrInvalidSchema, e.Message)
	}
	return fmt.Errorf("schema registry answered %d: %s", e.Code, e.Message)
}

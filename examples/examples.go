// Package examples is a small world that civicbus is shown and tested with: event types with their sources' own schemas, the
// organisations that publish and subscribe, what some people have consented to, life events, and what must come of each.
//
// Its rules:
//   - People and companies are invented. Personal identity codes are of the range 900-999, which the population register gives to no one.
//   - Everything is data. The bus knows none of it; a new event type is one file in schemas and one in catalog.
//   - The expectations of scenarios.yaml are written by hand from the rules, not recorded from a run.
package examples

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/refdata"
	"civicbus/schemas"
)

// FS holds every file of the world: schemas/*.avsc, catalog, trust, subscriptions and consents/*.yaml, events/*.json, scenarios.yaml, and story.
//
//go:embed schemas catalog trust subscriptions consents events scenarios.yaml story
var FS embed.FS

// FirstConsents is the consent file that stands before the first event; the others belong to the step that names them.
const FirstConsents = "consents/consents.yaml"

// World is the reference data, each list in the order in which it is to be applied: by file name, then as in the file.
type World struct {
	Schemas       map[string]string // text of the schema by registry subject
	EventTypes    []codecs.EventType
	Organisations []codecs.Organisation
	Subscriptions []codecs.Subscription
	Consents      []refdata.Consent // of FirstConsents
}

// Load reads the world. The error names the file and the faults in it; with the files as embedded there is none.
func Load() (*World, error) {
	world := &World{Schemas: map[string]string{}}
	files, err := fs.Glob(FS, "schemas/*.avsc")
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	for _, file := range files {
		text, err := FS.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read schema: %w", err)
		}
		world.Schemas[strings.TrimSuffix(path.Base(file), ".avsc")] = string(text)
	}
	var consentsErr error
	for _, own := range []string{"journey-updated", "journey-confirm", "journey-confirmed"} { // of civicbus itself
		world.Schemas["fi.civicbus."+strings.ReplaceAll(own, "-", ".")+"-value"] = schemas.Latest(own)
	}
	world.Consents, consentsErr = Consents(FirstConsents)
	err = errors.Join(
		readAll("catalog", refdata.ParseEventTypes, &world.EventTypes),
		readAll("trust", refdata.ParseOrganisations, &world.Organisations),
		readAll("subscriptions", refdata.ParseSubscriptions, &world.Subscriptions),
		consentsErr,
	)
	if err != nil {
		return nil, err
	}
	return world, nil
}

// Publisher is the organisation that publishes under a ce_source; empty: there is none.
func (w *World) Publisher(source string) string {
	for i := range w.Organisations {
		if w.Organisations[i].Source == source && source != "" {
			return w.Organisations[i].ID
		}
	}
	return ""
}

// Consents reads one consent file, such as a step names.
func Consents(file string) ([]refdata.Consent, error) {
	text, err := FS.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read consents: %w", err)
	}
	consents, faults := refdata.ParseConsents(text)
	return consents, faulty(file, faults)
}

// Event reads one event file: a CloudEvent in JSON format with JSON data.
func Event(file string) ([]byte, error) {
	text, err := FS.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	return text, nil
}

func readAll[T any](directory string, parse func([]byte) ([]T, []codecs.Fault), into *[]T) error {
	files, err := fs.Glob(FS, directory+"/*.yaml")
	if err != nil {
		return fmt.Errorf("list %s: %w", directory, err)
	}
	for _, file := range files {
		text, err := FS.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read %s: %w", directory, err)
		}
		rows, faults := parse(text)
		if err := faulty(file, faults); err != nil {
			return err
		}
		*into = append(*into, rows...)
	}
	return nil
}

func faulty(file string, faults []codecs.Fault) error {
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("read %s: %+v", file, faults)
}

package schemas

import (
	"errors"
	"fmt"

	"github.com/twmb/avro"
)

// Check tells whether the versions, the oldest first, are FULL_TRANSITIVE: each can read what any other wrote. The error
// joins every pair that cannot, with the path and what differs; nil for none or one version that parses.
func Check(versions []string) error {
	parsed := make([]*avro.Schema, len(versions))
	for i, text := range versions {
		s, err := avro.Parse(text)
		if err != nil {
			return fmt.Errorf("parse version %d: %w", i+1, err)
		}
		parsed[i] = s
	}
	var errs []error
	for w := range parsed {
		for r := range parsed {
			if r == w {
				continue
			}
			if err := avro.CheckCompatibility(parsed[w], parsed[r]); err != nil {
				errs = append(errs, fmt.Errorf("version %d cannot read what version %d wrote: %w", r+1, w+1, describe(err)))
			}
		}
	}
	return errors.Join(errs...)
}

// describe names the path and both types of an incompatibility.
func describe(err error) error {
	var c *avro.CompatibilityError
	if !errors.As(err, &c) {
		return err
	}
	switch {
	case c.WriterType == "":
		return fmt.Errorf("%s (%s): %s", c.Path, c.ReaderType, c.Detail)
	default:
		return fmt.Errorf("%s (reader %s, writer %s): %s", c.Path, c.ReaderType, c.WriterType, c.Detail)
	}
}

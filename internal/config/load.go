package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

const (
	envPrefix = "CIVICBUS_"
	// fileEnv names the configuration file when no flag does.
	fileEnv = envPrefix + "CONFIG"
	// testPrefix begins what the project's tests are told by the environment; no setting begins so.
	testPrefix = envPrefix + "TEST_"
)

// Sources are where settings may come from, in the words of the command that was called.
type Sources struct {
	// File is a YAML file; empty: the one that CIVICBUS_CONFIG names, or none.
	File string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Flags are the command's flags, those of AddFlags among them; only what was given on the command line counts.
	Flags *pflag.FlagSet
	// Embedded takes the defaults of an embedded cluster.
	Embedded bool
}

// AddFlags adds a flag for each setting.
func AddFlags(flags *pflag.FlagSet) {
	for _, s := range settings(Defaults(false)) {
		usage := fmt.Sprintf("%s ($%s)", s.usage, s.env())
		flags.Var(&flagValue{s.kind(), s.text()}, s.flag(), usage)
		if s.kind() == "bool" {
			flags.Lookup(s.flag()).NoOptDefVal = "true"
		}
	}
}

// flagValue keeps a flag's text; Load reads it as it reads every other source.
type flagValue struct{ kind, text string }

func (v *flagValue) String() string        { return v.text }
func (v *flagValue) Set(text string) error { v.text = text; return nil }
func (v *flagValue) Type() string          { return v.kind }

// Load reads every source and validates the outcome. The error joins all faults; with it, the Config holds what could
// be read, for show.
func Load(from Sources) (*Config, error) {
	c := Defaults(from.Embedded)
	c.origins = map[string]string{}
	known := settings(c)
	merged := koanf.New(".")
	var faults []error
	for _, read := range []func(*Config, Sources, []setting, *koanf.Koanf) error{readFile, readEnv, readFlags} {
		faults = append(faults, read(c, from, known, merged))
	}
	if err := errors.Join(append(faults, apply(c, known, merged))...); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// apply sets what the sources gave together.
func apply(c *Config, known []setting, merged *koanf.Koanf) error {
	var faults []error
	for _, s := range known {
		if given := merged.Get(s.key); given != nil {
			if err := s.set(given); err != nil {
				faults = append(faults, fmt.Errorf("%s (%s): %w", s.key, c.origins[s.key], err))
			}
		}
	}
	return errors.Join(faults...)
}

// merge puts one source's values over those of the sources before it.
func merge(c *Config, into *koanf.Koanf, values map[string]any, origin func(key string) string) error {
	for key := range values {
		c.origins[key] = origin(key)
	}
	return into.Load(confmap.Provider(values, "."), nil)
}

func readFile(c *Config, from Sources, known []setting, into *koanf.Koanf) error {
	path := from.File
	for _, v := range from.Environ {
		if name, value, _ := strings.Cut(v, "="); name == fileEnv && path == "" {
			path = value
		}
	}
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration file: %w", err)
	}
	return readText(c, path, raw, known, into)
}

// readText reads what stands in the file of a path.
func readText(c *Config, path string, raw []byte, known []setting, into *koanf.Koanf) error {
	if err := checkFile(raw); err != nil {
		return fmt.Errorf("read configuration file %s: %w", path, err)
	}
	tree, err := yaml.Parser().Unmarshal(raw)
	if err != nil {
		return fmt.Errorf("read configuration file %s: %w", path, err)
	}
	values, keys := map[string]any{}, names(known, func(s setting) string { return s.key })
	var faults []error
	flatten("", tree, keys, func(key string, value any) {
		switch {
		case !slices.Contains(keys, key):
			faults = append(faults, unknown(path+": unknown key", key, append(keys, sections(keys)...)))
		case value != nil:
			values[key] = value
		}
	})
	return errors.Join(append(faults, merge(c, into, values, func(string) string { return path }))...)
}

// flatten hands on each value of a tree with its dotted key, in the order of the keys. What stands below a known key
// is its value, whatever it is.
func flatten(prefix string, tree map[string]any, known []string, each func(key string, value any)) {
	for _, name := range sortedKeys(tree) {
		key, value := prefix+name, tree[name]
		below := slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, key+".") })
		switch sub, isMap := value.(map[string]any); {
		case isMap && below:
			flatten(key+".", sub, known, each)
		case below && value == nil: // a section with everything in it commented out
		default:
			each(key, value)
		}
	}
}

// sections returns what stands before the dots of the keys.
func sections(keys []string) []string {
	var found []string
	for _, key := range keys {
		for i, letter := range key {
			if letter == '.' && !slices.Contains(found, key[:i]) {
				found = append(found, key[:i])
			}
		}
	}
	return found
}

func readEnv(c *Config, from Sources, known []setting, into *koanf.Koanf) error {
	variables := names(known, setting.env)
	values := map[string]any{}
	var faults []error
	for _, v := range from.Environ {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, testPrefix) || name == fileEnv || value == "" {
			continue
		}
		i := slices.Index(variables, name)
		if i < 0 {
			faults = append(faults, unknown("unknown environment variable", name, variables))
			continue
		}
		values[known[i].key] = value
	}
	return errors.Join(append(faults, merge(c, into, values, func(key string) string {
		return "$" + variables[slices.IndexFunc(known, func(s setting) bool { return s.key == key })]
	}))...)
}

func readFlags(c *Config, from Sources, known []setting, into *koanf.Koanf) error {
	if from.Flags == nil {
		return nil
	}
	values, given := map[string]any{}, map[string]string{}
	for _, s := range known {
		if f := from.Flags.Lookup(s.flag()); f != nil && f.Changed {
			values[s.key], given[s.key] = f.Value.String(), "--"+f.Name
		}
	}
	return merge(c, into, values, func(key string) string { return given[key] })
}

func unknown(what, name string, known []string) error {
	if near := nearest(name, known); near != "" {
		return fmt.Errorf("%s %s; did you mean %s?", what, name, near)
	}
	return fmt.Errorf("%s %s; `civicbus config print` shows all", what, name)
}

func names(all []setting, name func(setting) string) []string {
	list := make([]string, len(all))
	for i, s := range all {
		list[i] = name(s)
	}
	return list
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setting is one leaf of a Config.
type setting struct {
	key    string // as in the file: kafka.sasl.user
	usage  string
	redact bool
	value  reflect.Value // the field itself, settable
}

// settings returns the leaves of a Config in the order of its fields, so that what they are is written down once.
func settings(c *Config) []setting { return leaves("", reflect.ValueOf(c).Elem()) }

func leaves(prefix string, v reflect.Value) []setting {
	var all []setting
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, ok := f.Tag.Lookup("koanf")
		if !ok {
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			all = append(all, leaves(prefix+name+".", v.Field(i))...)
			continue
		}
		all = append(all, setting{prefix + name, f.Tag.Get("usage"), f.Tag.Get("redact") == "true", v.Field(i)})
	}
	return all
}

// env returns the setting's environment variable.
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// flag returns the setting's flag, without dashes before it.
func (s setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

// kind names the setting's type, as help texts and errors call it.
func (s setting) kind() string {
	switch s.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case bool:
		return "bool"
	case []string:
		return "strings"
	case int, int16, int32:
		return "int"
	}
	return "string"
}

// set takes a value as a file, the environment or a flag gives it: text, or what YAML made of it.
func (s setting) set(given any) error {
	if s.kind() == "strings" {
		return s.setList(given)
	}
	text := fmt.Sprint(given)
	switch s.kind() {
	case "duration":
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no duration; write it with its unit, as in 500ms or 5s", text)
		}
		s.value.SetInt(int64(d))
	case "bool":
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		s.value.SetBool(b)
	case "int":
		n, err := strconv.ParseInt(text, 10, s.value.Type().Bits())
		if errors.Is(err, strconv.ErrRange) {
			return fmt.Errorf("%s is out of range; it must fit %d bits", text, s.value.Type().Bits())
		}
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		s.value.SetInt(n)
	default:
		switch given.(type) {
		case []any, map[string]any:
			return errors.New("is a list or a map; it must be one text")
		}
		s.value.SetString(text)
	}
	return nil
}

func (s setting) setList(given any) error {
	var items []string
	switch g := given.(type) {
	case string:
		items = strings.Split(g, ",")
	case []any:
		for _, item := range g {
			items = append(items, fmt.Sprint(item))
		}
	default:
		return fmt.Errorf("%v is no list; write [a, b], or a,b in the environment or a flag", given)
	}
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	s.value.Set(reflect.ValueOf(items))
	return nil
}

// text returns the setting's value as set would take it.
func (s setting) text() string {
	switch v := s.value.Interface().(type) {
	case time.Duration:
		return v.String()
	case []string:
		return strings.Join(v, ",")
	default:
		return fmt.Sprint(v)
	}
}

// nearest returns the name that a mistyped one was probably meant to be: the one with the fewest letters to change,
// at most a third of them. Empty when none is near.
func nearest(name string, known []string) string {
	best, least := "", len(name)/3+1
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's: the letters to insert, delete or replace to make one of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

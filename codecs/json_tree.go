package codecs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
)

// jsonObject is a JSON object in the order of its text; keys may come twice.
type jsonObject struct {
	keys   []string
	values []any
}

var errAfter = errors.New("text follows after the value")

// parseJSON reads one JSON value: nil, bool, json.Number, string, []any or *jsonObject. The depth was checked before.
func parseJSON(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	v, err := parseToken(decoder)
	if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errAfter
	}
	return v, nil
}

func parseToken(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := parseToken(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	case json.Delim('{'):
		o := &jsonObject{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := parseToken(d)
			if err != nil {
				return nil, err
			}
			name, _ := key.(string)
			o.keys, o.values = append(o.keys, name), append(o.values, v)
		}
		_, err := d.Token()
		return o, err
	}
	return token, nil
}

func sortedKeys(o map[string]any) []string { return slices.Sorted(maps.Keys(o)) }

package refdata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// YAML prints rows (structs of package codecs, or pointers to them) as documents that Parse reads back to equal rows: keys in the order of
// the struct, what is zero left out, times as RFC 3339 in UTC, a filter as a tree where it is JSON. Several rows become several documents.
func YAML[T any](rows ...T) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, row := range rows {
		node, err := tree(reflect.ValueOf(row))
		if err != nil {
			return nil, err
		}
		if err := encoder.Encode(node); err != nil {
			return nil, fmt.Errorf("print a document as YAML: %w", err)
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("print documents as YAML: %w", err)
	}
	return out.Bytes(), nil
}

// JSON prints one row as YAML does, as indented JSON.
func JSON[T any](row T) ([]byte, error) {
	node, err := tree(reflect.ValueOf(row))
	if err != nil {
		return nil, err
	}
	compact, ok := jsonOf(node, -maxFilterDepth)
	if !ok {
		return nil, fmt.Errorf("print a document as JSON: it nests too deep")
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("print a document as JSON: %w", err)
	}
	return out.Bytes(), nil
}

// tree turns a struct into the mapping node that decode would read.
func tree(value reflect.Value) (*yaml.Node, error) {
	for value.Kind() == reflect.Pointer && !value.IsNil() {
		value = value.Elem()
	}
	if value.Kind() != reflect.Struct {
		return nil, fmt.Errorf("print a document: %s is no row", value.Kind())
	}
	mapping := &yaml.Node{Kind: yaml.MappingNode}
	for i := range value.NumField() {
		key := keyOf(value.Type().Field(i))
		field := value.Field(i)
		if key == "" || isEmpty(field) {
			continue
		}
		node, err := nodeOf(field, key)
		if err != nil {
			return nil, err
		}
		mapping.Content = append(mapping.Content, textNode(key), node)
	}
	return mapping, nil
}

func nodeOf(value reflect.Value, key string) (*yaml.Node, error) {
	switch value.Kind() {
	case reflect.String:
		if filters[key] {
			if node, ok := filterNode(value.String()); ok {
				return node, nil
			}
		}
		return textNode(value.String()), nil
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value.Bool())}, nil
	case reflect.Int32, reflect.Int64:
		if times[key] {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!timestamp", Value: time.UnixMilli(value.Int()).UTC().Format("2006-01-02T15:04:05.999Z07:00")}, nil
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(value.Int(), 10)}, nil
	case reflect.Struct:
		return tree(value)
	case reflect.Slice:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range value.Len() {
			item, err := nodeOf(value.Index(i), key)
			if err != nil {
				return nil, err
			}
			list.Content = append(list.Content, item)
		}
		if value.Type().Elem().Kind() == reflect.String {
			list.Style = yaml.FlowStyle
		}
		return list, nil
	}
	return nil, fmt.Errorf("print a document: key %s holds a %s", key, value.Kind())
}

// filterNode shows a filter as a tree, if reading it back gives the very same text.
func filterNode(filter string) (*yaml.Node, bool) {
	var parsed yaml.Node
	if !strings.HasPrefix(filter, "{") && !strings.HasPrefix(filter, "[") || !json.Valid([]byte(filter)) {
		return nil, false
	}
	if yaml.Unmarshal([]byte(filter), &parsed) != nil || len(parsed.Content) != 1 {
		return nil, false
	}
	node := parsed.Content[0]
	again, ok := jsonOf(node, 0)
	return node, ok && string(again) == filter
}

// textNode is quoted where YAML would read something other than text.
func textNode(text string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if strings.ContainsAny(text, "\n\r\t\u0085\u2028\u2029") || strings.TrimSpace(text) != text {
		node.Style = yaml.DoubleQuotedStyle
	}
	return node
}

func isEmpty(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Slice:
		return value.Len() == 0
	case reflect.Struct:
		for i := range value.NumField() {
			if !isEmpty(value.Field(i)) {
				return false
			}
		}
		return true
	}
	return value.IsZero()
}

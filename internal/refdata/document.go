package refdata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"civicbus/codecs"
)

// document is one YAML mapping of a file, with its place among the others for people who look for a fault.
type document struct {
	root   *yaml.Node
	number int // from 1
	of     int
}

// documents splits a file into its documents. Empty documents (a trailing ---) are passed over.
func documents(file []byte) ([]document, []codecs.Fault) {
	if len(file) > MaxDocumentBytes {
		return nil, []codecs.Fault{{Reason: ReasonTooLarge, Text: fmt.Sprintf("a file holds at most %d bytes", MaxDocumentBytes)}}
	}
	var roots []*yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(withoutSurrogates(file)))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// The parser's own text can quote what it found, so only the place is passed on.
			return nil, []codecs.Fault{{Reason: ReasonMalformed, Text: fmt.Sprintf("document %d is not YAML or JSON", len(roots)+1)}}
		}
		roots = append(roots, parts(&node)...)
	}
	var docs []document
	var faults []codecs.Fault
	for i, root := range roots {
		doc := document{root: root, number: i + 1, of: len(roots)}
		if len(faults) >= codecs.MaxFaults {
			break
		}
		if root.Kind != yaml.MappingNode {
			faults = append(faults, doc.fault(root, "", ReasonMalformed, "a document is a mapping of keys to values"))
			continue
		}
		docs = append(docs, doc)
	}
	if len(roots) == 0 {
		faults = append(faults, codecs.Fault{Reason: ReasonMalformed, Text: "no document found"})
	}
	return docs, faults
}

// parts gives the documents in one parsed YAML document: none when it is empty, the items of a sequence, else itself.
func parts(node *yaml.Node) []*yaml.Node {
	if node.Kind == yaml.DocumentNode && len(node.Content) == 1 {
		node = node.Content[0]
	}
	switch {
	case node.Kind == yaml.SequenceNode:
		return node.Content
	case node.Kind == 0, node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return nil
	}
	return []*yaml.Node{node}
}

// withoutSurrogates rewrites JSON that spells characters as \u escapes: YAML knows no surrogate pairs.
func withoutSurrogates(file []byte) []byte {
	if !bytes.Contains(file, []byte(`\u`)) || !json.Valid(file) {
		return file
	}
	decoder := json.NewDecoder(bytes.NewReader(file))
	decoder.UseNumber()
	var tree any
	if decoder.Decode(&tree) != nil {
		return file
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(tree) != nil {
		return file
	}
	return out.Bytes()
}

// fault names a place in the document.
func (d document) fault(at *yaml.Node, field, reason, text string) codecs.Fault {
	where := fmt.Sprintf("line %d", at.Line)
	if d.of > 1 {
		where = fmt.Sprintf("document %d, %s", d.number, where)
	}
	return codecs.Fault{Field: field, Reason: reason, Text: where + ": " + text}
}

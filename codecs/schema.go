package codecs

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/avro"
)

// Schema is one parsed Avro schema, any that the specification allows. It never changes and is safe for concurrent use.
type Schema struct {
	id int32
	*parsed
}

// parsed is what a schema's text says, shared by every Schema of that text.
type parsed struct {
	text string
	root *node
	avro *avro.Schema

	goavroOnce sync.Once
	goavro     *goavro.Codec
	goavroErr  error

	projections projections
	layouts     layouts // of the Cuts of its projections
}

// ParseSchema parses the JSON of a schema. Its size, depth and number of fields are bounded (MaxSchemaBytes,
// MaxSchemaDepth, MaxSchemaFields) before anything is built. The result has id 0.
func ParseSchema(text string) (*Schema, error) {
	if len(text) > MaxSchemaBytes {
		return nil, fmt.Errorf("parse schema: %d bytes are above %d", len(text), MaxSchemaBytes)
	}
	if d := jsonDepth(text); d > 4*MaxSchemaDepth {
		return nil, fmt.Errorf("parse schema: JSON nests %d deep, at most %d", d, 4*MaxSchemaDepth)
	}
	library, err := avro.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var raw any
	if err := decoder.Decode(&raw); err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	root, err := (&nodeParser{named: map[string]*node{}}).parse(raw, "", 0)
	if err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	return &Schema{parsed: &parsed{text: text, root: root, avro: library}}, nil
}

// WithID gives the same schema under an id of a registry.
func (s *Schema) WithID(id int32) *Schema { return &Schema{id: id, parsed: s.parsed} }

// ID is the schema's id in the registry it came from; 0 for one that came from none.
func (s *Schema) ID() int32 { return s.id }

// JSON is the text that the schema was parsed from.
func (s *Schema) JSON() string { return s.text }

// FullName is the root's name with its namespace; of a root without a name it is the type, such as map.
func (s *Schema) FullName() string {
	if s.root.name == "" {
		return s.root.kind.String()
	}
	return s.root.name
}

// Goavro gives goavro's codec, built at the first call. It refuses a few valid schemas; nothing in civicbus that must
// work for every schema rests on it. Call Validate on bytes from outside before decoding them with it.
func (s *Schema) Goavro() (*goavro.Codec, error) {
	s.goavroOnce.Do(func() {
		s.goavro, s.goavroErr = goavro.NewCodec(s.text)
	})
	if s.goavroErr != nil {
		return nil, fmt.Errorf("build goavro codec of %s: %w", s.FullName(), s.goavroErr)
	}
	return s.goavro, nil
}

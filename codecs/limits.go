package codecs

import "github.com/linkedin/goavro/v2"

// Bounds of what is accepted, tested before anything is allocated in proportion to a number that stands in the bytes.
// They are far above any real event (Kafka's own default message bound is 1 MiB) and far below what would hurt.
const (
	MaxSchemaBytes    = 1 << 20  // of a schema's JSON
	MaxSchemaDepth    = 64       // nested types in a schema, and nested JSON twice that
	MaxSchemaFields   = 10_000   // record fields in a schema
	MaxBodyBytes      = 16 << 20 // of an Avro body
	MaxDepth          = 256      // nested records, arrays, maps and unions in a body: recursive types end here
	MaxEmptyItems     = 4_096    // items that take no byte (null, empty record, fixed of 0) in one body
	MaxBlockItems     = 1 << 20  // items of one array or map
	maxProgramOps     = 100_000  // compiled steps of one schema
	maxAddressedPaths = 20_000   // of Schema.Leaves
	maxAddressedBytes = 8 << 20  // of Schema.Leaves
)

// goavro reads counts and lengths as they come and allocates at once: five bytes that claim 2^31-1 items end the process.
func init() {
	goavro.MaxBlockCount = MaxBlockItems
	goavro.MaxBlockSize = MaxBodyBytes
}

// Package codecs turns bytes into values and back: civicbus's own records, and events of any Avro schema, which it reads
// without decoding them.
//
// Its rules:
//   - Bad bytes are a value, a Malformed, never a panic and never a reason to stop. Neither it nor any other error holds
//     a value of the data.
//   - Every size, depth and count that stands in bytes from outside is bounded before anything is allocated (limits.go).
//   - Cached, Encode, Decode, Walk, Texts, Validate, Append, ToJSON and FromJSON never wait for the network, so that
//     callbacks may use them. Load, Register, Latest, Versions and Bind do.
//   - A body is validated once, where it comes in (Schema.Validate). What it accepts, everything here reads.
//   - Whatever is unclear is not shown: annotations that disagree, a path's end in another branch, an owner that cannot
//     be told.
package codecs

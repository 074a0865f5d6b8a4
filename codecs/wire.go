package codecs

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// WireHeaderBytes is the length of the Confluent wire format's header: a zero byte and a 4-byte big-endian schema id.
const WireHeaderBytes = 5

// Malformed is what bad bytes are: a value to be dead-lettered, never a reason to stop a processor. What names the part
// that is wrong, Err says why; neither ever holds a value of the data.
type Malformed struct {
	What string
	Err  error
}

// Error gives both parts.
func (m Malformed) Error() string {
	if m.Err == nil {
		return m.What
	}
	return m.What + ": " + m.Err.Error()
}

// Unwrap gives the cause.
func (m Malformed) Unwrap() error { return m.Err }

var (
	errTooShort = errors.New("shorter than the 5 bytes of the wire format")
	errMagic    = errors.New("first byte is not 0")
	errNegative = errors.New("schema id is not positive")
	errTrailing = errors.New("bytes are left after the value")
)

// WireID splits a value in the registry's wire format into the schema id and the Avro body, which aliases value. The
// error is a Malformed; nil and empty values (tombstones) are the caller's to tell apart beforehand.
func WireID(value []byte) (id int32, body []byte, err error) {
	if len(value) < WireHeaderBytes {
		return 0, nil, Malformed{What: "wire format", Err: errTooShort}
	}
	if value[0] != 0 {
		return 0, nil, Malformed{What: "wire format", Err: errMagic}
	}
	id = int32(binary.BigEndian.Uint32(value[1:WireHeaderBytes]))
	if id <= 0 {
		return 0, nil, Malformed{What: "wire format", Err: errNegative}
	}
	if len(value) > MaxBodyBytes+WireHeaderBytes {
		return 0, nil, Malformed{What: "wire format", Err: fmt.Errorf("body of %d bytes is above %d", len(value)-WireHeaderBytes, MaxBodyBytes)}
	}
	return id, value[WireHeaderBytes:], nil
}

// AppendWire appends the wire format's header for a schema id; the Avro body follows it.
func AppendWire(dst []byte, id int32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0), uint32(id))
}

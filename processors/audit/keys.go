package audit

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// MinKeyBytes is the shortest audit key: the output size of its hash (RFC 2104 section 3 discourages shorter keys).
const MinKeyBytes = 32

// ErrShortKey refuses an audit key shorter than MinKeyBytes.
var ErrShortKey = errors.New("audit key is shorter than 32 bytes")

// Keys are what the chains are written with, each derived from the audit key by HKDF-SHA256 (RFC 5869) under a label of its
// own, so that no one of them tells another. Safe for concurrent use.
type Keys struct {
	id     string
	mac    []byte
	commit []byte
}

// NewKeys takes the audit key, which is nowhere on the broker.
func NewKeys(secret []byte) (*Keys, error) {
	if len(secret) < MinKeyBytes {
		return nil, ErrShortKey
	}
	derive := func(label string, size int) []byte {
		key, err := hkdf.Key(sha256.New, secret, nil, label, size)
		if err != nil {
			panic(fmt.Sprintf("derive %s: %v", label, err)) // only for sizes beyond 255 hashes
		}
		return key
	}
	return &Keys{id: hex.EncodeToString(derive("civicbus audit key id", 8)),
		mac: derive("civicbus audit mac", 32), commit: derive("civicbus audit commitment", 32)}, nil
}

// seal authenticates a value, as encoded with an empty MAC in its last field, as an entry of a partition's chain: the byte
// that is the empty MAC becomes a MAC of 32 bytes.
func (k *Keys) seal(partition int32, value []byte) []byte {
	open := value[:len(value)-1]
	m := hmac.New(sha256.New, k.mac)
	_, _ = m.Write(binary.BigEndian.AppendUint32(nil, uint32(partition)))
	_, _ = m.Write(open)
	return m.Sum(append(open, 2*sha256.Size)) // Avro's length: zigzag of 32
}

// commitment stands for a text that the log must not tell. With the salt and the key anyone can show whose it is; without
// the salt nobody can.
func (k *Keys) commitment(salt []byte, text string) []byte {
	m := hmac.New(sha256.New, k.commit)
	_, _ = m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(salt))))
	_, _ = m.Write(salt)
	_, _ = m.Write([]byte(text))
	return m.Sum(nil)
}

package feed

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"
)

// Position is where a reader stands: for each partition of a subscriber's topic the offset of the next record.
type Position []int64

// after is the position behind one more record.
func (p Position) after(partition int32, offset int64) Position {
	next := slices.Clone(p)
	next[partition] = offset + 1
	return next
}

var (
	text64       = base64.RawURLEncoding.Strict()
	errNoCursor  = errors.New("not a cursor of this subscription")
	errShortSeed = errors.New("the secret that cursors are authenticated by is shorter than 32 bytes")
)

// Bounds and layout of a cursor: a kind, its numbers as uvarints, and what authenticates them.
const (
	cursorPosition = 1
	cursorRecord   = 2
	macBytes       = 16
	maxCursor      = 8 << 10 // characters; 256 partitions take 3 KiB
)

// cursors makes and reads places as text. The text is authenticated for one subscription and says nothing but offsets of
// the subscriber's own topic.
type cursors struct{ macs sync.Pool }

func newCursors(secret []byte) (*cursors, error) {
	if len(secret) < 32 {
		return nil, errShortSeed
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "civicbus gateway cursor 1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of cursors: %w", err)
	}
	return &cursors{sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}, nil
}

// mac is over the length of the subscription's id, the id, and the payload.
func (c *cursors) mac(subscription string, payload []byte) []byte {
	h := c.macs.Get().(hash.Hash)
	defer c.macs.Put(h)
	h.Reset()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(subscription))))
	h.Write([]byte(subscription))
	h.Write(payload)
	return h.Sum(nil)[:macBytes]
}

func (c *cursors) seal(subscription string, kind byte, numbers ...int64) string {
	b := make([]byte, 1, 1+3*len(numbers)+macBytes)
	b[0] = kind
	for _, n := range numbers {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return text64.EncodeToString(append(b, c.mac(subscription, b)...))
}

func (c *cursors) open(subscription string, kind byte, text string, want int) ([]int64, error) {
	if len(text) > maxCursor || strings.ContainsAny(text, "\r\n") { // which base64 would pass over
		return nil, errNoCursor
	}
	b, err := text64.DecodeString(text)
	if err != nil || len(b) < 1+macBytes || b[0] != kind {
		return nil, errNoCursor
	}
	payload, mac := b[:len(b)-macBytes], b[len(b)-macBytes:]
	if !hmac.Equal(mac, c.mac(subscription, payload)) {
		return nil, errNoCursor
	}
	numbers := make([]int64, 0, want)
	for rest := payload[1:]; len(rest) > 0; {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > 1<<62 || len(numbers) == want {
			return nil, errNoCursor
		}
		numbers, rest = append(numbers, int64(n)), rest[size:]
	}
	if len(numbers) != want {
		return nil, errNoCursor
	}
	return numbers, nil
}

// Cursor is a position as text.
func (f *Feed) Cursor(subscription string, at Position) string {
	return f.cursors.seal(subscription, cursorPosition, at...)
}

// Position reads a cursor: *Ended with CursorInvalid for one that was not given out for this subscription.
func (f *Feed) Position(subscription, cursor string) (Position, error) {
	at, err := f.cursors.open(subscription, cursorPosition, cursor, int(f.cfg.Partitions))
	if err != nil {
		return nil, ended(CursorInvalid, "the cursor was not given out for this subscription")
	}
	return at, nil
}

package pseudonym

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Reference names the event record that a thin delivery is about, and what of it was permitted when the delivery was made.
type Reference struct {
	Stream    string
	Partition int32
	Offset    int64
	Held      []byte // of internal/verdict, which alone reads it
}

// ReferencePrefix begins the text of every reference; no base64url text has a full stop.
const ReferencePrefix = "d1."

// Bounds of a reference: a bit for each field of the largest schema is a few thousand characters.
const (
	maxReference = 16 << 10 // characters
	maxStream    = 249      // characters of a topic's name
)

// ErrUnknownReference says that a text is no reference that was given out for this subscription.
var ErrUnknownReference = errors.New("unknown reference")

// References seals what a subscriber must neither read nor change: by its offset two subscribers could tell that they were told of
// one event. It is SIV's construction (RFC 5297) of HMAC-SHA256 and AES-CTR: the same reference is the same text, for one
// subscription, and needs no random number in a transaction that may be tried again. Safe for concurrent use.
type References struct {
	block cipher.Block
	macs  sync.Pool // of *mac
}

// NewReferences derives its keys from the bus key: ErrShortSecret.
func NewReferences(secret []byte) (*References, error) {
	if len(secret) < MinSecretBytes {
		return nil, ErrShortSecret
	}
	keys, err := hkdf.Key(sha256.New, secret, nil, "civicbus dataref 1", 64)
	if err != nil {
		return nil, fmt.Errorf("derive the keys of references: %w", err)
	}
	block, err := aes.NewCipher(keys[:32])
	if err != nil {
		return nil, fmt.Errorf("derive the keys of references: %w", err)
	}
	r := &References{block: block}
	r.macs.New = func() any { return newMAC(keys[32:]) }
	return r, nil
}

// sum is over the length of the subscription's id, the id, and what is sealed.
func (r *References) sum(subscription string, plain []byte) []byte {
	m := r.macs.Get().(*mac)
	defer r.macs.Put(m)
	m.start()
	m.text = binary.BigEndian.AppendUint32(m.text, uint32(len(subscription)))
	m.text = append(append(m.text, subscription...), plain...)
	return slices.Clone(m.finish()[:aes.BlockSize])
}

// Append appends a reference as one subscription gets it.
func (r *References) Append(dst []byte, subscription string, to *Reference) []byte {
	plain := make([]byte, 0, 16+len(to.Stream)+len(to.Held))
	plain = binary.AppendUvarint(plain, uint64(to.Partition))
	plain = binary.AppendUvarint(plain, uint64(to.Offset))
	plain = append(append(plain, byte(len(to.Stream))), to.Stream...)
	plain = append(plain, to.Held...)
	return text64.AppendEncode(append(dst, ReferencePrefix...), r.seal(subscription, plain))
}

// seal uses plain up.
func (r *References) seal(subscription string, plain []byte) []byte {
	sealed := append(make([]byte, 0, aes.BlockSize+len(plain)), r.sum(subscription, plain)...)
	cipher.NewCTR(r.block, sealed).XORKeyStream(plain, plain)
	return append(sealed, plain...)
}

// Open reads a reference that was made for a subscription, or gives ErrUnknownReference.
func (r *References) Open(subscription, text string) (Reference, error) {
	rest, ok := strings.CutPrefix(text, ReferencePrefix)
	if !ok || len(text) > maxReference || strings.ContainsAny(rest, "\r\n") { // which base64 would pass over
		return Reference{}, ErrUnknownReference
	}
	sealed, err := text64.DecodeString(rest)
	if err != nil || len(sealed) < aes.BlockSize {
		return Reference{}, ErrUnknownReference
	}
	sum, plain := sealed[:aes.BlockSize], sealed[aes.BlockSize:]
	cipher.NewCTR(r.block, sum).XORKeyStream(plain, plain)
	if !hmac.Equal(sum, r.sum(subscription, plain)) {
		return Reference{}, ErrUnknownReference
	}
	var to Reference
	partition, n := binary.Uvarint(plain)
	if n <= 0 || partition > 1<<31-1 {
		return Reference{}, ErrUnknownReference
	}
	offset, m := binary.Uvarint(plain[n:])
	if m <= 0 || offset > 1<<62 {
		return Reference{}, ErrUnknownReference
	}
	to.Partition, to.Offset, plain = int32(partition), int64(offset), plain[n+m:]
	if len(plain) == 0 || len(plain) < 1+int(plain[0]) || plain[0] > maxStream {
		return Reference{}, ErrUnknownReference
	}
	to.Stream, to.Held = string(plain[1:1+plain[0]]), plain[1+plain[0]:]
	return to, nil
}

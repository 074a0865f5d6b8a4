// Package pseudonym turns national ids into what may stand on Kafka in their place, and keeps the two apart.
//
// Rules:
//   - Inside the bus a subject is 16 bytes of HMAC-SHA256(bus key, scheme ':' canonical id), written `k1.` and base64url.
//     The digit is the version of the bus key; changing the key is an offline migration.
//   - On a subscriber's topic it is one AES block of those 16 bytes under a key derived for that subscriber, and 8 check
//     bytes (AES-CMAC under a second key), written `p1.` and base64url. Two subscribers cannot link people; the bus alone
//     can reverse it; a foreign or invented one is refused instead of becoming a phantom.
//   - No error of this package holds any part of an id.
//
// The block is a permutation, so pairwise pseudonyms never collide; a cipher mode with a nonce would, but a pseudonym
// must be the same each time. The check bytes are computed over the ciphertext, so nothing is decrypted before it is known.
package pseudonym

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"strings"
	"sync"
)

const (
	// MinSecretBytes is the shortest bus key: the output size of its hash (RFC 2104 section 3 discourages shorter keys).
	MinSecretBytes = 32
	// SubjectPrefix begins every bus pseudonym.
	SubjectPrefix = "k1."
	// PairwisePrefix begins every pairwise pseudonym.
	PairwisePrefix = "p1."

	idBytes     = 16
	subjectSize = len(SubjectPrefix) + 22 // 16 bytes are 22 characters of base64url without padding
)

var (
	// ErrShortSecret refuses a bus key shorter than MinSecretBytes.
	ErrShortSecret = errors.New("bus key is shorter than 32 bytes")
	// ErrUnknownSubject says that a text is no pairwise pseudonym of this subscriber: foreign, invented or mistyped.
	ErrUnknownSubject = errors.New("unknown subject")
	// ErrMalformedSubject says that a text is no bus pseudonym, or no life event id.
	ErrMalformedSubject = errors.New("malformed subject")
)

// text64 refuses padding bits that are not zero, so that every pseudonym has exactly one text.
var text64 = base64.RawURLEncoding.Strict()

// Keys makes every identifier that hangs on the bus key. Safe for concurrent use.
type Keys struct {
	secret     []byte
	macs       sync.Pool // of *mac
	pairwise   sync.Map  // subscriber -> *Pairwise
	deliveries *deliveries
}

// NewKeys takes the bus key, exactly as its file holds it but for what the caller trims. The secret is copied.
func NewKeys(secret []byte) (*Keys, error) {
	if len(secret) < MinSecretBytes {
		return nil, ErrShortSecret
	}
	k := &Keys{secret: append([]byte(nil), secret...), deliveries: newDeliveries(secret)}
	k.macs.New = func() any { return newMAC(k.secret) }
	return k, nil
}

// Subject names the subject inside the bus. canonicalID is what Canonicalise returned for that scheme; the same person
// under two schemes is two subjects.
func (k *Keys) Subject(scheme, canonicalID string) string {
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	m.start()
	m.text = append(append(append(m.text, scheme...), ':'), canonicalID...)
	sum := m.finish()
	var out [subjectSize]byte
	copy(out[:], SubjectPrefix)
	text64.Encode(out[len(SubjectPrefix):], sum[:idBytes])
	return string(out[:])
}

// LifeEvent names one event of one source: 32 hexadecimal digits, the same for each of its subjects. It is 16 bytes of HMAC-SHA256
// over both parts behind their lengths, so that no two pairs are one message, and behind a byte that no scheme begins with,
// so that no message is also a subject's.
func (k *Keys) LifeEvent(source, id string) string {
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	m.start()
	m.text = append(m.text, 1)
	for _, part := range [...]string{source, id} {
		m.text = binary.BigEndian.AppendUint32(m.text, uint32(len(part)))
		m.text = append(m.text, part...)
	}
	var out [2 * idBytes]byte
	hex.Encode(out[:], m.finish()[:idBytes])
	return string(out[:])
}

// IsSubject reports whether text has the form of a bus pseudonym. Whether anyone bears it cannot be known.
func IsSubject(text string) bool {
	_, ok := parseSubject(text)
	return ok
}

func parseSubject(text string) (raw [idBytes]byte, ok bool) {
	body, ok := strings.CutPrefix(text, SubjectPrefix)
	// Decode skips line breaks, so the length of its answer must be looked at too.
	if !ok || len(text) != subjectSize {
		return raw, false
	}
	var in [subjectSize - len(SubjectPrefix)]byte
	copy(in[:], body)
	n, err := text64.Decode(raw[:], in[:])
	return raw, err == nil && n == idBytes
}

// mac is one reusable HMAC with its buffers: making a new one for each call costs most of the call.
type mac struct {
	hash hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

func newMAC(key []byte) *mac { return &mac{hash: hmac.New(sha256.New, key)} }

func (m *mac) start() {
	m.hash.Reset()
	m.text = m.text[:0]
}

func (m *mac) finish() []byte {
	m.hash.Write(m.text)
	return m.hash.Sum(m.sum[:0])
}

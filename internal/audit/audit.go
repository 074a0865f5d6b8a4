// Package audit proves the audit log from outside: it walks the chains, holds them against signed heads, shows what is
// logged about a subject and adds up who got what. It shares nothing with the code that writes the chains (processors/audit)
// but the schema of their entries; the derivations below are written here a second time on purpose.
//
// What is authenticated:
//   - Each partition of audit-log is a chain. An entry has the next number, and the SHA-256 of the whole value before it.
//   - The last field of an entry is HMAC-SHA256 over the partition (4 bytes, big-endian) and the whole value before that
//     field, which is its last 33 bytes. Without the audit key the hashes alone are checked, and the heads.
//   - A head is signed with Ed25519 (RFC 8032) over a fixed text, the partition, the number, the hash and the time. The signing
//     key's seed is derived from the audit key, its public key is all that a third party needs.
//   - Keys are derived from the audit key by HKDF-SHA256 (RFC 5869), no salt, under the labels in NewKeys.
package audit

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"civicbus/codecs"
)

var (
	// ErrShortKey refuses an audit key shorter than 32 bytes.
	ErrShortKey = errors.New("audit key is shorter than 32 bytes")
	// ErrBadHead says that a head is not signed by the key that it had to be signed with.
	ErrBadHead = errors.New("the head's signature is not valid under the public key")
)

// Keys are what is derived from the audit key.
type Keys struct {
	id     string
	mac    []byte
	commit []byte
	sign   ed25519.PrivateKey
}

// NewKeys takes the audit key.
func NewKeys(secret []byte) (*Keys, error) {
	if len(secret) < 32 {
		return nil, ErrShortKey
	}
	k := &Keys{}
	seed := make([]byte, 0, ed25519.SeedSize)
	id := []byte(nil)
	for _, d := range []struct {
		label string
		size  int
		to    *[]byte
	}{{"civicbus audit key id", 8, &id}, {"civicbus audit mac", 32, &k.mac}, {"civicbus audit commitment", 32, &k.commit}, {"civicbus audit heads", ed25519.SeedSize, &seed}} {
		var err error
		if *d.to, err = hkdf.Key(sha256.New, secret, nil, d.label, d.size); err != nil {
			return nil, fmt.Errorf("derive %s: %w", d.label, err)
		}
	}
	k.id, k.sign = hex.EncodeToString(id), ed25519.NewKeyFromSeed(seed)
	return k, nil
}

// PublicKey is what heads are verified with.
func (k *Keys) PublicKey() ed25519.PublicKey { return k.sign.Public().(ed25519.PublicKey) }

// macBytes is what a sealed entry ends with: the length of its MAC, one byte, and the MAC.
const macBytes = 1 + sha256.Size

// genuine says whether a value was written under the audit key, as an entry of this partition's chain.
func (k *Keys) genuine(partition int32, value []byte) bool {
	if len(value) < macBytes || value[len(value)-macBytes] != 2*sha256.Size {
		return false
	}
	m := hmac.New(sha256.New, k.mac)
	_ = binary.Write(m, binary.BigEndian, partition)
	_, _ = m.Write(value[:len(value)-macBytes])
	return hmac.Equal(m.Sum(nil), value[len(value)-sha256.Size:])
}

// commitment is what stands for a text in the log.
func (k *Keys) commitment(salt []byte, text string) []byte {
	m := hmac.New(sha256.New, k.commit)
	_ = binary.Write(m, binary.BigEndian, uint32(len(salt)))
	_, _ = m.Write(salt)
	_, _ = m.Write([]byte(text))
	return m.Sum(nil)
}

// headText is what is signed.
func headText(h *codecs.AuditHead) []byte {
	b := []byte("civicbus audit head\x00")
	b = binary.BigEndian.AppendUint32(b, uint32(h.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Number))
	b = binary.BigEndian.AppendUint64(b, uint64(h.At))
	return append(b, h.Hash...)
}

// Sign makes a head.
func (k *Keys) Sign(partition int32, number int64, hash []byte, at int64) codecs.AuditHead {
	h := codecs.AuditHead{Partition: partition, Number: number, Hash: hash, At: at, PublicKey: k.PublicKey()}
	h.Signature = ed25519.Sign(k.sign, headText(&h))
	return h
}

// CheckHead tells whether a head is signed by the holder of the public key, which must come from elsewhere than the head;
// else ErrBadHead.
func CheckHead(h *codecs.AuditHead, public ed25519.PublicKey) error {
	if len(public) != ed25519.PublicKeySize || !ed25519.Verify(public, headText(h), h.Signature) {
		return fmt.Errorf("head of partition %d at number %d: %w", h.Partition, h.Number, ErrBadHead)
	}
	return nil
}

package pseudonym

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
	"sync"

	"civicbus/internal/flaw"
)

// CorrelationPrefix begins each subscriber's name of a life event.
const CorrelationPrefix = "c1."

const (
	checkBytes  = 8
	sealedBytes = idBytes + checkBytes
	sealedSize  = 3 + sealedBytes/3*4 // 24 bytes are 32 characters, without padding
)

// Pairwise is one subscriber's view of subjects and life events. Safe for concurrent use.
type Pairwise struct {
	subjects, events *sealer
}

// For gives the subscriber's own keys, derived from the bus key once and then kept. subscriber is an organisation id of
// the trust registry: callers check that first, since every new one is kept for the life of Keys.
func (k *Keys) For(subscriber string) *Pairwise {
	if p, ok := k.pairwise.Load(subscriber); ok {
		return p.(*Pairwise)
	}
	if flaw.Planted(flaw.SubjectShared) {
		subscriber = ""
	}
	p, _ := k.pairwise.LoadOrStore(subscriber, &Pairwise{
		subjects: newSealer(k.secret, PairwisePrefix, "civicbus pairwise subject 1:"+subscriber),
		events:   newSealer(k.secret, CorrelationPrefix, "civicbus pairwise event 1:"+subscriber),
	})
	return p.(*Pairwise)
}

// Seal gives the pairwise pseudonym of a bus pseudonym, or ErrMalformedSubject if it is none.
func (p *Pairwise) Seal(subject string) (string, error) {
	raw, ok := parseSubject(subject)
	if !ok {
		return "", ErrMalformedSubject
	}
	var out [sealedSize]byte
	p.subjects.seal(&out, &raw)
	return string(out[:]), nil
}

// AppendSeal is Seal for a caller that holds bytes: it allocates nothing when dst has room for 35 more.
func (p *Pairwise) AppendSeal(dst []byte, subject string) ([]byte, error) {
	raw, ok := parseSubject(subject)
	if !ok {
		return dst, ErrMalformedSubject
	}
	var out [sealedSize]byte
	p.subjects.seal(&out, &raw)
	return append(dst, out[:]...), nil
}

// Open gives the bus pseudonym back, or ErrUnknownSubject for what this subscriber was never given. An invented text
// passes with probability 2^-64.
func (p *Pairwise) Open(text string) (subject string, err error) {
	raw, ok := p.subjects.open(text)
	if !ok {
		return "", ErrUnknownSubject
	}
	var out [subjectSize]byte
	copy(out[:], SubjectPrefix)
	text64.Encode(out[len(SubjectPrefix):], raw[:])
	return string(out[:]), nil
}

// SealID gives the subscriber's own name of a life event, its ce_correlationid. Its keys are others than a subject's, so
// that neither can be passed off as the other. What is no life event id gives the empty string.
func (p *Pairwise) SealID(lifeEventID string) string {
	var out [sealedSize]byte
	return string(p.AppendSealID(out[:0], lifeEventID))
}

// AppendSealID is SealID for a caller that holds bytes: it allocates nothing when dst has room for 35 more.
func (p *Pairwise) AppendSealID(dst []byte, lifeEventID string) []byte {
	raw, ok := parseLifeEvent(lifeEventID)
	if !ok {
		return dst
	}
	var out [sealedSize]byte
	p.events.seal(&out, &raw)
	return append(dst, out[:]...)
}

// OpenID gives the life event id back, or ErrUnknownSubject: for an operator who is asked about a delivery.
func (p *Pairwise) OpenID(text string) (lifeEventID string, err error) {
	raw, ok := p.events.open(text)
	if !ok {
		return "", ErrUnknownSubject
	}
	return hex.EncodeToString(raw[:]), nil
}

// sealer is one keyed permutation of 16 bytes with its check.
type sealer struct {
	prefix string
	block  cipher.Block
	mac    cmac
	works  sync.Pool // of *work
}

// work is the scratch space of one call; behind interfaces the compiler would put it on the heap each time.
type work struct {
	raw   [sealedBytes]byte
	chain chain
	in    [sealedSize]byte
}

func newSealer(secret []byte, prefix, info string) *sealer {
	// 32 bytes for each of two AES-256: far below HKDF's limit of 255 hashes, the one error that Key knows outside FIPS
	// mode, where a secret below 14 bytes is refused too.
	keys, err := hkdf.Key(sha256.New, secret, nil, info, 64)
	if err != nil {
		panic("pseudonym: derive pairwise keys: " + err.Error())
	}
	s := &sealer{prefix: prefix, block: newBlock(keys[:32]), mac: newCMAC(keys[32:])}
	s.works.New = func() any { return &work{} }
	return s
}

func newBlock(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("pseudonym: make pairwise cipher: " + err.Error())
	}
	return block
}

func (s *sealer) seal(out *[sealedSize]byte, raw *[idBytes]byte) {
	w := s.works.Get().(*work)
	defer s.works.Put(w)
	copy(w.raw[:], raw[:])
	s.block.Encrypt(w.raw[:idBytes], w.raw[:idBytes])
	copy(w.raw[idBytes:], s.check(w))
	copy(out[:], s.prefix)
	text64.Encode(out[len(s.prefix):], w.raw[:])
}

func (s *sealer) open(text string) (raw [idBytes]byte, ok bool) {
	if len(text) != sealedSize || !strings.HasPrefix(text, s.prefix) {
		return raw, false
	}
	w := s.works.Get().(*work)
	defer s.works.Put(w)
	copy(w.in[:], text)
	n, err := text64.Decode(w.raw[:], w.in[len(s.prefix):])
	if err != nil || n != sealedBytes {
		return raw, false
	}
	if subtle.ConstantTimeCompare(w.raw[idBytes:], s.check(w)) != 1 {
		return raw, false
	}
	s.block.Decrypt(w.raw[:idBytes], w.raw[:idBytes])
	copy(raw[:], w.raw[:])
	return raw, true
}

// check is computed over the ciphertext in raw.
func (s *sealer) check(w *work) []byte {
	w.chain = chain{}
	s.mac.finish(&w.chain, (*[idBytes]byte)(w.raw[:]))
	return w.chain.sum[:checkBytes]
}

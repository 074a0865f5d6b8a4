package pseudonym

import (
	"crypto/aes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"sync"
)

// Deliveries is what the delivery ids of one event about one subject begin with. It belongs to the Keys that made it, and is
// not changed by use.
type Deliveries struct{ sum [aes.BlockSize]byte }

// SubscriptionDigest is what a delivery id takes of a subscription's id.
type SubscriptionDigest [aes.BlockSize]byte

// DigestOf is for one subscription, and worth keeping.
func DigestOf(subscription string) SubscriptionDigest {
	sum := sha256.Sum256([]byte(subscription))
	return SubscriptionDigest(sum[:aes.BlockSize])
}

// Delivery names what one subscription gets of one event about one subject: 32 hexadecimal digits. It depends on nothing
// else, so that every way and every repeat gives it again. subject is the bus pseudonym; what is none gives the empty string.
//
// It is AES-CMAC of three blocks, under a key of its own: the life event id, the subject, and 16 bytes of the subscription's
// SHA-256. The router makes five an event, and shares what they have in common.
func (k *Keys) Delivery(source, id, subject, subscription string) string {
	of, ok := k.DeliveriesOf(k.LifeEvent(source, id), subject)
	if !ok {
		return ""
	}
	digest := DigestOf(subscription)
	var out [2 * idBytes]byte
	return string(k.AppendDelivery(out[:0], &of, &digest))
}

// DeliveriesOf begins the ids of an event's deliveries; false: what is given is no life event id, or no bus pseudonym.
func (k *Keys) DeliveriesOf(lifeEvent, subject string) (of Deliveries, ok bool) {
	about, ok := parseSubject(subject)
	if !ok {
		return of, false
	}
	event, ok := parseLifeEvent(lifeEvent)
	if !ok {
		return of, false
	}
	w := k.deliveries.works.Get().(*chain)
	defer k.deliveries.works.Put(w)
	w.sum = [aes.BlockSize]byte{}
	k.deliveries.mac.absorb(w, &event)
	k.deliveries.mac.absorb(w, &about)
	return Deliveries{w.sum}, true
}

// AppendDelivery appends the id for one subscription: it allocates nothing when dst has room for 32 more.
func (k *Keys) AppendDelivery(dst []byte, of *Deliveries, subscription *SubscriptionDigest) []byte {
	w := k.deliveries.works.Get().(*chain)
	defer k.deliveries.works.Put(w)
	w.sum = of.sum
	k.deliveries.mac.finish(w, (*[aes.BlockSize]byte)(subscription))
	return hex.AppendEncode(dst, w.sum[:idBytes])
}

func parseLifeEvent(text string) (raw [idBytes]byte, ok bool) {
	var in [2 * idBytes]byte
	if copy(in[:], text); len(text) != len(in) {
		return raw, false
	}
	_, err := hex.Decode(raw[:], in[:])
	return raw, err == nil
}

// deliveries is the key of delivery ids.
type deliveries struct {
	mac   cmac
	works sync.Pool // of *chain
}

func newDeliveries(secret []byte) *deliveries {
	key, err := hkdf.Key(sha256.New, secret, nil, "civicbus delivery 1", 32)
	if err != nil {
		panic("pseudonym: derive the key of delivery ids: " + err.Error())
	}
	d := &deliveries{mac: newCMAC(key)}
	d.works.New = func() any { return &chain{} }
	return d
}

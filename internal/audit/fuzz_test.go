package audit_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"civicbus/internal/audit"
	"civicbus/internal/mutant"
)

// FuzzChain: in the place of an entry any other bytes are found. An input begins with the entry's number in the chain (five
// bits) and says whether the verifier has the audit key (32) and a head (64); then come the bytes.
func FuzzChain(f *testing.F) {
	records, log := written(f, 32)
	keys, err := audit.NewKeys(secret)
	must(f, err)
	heads := headsOf(keys, [][][]byte{log})
	var seeds [][]byte
	for i := range log {
		seeds = append(seeds, append([]byte{byte(i | i%4<<5)}, log[i]...))
	}
	mutant.Fuzz(f, 1<<8, func(tb testing.TB, in []byte) bool {
		if len(in) == 0 {
			return false
		}
		i := int(in[0] & 31)
		key, vouched := keys, heads
		if in[0]&32 == 0 {
			key = nil
		}
		if in[0]&64 == 0 {
			vouched = nil
		}
		c := audit.NewChain(0, key, records.AuditEntry.Decode, vouched, 0)
		if i > 0 { // as if those before it had been walked
			before, err := records.AuditEntry.Decode(log[i])
			must(tb, err)
			c.Number, c.Hash = int64(i), before.Previous
		}
		c.Add(1, in[1:])
		for j := i + 1; j < min(len(log), i+3); j++ {
			c.Add(int64(j), log[j])
		}
		found, same := c.Finding(), bytes.Equal(in[1:], log[i])
		whole := vouched == nil || i+3 >= len(log) // else the head finds that the walk ended too soon
		switch {
		case same && whole && found != nil:
			tb.Fatalf("the entry itself: %s", found)
		case !same && (key != nil || i+1 < len(log) || vouched != nil) && found == nil:
			tb.Fatalf("entry %d: other bytes are not found", i+1)
		}
		return same
	}, seeds...)
}

// FuzzReadHeads: heads that are read are written as the same, and a head that was not signed is refused.
func FuzzReadHeads(f *testing.F) {
	keys, err := audit.NewKeys(secret)
	must(f, err)
	signed := keys.Sign(3, 7, bytes.Repeat([]byte{5}, 32), 1_750_000_000_000) // the same in each run: what is kept was signed too
	text, err := json.Marshal(signed)
	must(f, err)
	mutant.Fuzz(f, 1<<6, func(tb testing.TB, in []byte) bool {
		heads, err := audit.ReadHeads(bytes.NewReader(in))
		if err != nil {
			return false
		}
		var out bytes.Buffer
		for i := range heads {
			h := &heads[i]
			if audit.CheckHead(h, keys.PublicKey()) == nil && (h.Number != signed.Number || h.Partition != signed.Partition || h.At != signed.At || !bytes.Equal(h.Hash, signed.Hash)) {
				tb.Fatalf("%+v was never signed", h)
			}
			must(tb, json.NewEncoder(&out).Encode(h))
		}
		again, err := audit.ReadHeads(&out)
		if err != nil || !reflect.DeepEqual(heads, again) {
			tb.Fatalf("%+v became %+v, %v", heads, again, err)
		}
		return len(heads) > 0
	}, append(text, '\n'), append(append(bytes.Clone(text), '\n'), text...))
}

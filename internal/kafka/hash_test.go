package kafka

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestHashAgrees puts 100,000 random keys where franz-go's default partitioner (and so Kafka's) puts them, and where goka's
// views and joins look for them with our hasher: hash.Sum32 as int32, negated when it is negative, modulo the partitions.
func TestHashAgrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	topic := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for range 100_000 {
		key := make([]byte, 1+rng.IntN(64))
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		n := 1 + rng.IntN(200)
		want := topic.Partition(&kgo.Record{Key: key}, n)
		if got := Partition(key, int32(n)); int(got) != want {
			t.Fatalf("key %x of %d partitions: %d, want %d", key, n, got, want)
		}
		h := Hasher()
		_, _ = h.Write(key[:len(key)/2])
		_, _ = h.Write(key[len(key)/2:])
		goka := int32(h.Sum32())
		if goka < 0 {
			goka = -goka
		}
		if int(goka)%n != want {
			t.Fatalf("key %x of %d partitions: goka looks in %d, want %d", key, n, int(goka)%n, want)
		}
		h.Reset()
		if _, _ = h.Write(key); h.Sum32() != uint32(goka) {
			t.Fatal("Reset does not reset")
		}
	}
	// Kafka's own test values (UtilsTest.testMurmur2).
	for key, want := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

package kafka

import (
	"hash"
	"unsafe"
)

// Hasher returns the hash that goka must use in every group, view and emitter: murmur2 masked to 31 bits, which is what
// Kafka's own clients (and franz-go's default partitioner) do before the modulus (Utils.murmur2 and Utils.toPositive in
// Apache Kafka). goka's default, FNV-1a, agrees with it on one key in twelve, so joins would miss silently. The mask also
// keeps goka from negating a sum, which for 0x80000000 stays negative and kills a view.
func Hasher() hash.Hash32 { return &murmur{} }

type murmur struct{ key []byte }

func (m *murmur) Write(p []byte) (int, error) { m.key = append(m.key, p...); return len(p), nil }
func (m *murmur) Sum32() uint32               { return murmur2(m.key) & 0x7fffffff }
func (m *murmur) Reset()                      { m.key = m.key[:0] }
func (m *murmur) Size() int                   { return 4 }
func (m *murmur) BlockSize() int              { return 4 }
func (m *murmur) Sum(b []byte) []byte {
	s := m.Sum32()
	return append(b, byte(s>>24), byte(s>>16), byte(s>>8), byte(s))
}

// Partition is the partition of n on which Kafka's default partitioner puts a key.
func Partition(key []byte, n int32) int32 { return int32(murmur2(key)&0x7fffffff) % n }

// PartitionOf is Partition of a key that is a text.
func PartitionOf(key string, n int32) int32 {
	return Partition(unsafe.Slice(unsafe.StringData(key), len(key)), n)
}

// murmur2 is Austin Appleby's MurmurHash2 (32 bit, seed 0x9747b28c), the one that Apache Kafka uses.
func murmur2(b []byte) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
	)
	h := seed ^ uint32(len(b))
	for len(b) >= 4 {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		b = b[4:]
		k *= m
		k ^= k >> 24
		k *= m
		h *= m
		h ^= k
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}

package kafka

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/twmb/franz-go/pkg/kgo"
)

// recordBatch is a Kafka record batch (magic 2) in the making: records are encoded into it as they come, so that nothing of
// a record that was appended is kept. The zero value is an empty batch.
//
// The format is Kafka's (https://kafka.apache.org/documentation/#recordbatch): a header of 61 bytes, then the records, each
// with its length before it, compressed as a whole.
type recordBatch struct {
	records []byte // encoded, not compressed
	n       int32
	first   int64 // timestamp of the first record, milliseconds since 1970; of the others the difference is kept
	last    int64 // the latest timestamp
}

// batchHeaderBytes is the size of a record batch before its first record.
const batchHeaderBytes = 61

// Attributes of a batch.
const (
	attrSnappy        = 2
	attrTransactional = 1 << 4
)

// minCompressed is the size below which compressing a batch gains nothing.
const minCompressed = 128

// size is what the batch takes uncompressed.
func (b *recordBatch) size() int { return batchHeaderBytes + len(b.records) }

// Output is a record on its way into a transaction, with headers that are encoded already.
type Output struct {
	Topic      string
	Key, Value []byte
	Headers    []byte // as AppendHeader makes them, one behind the other
	Count      int    // of the headers
}

// AppendHeader appends a record's header as it stands in a record batch. Headers that many records share can be encoded once.
func AppendHeader(dst []byte, name string, value []byte) []byte {
	dst = append(binary.AppendVarint(dst, int64(len(name))), name...)
	return appendBytes(dst, value)
}

// Record is the output as a record; it shares key and value with it. Headers that AppendHeader did not make are left out.
func (o *Output) Record() *kgo.Record {
	r := &kgo.Record{Topic: o.Topic, Key: o.Key, Value: o.Value}
	for rest := o.Headers; len(r.Headers) < o.Count; {
		name, after, ok := cutBytes(rest)
		if !ok {
			break
		}
		value, after, ok := cutBytes(after)
		if !ok {
			break
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(name), Value: value})
		rest = after
	}
	return r
}

// cutBytes undoes appendBytes.
func cutBytes(b []byte) (cut, rest []byte, ok bool) {
	n, used := binary.Varint(b)
	if used <= 0 || n > int64(len(b)-used) {
		return nil, nil, false
	}
	if b = b[used:]; n < 0 {
		return nil, b, true
	}
	return slices.Clone(b[:n]), b[n:], true
}

// output encodes a record's headers, into room.
func output(r *kgo.Record, room []byte) Output {
	for i := range r.Headers {
		room = AppendHeader(room, r.Headers[i].Key, r.Headers[i].Value)
	}
	return Output{r.Topic, r.Key, r.Value, room, len(r.Headers)}
}

// size is at most what the output adds to a batch.
func (o *Output) size() int {
	return 6*binary.MaxVarintLen32 + len(o.Key) + len(o.Value) + len(o.Headers)
}

// append encodes an output, written at a time given in milliseconds since 1970, and keeps nothing of it.
func (b *recordBatch) append(o *Output, at int64) {
	if b.n == 0 {
		b.first, b.last = at, at
	}
	if b.records == nil {
		b.records = make([]byte, 0, firstRoom)
	}
	b.last = max(b.last, at)
	length := 1 + varintSize(at-b.first) + varintSize(int64(b.n)) + bytesSize(o.Key) + bytesSize(o.Value) + varintSize(int64(o.Count)) + len(o.Headers)
	dst := binary.AppendVarint(b.records, int64(length))
	dst = append(dst, 0) // attributes: none are defined for a record
	dst = binary.AppendVarint(dst, at-b.first)
	dst = binary.AppendVarint(dst, int64(b.n))
	dst = appendBytes(dst, o.Key)
	dst = appendBytes(dst, o.Value)
	dst = binary.AppendVarint(dst, int64(o.Count))
	b.records = append(dst, o.Headers...)
	b.n++
}

// varintSize is how many bytes binary.AppendVarint takes for v.
func varintSize(v int64) int { return (bits.Len64(uint64(v<<1)^uint64(v>>63)|1) + 6) / 7 }

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

// appendBytes appends bytes behind their length; nil is length -1.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the finished batch to dst: part of a transaction of that producer, its first record with that sequence number.
func (b *recordBatch) seal(dst []byte, producer int64, epoch int16, sequence int32) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, batchHeaderBytes)...)
	attributes := uint16(attrTransactional)
	if len(b.records) < minCompressed {
		dst = append(dst, b.records...)
	} else {
		from, most := len(dst), s2.MaxEncodedLen(len(b.records))
		if cap(dst)-from < most {
			dst = append(make([]byte, 0, cap(dst)+most), dst...)
		}
		dst = dst[:from+len(s2.EncodeSnappy(dst[from:from+most], b.records))]
		attributes |= attrSnappy
	}
	h := dst[at:]
	be := binary.BigEndian // base offset 0
	be.PutUint32(h[8:], uint32(len(h)-12))
	be.PutUint32(h[12:], ^uint32(0)) // leader epoch: the broker's to fill in
	h[16] = 2
	be.PutUint16(h[21:], attributes)
	be.PutUint32(h[23:], uint32(b.n-1))
	be.PutUint64(h[27:], uint64(b.first))
	be.PutUint64(h[35:], uint64(b.last))
	be.PutUint64(h[43:], uint64(producer))
	be.PutUint16(h[51:], uint16(epoch))
	be.PutUint32(h[53:], uint32(sequence))
	be.PutUint32(h[57:], uint32(b.n))
	be.PutUint32(h[17:], crc32.Checksum(h[21:], castagnoli))
	return dst
}

// reset empties the batch and keeps its room, unless that is large and was hardly used.
func (b *recordBatch) reset() {
	room := b.records[:0]
	if cap(room) > smallRoom && len(b.records) < cap(room)/4 {
		room = nil
	}
	*b = recordBatch{records: room}
}

// firstRoom is what a batch begins with: a few records.
const firstRoom = 4 << 10

// smallRoom is memory that an idle batch may keep: a thousand output partitions keep 64 MB at most.
const smallRoom = 64 << 10

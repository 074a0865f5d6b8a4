package mutant

import (
	"encoding/binary"
	"math/rand/v2"
)

const (
	maxInput = 4 << 10 // bytes of nearly every input
	poolSize = 1_024   // inputs that were accepted and are changed again

	// One input in so many is blown up, so that the bound on memory and the time show what grows faster than the input.
	seldom     = 2_000
	blownInput = 256 << 10 // bytes, at most
)

// maker makes inputs of others.
type maker struct {
	random *rand.Rand
	seeds  [][]byte
	pool   [][]byte
	buffer []byte
}

func newMaker(seed int, seeds [][]byte) *maker {
	return &maker{random: rand.New(rand.NewPCG(uint64(seed), 0)), seeds: seeds}
}

func (m *maker) keep(input []byte) {
	switch {
	case len(input) > maxInput:
	case len(m.pool) < poolSize:
		m.pool = append(m.pool, append([]byte(nil), input...))
	case m.random.IntN(64) == 0: // the pool is to stay different
		i := m.random.IntN(poolSize)
		m.pool[i] = append(m.pool[i][:0], input...)
	}
}

func (m *maker) pick() []byte {
	if len(m.pool) > 0 && m.random.IntN(2) == 0 {
		return m.pool[m.random.IntN(len(m.pool))]
	}
	return m.seeds[m.random.IntN(len(m.seeds))]
}

// next changes an input in one to four places. What it gives is valid until it is called again.
func (m *maker) next() []byte {
	m.buffer = append(m.buffer[:0], m.pick()...)
	for range 1 + m.random.IntN(4) {
		m.change()
	}
	if len(m.buffer) > maxInput {
		m.buffer = m.buffer[:maxInput]
	}
	if m.random.IntN(seldom) == 0 {
		m.blow()
	}
	return m.buffer
}

// blow repeats a part of the input until it has a size far beyond the usual.
func (m *maker) blow() {
	n := len(m.buffer)
	if n == 0 {
		return
	}
	from := m.random.IntN(n)
	to := from + 1 + m.random.IntN(min(n-from, 1<<m.random.IntN(9)))
	part, tail := append([]byte(nil), m.buffer[from:to]...), append([]byte(nil), m.buffer[to:]...)
	size := maxInput + m.random.IntN(blownInput-maxInput)
	m.buffer = m.buffer[:to]
	for len(m.buffer)+len(part)+len(tail) <= size {
		m.buffer = append(m.buffer, part...)
	}
	m.buffer = append(m.buffer, tail...)
}

// telling are bytes and texts at which decoders part ways: ends of ranges, counts that lie, brackets that nest.
var telling = [][]byte{
	{0}, {1}, {2}, {0x7f}, {0x80}, {0xff}, {0xfe, 0xff, 0xff, 0xff, 0x0f}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, {0xed, 0xa0, 0x80}, {0xc0, 0x80}, []byte("\ufffd"), []byte("\u0130"),
	[]byte("["), []byte("]"), []byte("{"), []byte("}"), []byte("[[[[[[[["), []byte(`{"a":`), []byte(`"`), []byte(`\u0000`), []byte(`\ud83d`), []byte("null"),
	[]byte("true"), []byte("-"), []byte("1e999"), []byte("9223372036854775808"), []byte("0.1"), []byte("("), []byte(")"), []byte("!"), []byte(","), []byte(":"),
	[]byte("."), []byte("'"), []byte("\n"), []byte(" "), []byte("data."), []byte("010190-900Y"), []byte("&"), []byte("*"), []byte("~"),
}

func (m *maker) change() {
	b, n := m.buffer, len(m.buffer)
	if n == 0 {
		m.buffer = append(b, telling[m.random.IntN(len(telling))]...)
		return
	}
	i := m.random.IntN(n)
	switch m.random.IntN(9) {
	case 0:
		b[i] ^= 1 << m.random.IntN(8)
	case 1:
		b[i] = byte(m.random.Uint32())
	case 2:
		b[i] += byte(m.random.IntN(9)) - 4
	case 3:
		m.insert(i, telling[m.random.IntN(len(telling))])
	case 4:
		copy(b[i:], telling[m.random.IntN(len(telling))])
	case 5: // a part is lost
		end := i + 1 + m.random.IntN(min(16, n-i))
		m.buffer = append(b[:i], b[end:]...)
	case 6: // a part comes twice
		m.insert(m.random.IntN(n), append([]byte(nil), b[i:min(n, i+1+m.random.IntN(16))]...))
	case 7: // a part of another
		other := m.pick()
		if len(other) > 0 {
			j := m.random.IntN(len(other))
			m.insert(i, append([]byte(nil), other[j:min(len(other), j+1+m.random.IntN(64))]...))
		}
	case 8: // a number of any size
		m.insert(i, binary.AppendVarint(nil, m.random.Int64()>>m.random.IntN(64)))
	}
}

func (m *maker) insert(i int, part []byte) {
	if len(m.buffer)+len(part) > maxInput {
		return
	}
	tail := append([]byte(nil), m.buffer[i:]...)
	m.buffer = append(append(m.buffer[:i], part...), tail...)
}

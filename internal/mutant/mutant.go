// Package mutant feeds a target with many changed inputs in a plain loop: no coverage is measured, so an input costs little
// more than what is tested, and ten million are a matter of minutes. It is for tests alone, beside Go's own fuzzing, which
// finds new shapes, and whose corpus in testdata/fuzz it starts from.
package mutant

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	defaultInputs = 5_000   // of a target in an ordinary test run: a fraction of a second
	maxInput      = 4 << 10 // bytes of one input
	poolSize      = 1_024   // inputs that were accepted and are changed again
	freeBytes     = 4 << 20 // that an input may allocate whatever its size: what the runtime counts comes in spans
)

// Target is what is tested. Accepted says that an input was valid; such inputs are changed again, so that the changes go
// deep. It fails tb itself where something does not hold; tb is the test's, so that a failed run names the input.
type Target func(tb testing.TB, input []byte) (accepted bool)

// Run calls a target with as many inputs as CIVICBUS_FUZZ_INPUTS says (5,000 if it is not set), all from one seed
// (CIVICBUS_FUZZ_SEED, else 1), and fails if one allocates more than 4 MiB and perByte bytes for each of its own. The log says
// how many inputs there were and how many were accepted; none at all fails too, since nothing was tested then.
func Run(t *testing.T, seeds [][]byte, perByte int, target Target) {
	t.Helper()
	inputs, seed := number(t, "CIVICBUS_FUZZ_INPUTS", defaultInputs), number(t, "CIVICBUS_FUZZ_SEED", 1)
	m := &maker{random: rand.New(rand.NewPCG(uint64(seed), 0)), seeds: seeds}
	var input []byte
	var at int
	defer func() { // a panic would not say on what
		if p := recover(); p != nil {
			t.Fatalf("input %d of seed %d, %q: %v\n%s", at, seed, input, p, debug.Stack())
		} else if t.Failed() {
			t.Logf("input %d of seed %d: %q", at, seed, input)
		}
	}()
	accepted, began, most := 0, time.Now(), uint64(0)
	for at = range inputs {
		if at < len(seeds) {
			input = seeds[at]
		} else {
			input = m.next()
		}
		before := allocated()
		ok := target(t, input)
		grown := allocated() - before
		most = max(most, grown)
		if grown > freeBytes+uint64(perByte*len(input)) {
			t.Fatalf("%d bytes made it allocate %d", len(input), grown)
		}
		if ok {
			accepted++
			m.keep(input)
		}
	}
	t.Logf("%d inputs, %d accepted, in %v; at most %d bytes allocated for one", inputs, accepted, time.Since(began).Round(time.Millisecond), most)
	if accepted == 0 {
		t.Error("no input was accepted: the seeds are wrong")
	}
}

func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is no number: %q", name, text)
	}
	return n
}

var sample = []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}

// allocated counts the bytes allocated by the process so far. It does not stop the world, so an input can pay for it.
func allocated() uint64 {
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Corpus adds what Go's fuzzing kept for a target of one []byte or string argument, or of a byte and one of these, which
// then comes first.
func Corpus(tb testing.TB, fuzz string) [][]byte {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", fuzz, "*"))
	if err != nil {
		tb.Fatal(err)
	}
	var out [][]byte
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		var input []byte
		for line := range strings.Lines(string(text)) {
			kind, quoted, ok := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), ")"), "(")
			if !ok {
				continue
			}
			switch kind {
			case "byte":
				if v, _, _, err := strconv.UnquoteChar(strings.Trim(quoted, "'"), '\''); err == nil {
					input = append(input, byte(v))
				}
			case "[]byte", "string":
				if v, err := strconv.Unquote(quoted); err == nil {
					input = append(input, v...)
				}
			}
		}
		out = append(out, input)
	}
	return out
}

// maker makes inputs of others.
type maker struct {
	random *rand.Rand
	seeds  [][]byte
	pool   [][]byte
	buffer []byte
}

func (m *maker) keep(input []byte) {
	switch {
	case len(m.pool) < poolSize:
		m.pool = append(m.pool, append([]byte(nil), input...))
	case m.random.IntN(64) == 0: // seldom: the pool is to stay different
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
	return m.buffer
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

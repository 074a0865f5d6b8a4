package kafka

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// drawKey draws one of some hundred keys: short ones, subjects, and what only looks like a subject.
var drawKey = rapid.OneOf(
	rapid.Map(rapid.IntRange(0, 60), func(n int) string { return fmt.Sprint(n) }),
	rapid.Map(rapid.IntRange(0, 40), subjectOf),
	rapid.Map(rapid.IntRange(0, 9), func(n int) string { return subjectOf(n)[:subjectText-1] + "B" }),
	rapid.Map(rapid.IntRange(0, 9), func(n int) string { return string(bytes.Repeat([]byte{byte(n)}, subjectKey)) }), // what a subject is stored as
	rapid.SampledFrom([]string{"", "k1.", "k2." + subjectOf(0)[3:], "k1.+" + subjectOf(0)[4:]}))

func subjectOf(n int) string { return shortKey{0, bytes.Repeat([]byte{byte(n)}, subjectKey)}.text() }

// TestArenaIsAMap runs random histories against a Go map. Every value that was ever returned must stay as it was.
func TestArenaIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, model := newArena(), map[string]string{}
		type kept struct {
			value []byte
			want  string
		}
		var held []kept
		size := rapid.SampledFrom([]int{10, 300, 20_000, 40_000, 2_500_000}).Draw(t, "size")
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			key := drawKey.Draw(t, "key")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				a.set(key, nil)
				delete(model, key)
			case 2, 3, 4, 5, 6:
				n := rapid.IntRange(0, 30).Draw(t, "length")
				if often := size <= ownChunk; rapid.IntRange(0, 20).Draw(t, "large") == 0 || often && n > 10 {
					n = size
				}
				value := bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, "byte"))}, n)
				a.set(key, value)
				model[key] = string(value)
			default:
				v, ok := a.get(key)
				want, had := model[key]
				if ok != had || string(v) != want {
					t.Fatalf("key %s: %d bytes, %v; want %d, %v", key, len(v), ok, len(want), had)
				}
				held = append(held, kept{v, want})
			}
		}
		for n := range a.chunks {
			if c := a.chunks[n]; c.waste > c.fill || c.data != nil && c.waste == c.fill && c.fill > 0 && n != a.filled {
				t.Fatalf("chunk %d of %d, filled %d: %d of %d bytes are waste", n, len(a.chunks), a.filled, c.waste, c.fill)
			}
		}
		if a.waste > max(arenaChunk, a.bytes/4)+2*arenaChunk {
			t.Fatalf("%d of %d bytes are waste", a.waste, a.bytes)
		}
		if a.live != len(model) {
			t.Fatalf("%d live keys, want %d", a.live, len(model))
		}
		keys := make([]string, 0, len(model))
		for k := range model {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if got := a.keys(); !slices.Equal(got, keys) {
			t.Fatalf("keys %v, want %v", got, keys)
		}
		for _, h := range held {
			if string(h.value) != h.want {
				t.Fatal("a value changed after it was returned")
			}
		}
	})
}

// TestArenaStaysBounded rewrites rows and deletes keys for ever: what is not live is given back.
func TestArenaStaysBounded(t *testing.T) {
	a := newArena()
	value := make([]byte, 1000)
	for i := range 50_000 {
		a.set(fmt.Sprint(i), value)
		if i >= 100 {
			a.set(fmt.Sprint(i-100), nil)
		}
	}
	held := func(a *arena) (n int) {
		for _, c := range a.chunks {
			n += len(c.data)
		}
		return n
	}
	if a.live != 100 || held(a) > 4*arenaChunk || len(a.chunks) > 8 || len(a.slots) > 1<<9 {
		t.Fatalf("%d keys take %d bytes in %d chunks and %d slots", a.live, held(a), len(a.chunks), len(a.slots))
	}
	for i := range 50_000 { // the same keys over and over, and large rows
		a.set(fmt.Sprint(i*7%1000), value[:i%900])
		if i%50 == 0 {
			a.set("large", make([]byte, ownChunk+i%7*100_000))
		}
	}
	if a.live > 1101 || held(a) > 8*arenaChunk+700_000 || len(a.chunks) > 20 {
		t.Fatalf("%d keys take %d bytes in %d chunks", a.live, held(a), len(a.chunks))
	}
	for _, k := range a.keys() {
		a.set(k, nil)
	}
	if a.live != 0 || len(a.slots) > 2*leastSlots {
		t.Fatalf("nothing takes %d slots", len(a.slots))
	}
	small := newArena()
	small.set("k", value)
	if held(small) > firstChunk {
		t.Fatal("a small table takes a whole chunk")
	}
}

// TestArenaOfSubjects: what a subject's row costs beside its value, at the table's worst and best size.
func TestArenaOfSubjects(t *testing.T) {
	a := newArena()
	value, room := make([]byte, 30), [subjectKey]byte{}
	most := 0.0
	const n = 60_000
	for i := range n {
		binary.LittleEndian.PutUint64(room[:], uint64(i)*0x9e3779b97f4a7c15)
		a.set(shortKey{0, room[:]}.text(), value)
		if i > n/2 {
			most = max(most, float64(8*len(a.slots))/float64(i+1))
		}
	}
	if perRow := a.bytes / n; perRow != 18+len(value) || most > 13.5 {
		t.Fatalf("%d bytes a row, %.1f in the table", perRow, most)
	}
	probes := 0
	for slot, s := range a.slots {
		if s != 0 {
			probes += (slot - a.home(s>>arenaPosBits) + len(a.slots)) % len(a.slots)
		}
	}
	if probes > 3*n {
		t.Fatalf("%d keys stand %d slots from home", n, probes)
	}
}

// TestSubjectKeys compares with the standard decoder: a key is shortened exactly when it is a subject's own text.
func TestSubjectKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringOfN(rapid.RuneFrom([]rune("ABQgwxyz0189-_+/=")), 22, 22, -1), rapid.StringN(0, 30, -1)).Draw(t, "text")
		var room [subjectKey]byte
		k := shorten(subjectPrefix+text, &room)
		want, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if is := err == nil && len(text) == 22 && !strings.ContainsAny(text, "\r\n"); is != (k.form == 0) || is && !bytes.Equal(k.bytes, want) {
			t.Fatalf("%q: form %d, %x; want %x, %v", text, k.form, k.bytes, want, err)
		}
		if got := k.text(); got != subjectPrefix+text {
			t.Fatalf("%q came back as %q", subjectPrefix+text, got)
		}
	})
}

func BenchmarkArena(b *testing.B) {
	const n = 1 << 17
	keys := make([]string, n)
	var room [subjectKey]byte
	for i := range keys {
		binary.LittleEndian.PutUint64(room[:], uint64(i)*0x9e3779b97f4a7c15)
		keys[i] = shortKey{0, room[:]}.text()
	}
	value := make([]byte, 30)
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			a := newArena()
			for _, k := range keys {
				a.set(k, value)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
	})
	a := newArena()
	for _, k := range keys {
		a.set(k, value)
	}
	i := 0
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			a.get(keys[i*7919%n])
			i++
		}
	})
	b.Run("overwrite", func(b *testing.B) {
		for b.Loop() {
			a.set(keys[i*7919%n], value)
			i++
		}
	})
}

// TestTableReadersKeepTheirRows reads under the table's lock and uses the row after it, while rows are rewritten.
func TestTableReadersKeepTheirRows(t *testing.T) {
	tb := newTable("t", 0, false, nil)
	o := &opened{table: tb}
	if err := o.Open(); err != nil {
		t.Fatal(err)
	}
	row := func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 5000) }
	for k := range 100 {
		if err := o.Set(fmt.Sprint(k), row(k)); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				v, err := o.Get(fmt.Sprint(i % 100))
				if err != nil || len(v) != 5000 {
					t.Errorf("%d bytes, %v", len(v), err)
					return
				}
				for _, b := range v {
					if b != v[0] {
						t.Error("a row was overwritten under its reader")
						return
					}
				}
			}
		}()
	}
	for i := range 5000 {
		if err := o.Set(fmt.Sprint(i%100), row(i)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
}

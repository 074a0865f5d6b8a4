package kafka

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestArenaIsAMap runs random histories against a Go map. Every value that was ever returned must stay as it was.
func TestArenaIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, model := newArena(), map[string]string{}
		type kept struct {
			value []byte
			want  string
		}
		var held []kept
		size := rapid.SampledFrom([]int{10, 300, 40_000, 2_500_000}).Draw(t, "size")
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "key"))
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				a.set(key, nil)
				delete(model, key)
			case 2, 3, 4, 5, 6:
				n := rapid.IntRange(0, 30).Draw(t, "length")
				if rapid.IntRange(0, 20).Draw(t, "large") == 0 {
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
	if a.live != 100 || a.bytes > 4*arenaChunk || len(a.slots) > 1<<14 {
		t.Fatalf("%d keys take %d bytes and %d slots", a.live, a.bytes, len(a.slots))
	}
	if small := newArena(); func() int { small.set("k", value); return len(small.chunks[0]) }() > firstChunk {
		t.Fatal("a small table takes a whole chunk")
	}
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

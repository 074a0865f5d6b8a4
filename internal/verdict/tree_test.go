package verdict

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTreeIsAMap compares every version of a tree with a Go map of its time, also after later changes, and with hashes so
// poor that keys share them.
func TestTreeIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bits := rapid.SampledFrom([]uint64{0, 3, 0xff, ^uint64(0)}).Draw(rt, "hash bits")
		hash := func(key string) uint64 {
			h := uint64(14695981039346656037)
			for _, c := range []byte(key) {
				h = (h ^ uint64(c)) * 1099511628211
			}
			return (h ^ h>>29) & bits
		}
		type version struct {
			tree tree[int]
			want map[string]int
		}
		now := version{want: map[string]int{}}
		var past []version
		for range rapid.IntRange(1, 8).Draw(rt, "edits") {
			past = append(past, version{now.tree, maps.Clone(now.want)})
			e := new(edit)
			for range rapid.IntRange(1, 40).Draw(rt, "changes") {
				key := fmt.Sprint("k", rapid.IntRange(0, 60).Draw(rt, "key"))
				if rapid.Bool().Draw(rt, "put") {
					value := rapid.Int().Draw(rt, "value")
					now.tree, now.want[key] = now.tree.with(e, hash(key), key, value), value
				} else {
					now.tree = now.tree.without(e, hash(key), key)
					delete(now.want, key)
				}
			}
		}
		for _, v := range append(past, now) {
			if v.tree.size != len(v.want) {
				rt.Fatalf("size %d, want %d", v.tree.size, len(v.want))
			}
			for k := range 61 {
				key := fmt.Sprint("k", k)
				want, there := v.want[key]
				if got, ok := at(v.tree, hash(key), []byte(key)); ok != there || got != want {
					rt.Fatalf("%s: %d %v, want %d %v", key, got, ok, want, there)
				}
			}
			if got, want := slices.Sorted(slices.Values(v.tree.appendTo(nil))), slices.Sorted(maps.Values(v.want)); !slices.Equal(got, want) {
				rt.Fatalf("values %v, want %v", got, want)
			}
		}
	})
}

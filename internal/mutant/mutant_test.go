package mutant

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// failing notes how a target failed, in the place of a test's own failing.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

var kept []byte // so that what a target allocates is not on its stack

// A target that allocates beyond its bound fails, and one within it does not.
func TestTheBoundOnMemoryHolds(t *testing.T) {
	for size, within := range map[int]bool{100: true, freeBytes / 2: true, freeBytes + 50<<10 + 1<<20: false} {
		f := &failing{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			bounded(f, 5, func(testing.TB, []byte) bool { kept = make([]byte, size); return true }, make([]byte, 10<<10))
		}()
		<-done
		if (f.said == "") != within {
			t.Errorf("%d bytes: %q", size, f.said)
		}
	}
	kept = nil
}

// The inputs of a seed are the same each time, differ from one another, and some are large.
func TestInputsFollowFromTheSeed(t *testing.T) {
	seeds := [][]byte{[]byte(`{"a":[1,2,3]}`), {0, 1, 2, 3}}
	one, same, other := newMaker(7, seeds), newMaker(7, seeds), newMaker(8, seeds)
	different, largest := map[string]bool{}, 0
	equal := 0
	for i := range 20_000 {
		a := one.next()
		if !bytes.Equal(a, same.next()) {
			t.Fatalf("input %d differs", i)
		}
		if bytes.Equal(a, other.next()) {
			equal++
		}
		if i%3 == 0 {
			one.keep(a)
			same.keep(a)
		}
		different[string(a)], largest = true, max(largest, len(a))
	}
	if len(different) < 15_000 || equal > 1_000 || largest <= maxInput || largest > blownInput {
		t.Errorf("%d different inputs, %d as of another seed, the largest has %d bytes", len(different), equal, largest)
	}
}

// The corpora of the repository are small, can be read, and hold nobody's identity code.
func TestCorpora(t *testing.T) {
	files, size := 0, int64(0)
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(filepath.ToSlash(path), "/testdata/fuzz/") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files, size = files+1, size+info.Size()
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		input, err := unquoted(text)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if person.Match(input) {
			t.Errorf("%s holds what looks like a person's code", path)
		}
		return nil
	})
	t.Logf("%d files of %d bytes", files, size)
	if err != nil || files > 400 || size > 400<<10 {
		t.Errorf("%d files of %d bytes, %v: bash .ci/fuzz keep makes them anew", files, size, err)
	}
}

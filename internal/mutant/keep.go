package mutant

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// Bounds of a target's corpus: the repository is to stay small.
const (
	largestKept = 4 << 10 // bytes of an input
	mostKept    = 16      // inputs: the largest of those that are worth it, which go deepest
)

// person is a Finnish personal identity code that is not of the test series 900-999.
var person = regexp.MustCompile(`[0-9]{6}[-+A-FU-Y][0-8][0-9]{2}[0-9A-FHJ-NPR-Y]`)

// drawn are the changed inputs that reach tries.
const drawn = 20_000

// keep makes a target's corpus anew: of what is in it, and of what was gathered for it in a folder, the smallest inputs that
// reach statements which the seeds and those before them do not. Nothing that looks like a person's code is kept.
func keep(f *testing.F, from string, target Target, seeds [][]byte) {
	f.Helper()
	measured(f)
	dir := filepath.Join("testdata", "fuzz")
	candidates := append(corpus(f, dir), corpus(f, from)...)
	slices.SortFunc(candidates, func(a, b []byte) int { return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b)) })
	if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil {
		f.Fatal(err)
	}
	for _, seed := range seeds {
		target(f, slices.Clone(seed))
	}
	covered := testing.Coverage()
	var kept [][]byte
	for _, input := range candidates {
		if len(input) > largestKept || person.Match(input) {
			continue
		}
		target(f, slices.Clone(input))
		if now := testing.Coverage(); now > covered {
			covered, kept = now, append(kept, input)
		}
	}
	kept = kept[max(0, len(kept)-mostKept):]
	for _, input := range kept {
		write(f, filepath.Join(dir, f.Name()), input)
	}
	f.Logf("%d of %d inputs kept", len(kept), len(candidates))
}

// reach draws changed inputs, and gathers in a folder those at which the coverage rises: it cannot be set back, so that keep
// must look at them in another run.
func reach(f *testing.F, folder string, target Target, seeds [][]byte) {
	f.Helper()
	measured(f)
	seeds = slices.Concat(seeds, corpus(f, filepath.Join("testdata", "fuzz")), corpus(f, folder))
	for _, seed := range seeds {
		target(f, slices.Clone(seed))
	}
	m, covered := newMaker(number(f, "CIVICBUS_FUZZ_SEED", 1), seeds), testing.Coverage()
	for range drawn {
		input := slices.Clone(m.next())
		accepted := target(f, slices.Clone(input))
		now := testing.Coverage()
		if now > covered {
			write(f, filepath.Join(folder, f.Name()), input)
		}
		if now > covered || accepted {
			m.keep(input)
		}
		covered = now
	}
}

func measured(f *testing.F) {
	f.Helper()
	if testing.CoverMode() == "" {
		f.Fatal("the coverage must be measured: -cover -coverpkg=civicbus/...")
	}
}

// write adds an input in the form of Go's fuzzing, under a name that its bytes give.
func write(tb testing.TB, dir string, input []byte) {
	tb.Helper()
	err := os.MkdirAll(dir, 0o750) //nolint:gosec // a folder of the test's own
	if err == nil {
		name := fmt.Sprintf("%x", sha256.Sum256(input))[:16]
		err = os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", input), 0o600) //nolint:gosec // as above
	}
	if err != nil {
		tb.Fatal(err)
	}
}

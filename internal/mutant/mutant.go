// Package mutant feeds decoders of foreign bytes. Every fuzz target in civicbus is made by Fuzz, which gives it three lives:
//
//   - in an ordinary test run its seeds, its corpus in testdata/fuzz and some thousand changed inputs;
//   - under go test -fuzz, Go's own fuzzing, which measures coverage and so finds new shapes;
//   - with CIVICBUS_FUZZ_INPUTS a plain loop over as many changed inputs as it says. Nothing is measured, so an input costs
//     little more than what is tested, and ten million are a matter of minutes.
//
// In all of them an input may allocate no more than the target's bound, which grows with the input alone. It is for tests.
package mutant

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	defaultInputs = 5_000   // of a target in an ordinary test run: a fraction of a second
	freeBytes     = 4 << 20 // that an input may allocate whatever its size: what the runtime counts comes in spans
)

// Target is what is tested. Accepted says that an input was valid; such inputs are changed again, so that the changes go
// deep. It fails tb itself where something does not hold; tb is the test's, so that a failed run names the input. The input
// is its own until it returns.
type Target func(tb testing.TB, input []byte) (accepted bool)

// Fuzz makes a fuzz target, and is all that its function does after it has prepared. An input may allocate perByte bytes for
// each of its own and 4 MiB besides. Seeds are examples, at least one of which is accepted.
func Fuzz(f *testing.F, perByte int, target Target, seeds ...[]byte) {
	f.Helper()
	for _, seed := range seeds {
		f.Add(seed)
	}
	switch {
	case isSet("test.fuzz"), isSet("test.fuzzworker"):
	case os.Getenv("CIVICBUS_FUZZ_REACH") != "":
		reach(f, os.Getenv("CIVICBUS_FUZZ_REACH"), target, seeds)
	case os.Getenv("CIVICBUS_FUZZ_KEEP") != "":
		keep(f, os.Getenv("CIVICBUS_FUZZ_KEEP"), target, seeds)
	default:
		loop(f, perByte, target, append(slices.Clone(seeds), corpus(f, filepath.Join("testdata", "fuzz"))...))
	}
	f.Fuzz(func(t *testing.T, input []byte) { bounded(t, perByte, target, input) })
}

// isSet says whether a flag of the test binary has another value than its default.
func isSet(name string) bool {
	set := flag.Lookup(name)
	return set != nil && set.Value.String() != set.DefValue
}

// bounded calls the target once and checks what it allocates.
func bounded(tb testing.TB, perByte int, target Target, input []byte) (accepted bool, grown uint64) {
	tb.Helper()
	before := allocated()
	accepted = target(tb, input)
	if grown = allocated() - before; grown > freeBytes+uint64(perByte*len(input)) {
		tb.Fatalf("%d bytes made it allocate %d", len(input), grown)
	}
	return accepted, grown
}

var sample = []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}

// allocated counts the bytes allocated by the process so far. It does not stop the world, so an input can pay for it.
func allocated() uint64 {
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// loop calls a target with as many inputs as CIVICBUS_FUZZ_INPUTS says, all from one seed (CIVICBUS_FUZZ_SEED, else 1). The
// log says how many there were and how many were accepted; none at all fails too, since nothing was tested then.
func loop(f *testing.F, perByte int, target Target, seeds [][]byte) {
	f.Helper()
	inputs, seed := number(f, "CIVICBUS_FUZZ_INPUTS", defaultInputs), number(f, "CIVICBUS_FUZZ_SEED", 1)
	m := newMaker(seed, seeds)
	var input []byte
	var at int
	defer func() { // a panic would not say on what
		if p := recover(); p != nil {
			f.Fatalf("input %d of seed %d, %q: %v\n%s", at, seed, input, p, debug.Stack())
		} else if f.Failed() {
			f.Logf("input %d of seed %d: %q", at, seed, input)
		}
	}()
	accepted, began := 0, time.Now()
	var most uint64
	var longest time.Duration
	for at = range inputs {
		if at < len(seeds) {
			input = slices.Clone(seeds[at])
		} else {
			input = m.next()
		}
		before := time.Now()
		ok, grown := bounded(f, perByte, target, input)
		longest, most = max(longest, time.Since(before)), max(most, grown)
		if ok {
			accepted++
			m.keep(input)
		}
	}
	f.Logf("%d inputs, %d accepted, in %v; at most %d bytes allocated and %v taken by one",
		inputs, accepted, time.Since(began).Round(time.Millisecond), most, longest.Round(time.Microsecond))
	if accepted == 0 {
		f.Error("no input was accepted: the seeds are wrong")
	}
}

func number(tb testing.TB, name string, otherwise int) int {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		tb.Fatalf("%s is no number: %q", name, text)
	}
	return n
}

// corpus reads what Go's fuzzing kept for the target of tb in a folder.
func corpus(tb testing.TB, dir string) [][]byte {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(dir, tb.Name(), "*"))
	if err != nil {
		tb.Fatal(err)
	}
	var out [][]byte
	for _, name := range files {
		text, err := os.ReadFile(name) //nolint:gosec // a folder of inputs that whoever runs the tests names
		if err != nil {
			tb.Fatal(err)
		}
		if input, err := unquoted(text); err == nil { // else it was gathered for a target of other arguments
			out = append(out, input)
		}
	}
	return out
}

var errForm = errors.New("no input of one []byte in the form of Go's fuzzing")

// unquoted reads the one []byte of an input as Go's fuzzing writes it.
func unquoted(text []byte) ([]byte, error) {
	_, quoted, _ := strings.Cut(string(text), "\n[]byte(")
	input, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(quoted), ")"))
	if err != nil {
		return nil, errForm
	}
	return []byte(input), nil
}

// Allocates counts the bytes that f allocates, exactly, and those of whatever else runs meanwhile.
func Allocates(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

package mutant

import (
	"path/filepath"
	"testing"
)

// Run is the plain loop of a test.
func Run(t *testing.T, seeds [][]byte, perByte int, target Target) {
	t.Helper()
	loop(t, perByte, target, seeds)
}

// Corpus reads a corpus.
func Corpus(tb testing.TB, fuzz string) [][]byte { tb.Helper(); return corpus(tb, filepath.Join("testdata", "fuzz", "none-"+fuzz)) }

package people

import (
	"testing"

	"civicbus/internal/mutant"
)

// FuzzHistoryCursor: a cursor is a number above 0 and is written back as it was read, or it is none. Whose entry it names is asked
// of the log.
func FuzzHistoryCursor(f *testing.F) {
	mutant.Fuzz(f, 1<<6, func(tb testing.TB, in []byte) bool {
		n, err := readCursor(string(in))
		switch {
		case err != nil:
			return false
		case n == 0:
			return len(in) == 0
		case n < 0:
			tb.Errorf("%q is %d", in, n)
		}
		if again, err := readCursor(cursorOf(n)); err != nil || again != n {
			tb.Errorf("%d is read as %d: %v", n, again, err)
		}
		return true
	}, []byte(cursorOf(1)), []byte(cursorOf(1<<62)), []byte("AAAA"))
}

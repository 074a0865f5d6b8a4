package feed

import (
	"bytes"
	"testing"

	"civicbus/internal/mutant"
)

// FuzzCursor reads cursors that nobody made, and what only the gateway could have authenticated.
func FuzzCursor(f *testing.F) {
	c, err := newCursors(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	const partitions = 4
	good := c.seal("sub-a", cursorPosition, 0, 127, 128, 1<<40)
	payload, err := text64.DecodeString(good)
	if err != nil {
		f.Fatal(err)
	}
	mutant.Fuzz(f, 1<<6, func(tb testing.TB, in []byte) bool {
		if at, err := c.open("sub-a", cursorPosition, string(in), partitions); err == nil && c.seal("sub-a", cursorPosition, at...) != string(in) {
			tb.Errorf("%q is read as %v", in, at)
		}
		sealed := text64.EncodeToString(append(bytes.Clone(in), c.mac("sub-a", in)...))
		at, err := c.open("sub-a", cursorPosition, sealed, partitions)
		if err != nil {
			return false
		}
		if len(at) != partitions || min(at[0], at[1], at[2], at[3]) < 0 {
			tb.Errorf("%v", at)
		}
		return true
	}, payload[:len(payload)-macBytes], []byte(good), []byte{cursorPosition, 0xff, 0xff})
}

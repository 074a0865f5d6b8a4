package verdict

// Truth is what a filter says of an event, in Kleene's three-valued logic. Only True matches.
type Truth int8

// The order makes the logic short: all is the least of its parts, any the greatest, not the negative.
const (
	False   Truth = -1
	Unknown Truth = 0
	True    Truth = 1
)

// String names a truth for people and tests.
func (t Truth) String() string {
	switch t {
	case False:
		return "false"
	case True:
		return "true"
	}
	return "unknown"
}

func truthOf(b bool) Truth {
	if b {
		return True
	}
	return False
}

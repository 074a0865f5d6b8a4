package feed

import (
	"civicbus/internal/leave"
)

// Event is one delivery as it leaves.
type Event struct {
	leave.Event
	After Position // where a reader stands who has it
}

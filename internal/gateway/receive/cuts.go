package receive

import (
	"sync"
	"time"
)

// cuts remembers whose stream ended without a word, because its connection took nothing any more: there was no room in it for a
// code. The client's next stream of that subscription begins with it. It is told by the instance that cut it off, if by any.
// The zero value is ready; safe for concurrent use.
type cuts struct {
	mu sync.Mutex
	at map[[2]string]time.Time // by subscription and client
}

// Bounds of what is remembered; beyond, the next streams begin without a word too.
const (
	cutFor  = 10 * time.Minute
	maxCuts = 1024
)

func (c *cuts) note(subscription, client string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.at) >= maxCuts {
		for k, at := range c.at {
			if now.Sub(at) > cutFor {
				delete(c.at, k)
			}
		}
	}
	if c.at == nil {
		c.at = map[[2]string]time.Time{}
	}
	if len(c.at) < maxCuts {
		c.at[[2]string{subscription, client}] = now
	}
}

// take says whether there is something to tell, and forgets it.
func (c *cuts) take(subscription, client string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.at[[2]string{subscription, client}]
	delete(c.at, [2]string{subscription, client})
	return ok && now.Sub(at) <= cutFor
}

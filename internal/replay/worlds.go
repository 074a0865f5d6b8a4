package replay

import (
	"context"
	"sync"

	"civicbus/internal/tables"
)

// worlds keeps the tables while a replay is carried out, once for all of them: they hold every subject's consents.
type worlds struct {
	cfg *Config

	mu      sync.Mutex
	current *world
}

type world struct {
	tables *tables.World
	users  int
	broken bool // it is not kept current any more
	stop   context.CancelFunc
	ended  chan struct{}
}

// take gives tables that are kept current until release is called, unless something breaks them: then the next one to take
// gets others. ctx is that of whoever takes.
func (w *worlds) take(ctx context.Context) (of Tables, release func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil || w.current.broken {
		if w.current, err = w.begin(ctx); err != nil {
			return nil, nil, err
		}
	}
	c := w.current
	c.users++
	return c.tables, func() { w.release(c) }, nil
}

func (w *worlds) begin(ctx context.Context) (*world, error) {
	t, err := tables.NewWorld(w.cfg.Connection, w.cfg.Registry, w.cfg.Records, w.cfg.Age, w.cfg.Logger)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // others may use them when this one has gone
	c := &world{tables: t, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		if err := t.Run(running); err != nil {
			w.cfg.Logger.Error("the tables of replays are not kept current any more", "error", err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		c.broken = true
	}()
	return c, nil
}

func (w *worlds) release(c *world) {
	w.mu.Lock()
	c.users--
	last := c.users == 0
	if last {
		c.stop()
		c.broken = true
		if w.current == c {
			w.current = nil
		}
	}
	w.mu.Unlock()
	if last {
		<-c.ended
	}
}

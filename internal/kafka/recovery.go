package kafka

import (
	"log/slog"
	"time"
)

// Recovery is how far the tables are that a start, a rebalance or a fault has to read again.
type Recovery struct {
	Tables    int           // partitions of tables being read
	Read      int64         // offsets read of them
	Remaining int64         // offsets still to be read
	PerSecond float64       // offsets read a second, since reading began
	Left      time.Duration // until nothing remains, at that rate; 0 while it is not known
}

// recovery is one table partition that is behind where its log ended when goka began to read it.
type recovery struct {
	topic           string
	began           time.Time
	read, remaining int64
}

// recoveries lists the table partitions that are behind.
func (ts *tables) recoveries() []recovery {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	var all []recovery
	for topic, ps := range ts.m {
		for _, t := range ps {
			t.mu.RLock()
			if next := t.offset + 1; t.open && next < t.end {
				all = append(all, recovery{topic, t.began, next - t.beganAt, t.end - next})
			}
			t.mu.RUnlock()
		}
	}
	return all
}

func sum(all []recovery, now time.Time) Recovery {
	r := Recovery{Tables: len(all)}
	began := now
	for _, one := range all {
		r.Read += one.read
		r.Remaining += one.remaining
		if one.began.Before(began) {
			began = one.began
		}
	}
	if took := now.Sub(began).Seconds(); took > 0 && r.Read > 0 {
		r.PerSecond = float64(r.Read) / took
		r.Left = time.Duration(float64(r.Remaining) / r.PerSecond * float64(time.Second))
	}
	return r
}

// watchRecovery keeps the metric and, every ten seconds, says in the log how far tables are that are being read.
func (e *Engine) watchRecovery() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	shown := map[string]bool{}
	said := time.Now()
	for {
		select {
		case <-tick.C:
		case <-e.reader.ctx.Done():
			return
		}
		all := e.tables.recoveries()
		if m := e.cfg.Metrics; m != nil {
			m.recovering(e.group, all, shown)
		}
		if r := sum(all, time.Now()); r.Tables == 0 {
			said = time.Now()
		} else if time.Since(said) >= 10*time.Second {
			said = time.Now()
			e.log.Info("reading tables", slog.Int("partitions", r.Tables), slog.Int64("read", r.Read), slog.Int64("remaining", r.Remaining),
				slog.Float64("per_second", r.PerSecond), slog.Duration("left", r.Left.Round(time.Second)))
		}
	}
}

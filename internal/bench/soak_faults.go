package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// change lets a worker's subjects say things, some at a time.
func (s *soaking) change(ctx context.Context, r *rand.Rand, worker, of int) error {
	const atOnce = 50
	for !s.over.Load() && ctx.Err() == nil {
		s.calm.RLock()
		chosen := map[int32]bool{}
		var subjects []int32
		for len(subjects) < atOnce {
			i := int32(r.IntN(soakSubjects/of)*of + worker)
			if !chosen[i] {
				chosen[i] = true
				subjects = append(subjects, i)
			}
		}
		err := s.w.change(ctx, r, subjects)
		s.calm.RUnlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// toggle stops a subscription or a subscriber and lets it go on, one after another.
func (s *soaking) toggle(ctx context.Context, r *rand.Rand, turn func(ctx context.Context, k int, active bool) error) error {
	for !s.over.Load() && ctx.Err() == nil {
		k := r.IntN(soakSubscribers)
		for _, active := range []bool{false, true} {
			s.calm.RLock()
			err := turn(ctx, k, active)
			s.calm.RUnlock()
			if err != nil {
				return err
			}
			if !wait(ctx, time.Duration(r.IntN(3000))*time.Millisecond) {
				return nil
			}
		}
	}
	return nil
}

// disturbs lets the other fault happen until time is over.
func (s *soaking) disturbs(ctx context.Context, r *rand.Rand, until time.Time) error {
	for !s.over.Load() && time.Until(until) > 5*time.Second {
		if !wait(ctx, 3*time.Second+time.Duration(r.IntN(10_000))*time.Millisecond) {
			return nil
		}
		s.calm.RLock()
		err := s.disturb(ctx, r)
		s.calm.RUnlock()
		if err != nil {
			return err
		}
		s.report.Disturbed++
	}
	return nil
}

// publish lets the events in, evenly over the time that there is, and waits while too many are undecided.
func (s *soaking) publish(ctx context.Context, r *rand.Rand, until time.Time) error {
	began := time.Now()
	for sent := 0; sent < s.c.Events; {
		due := int(float64(s.c.Events) * min(1, float64(time.Since(began))/float64(until.Sub(began)-5*time.Second)))
		behind, _ := s.w.ledger.waiting()
		if n := min(due-sent, 1000); n <= 0 || behind > soakBehind {
			if !wait(ctx, 50*time.Millisecond) {
				return nil
			}
		} else {
			s.calm.RLock()
			err := s.w.publish(ctx, r, n)
			s.calm.RUnlock()
			if err != nil {
				return err
			}
			sent += n
		}
	}
	s.c.Say(fmt.Sprintf("%d events are in after %.0f s", s.c.Events, time.Since(s.began).Seconds()))
	return nil
}

// kill ends processes at random, now and then two at once, and starts each again at once. While nothing is decided for a while
// although events wait, it pauses, and says so: a bus that is killed faster than it can start shows nothing.
func (s *soaking) kill(ctx context.Context, r *rand.Rand, until time.Time) error {
	decidedAt, decided := time.Now(), 0
	said := time.Now()
	for s.report.Kills < s.c.Kills {
		pause := max(time.Until(until.Add(-5*time.Second)), 0) / time.Duration(s.c.Kills-s.report.Kills)
		pause = min(max(pause, 300*time.Millisecond), time.Minute)
		if !wait(ctx, pause/2+time.Duration(r.Int64N(int64(pause)))) {
			return nil
		}
		s.w.ledger.mu.Lock()
		now, accepted, commands := len(s.w.ledger.decided), s.w.ledger.accepted, s.w.commands
		s.w.ledger.mu.Unlock()
		if now > decided || now == accepted {
			decidedAt, decided = time.Now(), now
		}
		if time.Since(said) > 15*time.Second {
			said = time.Now()
			s.c.Say(fmt.Sprintf("%.0f s: %d kills, %d events, %d decided, %d commands", time.Since(s.began).Seconds(), s.report.Kills, accepted, now, commands))
		}
		if time.Since(decidedAt) > soakStall {
			s.stalls++
			decidedAt = time.Now()
			s.c.Say(fmt.Sprintf("no decision for %s: nobody is killed for %s", soakStall, soakStall))
			if !wait(ctx, soakStall) {
				return nil
			}
			continue
		}
		s.calm.RLock()
		victims := 1 + r.IntN(10)/9
		for _, i := range r.Perm(len(s.nodes.slots))[:victims] {
			s.nodes.kill(s.nodes.slots[i])
			s.report.Kills++
			if err := s.nodes.start(s.nodes.slots[i]); err != nil {
				s.calm.RUnlock()
				return err
			}
		}
		err := s.reviveDead()
		s.calm.RUnlock()
		if err != nil {
			return err
		}
	}
	s.c.Say(fmt.Sprintf("%d kills after %.0f s; %s", s.report.Kills, time.Since(s.began).Seconds(), s.nodes.starts()))
	return nil
}

// reviveDead starts what ended without being killed: an orchestrator does, but it should not be needed, so it is said.
func (s *soaking) reviveDead() error {
	died, err := s.nodes.revive()
	if len(died) > 0 {
		s.c.Say(fmt.Sprintf("%v ended without being killed", died))
	}
	return err
}

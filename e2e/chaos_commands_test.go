//go:build synctests

package e2e

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/refdata"
)

// chaosCommand makes things hold, or not.
type chaosCommand struct {
	things []string
	row    string // that it changes: table and key
	holds  bool
	until  time.Time
	unless string // a reason for which it may be refused
	make   func() ([]admin.Request, error)
}

// chaosAnswer is a command that was accepted: what it was answered with, and how many its row had accepted by then.
type chaosAnswer struct {
	requests []admin.Request
	version  int64
	count    int64
}

// chaosPatience is how long a command may take to be in effect, whatever is broken meanwhile.
const chaosPatience = 4 * time.Minute

// command sends what pick gives, one after another, and notes when each was acknowledged. Now and then an older command comes
// again, as from a client that saw no answer: it must change nothing and be answered as it was.
func (c *chaosRun) command(ctx context.Context, n uint64, pick func(*rand.Rand) chaosCommand) {
	defer c.work.Done()
	rng := rand.New(rand.NewPCG(c.seed, n))
	before := map[string]chaosAnswer{} // by thing
	for ctx.Err() == nil {
		c.b.pass(time.Duration(rng.IntN(1500)) * time.Millisecond)
		cmd := pick(rng)
		requests, err := cmd.make()
		if err != nil {
			c.breach("make a command about %v: %v", cmd.things, err)
			return
		}
		at := c.sent(cmd)
		o, ok := c.send(requests)
		if !ok {
			return
		}
		if o.Status == admin.Refused {
			if o.Reason != cmd.unless {
				c.breach("%s was refused: %s %v", o.About, o.Reason, o.Faults)
			}
			c.takeBack(cmd, at)
			continue
		}
		count := c.acknowledge(cmd, at)
		old, repeat := before[cmd.things[0]]
		before[cmd.things[0]] = chaosAnswer{requests, o.Version, count}
		if repeat && rng.IntN(3) == 0 && count-old.count < 12 {
			switch o, ok := c.send(old.requests); {
			case !ok:
				return
			case o.Status != admin.Accepted || o.Version != old.version:
				c.breach("%s, sent again: %s at version %d (%s), want what it was answered with, version %d", o.About, o.Status, o.Version, o.Reason, old.version)
			}
		}
	}
}

// send sends a command until it is refused, or in effect as the operators' client sees it; ok is false when it took too long.
func (c *chaosRun) send(requests []admin.Request) (admin.Outcome, bool) {
	for began := time.Now(); ; {
		outcomes, err := c.operator.Send(context.Background(), requests, admin.Wait{Timeout: chaosPatience})
		if err == nil && (outcomes[0].Status == admin.Refused || outcomes[0].InEffect) {
			return outcomes[0], true
		}
		if time.Since(began) > chaosPatience {
			c.breach("%s is not in effect after %s: %+v, error %v", requests[0].About, chaosPatience, outcomes, err)
			return admin.Outcome{}, false
		}
		c.b.pass(time.Second)
	}
}

// sent notes that a command is on its way; the answers are where.
func (c *chaosRun) sent(cmd chaosCommand) (at []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, thing := range cmd.things {
		at = append(at, len(c.model.changes[thing]))
		c.model.changes[thing] = append(c.model.changes[thing], chaosChange{holds: cmd.holds, until: cmd.until, sent: time.Now()})
	}
	return at
}

// acknowledge notes that a command is in effect, and answers how many its row has accepted.
func (c *chaosRun) acknowledge(cmd chaosCommand, at []int) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, thing := range cmd.things {
		c.model.changes[thing][at[i]].acked = time.Now()
	}
	c.versions[cmd.row]++
	return c.versions[cmd.row]
}

// takeBack forgets a command that was refused.
func (c *chaosRun) takeBack(cmd chaosCommand, at []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, thing := range cmd.things {
		c.model.changes[thing] = slices.Delete(c.model.changes[thing], at[i], at[i]+1)
	}
}

// last says what a thing was last made.
func (c *chaosRun) last(thing string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.model.changes[thing]
	return len(all) > 0 && all[len(all)-1].holds
}

var chaosActor = admin.By{Actor: "operator:anna"}

// person picks something that a person says: a grant or its withdrawal, an objection, a restriction, or that either is lifted. A
// grant is of an id of its own each time: one that was withdrawn is not given again. Some grants end by themselves.
func (c *chaosRun) person(rng *rand.Rand) chaosCommand {
	who := person(rng.IntN(chaosPeople))
	said := codecs.ConsentCommand{Grant: codecs.Grant{Recipient: post, Purpose: postPurpose}}
	cmd := chaosCommand{row: "consent-table " + c.b.subjectOf(who)}
	pick := func(thing string) {
		cmd.things, cmd.holds = []string{thing}, !c.last(thing)
	}
	x := rng.IntN(6)
	switch lift := rng.IntN(3) > 0; { // what denies everything is mostly lifted soon
	case lift && c.last("restriction "+who):
		x = 5
	case lift && c.last("objection "+postSub+" "+who):
		x = 4
	}
	switch {
	case x < 4:
		if pick("grant " + who); !cmd.holds {
			said.Kind = "withdraw"
			break
		}
		said.Kind = "grant"
		said.Grant.ID = "g" + strconv.FormatUint(rng.Uint64(), 36)
		said.Grant.Scopes, said.Grant.Notice, said.Grant.Language, said.Grant.Method = []string{"contact-address"}, "https://posti.fi/privacy", "fi", "posti.fi"
		if rng.IntN(3) == 0 {
			cmd.until = time.Now().Add(time.Duration(5+rng.IntN(40)) * time.Second).Truncate(time.Millisecond)
			said.Grant.ValidTo = cmd.until.UnixMilli()
			cmd.unless = "validity_empty" // by a clock that is ahead
		}
	case x < 5:
		pick("objection " + postSub + " " + who)
		said.Kind, said.Subscription = map[bool]string{true: "object", false: "unobject"}[cmd.holds], postSub
	default:
		pick("restriction " + who)
		if said.Kind = "unrestrict"; cmd.holds {
			said.Kind, said.Restriction = "restrict", "protected"
		}
	}
	cmd.make = func() ([]admin.Request, error) {
		return c.operator.ChangeConsents(context.Background(), admin.By{Actor: "person"}, refdata.Consent{Subject: refdata.Subject{Scheme: "fi-hetu", ID: who}, Command: said})
	}
	return cmd
}

// authority picks something that operators and subscribers do: suspend and resume an organisation, pause and resume a
// subscription, repeal and pass a law, ask for one more subscription and revoke it.
func (c *chaosRun) authority(rng *rand.Rand) chaosCommand {
	ctx := context.Background()
	x, i := rng.IntN(10), rng.IntN(2)
	if rng.IntN(3) > 0 { // what was stopped mostly goes on soon
		x, i = c.stopped(x, i)
	}
	switch {
	case x < 4:
		id := []string{post, agency}[i]
		cmd := chaosCommand{things: []string{"trust " + id}, row: "trust-table " + id, holds: !c.last("trust " + id)}
		cmd.make = func() ([]admin.Request, error) {
			return c.operator.ChangeOrganisation(ctx, chaosActor, map[bool]string{true: "resume", false: "suspend"}[cmd.holds], id)
		}
		return cmd
	case x < 7:
		id := []string{postSub, agencySub}[i]
		cmd := chaosCommand{things: []string{"active " + id}, row: "subscription-table " + id, holds: !c.last("active " + id)}
		cmd.make = func() ([]admin.Request, error) {
			if cmd.holds {
				return c.operator.ChangeSubscriptions(ctx, chaosActor, "resume", "", id)
			}
			return c.operator.ChangeSubscriptions(ctx, chaosActor, "pause", "requested", id)
		}
		return cmd
	case x < 9:
		cmd := chaosCommand{things: []string{"law"}, row: "catalog-table " + moveType, holds: !c.last("law")}
		cmd.make = func() ([]admin.Request, error) {
			row := c.moves
			if !cmd.holds {
				row.Rules = slices.DeleteFunc(slices.Clone(row.Rules), func(r codecs.Rule) bool { return r.Recipient == agency })
			}
			return c.operator.PutEventTypes(ctx, chaosActor, row)
		}
		return cmd
	}
	return c.another()
}

// stopped is the draw of authority that lets the first thing go on that does not; the given one when all do.
func (c *chaosRun) stopped(x, i int) (int, int) {
	for n, thing := range []string{"trust " + post, "trust " + agency, "active " + postSub, "active " + agencySub, "law"} {
		if !c.last(thing) {
			return []int{0, 0, 4, 4, 7}[n], n % 2
		}
	}
	return x, i
}

// another asks for one more subscription of the post, or revokes the one that it asked for last.
func (c *chaosRun) another() chaosCommand {
	ctx := context.Background()
	c.mu.Lock()
	id := c.model.subscriptions[len(c.model.subscriptions)-1]
	fresh := len(c.model.subscriptions)
	c.mu.Unlock()
	if c.last("active "+id) && id != insurerSub {
		return chaosCommand{things: []string{"active " + id}, row: "subscription-table " + id,
			make: func() ([]admin.Request, error) {
				return c.operator.ChangeSubscriptions(ctx, chaosActor, "revoke", "ended", id)
			}}
	}
	id = postSub + "-" + strconv.Itoa(fresh)
	c.mu.Lock()
	c.model.subscriptions = append(c.model.subscriptions, id)
	c.mu.Unlock()
	return chaosCommand{things: []string{"active " + id, "there " + id}, row: "subscription-table " + id, holds: true, unless: "subscriber_not_active",
		make: func() ([]admin.Request, error) {
			return c.operator.PutSubscriptions(ctx, chaosActor, codecs.Subscription{ID: id, Subscriber: post, EventTypes: []string{moveType}, Purpose: postPurpose, Basis: "consent",
				Scopes: []string{"contact-address"}, Delivery: codecs.Delivery{Kind: "kafka"}})
		}}
}

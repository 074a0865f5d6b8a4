package topology

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Topics become metric names, where "." and "_" collide; so "_" is out. A stream of one topic each ends in a placeholder.
var (
	streamName   = regexp.MustCompile(`^[a-z0-9]+([.-][a-z0-9]+)*$`)
	eachName     = regexp.MustCompile(`^[a-z0-9]+([.-][a-z0-9]+)*\.\{[a-z]+\}$`)
	groupName    = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	eventsFrom   = "profile" // the one group that writes event streams
	eventsDecide = "router"  // the one group that decides them
)

// Validate finds everything that is wrong with a map, joined; nil: nothing. eventStreams is the fixed list of streams that
// event types are mapped onto. That a stream has no reader is no fault: audit streams end outside this process.
func Validate(groups []Group, edges []Edge, eventStreams []Stream) error {
	c := &check{groups: map[string]Group{}, streams: map[string]Stream{}}
	for _, g := range groups {
		c.name("group "+g.Name, g.Name)
		c.groups[g.Name] = g
	}
	for _, e := range edges {
		c.name("edge "+e.Name, e.Name)
	}
	for _, g := range groups {
		c.group(g)
	}
	for _, e := range edges {
		c.streamsOf("edge "+e.Name, append(slices.Clone(e.In), e.Out...))
		c.tables("edge "+e.Name, "looks up", e.Lookup)
	}
	for _, g := range groups {
		if s, ok := c.streams[TableTopic(g.Name)]; ok && g.Table != "" {
			c.fault("stream %s has the name of the table of group %s", s.Name, g.Name)
		}
	}
	c.events(eventStreams)
	return errors.Join(c.faults...)
}

type check struct {
	groups  map[string]Group
	named   []string // groups and edges met
	streams map[string]Stream
	faults  []error
}

func (c *check) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

func (c *check) name(what, name string) {
	if !groupName.MatchString(name) {
		c.fault("%s: a name is kebab-case, [a-z0-9-]", what)
	}
	if slices.Contains(c.named, name) {
		c.fault("%s: the name is taken", what)
	}
	c.named = append(c.named, name)
}

// streamsOf checks the streams that one group or edge names, each against itself and against its other mentions.
func (c *check) streamsOf(who string, all []Stream) {
	for _, s := range all {
		if !streamName.MatchString(s.Name) && !eachName.MatchString(s.Name) {
			c.fault("%s: stream %q: a topic is kebab-case or dotted, [a-z0-9.-], and may end in .{placeholder}", who, s.Name)
		}
		if s.Key == "" || s.Keep == 0 {
			c.fault("%s: stream %s: it needs a key and a retention", who, s.Name)
		}
		if before, ok := c.streams[s.Name]; ok && before != s {
			c.fault("%s: stream %s is described in two ways", who, s.Name)
		}
		c.streams[s.Name] = s
	}
}

func (c *check) group(g Group) {
	who := "group " + g.Name
	c.streamsOf(who, slices.Concat(g.In, g.Out, g.OutEach, g.loops()))
	if len(g.In) == 0 {
		c.fault("%s: it has no input", who)
	}
	for what, list := range map[string][]Stream{"input": g.In, "output": slices.Concat(g.Out, g.OutEach)} {
		seen := map[string]bool{}
		for _, s := range list {
			if seen[s.Name] {
				c.fault("%s: %s %s stands twice", who, what, s.Name)
			}
			seen[s.Name] = true
		}
	}
	for _, s := range slices.Concat(g.In, g.Out) {
		if strings.Contains(s.Name, "{") {
			c.fault("%s: %s stands for many topics, and goka's edges are fixed: outputs of that kind belong into OutEach", who, s.Name)
		}
	}
	for _, s := range g.OutEach {
		if !strings.Contains(s.Name, "{") {
			c.fault("%s: %s is one topic: it belongs into Out", who, s.Name)
		}
	}
	c.keys(who, g)
	c.tables(who, "joins", g.Join)
	c.tables(who, "looks up", g.Lookup)
}

// keys checks that everything that must lie in one partition has one key.
func (c *check) keys(who string, g Group) {
	key := g.TableKey
	if (g.Table == "") != (g.TableKey == "") {
		c.fault("%s: a table has a record and a key, or the group has none", who)
	}
	stateful := g.Table != "" || len(g.Join) > 0
	if g.Loop.Name != "" { // its own rows are met through the loop alone, joined ones through its inputs
		if g.Loop.Name != g.Name+"-loop" || g.Loop.Key != g.TableKey {
			c.fault("%s: its loop is %s-loop, as goka names it, and has the table's key", who, g.Name)
		}
		if len(g.Join) == 0 {
			return
		}
		key = ""
	}
	for _, s := range g.In {
		switch {
		case stateful && s.Key == AnyKey:
			c.fault("%s: input %s has any key, so no row belongs to its records", who, s.Name)
		case s.Key == ByRow:
		case key == "":
			key = s.Key
		case s.Key != key:
			c.fault("%s: input %s is keyed by %s, and what it meets by %s", who, s.Name, s.Key, key)
		}
	}
	for _, j := range g.Join {
		if other, ok := c.groups[j]; ok && other.Table != "" && len(g.In) > 0 && other.TableKey != key {
			c.fault("%s: it joins %s, which is keyed by %s, and its inputs by %s", who, TableTopic(j), other.TableKey, key)
		}
	}
}

// tables checks that every group named has a table to read.
func (c *check) tables(who, how string, names []string) {
	for i, name := range names {
		switch other, ok := c.groups[name]; {
		case !ok:
			c.fault("%s %s %s, which is no group on the map", who, how, name)
		case other.Table == "":
			c.fault("%s %s %s, which owns no table", who, how, name)
		case slices.Contains(names[:i], name):
			c.fault("%s %s %s twice", who, how, name)
		}
	}
}

// events checks that whatever a type can be mapped onto is written, and decided.
func (c *check) events(streams []Stream) {
	names := func(list []Stream) (all []string) {
		for _, s := range list {
			all = append(all, s.Name)
		}
		return all
	}
	from, decide := names(c.groups[eventsFrom].Out), names(c.groups[eventsDecide].In)
	for _, s := range streams {
		if s.Key != BySubject {
			c.fault("event stream %s is keyed by %s, not by subject", s.Name, s.Key)
		}
		if !slices.Contains(from, s.Name) {
			c.fault("event stream %s is no output of group %s", s.Name, eventsFrom)
		}
		if !slices.Contains(decide, s.Name) {
			c.fault("event stream %s is no input of group %s: nobody would decide it", s.Name, eventsDecide)
		}
	}
}

package topology

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// allEvents stands for the event streams wherever a group names every one of them.
const allEvents = "event streams"

// Text describes the map for people: the groups with what they read, keep and write, the ways in and out, the streams.
func Text() string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	list := func(label string, names []string) {
		if len(names) > 0 {
			line("    %s\t%s", label, strings.Join(names, "  "))
		}
	}
	line("groups")
	for _, g := range Groups {
		_ = w.Flush()
		line("  %s: %s", g.Name, g.About)
		list("reads", names(g.In))
		list("joins", tables(g.Join))
		list("looks up", tables(g.Lookup))
		if g.Table != "" {
			list("keeps", []string{fmt.Sprintf("%s (%s by %s)", TableTopic(g.Name), g.Table, g.TableKey)})
		}
		list("writes", append(names(g.Out), names(g.OutEach)...))
		list("loops", names(g.loops()))
	}
	_ = w.Flush()
	line("")
	line("ways in and out")
	for _, e := range Edges {
		_ = w.Flush()
		line("  %s: %s", e.Name, e.About)
		list("reads", names(e.In))
		list("looks up", tables(e.Lookup))
		list("writes", names(e.Out))
	}
	_ = w.Flush()
	line("")
	line("streams\tkey\tvalue\tkept")
	for _, s := range Streams() {
		line("  %s\t%s\t%s\t%s", s.Name, s.Key, s.Value, kept(s.Keep))
	}
	_ = w.Flush()
	line("")
	line("%s: %s", allEvents, strings.Join(plain(EventStreams), "  "))
	_ = w.Flush()
	return out.String()
}

// Mermaid describes the map as a flowchart: streams are rounded, groups are boxes, tables are cylinders; dotted lines are
// joins and look-ups.
func Mermaid() string {
	m := &flow{ids: map[string]string{}}
	m.add("flowchart LR")
	for _, e := range Edges {
		box := m.node(e.Name, `(["`, `"])`)
		m.lines(e.In, box, e.Out, e.Lookup)
	}
	for _, g := range Groups {
		box := m.node(g.Name, `["`, `"]`)
		m.lines(g.Consumes(), box, slices.Concat(g.Out, g.OutEach, g.loops()), g.Lookup)
		for _, j := range g.Join {
			m.add("  %s -. joined .-> %s", m.node(TableTopic(j), `[("`, `")]`), box)
		}
		if g.Table != "" {
			m.add("  %s <--> %s", box, m.node(TableTopic(g.Name), `[("`, `")]`))
		}
	}
	return m.out.String()
}

type flow struct {
	out bytes.Buffer
	ids map[string]string
}

func (m *flow) add(format string, args ...any) { _, _ = fmt.Fprintf(&m.out, format+"\n", args...) }

// node declares a node at its first mention; ids are numbers because names hold what Mermaid reads as syntax.
func (m *flow) node(name, open, shut string) string {
	if m.ids[name] == "" {
		m.ids[name] = "n" + strconv.Itoa(len(m.ids))
		m.add("  %s%s%s%s", m.ids[name], open, name, shut)
	}
	return m.ids[name]
}

func (m *flow) lines(in []Stream, box string, out []Stream, lookup []string) {
	for _, s := range names(in) {
		m.add("  %s --> %s", m.node(s, `("`, `")`), box)
	}
	for _, s := range names(out) {
		m.add("  %s --> %s", box, m.node(s, `("`, `")`))
	}
	for _, l := range lookup {
		m.add("  %s -. looked up .-> %s", m.node(TableTopic(l), `[("`, `")]`), box)
	}
}

// JSON describes the map for programs; every name is that of a topic, a group or an edge.
func JSON() ([]byte, error) {
	type part struct {
		Name     string   `json:"name"`
		About    string   `json:"about"`
		Reads    []string `json:"reads,omitempty"`
		Joins    []string `json:"joins,omitempty"`
		LooksUp  []string `json:"looksUp,omitempty"`
		Table    string   `json:"table,omitempty"`
		Record   string   `json:"record,omitempty"`
		TableKey Key      `json:"tableKey,omitempty"`
		Writes   []string `json:"writes,omitempty"`
		Loops    []string `json:"loops,omitempty"`
	}
	type stream struct {
		Name        string `json:"name"`
		Key         Key    `json:"key"`
		Value       string `json:"value"`
		RetentionMs int64  `json:"retentionMs"` // -1: for ever
		Event       bool   `json:"event,omitempty"`
	}
	var doc struct {
		Groups  []part   `json:"groups"`
		Edges   []part   `json:"edges"`
		Streams []stream `json:"streams"`
	}
	for _, g := range Groups {
		p := part{Name: g.Name, About: g.About, Reads: plain(g.In), Joins: tables(g.Join), LooksUp: tables(g.Lookup),
			Record: g.Table, TableKey: g.TableKey, Writes: plain(slices.Concat(g.Out, g.OutEach)), Loops: plain(g.loops())}
		if g.Table != "" {
			p.Table = TableTopic(g.Name)
		}
		doc.Groups = append(doc.Groups, p)
	}
	for _, e := range Edges {
		doc.Edges = append(doc.Edges, part{Name: e.Name, About: e.About, Reads: plain(e.In), LooksUp: tables(e.Lookup), Writes: plain(e.Out)})
	}
	for _, s := range Streams() {
		doc.Streams = append(doc.Streams, stream{Name: s.Name, Key: s.Key, Value: s.Value, RetentionMs: s.Keep.Milliseconds(), Event: slices.Contains(EventStreams, s)})
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("describe the map: %w", err)
	}
	return append(text, '\n'), nil
}

// Streams lists every stream on the map once, in the order in which groups and edges name them; inboxes and what is
// admitted come first, as the way of an event does.
func Streams() []Stream {
	all := []Stream{Inbox, Admitted}
	add := func(list []Stream) {
		for _, s := range list {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	add(EventStreams)
	for _, g := range Groups {
		add(slices.Concat(g.In, g.Out, g.OutEach, g.loops()))
	}
	for _, e := range Edges {
		add(slices.Concat(e.In, e.Out))
	}
	return all
}

func plain(list []Stream) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.Name
	}
	return out
}

// names is plain with all the event streams as one.
func names(list []Stream) []string {
	for _, e := range EventStreams {
		if !slices.Contains(list, e) {
			return plain(list)
		}
	}
	var out []string
	collapsed := false
	for _, s := range list {
		switch {
		case !slices.Contains(EventStreams, s):
			out = append(out, s.Name)
		case !collapsed:
			out, collapsed = append(out, allEvents), true
		}
	}
	return out
}

func tables(groups []string) []string {
	out := make([]string, len(groups))
	for i, g := range groups {
		out[i] = TableTopic(g)
	}
	return out
}

func kept(d time.Duration) string {
	switch {
	case d < 0:
		return "for ever"
	case d%year == 0:
		return fmt.Sprintf("%d years", d/year)
	case d == day:
		return "1 day"
	}
	return fmt.Sprintf("%d days", d/day)
}

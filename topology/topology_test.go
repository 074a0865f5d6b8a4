package topology

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden map anew")

func TestMapIsValid(t *testing.T) {
	if err := Validate(Groups, Edges, EventStreams); err != nil {
		t.Error(err)
	}
}

// Each case breaks one thing of the real map; exactly that must be said.
func TestValidateFindsWhatIsBroken(t *testing.T) {
	stream := func(name string, key Key) Stream { return Stream{Name: name, Key: key, Value: "x", Keep: day} }
	usage := slices.IndexFunc(Groups, func(g Group) bool { return g.Name == "usage" })
	tests := []struct {
		name   string
		broken func(groups []Group, edges []Edge) ([]Group, []Edge, []Stream)
		want   string
	}{
		{"unknown join", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[5].Join = []string{"consents"}
			return g, e, EventStreams
		}, "group router joins consents, which is no group on the map"},
		{"unknown look-up", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[2].Lookup = []string{"trust", "katalog"}
			return g, e, EventStreams
		}, "group subscription looks up katalog, which is no group on the map"},
		{"unknown look-up of an edge", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			e[3].Lookup = []string{"nobody"}
			return g, e, EventStreams
		}, "edge activator looks up nobody"},
		{"look-up of a group without a table", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[2].Lookup = []string{"router"}
			return g, e, EventStreams
		}, "group subscription looks up router, which owns no table"},
		{"look-up twice", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[2].Lookup = []string{"trust", "trust"}
			return g, e, EventStreams
		}, "looks up trust twice"},
		{"join across keys", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[5].Join = []string{"trust"}
			return g, e, EventStreams
		}, "joins trust-table, which is keyed by organisation, and its inputs by subject"},
		{"inputs of two keys", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[0].In = append(slices.Clone(g[0].In), stream("other", ByOrganisation))
			return g, e, EventStreams
		}, "group catalog: input other is keyed by organisation, and what it meets by event type"},
		{"input of any key beside a table", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[0].In = []Stream{stream("other", AnyKey)}
			return g, e, EventStreams
		}, "group catalog: input other has any key"},
		{"loop of another key", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[usage].Loop = stream("usage-loop", BySubject)
			return g, e, EventStreams
		}, "group usage: its loop is usage-loop, as goka names it, and has the table's key"},
		{"loop that goka names otherwise", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[usage].Loop = stream("usages", BySubscription)
			return g, e, EventStreams
		}, "group usage: its loop is usage-loop"},
		{"join by the key of a loop", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[usage].Join = []string{"subscription"}
			return g, e, EventStreams
		}, "group usage: it joins subscription-table, which is keyed by subscription, and its inputs by subject"},
		{"table without a key", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[0].TableKey = ""
			return g, e, EventStreams
		}, "group catalog: a table has a record and a key"},
		{"group twice", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			return append(g, g[0]), e, EventStreams
		}, "group catalog: the name is taken"},
		{"edge named as a group", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			e[0].Name = "trust"
			return g, e, EventStreams
		}, "edge trust: the name is taken"},
		{"group name with _", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			return append(g, Group{Name: "a_b", In: []Stream{stream("a", AnyKey)}}), e, EventStreams
		}, "group a_b: a name is kebab-case"},
		{"stream name with _", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			e[0].Out = append(slices.Clone(e[0].Out), stream("dead_letters", AnyKey))
			return g, e, EventStreams
		}, `edge publish: stream "dead_letters"`},
		{"stream name in capitals", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			e[0].Out = append(slices.Clone(e[0].Out), stream("Letters", AnyKey))
			return g, e, EventStreams
		}, `stream "Letters"`},
		{"stream without retention", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			e[0].Out = append(slices.Clone(e[0].Out), Stream{Name: "a", Key: AnyKey})
			return g, e, EventStreams
		}, "stream a: it needs a key and a retention"},
		{"stream described twice", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			s := Admitted
			s.Keep = day
			e[0].Out = []Stream{s}
			return g, e, EventStreams
		}, "stream admitted is described in two ways"},
		{"input twice", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[0].In = append(slices.Clone(g[0].In), g[0].In[0])
			return g, e, EventStreams
		}, "group catalog: input catalog-commands stands twice"},
		{"output twice", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[0].Out = append(slices.Clone(g[0].Out), DeadLetters)
			return g, e, EventStreams
		}, "group catalog: output dead-letters stands twice"},
		{"no input", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[1].In = nil
			return g, e, EventStreams
		}, "group trust: it has no input"},
		{"input of many topics", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			return append(g, Group{Name: "x", In: []Stream{Inbox}}), e, EventStreams
		}, "inbox.{organisation} stands for many topics"},
		{"one topic as one each", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[5].OutEach = []Stream{WebhookDeliveries}
			g[5].Out = []Stream{Decisions}
			return g, e, EventStreams
		}, "webhook-deliveries is one topic"},
		{"stream named as a table", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			e[0].Out = append(slices.Clone(e[0].Out), stream("trust-table", AnyKey))
			return g, e, EventStreams
		}, "stream trust-table has the name of the table of group trust"},
		{"event stream that nobody decides", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			g[5].In = g[5].In[1:]
			return g, e, EventStreams
		}, "event stream life.birth is no input of group router"},
		{"event stream that nobody writes", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			return g, e, append(slices.Clone(EventStreams), stream("life.move", BySubject))
		}, "event stream life.move is no output of group profile"},
		{"event stream of another key", func(g []Group, e []Edge) ([]Group, []Edge, []Stream) {
			return g, e, []Stream{stream("life.birth", AnyKey)}
		}, "event stream life.birth is keyed by any"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Validate(tt.broken(slices.Clone(Groups), slices.Clone(Edges)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// The text stands in the README: whoever changes the map changes both.
func TestTextIsGolden(t *testing.T) {
	const file = "testdata/topology.txt"
	if *update {
		if err := os.WriteFile(file, []byte(Text()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if Text() != string(want) {
		t.Errorf("the map has changed; look at it, then: go test ./topology -update\n%s", Text())
	}
}

// Every way of describing the map must name everything on it.
func TestNothingIsLeftOut(t *testing.T) {
	text, err := JSON()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(text) {
		t.Error("not JSON")
	}
	for format, described := range map[string]string{"text": Text(), "json": string(text), "mermaid": Mermaid()} {
		for _, g := range Groups {
			if !strings.Contains(described, g.Name) || g.Table != "" && !strings.Contains(described, TableTopic(g.Name)) {
				t.Errorf("%s lacks group %s", format, g.Name)
			}
		}
		for _, e := range Edges {
			if !strings.Contains(described, e.Name) {
				t.Errorf("%s lacks edge %s", format, e.Name)
			}
		}
		for _, s := range Streams() {
			event := format == "mermaid" && slices.Contains(EventStreams, s) // one node stands for them all
			if !event && !strings.Contains(described, s.Name) {
				t.Errorf("%s lacks stream %s", format, s.Name)
			}
		}
	}
}

// A topic of the map that Text does not show would be created without anyone knowing it.
func TestEveryTopicIsAStreamOrATable(t *testing.T) {
	known := map[string]bool{}
	for _, s := range Streams() {
		known[s.Name] = true
	}
	for _, g := range Groups {
		known[TableTopic(g.Name)] = g.Table != ""
	}
	for _, topic := range Topics(Shape{Partitions: 8}) {
		if !known[topic.Name] {
			t.Errorf("topic %s is no stream and no table", topic.Name)
		}
	}
}

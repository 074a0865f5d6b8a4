package access

import (
	"fmt"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func organisation(id, status string, receives, inbox bool) *codecs.Organisation {
	o := &codecs.Organisation{ID: id, Status: status, Inbox: inbox}
	if receives {
		o.Receives = []codecs.Entitlement{{EventType: "t", Purposes: []string{"p"}, Bases: []string{"consent"}}}
	}
	return o
}

func subscription(subscriber, kind, status string) *codecs.Subscription {
	return &codecs.Subscription{ID: "sub-" + subscriber, Subscriber: subscriber, Status: status, Delivery: codecs.Delivery{Kind: kind}}
}

func texts(all []Right) (list []string) {
	for _, r := range all {
		list = append(list, r.String())
	}
	return list
}

func TestWant(t *testing.T) {
	reading := []string{"read topic subscriber.a", "describe topic subscriber.a", "read group a:*", "describe group a:*"}
	writing := []string{"write topic inbox.a", "describe topic inbox.a"}
	for _, c := range []struct {
		name   string
		org    *codecs.Organisation
		sub    *codecs.Subscription
		user   bool
		rights []string
	}{
		{"subscriber", organisation("a", "active", true, false), subscription("a", "kafka", "active"), true, reading},
		{"subscriber whose subscription is being activated", organisation("a", "active", true, false), subscription("a", "kafka", "activating"), true, reading},
		{"subscriber whose subscription is paused", organisation("a", "active", true, false), subscription("a", "kafka", "paused"), true, reading},
		{"nobody has approved its subscription", organisation("a", "active", true, false), subscription("a", "kafka", "pending"), true, nil},
		{"its last subscription is revoked", organisation("a", "active", true, false), subscription("a", "kafka", "revoked"), true, nil},
		{"a webhook is all it has", organisation("a", "active", true, false), subscription("a", "webhook", "active"), true, nil},
		{"somebody else's subscription", organisation("a", "active", true, false), subscription("b", "kafka", "active"), true, nil},
		{"a status that is not known", organisation("a", "active", true, false), subscription("a", "kafka", "later"), true, nil},
		{"entitled to nothing any more", organisation("a", "active", false, false), subscription("a", "kafka", "active"), true, nil},
		{"source", organisation("a", "active", false, true), nil, true, writing},
		{"both", organisation("a", "active", true, true), subscription("a", "kafka", "active"), true, append(slices.Clone(writing), reading...)},
		{"suspended", organisation("a", "suspended", true, true), subscription("a", "kafka", "active"), true, nil},
		{"revoked", organisation("a", "revoked", true, true), subscription("a", "kafka", "active"), false, nil},
		{"a status of the organisation that is not known", organisation("a", "later", true, true), subscription("a", "kafka", "active"), true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var subs []*codecs.Subscription
			if c.sub != nil {
				subs = append(subs, c.sub)
			}
			w := Want([]*codecs.Organisation{c.org}, subs, Limits{ReadBytes: 5})["a"]
			got, want := texts(w.Rights), slices.Clone(c.rights)
			slices.Sort(got)
			slices.Sort(want)
			if w.User != c.user || !slices.Equal(got, want) {
				t.Errorf("user %t with %q, want %t with %q", w.User, got, c.user, want)
			}
			if quotas := map[string]float64{readRate: 5}; c.user != reflect.DeepEqual(w.Quotas, quotas) {
				t.Errorf("quotas %v", w.Quotas)
			}
		})
	}
}

func TestQuotas(t *testing.T) {
	plain, own := organisation("plain", "active", true, true), organisation("own", "active", true, true)
	own.ReadBytes = 7
	got := Want([]*codecs.Organisation{plain, own}, nil, Limits{ReadBytes: 5, WriteBytes: 6, RequestPercent: 50})
	for id, want := range map[string]map[string]float64{"plain": {readRate: 5, writeRate: 6, requestRate: 50}, "own": {readRate: 7, writeRate: 6, requestRate: 50}} {
		if !reflect.DeepEqual(got[id].Quotas, want) {
			t.Errorf("%s: %v, want %v", id, got[id].Quotas, want)
		}
	}
}

// TestNoRightReachesAnother draws ids that begin with each other and demands that no right of one covers a topic or a group
// of another, by Kafka's own rule for patterns.
func TestNoRightReachesAnother(t *testing.T) {
	covers := func(r Right, resource kmsg.ACLResourceType, name string) bool {
		return r.Resource == resource && (r.Name == name || r.Pattern == kmsg.ACLResourcePatternTypePrefixed && strings.HasPrefix(name, r.Name))
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[ab]([ab.-]{0,4}[ab])?`)
		a, b := id.Draw(t, "a"), id.Draw(t, "b")
		if a == b {
			return
		}
		orgs := []*codecs.Organisation{organisation(a, "active", true, true), organisation(b, "active", true, true)}
		all := Want(orgs, []*codecs.Subscription{subscription(a, "kafka", "active"), subscription(b, "kafka", "active")}, Limits{})
		for _, r := range all[a].Rights {
			for _, of := range all[b].Rights {
				if name := of.Name + rapid.SampledFrom([]string{"", "reader"}).Draw(t, "rest"); covers(r, of.Resource, name) {
					t.Fatalf("%s of %s covers %s of %s", r, a, name, b)
				}
			}
		}
	})
}

// TestPlanMends applies plans to a model of the cluster: what is wanted is there afterwards, nothing else of an organisation
// is, what is not an organisation's is untouched, and a second plan is empty.
func TestPlanMends(t *testing.T) {
	statuses := []string{"active", "suspended", "revoked"}
	rapid.Check(t, func(t *rapid.T) {
		var orgs []*codecs.Organisation
		var subs []*codecs.Subscription
		have := &State{Users: map[string]bool{"stranger": true}, Rights: map[string][]Right{}, Quotas: map[string]map[string]float64{"stranger": {readRate: 1}}}
		any := func(of string) Right {
			return Right{kmsg.ACLResourceTypeTopic, rapid.SampledFrom([]string{"subscriber.o0", "subscriber.o1", "inbox.o0", "admitted"}).Draw(t, of+" topic"),
				kmsg.ACLResourcePatternTypeLiteral, rapid.SampledFrom([]kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationAll}).Draw(t, of+" operation"),
				rapid.SampledFrom([]string{"*", "10.0.0.1"}).Draw(t, of+" host")}
		}
		have.Rights["stranger"] = []Right{any("stranger")}
		for i := range 3 {
			id := fmt.Sprintf("o%d", i)
			orgs = append(orgs, organisation(id, rapid.SampledFrom(statuses).Draw(t, "status"), rapid.Bool().Draw(t, "receives"), rapid.Bool().Draw(t, "inbox")))
			if rapid.Bool().Draw(t, "subscribes") {
				subs = append(subs, subscription(id, rapid.SampledFrom([]string{"kafka", "webhook"}).Draw(t, "kind"), rapid.SampledFrom([]string{"active", "pending", "revoked"}).Draw(t, "state")))
			}
			have.Users[id] = rapid.Bool().Draw(t, "user")
			for range rapid.IntRange(0, 2).Draw(t, "rights") {
				have.Rights[id] = append(have.Rights[id], any(id))
			}
			have.Quotas[id] = map[string]float64{requestRate: 7}
		}
		before := *have
		stranger := slices.Clone(have.Rights["stranger"])
		wanted := Want(orgs, subs, Limits{ReadBytes: int64(rapid.IntRange(0, 2).Draw(t, "quota"))})
		plan := Compare(wanted, have, "civicbus")
		carryOut(have, plan)
		for id, w := range wanted {
			if got := slices.SortedFunc(slices.Values(have.Rights[id]), compare); !slices.Equal(slices.Compact(got), w.Rights) {
				t.Fatalf("%s has %v, want %v", id, texts(got), texts(w.Rights))
			}
			if have.Users[id] && !w.User {
				t.Fatalf("%s still has a user", id)
			}
			if !reflect.DeepEqual(have.Quotas[id], w.Quotas) {
				t.Fatalf("%s has the quotas %v, want %v", id, have.Quotas[id], w.Quotas)
			}
		}
		if !before.Users["stranger"] || !slices.Equal(have.Rights["stranger"], stranger) || have.Quotas["stranger"][readRate] != 1 {
			t.Fatal("a stranger was touched")
		}
		if again := Compare(wanted, have, "civicbus").todo(); len(again) > 0 {
			t.Fatalf("a second plan is %v", again)
		}
	})
}

// carryOut is Apply on a model.
func carryOut(s *State, p Plan) {
	given := false
	for _, d := range p.todo() {
		if d.Change != Delete {
			given = true
		} else if given {
			panic("something is taken away after something was given")
		}
		switch {
		case d.What == OfUser:
			s.Users[d.Organisation] = false
		case d.What == OfRight && d.Change == Delete:
			s.Rights[d.Organisation] = slices.DeleteFunc(s.Rights[d.Organisation], func(r Right) bool { return r == d.right })
		case d.What == OfRight:
			s.Rights[d.Organisation] = append(s.Rights[d.Organisation], d.right)
		case d.Change == Delete:
			delete(s.Quotas[d.Organisation], d.key)
		default:
			s.Quotas[d.Organisation][d.key] = d.value
		}
	}
}

// TestUsersWhoMayDoEverything: an organisation cannot become one by its name, and they lose nothing by an organisation's.
func TestUsersWhoMayDoEverything(t *testing.T) {
	orgs := []*codecs.Organisation{organisation("civicbus", "revoked", true, true), organisation("admin", "active", true, true)}
	have := &State{Users: map[string]bool{"civicbus": true, "admin": true}, Super: []string{"admin"},
		Rights: map[string][]Right{"civicbus": {{Resource: kmsg.ACLResourceTypeCluster, Name: "kafka-cluster", Operation: kmsg.ACLOperationAll, Host: "*"}}}}
	p := Compare(Want(orgs, nil, Limits{ReadBytes: 1}), have, "civicbus")
	if len(p.Differences) > 0 || len(p.Warnings) != 2 {
		t.Errorf("%v %v", p.Differences, p.Warnings)
	}
	w := Wanted{Organisation: "admin", User: true, Rights: []Right{{}}}
	if _, err := set(t.Context(), nil, w, have, "civicbus"); err == nil || !strings.Contains(err.Error(), ErrReserved.Error()) {
		t.Errorf("issued: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	open := func(name string, pattern kmsg.ACLResourcePatternType) *State {
		return &State{Open: []Right{{kmsg.ACLResourceTypeTopic, name, pattern, kmsg.ACLOperationRead, "*"}}}
	}
	for name, c := range map[string]struct {
		have *State
		want string // empty: none
	}{
		"all topics":               {open("*", kmsg.ACLResourcePatternTypeLiteral), "every user may read topic *"},
		"a subscriber's":           {open("subscriber.a", kmsg.ACLResourcePatternTypeLiteral), "every user may read topic subscriber.a"},
		"a prefix of theirs":       {open("sub", kmsg.ACLResourcePatternTypePrefixed), "every user may read topic sub*"},
		"a topic called sub":       {open("sub", kmsg.ACLResourcePatternTypeLiteral), ""},
		"somebody else's":          {open("weather", kmsg.ACLResourcePatternTypeLiteral), ""},
		"open where nobody is":     {&State{Lenient: true}, "allow.everyone.if.no.acl.found"},
		"nobody may do everything": {&State{Super: []string{"ANONYMOUS"}}, "ANONYMOUS"},
	} {
		got := fmt.Sprint(Compare(nil, c.have, "").Warnings)
		if c.want == "" && got != "[]" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %q", name, got, c.want)
		}
	}
}

func TestClientTexts(t *testing.T) {
	orgs := []*codecs.Organisation{organisation("kela.fi", "active", true, true)}
	c := NewClient(Want(orgs, []*codecs.Subscription{subscription("kela.fi", "kafka", "active")}, Limits{})["kela.fi"], "secret")
	c.Brokers, c.Registry, c.TLS = []string{"a:1", "b:2"}, "http://r", true
	if c.Topic != "subscriber.kela.fi" || c.GroupPrefix != "kela.fi:" || c.Inbox != "inbox.kela.fi" {
		t.Errorf("%+v", c)
	}
	for format, want := range map[string][]string{
		"librdkafka": {"bootstrap.servers=a:1,b:2\n", "security.protocol=SASL_SSL\n", "sasl.username=kela.fi\n", "sasl.password=secret\n", "group.id=kela.fi:reader\n", "partitioner=murmur2_random\n"},
		"java":       {"sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"kela.fi\" password=\"secret\";\n", "isolation.level=read_committed\n"},
		"go":         {`kgo.SeedBrokers("a:1", "b:2")`, `scram.Auth{User: "kela.fi", Pass: "secret"}.AsSha512Mechanism()`, "kgo.DialTLS()", `kgo.ConsumerGroup("kela.fi:reader")`},
		"json":       {`"password": "secret"`, `"groupPrefix": "kela.fi:"`},
	} {
		text, err := c.Text(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: want %q in\n%s", format, w, text)
			}
		}
	}
	text, err := c.Text("go")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.ParseFile(token.NewFileSet(), "client.go", "package p\nfunc f() {\n"+text+"}", 0); err != nil {
		t.Errorf("what is printed for Go is none: %v\n%s", err, text)
	}
	if _, err := c.Text("toml"); err == nil {
		t.Error("a format that nobody knows")
	}
	if a, b := newPassword(), newPassword(); a == b || len(a) != 43 {
		t.Errorf("passwords %q, %q", a, b)
	}
}

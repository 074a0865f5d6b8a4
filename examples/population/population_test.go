package population

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/examples"
	"civicbus/internal/pseudonym"
)

func made(t testing.TB, config Config) *Population {
	t.Helper()
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// events reads the next n.
func events(t testing.TB, p *Population, n int) []Event {
	t.Helper()
	list := make([]Event, 0, n)
	for event, err := range p.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if list = append(list, event); len(list) == n {
			break
		}
	}
	return list
}

func written(t *testing.T, list []Event) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, event := range list {
		text, err := event.JSON()
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func TestSameSeedSameWorld(t *testing.T) {
	config := Config{Seed: 7, People: 500}
	a, b, c := made(t, config), made(t, config), made(t, Config{Seed: 8, People: 500})
	if !slices.Equal(slices.Collect(a.People()), slices.Collect(b.People())) {
		t.Error("the same seed gave other people")
	}
	if grants(a) != grants(b) {
		t.Error("the same seed gave other grants")
	}
	ea, eb, ec := written(t, events(t, a, 2000)), written(t, events(t, b, 2000)), written(t, events(t, c, 2000))
	if !bytes.Equal(ea, eb) {
		t.Error("the same seed gave other events")
	}
	if bytes.Equal(ea, ec) {
		t.Error("another seed gave the same events")
	}
}

func grants(p *Population) string {
	var out strings.Builder
	for g := range p.Grants() {
		out.WriteString(g.Subject.ID + g.Command.Grant.ID + "\n")
	}
	return out.String()
}

// Every id that the generator gives, from the start or on the way, is one of a test person or a valid business id, and no two people share one.
func TestIds(t *testing.T) {
	p := made(t, Config{Seed: 1, People: 60_000})
	before := p.Size()
	all := written(t, events(t, p, 30_000))
	if p.Size() == before {
		t.Fatal("nobody was born")
	}
	seen := map[string]bool{}
	separators := map[byte]bool{}
	men := 0
	for i := range p.people {
		id := p.people[i].id()
		canonical, err := pseudonym.Canonicalise(pseudonym.Hetu, id)
		if err != nil || canonical != id || id[7] != '9' {
			t.Fatalf("person %d: %v", i, err)
		}
		if seen[id] {
			t.Fatalf("person %d has the code of another", i)
		}
		seen[id] = true
		separators[id[6]] = true
		if p.people[i].male() {
			men++
		}
	}
	if len(separators) != 12 {
		t.Errorf("%d separators of 12", len(separators))
	}
	if share := float64(men) / float64(len(p.people)); share < 0.4 || share > 0.6 {
		t.Errorf("%.2f of all are men", share)
	}
	codes := regexp.MustCompile(`"(?:id|hetu)":"(\d{6}[A-Z-]\d{3}[0-9A-Z])"`).FindAllSubmatch(all, -1)
	if len(codes) < 30_000 {
		t.Errorf("only %d codes in the events", len(codes))
	}
	for _, code := range codes {
		if !seen[string(code[1])] {
			t.Fatal("an event is about someone who is not in the population")
		}
	}
	for _, id := range regexp.MustCompile(`"(?:businessId|yTunnus)":"([^"]*)"`).FindAllSubmatch(all, -1) {
		if _, err := pseudonym.Canonicalise(pseudonym.YTunnus, string(id[1])); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCodesOfOneDateDiffer(t *testing.T) {
	for _, born := range []int{10_957, 38_000, 46_000} {
		seen := map[string]bool{}
		for nth := range 300 {
			for _, lowest := range []int{900, 950} {
				number, separator := code(born, nth, lowest)
				seen[identityCode(born, separator, int(number))] = true
			}
		}
		if len(seen) != 600 {
			t.Errorf("day %d has %d codes", born, len(seen))
		}
	}
}

// Each event's source may publish it, its time goes forward, and what happens follows from what happened.
func TestEventsFollowFromOneAnother(t *testing.T) {
	world, err := examples.Load()
	if err != nil {
		t.Fatal(err)
	}
	may := map[string]bool{}
	for _, organisation := range world.Organisations {
		for _, kind := range organisation.Publishes {
			may[organisation.ID+" "+organisation.Source+" "+kind] = true
		}
	}
	p := made(t, Config{Seed: 3, People: 2000})
	kinds := map[string]int{}
	gone, started := map[string]bool{}, map[string]bool{}
	last := ""
	for _, event := range events(t, p, 20_000) {
		kind := event.Attributes["type"]
		kinds[kind]++
		if !may[event.Organisation+" "+event.Attributes["source"]+" "+kind] {
			t.Fatalf("%s may not publish %s", event.Organisation, kind)
		}
		at, err := time.Parse(time.RFC3339Nano, event.Attributes["time"])
		if now := at.UTC().Format("2006-01-02T15:04:05.000"); err != nil || now < last {
			t.Fatalf("time %s after %s: %v", now, last, err)
		} else {
			last = now
		}
		var data struct {
			Person    struct{ ID string }
			Employee  struct{ ID string }
			Mother    struct{ ID string }
			Reference string
			Spouses   []struct{ ID string }
			Children  []struct{ ID string }
			Number    int `json:"numberOfChildren"`
		}
		if err := json.Unmarshal(event.Data, &data); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{data.Person.ID, data.Employee.ID, data.Mother.ID} {
			if gone[id] {
				t.Fatalf("%s of someone dead", kind)
			}
		}
		switch kind {
		case "fi.dvv.person.death":
			gone[data.Person.ID] = true
		case "fi.vero.employment.started":
			started[data.Reference] = true
		case "fi.vero.employment.annulled":
			if !started[data.Reference] {
				t.Fatal("annulled what had not started")
			}
			delete(started, data.Reference)
		case "fi.dvv.person.marriage":
			if len(data.Spouses) != 2 || data.Spouses[0].ID == data.Spouses[1].ID {
				t.Fatal("a marriage is of two")
			}
		case "fi.dvv.person.birth":
			if len(data.Children) != data.Number {
				t.Fatal("the children do not add up")
			}
		}
	}
	if len(kinds) != len(makers) {
		t.Errorf("kinds %v", kinds)
	}
}

func TestGrantRate(t *testing.T) {
	for _, rate := range []float64{-1, 0.25, 1} {
		p := made(t, Config{Seed: 5, People: 4000, GrantRate: rate})
		n := 0
		for range p.Grants() {
			n++
		}
		pairs := float64(4000 * len(p.consented))
		if share := float64(n) / pairs; share < rate-0.05 || share > max(rate, 0)+0.05 || len(p.consented) == 0 {
			t.Errorf("rate %v gave %v of %v pairs", rate, share, pairs)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, config := range []Config{{People: 1}, {People: -5}, {People: MaxPeople + 1}, {Companies: -1}, {GrantRate: 2}} {
		if _, err := New(config); err == nil {
			t.Errorf("%+v was taken", config)
		}
	}
}

// The largest population has a code for everyone: the enumerations do not run out.
func TestCodesSuffice(t *testing.T) {
	// A household has 1.5 adults and 0.5 children on average.
	if adults := MaxPeople * 3 / 4 / adultDays; adults >= 300-20 {
		t.Errorf("%d adults a date", adults)
	}
	if children := MaxPeople / 4 / childDays; children >= 300-20 {
		t.Errorf("%d children a date", children)
	}
}

func BenchmarkNext(b *testing.B) {
	p := made(b, Config{Seed: 1, People: 100_000})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

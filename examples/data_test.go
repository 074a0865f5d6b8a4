package examples_test

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"
)

// identity is anything that looks like a Finnish personal identity code, whatever its number.
var identity = regexp.MustCompile(`\b\d{6}[-+A-FU-Y]\d{3}[0-9A-Z]\b`)

// Whatever file a person of the examples stands in, the code is valid and of the range that is given to no one.
func TestOnlyTestPeople(t *testing.T) {
	people := map[string]bool{}
	err := fs.WalkDir(examples.FS, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := examples.FS.ReadFile(file)
		if err != nil {
			return err
		}
		for _, id := range identity.FindAllString(string(text), -1) {
			people[id] = true
			if canonical, err := pseudonym.Canonicalise(pseudonym.Hetu, id); err != nil || canonical != id || id[7] != '9' {
				t.Errorf("%s holds a code that is not a test person's: %v", file, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(people) != 21 {
		t.Errorf("%d people, want 21", len(people))
	}
}

// Nothing lies about: each event has a scenario, each subscription a verdict, each organisation a part.
func TestEverythingIsUsed(t *testing.T) {
	world, err := examples.Load()
	if err != nil {
		t.Fatal(err)
	}
	scenarios, err := examples.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	story, err := examples.ReadStory()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{examples.FirstConsents: true}
	for _, scenario := range scenarios {
		if scenario.Name == "" || scenario.Title == "" {
			t.Errorf("scenario %q has no title", scenario.Name)
		}
		for _, step := range scenario.Steps {
			used[step.Event], used[step.Consents] = true, true
			if a := step.Answers; a.Event != "" && (!used[a.Event] || !slices.ContainsFunc(world.Subscriptions, func(s codecs.Subscription) bool { return s.ID == a.Subscription })) {
				t.Errorf("%s answers %s of %s, which does not come before it", step.Event, a.Event, a.Subscription)
			}
			if step.Title == "" {
				t.Errorf("%s has no title", step.Event)
			}
			for _, record := range step.Records {
				for _, v := range record.Verdicts {
					used[v.Subscription] = true
					if v.Permit == (len(v.Fields) == 0) {
						t.Errorf("%s: %s: a permit has fields, a denial none", step.Event, v.Subscription)
					}
				}
			}
		}
	}
	for _, act := range story.Acts {
		if act.Name == "" || act.Title == "" || len(act.Lines) == 0 {
			t.Errorf("act %q has no title, or nothing is seen in it", act.Name)
		}
		for _, line := range act.Lines {
			used[line.Subscription] = true
		}
	}
	for _, pattern := range []string{"events/*", "consents/*"} {
		files, err := fs.Glob(examples.FS, pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !used[file] {
				t.Errorf("%s is in no scenario", file)
			}
		}
	}
	parts := map[string]bool{}
	for _, s := range world.Subscriptions {
		parts[s.Subscriber] = true
		if !used[s.ID] && s.ID != "sub-vero-confirmations" { // there to show that a command passes it by
			t.Errorf("%s is in no scenario", s.ID)
		}
	}
	for _, organisation := range world.Organisations {
		if !parts[organisation.ID] && len(organisation.Publishes) == 0 {
			t.Errorf("%s neither publishes nor subscribes", organisation.ID)
		}
	}
	for _, consent := range world.Consents {
		if !strings.HasPrefix(consent.Subject.Scheme, "fi-") {
			t.Error("a consent is of a scheme that the examples do not use")
		}
	}
}

// The demo's last line.
func TestTotals(t *testing.T) {
	scenarios, err := examples.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := examples.Sum(scenarios), (examples.Totals{Events: 18, Held: 1, Records: 30, Permits: 50, Denials: 15}); got != want {
		t.Errorf("totals %+v, want %+v", got, want)
	}
}

// What `get -o yaml` prints of the world is the world.
func TestWorldIsPrintedAsItWasRead(t *testing.T) {
	world, err := examples.Load()
	if err != nil {
		t.Fatal(err)
	}
	printed, err := refdata.YAML(world.EventTypes...)
	if err != nil {
		t.Fatal(err)
	}
	again, faults := refdata.ParseEventTypes(printed)
	if len(faults) > 0 || len(again) != len(world.EventTypes) {
		t.Fatalf("%+v", faults)
	}
	twice, err := refdata.YAML(again...)
	if err != nil || !slices.Equal(printed, twice) {
		t.Errorf("printed twice, it differs: %v", err)
	}
	for _, s := range world.Subscriptions {
		printed, err := refdata.YAML(s)
		if err != nil {
			t.Fatal(err)
		}
		if s.Filter != "" && (strings.Contains(string(printed), "filter: '") || strings.Contains(string(printed), `filter: "`)) {
			t.Errorf("the filter of %s is printed as text:\n%s", s.ID, printed)
		}
	}
}

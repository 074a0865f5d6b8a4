package journeys

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"

	"pgregory.net/rapid"
)

const (
	start = int64(1_770_000_000_000)
	hour  = int64(time.Hour / time.Millisecond)
)

func decision(subject string, records int32, services ...string) codecs.JourneyInput {
	in := codecs.JourneyInput{Kind: Decided, Subject: subject, EventType: "birth", Records: records, Hours: 2, At: start}
	for _, s := range services {
		in.Services = append(in.Services, codecs.JourneyService{ID: strings.TrimPrefix(s, "-"), Purpose: "p", Awaited: !strings.HasPrefix(s, "-")})
	}
	return in
}

func report(service, subject, state string) codecs.JourneyInput {
	return codecs.JourneyInput{Kind: Reported, Service: service, Subject: subject, State: state, Report: service + subject + state, At: start}
}

// joint is one of the records of one outcome about several subjects.
func joint(service, subject, state string, records int32) codecs.JourneyInput {
	in := report(service, subject, state)
	in.Report, in.Records = service+state, records
	return in
}

func confirmation(service, subject string) codecs.JourneyInput {
	return codecs.JourneyInput{Kind: Confirmed, Service: service, Subject: subject, At: start}
}

func erasure(subject string) codecs.JourneyInput {
	return codecs.JourneyInput{Kind: Erased, Subject: subject}
}

// names are those of a world that knows nothing but one title and one name.
type names struct{}

func (names) EventType(t string) *codecs.EventType { return &codecs.EventType{Title: "A " + t} }
func (names) Organisation(id string) *codecs.Organisation {
	if id == "kela" {
		return &codecs.Organisation{Name: "Kela"}
	}
	return nil
}

// Each step of a history is an input or a time, and what must follow from it.
func TestHistories(t *testing.T) {
	const done, failed, needs = verdict.OutcomeDone, verdict.OutcomeFailed, verdict.OutcomeNeedsConfirmation
	type step struct {
		in   codecs.JourneyInput
		at   int64  // after start; of a step without an input the time that passes
		want string // who is told, what is confirmed, gone
	}
	for name, steps := range map[string][]step{
		"all report": {
			{decision("m", 2, "kela", "vero"), 0, ""}, {decision("c", 2, "vero", "dvv", "-wallet"), 0, ""},
			{report("kela", "m", done), 1, ""}, {report("vero", "c", done), 2, ""}, {report("dvv", "c", failed), 3, "m updated: 1 service updated. 1 service not yet. | c updated: 1 service updated. 1 service could not."},
			{report("vero", "m", done), 4, ""},
		},
		"reports come before decisions": {
			{report("kela", "m", done), 0, ""}, {decision("m", 2, "kela"), 1, ""}, {decision("c", 2), 2, "m updated: 1 service updated."},
		},
		"an outcome about two": {
			{decision("m", 2, "kela"), 0, ""}, {decision("c", 2, "kela"), 0, ""}, {joint("kela", "m", done, 2), 0, ""}, {joint("kela", "m", done, 2), 0, ""},
			{joint("kela", "c", done, 2), 0, "m updated: 1 service updated. | c updated: 1 service updated."},
			{report("kela", "m", needs), 0, "m updated: 1 service updated. Review and confirm."},
		},
		"one waits for the person": {
			{decision("m", 1, "kela", "vero"), 0, ""}, {report("kela", "m", needs), 0, ""}, {report("vero", "m", done), 0, "m updated: 2 services updated. Review and confirm."},
			{report("kela", "m", needs), 0, ""}, {confirmation("vero", "m"), 0, ""}, {confirmation("kela", "x"), 0, ""},
			{confirmation("kela", "m"), 0, "confirmed kela m"}, {confirmation("kela", "m"), 0, ""}, {report("kela", "m", done), 0, "m closed: 2 services updated."}, {report("kela", "m", failed), 0, ""},
		},
		"the time is over": {
			{decision("m", 1, "kela", "vero"), 0, ""}, {report("kela", "m", done), 0, ""}, {at: 2*hour - 1, want: ""}, {at: 2 * hour, want: "m updated: 1 service updated. 1 service not yet."},
			{at: 3 * hour, want: ""}, {report("vero", "m", done), 3 * hour, "m closed: 2 services updated."}, {at: 2*hour + Kept.Milliseconds() - 1, want: ""}, {at: 2*hour + Kept.Milliseconds(), want: "gone"},
		},
		"asked late, and asked again": {
			{decision("m", 2, "kela"), 0, ""}, {decision("f", 2, "kela"), 0, ""}, {report("kela", "f", done), 0, "m updated: 0 services updated. 1 service not yet. | f updated: 1 service updated."},
			{report("kela", "m", needs), 0, "m updated: 1 service updated. Review and confirm."}, {confirmation("kela", "m"), 0, "confirmed kela m"},
			{report("kela", "m", done), 0, "m closed: 1 service updated. | f closed: 1 service updated."},
		},
		"a record that is never decided": {
			{decision("m", 2, "kela"), 0, ""}, {report("kela", "m", done), 0, ""}, {at: 2 * hour, want: "m updated: 1 service updated."},
		},
		"nobody is waited for": {{decision("m", 1, "-wallet"), 0, ""}, {at: 2 * hour, want: ""}},
		"an outcome of nothing": {
			{report("kela", "m", done), 0, ""}, {at: Orphaned.Milliseconds() - 1, want: ""}, {at: Orphaned.Milliseconds(), want: "gone"},
		},
		"a stranger reports": {
			{decision("m", 1, "kela"), 0, ""}, {report("spy", "m", needs), 0, ""}, {confirmation("spy", "m"), 0, ""}, {report("kela", "m", done), 0, "m updated: 1 service updated."},
		},
		"one is erased, then the other": {
			{decision("m", 2, "kela"), 0, ""}, {decision("f", 2, "kela"), 0, ""}, {erasure("m"), 0, ""}, {report("kela", "f", done), 0, "f updated: 1 service updated."}, {erasure("f"), 0, "gone"},
		},
		"a protected one": {
			{decision("", 2), 0, ""}, {decision("m", 2, "kela"), 0, ""}, {report("kela", "m", done), 0, "m updated: 1 service updated."},
		},
	} {
		var row codecs.Journey
		for i, s := range steps {
			now := start + s.at
			var confirmed []Confirmation
			var notices []Notice
			var ok bool
			if s.in.Kind != "" {
				row, confirmed, notices, ok = Apply(row, &s.in, now)
			} else {
				row, notices, ok = Elapse(row, now)
			}
			var got []string
			for _, c := range confirmed {
				got = append(got, "confirmed "+c.Service+" "+c.Subject)
			}
			for _, n := range notices {
				v, _ := View(&row, n.Subject, names{})
				got = append(got, n.Subject+map[bool]string{true: " closed: ", false: " updated: "}[n.Closed]+v.Text)
			}
			if !ok {
				got = append(got, "gone")
			}
			if text := strings.Join(got, " | "); text != s.want {
				t.Errorf("%s, step %d: %q, want %q", name, i, text, s.want)
			}
		}
	}
}

// The order in which decisions and outcomes are read changes neither whether subjects are told nor what a row shows in the end,
// and each subject is told at most once of each kind.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		subjects, services := []string{"m", "f", "c"}, []string{"kela", "vero", "dvv", "-wallet"}
		states := []string{verdict.OutcomeDone, verdict.OutcomeFailed, verdict.OutcomeNeedsConfirmation}
		var inputs []codecs.JourneyInput
		together, count := map[string]string{}, map[string]int32{}
		for _, s := range services[:3] {
			together[s] = rapid.SampledFrom(append([]string{"", ""}, states...)).Draw(rt, "together")
		}
		awaited, reported, final := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for _, s := range subjects {
			in := decision(s, int32(len(subjects)), rapid.SliceOfDistinct(rapid.SampledFrom(services), rapid.ID).Draw(rt, "services of "+s)...)
			for _, one := range in.Services {
				awaited[one.ID] = awaited[one.ID] || one.Awaited
			}
			inputs = append(inputs, in)
		}
		delete(awaited, "wallet")
		for _, s := range subjects {
			for _, service := range rapid.SliceOfDistinct(rapid.SampledFrom(services[:3]), rapid.ID).Draw(rt, "reports on "+s) {
				state := rapid.SampledFrom(states).Draw(rt, "state")
				if one := together[service]; one != "" { // the same outcome about each
					state = one
					inputs = append(inputs, joint(service, s, state, 0))
					count[service]++
				} else {
					inputs = append(inputs, report(service, s, state))
				}
				if _, seen := final[service]; !seen {
					final[service] = true
				}
				reported[service], final[service] = true, final[service] && state != verdict.OutcomeNeedsConfirmation
			}
		}
		for i := range inputs {
			if in := &inputs[i]; in.Kind == Reported && together[in.Service] != "" {
				in.Records = count[in.Service]
			}
		}
		all, closed := true, true
		for service := range awaited {
			all, closed = all && reported[service], closed && reported[service] && final[service]
		}
		var first string
		for range 3 {
			var row codecs.Journey
			told := map[Notice]int{}
			for _, in := range rapid.Permutation(inputs).Draw(rt, "order") {
				before := fmt.Sprint(row)
				next, _, notices, ok := Apply(row, &in, start)
				if !ok || fmt.Sprint(row) != before {
					rt.Fatalf("%+v: kept %v, or the row that was given has changed", in, ok)
				}
				again, _, more, _ := Apply(next, &in, start)
				if len(more) > 0 || fmt.Sprint(again) != fmt.Sprint(next) {
					rt.Fatalf("%+v twice: %v, %+v", in, more, again)
				}
				for _, n := range notices {
					told[n]++
				}
				row = next
			}
			for n, count := range told {
				if count > 1 {
					rt.Fatalf("%+v %d times", n, count)
				}
			}
			if (row.Notified != 0) != all || (row.Closed != 0) != closed {
				rt.Fatalf("told %v, want %v; closed %v, want %v", row.Notified != 0, all, row.Closed != 0, closed)
			}
			if all != (len(told) > 0) && len(awaited) > 0 {
				rt.Fatalf("told %v, where all have reported: %v", told, all)
			}
			var shows []string
			for _, s := range subjects {
				v, ok := View(&row, s, names{})
				shows = append(shows, fmt.Sprint(s, ok, v))
			}
			if text := strings.Join(shows, "\n"); first == "" {
				first = text
			} else if text != first {
				rt.Fatalf("in another order\n%s, before\n%s", text, first)
			}
		}
	})
}

func TestWhatASubjectSees(t *testing.T) {
	var row codecs.Journey
	for _, in := range []codecs.JourneyInput{decision("m", 2, "kela", "vero"), decision("f", 2, "dvv"), report("kela", "m", verdict.OutcomeDone), report("dvv", "f", verdict.OutcomeFailed), report("dvv", "m", verdict.OutcomeDone)} {
		row, _, _, _ = Apply(row, &in, start)
	}
	v, ok := View(&row, "m", names{})
	want := []codecs.JourneyOutcome{{ID: "dvv", Name: "dvv", Outcome: "done"}, {ID: "kela", Name: "Kela", Outcome: "done"}, {ID: "vero", Name: "vero", Outcome: "awaited"}}
	if !ok || v.Title != "A birth" || v.Updated != 2 || v.Overdue != 1 || !slices.Equal(v.Services, want) {
		t.Errorf("%+v", v)
	}
	if v, ok = View(&row, "f", names{}); !ok || len(v.Services) != 1 || v.Services[0].ID != "dvv" || v.Failed != 1 {
		t.Errorf("the other one: %+v", v)
	}
	for _, nobody := range []string{"x", ""} {
		if _, ok := View(&row, nobody, names{}); ok {
			t.Errorf("%q sees a journey", nobody)
		}
	}
}

// The largest row stays far below what a record may hold, and what had no room is counted.
func TestTheRowIsBounded(t *testing.T) {
	records := codecs.NewRecords()
	if err := records.BindLocal(); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 100)
	var row codecs.Journey
	for i := range 300 {
		in := decision(fmt.Sprintf("k1.%032d", i), 256, fmt.Sprintf("%s%028d", long, i), fmt.Sprintf("%s%028d", long, i%7))
		for j := range in.Services {
			in.Services[j].Purpose = long
		}
		row, _, _, _ = Apply(row, &in, start)
	}
	for i := range 300 {
		in := report(fmt.Sprintf("%s%028d", long, i), fmt.Sprintf("k1.%032d", i%70), verdict.OutcomeDone)
		in.Report = strings.Repeat("f", 32)
		row, _, _, _ = Apply(row, &in, start)
	}
	b, err := records.Journey.Encode(&row)
	if err != nil || len(b) > 128<<10 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if len(row.Subjects) != codecs.MaxJourneySubjects || len(row.Items) != codecs.MaxJourneyItems || row.Missed == 0 {
		t.Errorf("%d subjects, %d items, %d missed", len(row.Subjects), len(row.Items), row.Missed)
	}
}

func TestIDs(t *testing.T) {
	if ID("a", "bc") == ID("ab", "c") || ID("a") == ID("a", "") || len(ID()) != 32 {
		t.Error("ids are not of their parts")
	}
}

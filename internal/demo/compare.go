package demo

import (
	"fmt"
	"slices"
	"strings"

	"civicbus/examples"
)

// Compare says where what came of a step differs from what had to come; nil: nowhere. It asks nobody, so what was seen once can be
// compared with many expectations.
func Compare(want examples.Step, got Told) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if got.Held != want.Held {
		fault("held as %q, want %q", got.Held, want.Held)
	}
	for _, w := range want.Records {
		i := slices.IndexFunc(got.Records, func(r Record) bool { return r.Role == w.Role && r.Subject == w.Subject })
		if i < 0 {
			fault("%s: no decision about this subject", w.Role)
			continue
		}
		for _, f := range verdicts(w, got.Records[i]) {
			fault("%s: %s", w.Role, f)
		}
	}
	if n := len(got.Records); n != len(want.Records) {
		fault("%d decisions, want %d", n, len(want.Records))
	}
	return faults
}

// Conclude sums up what was seen of the scenarios' steps, and counts where it, or what was seen of the story's acts, differs from what had
// to come. It asks nobody.
func Conclude(scenarios []examples.Scenario, story *examples.Story, steps []Told, acts []Act) (sum examples.Totals, faults int) {
	var want []examples.Step
	for _, s := range scenarios {
		want = append(want, s.Steps...)
	}
	for i, told := range steps {
		add(&sum, told)
		if i < len(want) {
			faults += len(Compare(want[i], told))
		}
	}
	for i, act := range acts {
		if i < len(story.Acts) {
			faults += len(CompareAct(story.Acts[i], act))
		}
	}
	if sum != examples.Sum(scenarios) || len(steps) != len(want) || len(acts) != len(story.Acts) {
		faults++
	}
	return sum, faults
}

// add counts one step.
func add(t *examples.Totals, told Told) {
	t.Events++
	if told.Held != "" {
		t.Held++
	}
	t.Records += len(told.Records)
	for _, r := range told.Records {
		for _, l := range r.Lines {
			if l.Permit {
				t.Permits++
			} else {
				t.Denials++
			}
		}
	}
}

// verdicts compares one record's.
func verdicts(want examples.Record, got Record) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if got.Outcome != "decided" {
		fault("outcome %s", got.Outcome)
	}
	expected := map[string]examples.Verdict{}
	for _, v := range want.Verdicts {
		expected[v.Subscription] = v
	}
	for _, line := range got.Lines {
		v, ok := expected[line.Subscription]
		delete(expected, line.Subscription)
		switch {
		case !ok:
			fault("a verdict for %s, want none", line.Subscription)
			continue
		case v.Permit != line.Permit || v.Reason != line.Reason:
			fault("%s is %s, want %s", line.Subscription, outcome(line.Permit, line.Reason), outcome(v.Permit, v.Reason))
		}
		for _, f := range append(differ("permitted", slices.Concat(line.Delivered, line.empty), v.Fields), differ("withheld", line.Withheld, v.Withheld)...) {
			fault("%s: %s", line.Subscription, f)
		}
	}
	for id := range expected {
		fault("no verdict for %s", id)
	}
	return faults
}

func outcome(permit bool, reason string) string {
	if permit {
		return "permitted (" + reason + ")"
	}
	return "denied (" + reason + ")"
}

// differ compares paths with those that were expected, each of which stands for everything below it: nothing beyond them, and
// something of each.
func differ(what string, got, want []string) (faults []string) {
	for _, g := range got {
		if !slices.ContainsFunc(want, func(w string) bool { return covers(w, g) }) {
			faults = append(faults, g+" is "+what+", want only ["+strings.Join(want, ", ")+"]")
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return covers(w, g) }) {
			faults = append(faults, "nothing of "+w+" is "+what)
		}
	}
	return faults
}

// covers says whether a path stands at or below another.
func covers(top, path string) bool {
	rest, ok := strings.CutPrefix(path, top)
	return ok && (rest == "" || strings.ContainsRune(".[{", rune(rest[0])))
}

// CompareAct says where what was seen in an act differs from what had to be seen; nil: nowhere. Lines of one party, of one subscription
// and by one way are compared in their order; between those there is none. It asks nobody.
func CompareAct(want examples.Act, got Act) (faults []string) {
	type thread struct{ who, how, subscription string }
	of := func(l examples.Line) thread { return thread{l.Who, l.How, l.Subscription} }
	left := map[thread][]examples.Line{}
	var threads []thread // in the order in which they were begun
	for _, s := range got.Lines {
		if len(left[of(s.Line)]) == 0 {
			threads = append(threads, of(s.Line))
		}
		left[of(s.Line)] = append(left[of(s.Line)], s.Line)
	}
	for _, w := range want.Lines {
		t := of(w)
		at := fmt.Sprintf("%s, %s %s: ", w.Who, w.How, w.Subscription)
		if len(left[t]) == 0 {
			faults = append(faults, at+"nothing more is seen, want "+w.What+" "+w.Says)
			continue
		}
		g := left[t][0]
		left[t] = left[t][1:]
		for _, part := range []struct{ got, want string }{{g.What, w.What}, {g.Says, w.Says}, {g.Note, w.Note}} {
			if part.got != part.want {
				faults = append(faults, fmt.Sprintf("%s%q is seen, want %q", at, part.got, part.want))
			}
		}
		for _, f := range differ("seen", g.Fields, w.Fields) {
			faults = append(faults, at+f)
		}
	}
	for _, t := range threads {
		for _, g := range left[t] {
			faults = append(faults, fmt.Sprintf("%s, %s %s: %s %s is seen, want nothing more", g.Who, g.How, g.Subscription, g.What, g.Says))
		}
	}
	return faults
}

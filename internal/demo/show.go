package demo

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// Show prints one step: who got what, and why.
func Show(w io.Writer, t Told) {
	fmt.Fprintf(w, "\n%s\n%s: %s\n", t.EventType, t.Scenario, t.Title)
	if t.Held != "" {
		fmt.Fprintf(w, "  held as a dead letter: %s\n", t.Held)
	}
	if slices.ContainsFunc(t.Records, func(r Record) bool { return len(r.Lines) > 0 }) {
		tw := table.NewWriter()
		tw.SetStyle(table.StyleLight)
		tw.AppendHeader(table.Row{"about", "subscriber", "subscription", "verdict", "why", "got"})
		for _, r := range t.Records {
			for _, l := range r.Lines {
				verdict, why, got := "denied", l.Reason, "nothing"
				if l.Permit {
					verdict, why, got = "permitted", l.Basis+" for "+l.Purpose, wrap(l.Delivered, 3)
					if len(l.Withheld) > 0 {
						got += "\nwithheld: " + wrap(l.Withheld, 3)
					}
				}
				tw.AppendRow(table.Row{r.Role, l.Subscriber, l.Subscription, verdict, why, got})
			}
		}
		tw.Style().Options.SeparateRows = true
		fmt.Fprintln(w, tw.Render())
	}
	for _, f := range t.Faults {
		fmt.Fprintln(w, "  NOT AS EXPECTED:", f)
	}
}

// ShowAct prints one part of the story: who did and got what, by which way, and when.
func ShowAct(w io.Writer, a Act) {
	fmt.Fprintf(w, "\n%s\n", a.Title)
	tw := table.NewWriter()
	tw.SetStyle(table.StyleLight)
	tw.AppendHeader(table.Row{"at", "who", "how", "what", "says", "got"})
	shown := map[string]bool{}
	for _, s := range slices.SortedStableFunc(slices.Values(a.Lines), func(a, b Seen) int { return cmp.Compare(a.At, b.At) }) {
		fields := wrap(s.Fields, 3)
		key := s.Subscription + "\n" + fields
		if shown[key] && fields != "" {
			fields = "the same fields"
		}
		shown[key] = true
		tw.AppendRow(table.Row{fmt.Sprintf("%.2fs", s.At.Seconds()), s.Who, s.How, s.What, strings.Trim(s.Says+"\n"+s.Note, "\n"), fields})
	}
	fmt.Fprintln(w, tw.Render())
	for _, f := range a.Faults {
		fmt.Fprintln(w, "  NOT AS EXPECTED:", f)
	}
}

// wrap joins paths, n a line.
func wrap(paths []string, n int) string {
	var b strings.Builder
	for i, p := range paths {
		switch {
		case i == 0:
		case i%n == 0:
			b.WriteString(",\n")
		default:
			b.WriteString(", ")
		}
		b.WriteString(strings.TrimPrefix(p, "data."))
	}
	return b.String()
}

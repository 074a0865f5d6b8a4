package command

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"civicbus/codecs"
)

var now = time.UnixMilli(1_000_000)

// counter is a row as small as can be: each command adds to it, and a zero adds nothing.
type counter struct {
	version, at int64
	ids         []string
	versions    []int64
	sum         int
}

func counterLedger(c *counter) Ledger {
	return Ledger{Version: &c.version, IDs: &c.ids, Versions: &c.versions, UpdatedAt: &c.at}
}

func add(row *counter, id string, ifVersion int64, n int) (*counter, codecs.CommandResult) {
	order := Order{Meta: codecs.Meta{ID: id, Actor: "a", IfVersion: ifVersion}, Stream: "s", Kind: "add"}
	return Decide(row, counterLedger, order, now, func(row *counter) (*counter, Refusal) {
		switch {
		case n < 0:
			return nil, Refuse("negative", "n", "not below 0")
		case n == 0:
			return nil, Refusal{}
		}
		next := counter{}
		if row != nil {
			next = *row
		}
		next.sum += n
		return &next, Refusal{}
	})
}

func TestDecideAgainstAModel(t *testing.T) {
	type step struct {
		id string
		n  int
	}
	rapid.Check(t, func(t *rapid.T) {
		var row *counter
		var version int64 // the model: a sum, a version, and the answers to the last sixteen accepted
		sum, known := 0, []step{}
		answers := map[string]int64{}
		for i := range rapid.IntRange(0, 60).Draw(t, "steps") {
			s := step{fmt.Sprint("c", i), rapid.IntRange(-1, 2).Draw(t, "n")}
			if len(known) > 0 && rapid.Bool().Draw(t, "repeat") {
				s = rapid.SampledFrom(known).Draw(t, "which")
			}
			before := fmt.Sprintf("%+v", row)
			next, result := add(row, s.id, 0, s.n)
			if fmt.Sprintf("%+v", row) != before {
				t.Fatalf("the row before was changed")
			}
			want, repeat := answers[s.id]
			switch {
			case repeat:
				if next != nil || result.Status != Accepted || result.Version != want {
					t.Fatalf("repeat: %+v, %+v, want version %d", next, result, want)
				}
			case s.n < 0:
				if next != nil || result.Status != Refused || result.Reason != "negative" || result.Version != version {
					t.Fatalf("refusal: %+v, %+v", next, result)
				}
			default:
				if s.n > 0 {
					version++
				}
				sum += s.n
				if row == nil && s.n == 0 {
					if next != nil {
						t.Fatalf("a row out of nothing: %+v", next)
					}
					break
				}
				if next == nil || next.sum != sum || next.version != version || result.Version != version || len(next.ids) != len(next.versions) {
					t.Fatalf("next %+v, answer %+v, want sum %d version %d", next, result, sum, version)
				}
				if known, answers[s.id] = append(known, s), version; len(known) > MaxApplied {
					delete(answers, known[0].id)
					known = known[1:]
				}
				if len(next.ids) != len(known) {
					t.Fatalf("%d ids, want %d", len(next.ids), len(known))
				}
			}
			if next != nil {
				row = next
			}
		}
	})
}

func TestDecideRefuses(t *testing.T) {
	row := &counter{version: 7, ids: []string{"old"}, versions: []int64{5}}
	for _, test := range []struct {
		name, id, actor string
		ifVersion       int64
		reason          string
	}{
		{"no id", "", "a", 0, InvalidCommand},
		{"long id", strings.Repeat("x", MaxIDBytes+1), "a", 0, InvalidCommand},
		{"line break in the id", "a\nb", "a", 0, InvalidCommand},
		{"id that is no UTF-8", "a\xff", "a", 0, InvalidCommand},
		{"no actor", "c", "", 0, InvalidCommand},
		{"identity code as actor", "c", "person:010594Y9032", 0, InvalidCommand},
		{"old version", "c", "a", 6, VersionConflict},
		{"version to come", "c", "a", 8, VersionConflict},
		{"right version", "c", "a", 7, ""},
		{"any version", "c", "a", 0, ""},
		{"repeat, whatever version it names", "old", "a", 2, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			order := Order{Meta: codecs.Meta{ID: test.id, Actor: test.actor, IfVersion: test.ifVersion}}
			_, result := Decide(row, counterLedger, order, now, func(*counter) (*counter, Refusal) { return nil, Refusal{} })
			if result.Reason != test.reason {
				t.Fatalf("reason %q, want %q", result.Reason, test.reason)
			}
			if result.CommandID != "" && result.CommandID != test.id || strings.Contains(result.Actor, "9032") || !utf8.ValidString(result.CommandID) {
				t.Errorf("answer %+v repeats what must not be kept", result)
			}
			if want := int64(7); test.id != "old" && result.Version != want {
				t.Errorf("version %d, want %d", result.Version, want)
			}
		})
	}
}

// A row that was written before versions were kept answers with the best that it knows, and keeps versions from then on.
func TestRowsWithoutVersions(t *testing.T) {
	row := &counter{version: 7, ids: []string{"old"}}
	if next, result := add(row, "old", 0, 1); next != nil || result.Version != 7 || result.Status != Accepted {
		t.Fatalf("repeat: %+v, %+v", next, result)
	}
	next, _ := add(row, "new", 0, 1)
	if fmt.Sprint(next.versions) != "[7 8]" {
		t.Fatalf("versions %v", next.versions)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	faults := make([]codecs.Fault, 1000)
	for i := range faults {
		faults[i] = codecs.Fault{Field: strings.Repeat("ä", 1000), Reason: "r", Text: "\xff" + strings.Repeat("x", 1000)}
	}
	refusal := RefuseAll(faults)
	if len(refusal.Faults) != MaxFaults || refusal.Reason != "r" {
		t.Fatalf("%d faults, reason %q", len(refusal.Faults), refusal.Reason)
	}
	for _, f := range refusal.Faults {
		if len(f.Field) > MaxFaultText || len(f.Text) > MaxFaultText || !utf8.ValidString(f.Field) || !utf8.ValidString(f.Text) {
			t.Fatalf("%d bytes of field, %d of text", len(f.Field), len(f.Text))
		}
	}
	if len(faults[0].Text) != 1001 {
		t.Error("the caller's faults were cut")
	}
}

func TestNames(t *testing.T) {
	for text, want := range map[string]bool{
		"kela.fi": true, "a": true, "sub-kela-birth-001": true, strings.Repeat("a", 100): true,
		"": false, "Kela.fi": false, "kela_fi": false, ".kela": false, "kela-": false, "ke..la": false, "__offset": false, "kela fi": false,
		"kéla": false, strings.Repeat("a", 101): false, "010594Y9032": false,
	} {
		if Name(text) != want {
			t.Errorf("Name(%q) = %v", text, !want)
		}
	}
	for text, want := range map[string]bool{"birth:basic": true, "": false, "a b": false, "a\u00a0b": false, "a\u202eb": false, "12345": false, "äiti": true} {
		if Token(text, 12) != (want || text == "12345") {
			t.Errorf("Token(%q) = %v", text, !want)
		}
	}
	if Token("12345", 4) || !Plain("", 0) || Plain("a\x00", 9) || Plain("\u2028", 9) {
		t.Error("bounds of plain text")
	}
}

// A command that only makes a row is refused where there is one, and its repeat is still answered as it was.
func TestIfAbsent(t *testing.T) {
	row, made := add(nil, "c1", codecs.IfAbsent, 1)
	if made.Status != Accepted || made.Version != 1 {
		t.Fatalf("%+v", made)
	}
	if next, again := add(row, "c1", codecs.IfAbsent, 1); next != nil || again.Status != Accepted || again.Version != 1 {
		t.Fatalf("the repeat: %+v", again)
	}
	if next, second := add(row, "c2", codecs.IfAbsent, 1); next != nil || second.Status != Refused || second.Reason != VersionConflict || second.Version != 1 {
		t.Fatalf("the second: %+v", second)
	}
}

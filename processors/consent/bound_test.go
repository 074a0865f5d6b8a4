package consent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/processors/command"
	"civicbus/processors/command/commandtest"
)

// largest is a grant as large as one can be.
func largest(i int) codecs.Grant {
	long := func(n int) string { return strings.Repeat("x", n) }
	g := codecs.Grant{ID: fmt.Sprintf("%064d", i), Recipient: long(command.MaxNameBytes), Purpose: long(maxPurpose), ValidFrom: 1 << 60, ValidTo: 1 << 61,
		Notice: long(maxURI), Language: long(maxTerm), Method: long(maxTerm), ConsentType: "expressed", Jurisdiction: long(maxTerm),
		StorageLocation: long(maxTerm), Retention: long(maxTerm), WithdrawalMethod: long(maxURI), ProcessingMethod: long(maxTerm)}
	for s := range MaxScopes { // of 48 bytes each: all that they may have together
		g.Scopes = append(g.Scopes, fmt.Sprintf("%048d", s))
	}
	return g
}

func TestTheLargestRowFitsIntoARecord(t *testing.T) {
	records := commandtest.Records(t)
	var row *codecs.Consents
	step := 0
	apply := func(cmd *codecs.ConsentCommand) codecs.CommandResult {
		t.Helper()
		step++
		cmd.Meta = codecs.Meta{ID: fmt.Sprintf("%0128d", step), Actor: strings.Repeat("a", command.MaxIDBytes)}
		next, result := Apply(row, cmd, now)
		if next != nil {
			row = next
		}
		return result
	}
	for i := range codecs.MaxGrants {
		if result := apply(give(largest(i))); result.Status != "accepted" {
			t.Fatalf("grant %d: %+v", i, result)
		}
	}
	for i := range codecs.MaxObjections {
		if result := apply(object(fmt.Sprintf("%0100d", i))); result.Status != "accepted" {
			t.Fatalf("objection %d: %+v", i, result)
		}
	}
	if result := apply(give(largest(codecs.MaxGrants))); result.Reason != TooManyGrants {
		t.Errorf("one grant too many: %+v", result)
	}
	if result := apply(object("one-more")); result.Reason != TooManyObjections {
		t.Errorf("one objection too many: %+v", result)
	}
	full := commandtest.Encode(t, records.Consents, *row)
	t.Logf("the largest row has %d bytes", len(full))
	if len(full) > command.MaxRowBytes-32<<10 {
		t.Errorf("%d bytes, and a record takes %d", len(full), command.MaxRowBytes)
	}
	// What takes away fits always, also into a full row, and however it is repeated.
	for i := range MaxScopes {
		if result := apply(withdraw(codecs.Grant{Recipient: largest(0).Recipient, Purpose: largest(0).Purpose, Scopes: []string{fmt.Sprintf("%048d", i)}}, 0)); result.Status != "accepted" {
			t.Fatalf("withdrawal %d: %+v", i, result)
		}
	}
	if result := apply(restrict(Protected)); result.Status != "accepted" {
		t.Errorf("restriction: %+v", result)
	}
	if bytes := commandtest.Encode(t, records.Consents, *row); len(bytes) > command.MaxRowBytes-32<<10 {
		t.Errorf("%d bytes after withdrawals", len(bytes))
	}
	if held := given(row); len(held) != 0 {
		t.Errorf("%d are given still", len(held))
	}
}

func TestRoomIsMadeByWhatDoesNotHold(t *testing.T) {
	full := func(change func(i int, g *codecs.Grant)) *codecs.Consents {
		row := &codecs.Consents{Version: 1000}
		for i := range codecs.MaxGrants {
			g := grant(fmt.Sprint("g", i), "name")
			g.State, g.Version, g.GivenVersion, g.GivenAt = Given, int64(i+1), int64(i+1), now.Add(-time.Hour).UnixMilli()
			change(i, &g)
			row.Grants = append(row.Grants, g)
		}
		return row
	}
	for _, test := range []struct {
		name    string
		row     *codecs.Consents
		dropped string // empty: refused
	}{
		{"all given", full(func(int, *codecs.Grant) {}), ""},
		{"all given, and all for later", full(func(_ int, g *codecs.Grant) { g.ValidFrom = now.Add(time.Hour).UnixMilli() }), ""},
		{"the oldest by change, not by place", full(func(i int, g *codecs.Grant) {
			if i == 7 || i == 9 {
				g.State, g.Version = Withdrawn, int64(900-i)
			}
		}), "g9"},
		{"a refusal before an older expired grant", full(func(i int, g *codecs.Grant) {
			if i == 3 {
				g.ValidTo = now.UnixMilli()
			}
			if i == 200 {
				g.State = Refused
			}
		}), "g200"},
		{"an expired grant, where nothing else", full(func(i int, g *codecs.Grant) {
			if i >= 3 {
				g.ValidTo = now.UnixMilli() + int64(i%2)
			}
		}), "g4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			next, result := Apply(test.row, give(grant("new", "name")), now)
			if test.dropped == "" {
				if next != nil || result.Reason != TooManyGrants {
					t.Fatalf("answer %+v", result)
				}
				return
			}
			if next == nil || len(next.Grants) != codecs.MaxGrants {
				t.Fatalf("answer %+v", result)
			}
			for _, g := range next.Grants {
				if g.ID == test.dropped {
					t.Errorf("%s is still there", g.ID)
				}
			}
			if next.Grants[codecs.MaxGrants-1].ID != "new" {
				t.Error("the new grant is not there")
			}
		})
	}
}

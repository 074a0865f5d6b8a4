package consent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/processors/command"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// asked is a command of the kind, with an id of its own.
func asked(kind string, change func(*codecs.ConsentCommand)) *codecs.ConsentCommand {
	cmd := &codecs.ConsentCommand{Meta: codecs.Meta{ID: "command", Actor: "wallet:1"}, Kind: kind}
	if change != nil {
		change(cmd)
	}
	return cmd
}

func grant(id string, scopes ...string) codecs.Grant {
	return codecs.Grant{ID: id, Recipient: "kela.fi", Purpose: "child-benefit", Scopes: scopes}
}

// rowOf is the row after the commands, each accepted; its version is their number.
func rowOf(t *testing.T, cmds ...*codecs.ConsentCommand) *codecs.Consents {
	t.Helper()
	var row *codecs.Consents
	for i, cmd := range cmds {
		cmd.Meta.ID = fmt.Sprint("before", i)
		next, result := Apply(row, cmd, now.Add(-time.Hour))
		if result.Status != "accepted" || next == nil {
			t.Fatalf("%s: %+v", cmd.Kind, result)
		}
		row = next
	}
	return row
}

func give(g codecs.Grant) *codecs.ConsentCommand {
	return asked(GiveGrant, func(c *codecs.ConsentCommand) { c.Grant = g })
}

func withdraw(g codecs.Grant, upTo int64) *codecs.ConsentCommand {
	return asked(Withdraw, func(c *codecs.ConsentCommand) { c.Grant, c.UpTo = g, upTo })
}

func revive() *codecs.ConsentCommand { return reviveBy("operator:anna") }

func reviveBy(actor string) *codecs.ConsentCommand {
	return asked(Revive, func(c *codecs.ConsentCommand) { c.Meta.Actor = actor })
}

func object(subscription string) *codecs.ConsentCommand {
	return asked(Object, func(c *codecs.ConsentCommand) { c.Subscription = subscription })
}

func restrict(to string) *codecs.ConsentCommand {
	return asked(Restrict, func(c *codecs.ConsentCommand) { c.Restriction = to })
}

// summary is what a row says, in short: each grant with its state and scopes, the objections, the restriction.
func summary(row *codecs.Consents) string {
	if row == nil {
		return "none"
	}
	var parts []string
	for _, g := range row.Grants {
		parts = append(parts, fmt.Sprintf("%s:%s[%s]", g.ID, g.State, strings.Join(g.Scopes, " ")))
	}
	for _, o := range row.Objections {
		parts = append(parts, "not "+o.Subscription)
	}
	if row.EndedAt != 0 {
		parts = append(parts, "ended")
	}
	return strings.TrimSpace(strings.Join(parts, ", ") + " " + row.Restriction)
}

func TestApply(t *testing.T) {
	two := func(t *testing.T) *codecs.Consents {
		return rowOf(t, give(grant("g1", "name", "address")), give(grant("g2", "income")))
	}
	partly := func(t *testing.T) *codecs.Consents {
		return rowOf(t, give(grant("g1", "name", "address")), withdraw(grant("g1", "name"), 0))
	}
	none := func(*testing.T) *codecs.Consents { return nil }
	objected := func(t *testing.T) *codecs.Consents { return rowOf(t, object("sub-1")) }
	protected := func(t *testing.T) *codecs.Consents { return rowOf(t, restrict(Protected)) }
	erased := func(t *testing.T) *codecs.Consents { return rowOf(t, give(grant("g1", "name")), asked(Erase, nil)) }
	dead := func(t *testing.T) *codecs.Consents {
		row, _ := EndByDeath(rowOf(t, give(grant("g1", "name")), object("sub-1")), command.Order{Meta: codecs.Meta{ID: "death", Actor: "civicbus"}}, now)
		return row
	}
	revived := func(t *testing.T) *codecs.Consents {
		row, _ := Apply(dead(t), asked(Revive, func(c *codecs.ConsentCommand) { c.Meta.ID, c.Meta.Actor = "revival", "operator:anna" }), now)
		return row
	}
	both := codecs.Grant{Recipient: "kela.fi", Purpose: "child-benefit"}
	scoped := func(scopes ...string) codecs.Grant { g := both; g.Scopes = scopes; return g }

	for _, test := range []struct {
		name   string
		row    func(*testing.T) *codecs.Consents
		cmd    *codecs.ConsentCommand
		reason string // empty: accepted
		want   string // the row afterwards
	}{
		{"grant", none, give(grant("g1", "name")), "", "g1:given[name]"},
		{"a second grant", two, give(grant("g3", "name")), "", "g1:given[name address], g2:given[income], g3:given[name]"},
		{"refuse", none, asked(Refuse, func(c *codecs.ConsentCommand) { c.Grant = grant("g1") }), "", "g1:refused[]"},
		{"a refusal takes its scopes back", two, asked(Refuse, func(c *codecs.ConsentCommand) { c.Grant = grant("g3", "name", "salary") }), "",
			"g1:given[address], g2:given[income], g3:refused[name salary]"},
		{"a refusal without scopes takes all back", two, asked(Refuse, func(c *codecs.ConsentCommand) { c.Grant = grant("g3") }), "",
			"g1:withdrawn[], g2:withdrawn[], g3:refused[]"},
		{"a refusal for another purpose takes nothing back", two, asked(Refuse, func(c *codecs.ConsentCommand) {
			c.Grant = codecs.Grant{ID: "g3", Recipient: "kela.fi", Purpose: "housing"}
		}), "", "g1:given[name address], g2:given[income], g3:refused[]"},
		{"grant without scope", none, give(grant("g1")), GrantInvalid, "none"},
		{"grant without recipient", none, give(codecs.Grant{ID: "g", Purpose: "p", Scopes: []string{"s"}}), GrantInvalid, "none"},
		{"grant without purpose", none, give(codecs.Grant{ID: "g", Recipient: "r", Scopes: []string{"s"}}), GrantInvalid, "none"},
		{"grant without id", none, give(grant("", "s")), GrantInvalid, "none"},
		{"scope twice", none, give(grant("g", "s", "s")), GrantInvalid, "none"},
		{"too many scopes", none, give(grant("g", make([]string, MaxScopes+1)...)), GrantInvalid, "none"},
		{"long scope", none, give(grant("g", strings.Repeat("s", maxScope+1))), GrantInvalid, "none"},
		{"scopes long together", none, give(grant("g", long("a"), long("b"), long("c"), long("d"), long("e"), long("f"), long("g"), long("h"), long("i"), long("j"),
			long("k"), long("l"), long("m"), long("n"), long("o"), long("p"))), GrantInvalid, "none"},
		{"unknown consent type", none, give(codecs.Grant{ID: "g", Recipient: "r", Purpose: "p", Scopes: []string{"s"}, ConsentType: "implied"}), GrantInvalid, "none"},
		{"id used before", two, give(grant("g1", "name")), GrantExists, "g1:given[name address], g2:given[income]"},
		{"over before it begins", none, give(codecs.Grant{ID: "g", Recipient: "r", Purpose: "p", Scopes: []string{"s"}, ValidFrom: 5, ValidTo: 5}), ValidityEmpty, "none"},
		{"over now", none, give(codecs.Grant{ID: "g", Recipient: "r", Purpose: "p", Scopes: []string{"s"}, ValidFrom: 5, ValidTo: now.UnixMilli()}), ValidityEmpty, "none"},

		{"withdraw by id", two, withdraw(codecs.Grant{ID: "g1"}, 0), "", "g1:withdrawn[], g2:given[income]"},
		{"withdraw one scope", two, withdraw(codecs.Grant{ID: "g1", Scopes: []string{"name"}}, 0), "", "g1:given[address], g2:given[income]"},
		{"withdraw every scope by name", two, withdraw(codecs.Grant{ID: "g1", Scopes: []string{"address", "name"}}, 0), "", "g1:withdrawn[], g2:given[income]"},
		{"an unknown scope withdraws all", two, withdraw(codecs.Grant{ID: "g1", Scopes: []string{"salary"}}, 0), "", "g1:withdrawn[], g2:given[income]"},
		{"an unknown scope beside a known one", two, withdraw(codecs.Grant{ID: "g1", Scopes: []string{"name", "salary"}}, 0), "", "g1:withdrawn[], g2:given[income]"},
		{"a scope withdrawn before is not unknown", partly, withdraw(codecs.Grant{ID: "g1", Scopes: []string{"name"}}, 0), "", "g1:given[address]"},
		{"withdraw by recipient and purpose", two, withdraw(both, 0), "", "g1:withdrawn[], g2:withdrawn[]"},
		{"a scope of one of two grants", two, withdraw(scoped("income"), 0), "", "g1:given[name address], g2:withdrawn[]"},
		{"an unknown scope of two grants", two, withdraw(scoped("salary"), 0), "", "g1:withdrawn[], g2:withdrawn[]"},
		{"up to a version: the newer one stays", two, withdraw(both, 1), "", "g1:withdrawn[], g2:given[income]"},
		{"up to a version: one that lost a scope since is no newer one", partly, withdraw(both, 1), "", "g1:withdrawn[]"},
		{"up to a version before all", rowAfterObjection, withdraw(both, 1), "", "g1:given[name], not sub-1"},
		{"withdraw what is withdrawn", func(t *testing.T) *codecs.Consents { return rowOf(t, give(grant("g1", "s")), withdraw(both, 0)) }, withdraw(both, 0), "", "g1:withdrawn[]"},
		{"withdraw from another recipient", two, withdraw(codecs.Grant{Recipient: "vero.fi", Purpose: "child-benefit"}, 0), UnknownGrant, "g1:given[name address], g2:given[income]"},
		{"withdraw from nothing", none, withdraw(both, 0), UnknownGrant, "none"},
		{"withdraw without a name", two, withdraw(codecs.Grant{Recipient: "kela.fi"}, 0), GrantUnnamed, "g1:given[name address], g2:given[income]"},

		{"object", none, object("sub-1"), "", "not sub-1"},
		{"object twice", objected, object("sub-1"), "", "not sub-1"},
		{"object to what is no subscription", none, object("Sub 1"), SubscriptionInvalid, "none"},
		{"unobject", objected, asked(Unobject, func(c *codecs.ConsentCommand) { c.Subscription = "sub-1" }), "", ""},
		{"unobject nothing", objected, asked(Unobject, func(c *codecs.ConsentCommand) { c.Subscription = "sub-2" }), NotObjected, "not sub-1"},

		{"restrict", two, restrict(Protected), "", "g1:given[name address], g2:given[income] protected"},
		{"restrict twice", protected, restrict(Protected), "", "protected"},
		{"erasure is no restriction to ask for", none, restrict(Erasure), RestrictionUnknown, "none"},
		{"unrestrict", protected, asked(Unrestrict, nil), "", ""},
		{"unrestrict nothing", two, asked(Unrestrict, nil), NotRestricted, "g1:given[name address], g2:given[income]"},
		{"a protected person may grant", protected, give(grant("g1", "name")), "", "g1:given[name] protected"},

		{"erase", two, asked(Erase, nil), "", "erasure"},
		{"erase nothing", none, asked(Erase, nil), "", "erasure"},
		{"erase twice", erased, asked(Erase, nil), "", "erasure"},
		{"grant after erasure", erased, give(grant("g9", "name")), UnderErasure, "erasure"},
		{"unrestrict after erasure", erased, asked(Unrestrict, nil), UnderErasure, "erasure"},
		{"restrict after erasure", erased, restrict(Protected), UnderErasure, "erasure"},
		{"grant after a death", dead, give(grant("g2", "name")), Deceased, "g1:given[name], not sub-1, ended"},
		{"refuse after a death", dead, asked(Refuse, func(c *codecs.ConsentCommand) { c.Grant = grant("g2") }), "", "g1:withdrawn[], g2:refused[], not sub-1, ended"},
		{"withdraw after a death", dead, withdraw(codecs.Grant{ID: "g1"}, 0), "", "g1:withdrawn[], not sub-1, ended"},
		{"restrict after a death", dead, restrict(Protected), "", "g1:given[name], not sub-1, ended protected"},
		{"revive", dead, revive(), "", "g1:given[name], not sub-1"},
		{"revive who is not dead", two, revive(), NotDeceased, "g1:given[name address], g2:given[income]"},
		{"revive by the wallet", dead, reviveBy("wallet:1"), OperatorRequired, "g1:given[name], not sub-1, ended"},
		{"revive by the bus", dead, reviveBy("civicbus"), OperatorRequired, "g1:given[name], not sub-1, ended"},
		{"revive by an operator without a name", dead, reviveBy("operator:"), OperatorRequired, "g1:given[name], not sub-1, ended"},
		{"revive nobody", none, revive(), NotDeceased, "none"},
		{"revive twice", revived, revive(), NotDeceased, "g1:given[name], not sub-1"},
		{"revive after erasure", erased, revive(), UnderErasure, "erasure"},
		{"grant after a revival", revived, give(grant("g2", "name")), "", "g1:given[name], g2:given[name], not sub-1"},
		{"death is no command", two, asked(Death, nil), "unknown_kind", "g1:given[name address], g2:given[income]"},
		{"other version", two, asked(Erase, func(c *codecs.ConsentCommand) { c.Meta.IfVersion = 1 }), "version_conflict", "g1:given[name address], g2:given[income]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			row := test.row(t)
			before := fmt.Sprintf("%+v", row)
			next, result := Apply(row, test.cmd, now)
			if fmt.Sprintf("%+v", row) != before {
				t.Error("the row before was changed")
			}
			if next != nil {
				row = next
			}
			if result.Reason != test.reason || summary(row) != test.want {
				t.Fatalf("answered %q with row %q, want %q with %q", result.Reason, summary(row), test.reason, test.want)
			}
			if row != nil && result.Version != row.Version {
				t.Errorf("answered version %d of row version %d", result.Version, row.Version)
			}
		})
	}
}

// long is a scope as long as one can be.
func long(text string) string { return strings.Repeat(text, maxScope) }

func rowAfterObjection(t *testing.T) *codecs.Consents {
	return rowOf(t, object("sub-1"), give(grant("g1", "name")))
}

// What a grant says of itself is set by the group, whatever the command brought along.
func TestWhatTheGroupKeepsOfAGrant(t *testing.T) {
	brought := grant("g1", "name")
	brought.Version, brought.GivenVersion, brought.GivenAt, brought.State = 99, 99, 99, Withdrawn
	brought.ChangedAt, brought.ChangedBy, brought.WithdrawnScopes = 99, "someone", []string{"old"}
	brought.Retention, brought.Jurisdiction, brought.WithdrawalMethod = "P2Y", "FI", "https://wallet.example/withdraw"
	row := rowOf(t, object("sub-1"), give(brought))
	g := row.Grants[0]
	given := now.Add(-time.Hour).UnixMilli()
	if g.Version != 2 || g.GivenVersion != 2 || g.GivenAt != given || g.ValidFrom != 0 || g.ChangedAt != given || g.ChangedBy != "wallet:1" ||
		g.State != Given || g.WithdrawnScopes != nil || g.Retention != "P2Y" || g.Jurisdiction != "FI" {
		t.Errorf("grant %+v", g)
	}
	next, _ := Apply(row, withdraw(codecs.Grant{ID: "g1"}, 0), now)
	g = next.Grants[0]
	if g.Version != 3 || g.GivenVersion != 2 || g.GivenAt != given || g.ChangedAt != now.UnixMilli() || !slices.Equal(g.WithdrawnScopes, []string{"name"}) {
		t.Errorf("withdrawn grant %+v", g)
	}
}

package consent

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/lovoo/goka"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/processors/command/commandtest"
	"civicbus/topology"
)

// world is a running consent group over a catalog with one type that ends consents and one on the same stream that does not.
type world struct {
	*commandtest.Bench
	t       *testing.T
	records *codecs.Records
	now     time.Time
	subject string
	sent    int

	snapshot *verdict.Snapshot
}

func newWorld(t *testing.T) *world {
	keys, err := pseudonym.NewKeys(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, records: commandtest.Records(t), now: now, subject: keys.Subject("fi-hetu", "010594Y9032")}
	roles := []codecs.Role{{Name: "deceased"}, {Name: "spouse"}}
	w.snapshot = verdict.NewSnapshot().With(verdict.Changes{EventTypes: map[string]*codecs.EventType{
		"death":  {Type: "death", Stream: "life.death", EndsConsents: true, Roles: roles},
		"burial": {Type: "burial", Stream: "life.death", Roles: roles},
	}})
	w.Bench = w.bench(0)
	return w
}

// bench starts the group for topics of so many partitions; 0: it does not look.
func (w *world) bench(partitions int32) *commandtest.Bench {
	g := New(command.Env{Records: w.records, Now: func() time.Time { return w.now }, Partitions: partitions, Snapshot: func() *verdict.Snapshot { return w.snapshot },
		Follows: func(ctx goka.Context) int64 { return ctx.Offset() - 1 }})
	return commandtest.New(w.t, w.records, topology.Consent, g.Callbacks())
}

func (w *world) ask(cmd *codecs.ConsentCommand) codecs.CommandResult {
	w.t.Helper()
	w.sent++
	cmd.Meta.ID = fmt.Sprint("c", w.sent)
	w.Send(topology.ConsentCommands, w.subject, commandtest.Encode(w.t, w.records.ConsentCommand, *cmd), nil)
	_, result := w.Result()
	return result
}

func (w *world) tell(kind, role string, more goka.Headers) {
	w.t.Helper()
	headers := goka.Headers{"ce_type": []byte(kind), "ce_subjectrole": []byte(role)}
	w.Send(topology.Death, w.subject, []byte("not read"), headers.Merged(more))
}

func (w *world) row() codecs.Consents {
	w.t.Helper()
	return commandtest.Decode(w.t, w.records.Consents, w.Row(w.subject))
}

func TestGroup(t *testing.T) {
	w := newWorld(t)
	if result := w.ask(give(grant("g1", "name", "address"))); result.Version != 1 || result.Topic != "consent-commands" || result.Offset != 0 || result.Follows != -1 {
		t.Fatalf("grant: %+v", result)
	}
	if result := w.ask(withdraw(codecs.Grant{ID: "g1", Scopes: []string{"name"}}, 0)); result.Version != 2 || result.Offset != 1 || result.Follows != 0 {
		t.Fatalf("withdrawal: %+v", result)
	}
	w.Restart()
	repeat := give(grant("g1", "name", "address"))
	repeat.Meta.ID = "c1"
	w.Send(topology.ConsentCommands, w.subject, commandtest.Encode(t, w.records.ConsentCommand, *repeat), nil)
	if _, result := w.Result(); result.Version != 1 || result.Status != "accepted" {
		t.Fatalf("the repeat after a restart: %+v, want the first answer", result)
	}
	if w.Changes() != 0 {
		t.Error("a repeat was written to the table")
	}
	if row := w.row(); summary(&row) != "g1:given[address]" {
		t.Fatalf("row %s", summary(&row))
	}
	w.Quiet()
}

func TestADeathEndsWhatWasGiven(t *testing.T) {
	w := newWorld(t)
	w.ask(give(grant("g1", "name")))
	w.ask(object("sub-1"))
	for _, other := range [][2]string{{"burial", "deceased"}, {"death", "spouse"}, {"unknown", "deceased"}, {"", ""}} {
		w.tell(other[0], other[1], nil)
	}
	w.Quiet()
	if w.row().EndedAt != 0 {
		t.Fatal("another event ended the grants")
	}
	w.now = w.now.Add(-time.Minute) // this process's clock is behind that of the one that took the grant
	w.tell("death", "deceased", nil)
	key, result := w.Result()
	if key != w.subject || result.Kind != Death || result.Status != "accepted" || result.Version != 3 || result.Topic != "life.death" || result.Offset != 4 ||
		result.Actor != "civicbus" || len(result.CommandID) != 32 {
		t.Fatalf("answer %+v", result)
	}
	row := w.row()
	if len(given(&row)) != 0 || row.Grants[0].State != Given || len(row.Objections) != 1 {
		t.Fatalf("row %+v", row)
	}
	if result := w.ask(give(grant("g2", "name"))); result.Reason != Deceased || result.Version != 3 {
		t.Fatalf("a grant after a death: %+v", result)
	}
	w.tell("death", "deceased", nil)
	if _, result := w.Result(); result.Status != "accepted" || result.Version != 3 {
		t.Fatalf("a second death: %+v", result)
	}
	w.Quiet()
}

// A death told by mistake is taken back by a command, which is answered as every command is. What is redriven for the sake of
// one subscription does not tell it again.
func TestADeathTakenBack(t *testing.T) {
	w := newWorld(t)
	w.ask(give(grant("g1", "name")))
	w.tell("death", "deceased", nil)
	w.Result()
	w.Restart()
	result := w.ask(revive())
	if result.Status != "accepted" || result.Version != 3 || result.Kind != Revive || result.Actor != "operator:anna" {
		t.Fatalf("revive: %+v", result)
	}
	if row := w.row(); row.EndedAt != 0 || fmt.Sprint(given(&row)) != "map[g1/name:true]" {
		t.Fatalf("row %+v", row)
	}
	w.tell("death", "deceased", goka.Headers{"ce_redriven": []byte("true"), "civicbus_only": []byte("sub-1")})
	w.Quiet()
	if result := w.ask(give(grant("g2", "name"))); result.Status != "accepted" {
		t.Fatalf("a grant after the revival: %+v", result)
	}
	w.tell("death", "deceased", goka.Headers{"ce_redriven": []byte("true")}) // of all subscriptions: nobody understood it before
	if _, result := w.Result(); result.Version != 5 {
		t.Fatalf("a whole death redriven: %+v", result)
	}
	if row := w.row(); len(given(&row)) != 0 {
		t.Fatalf("row %+v", row)
	}
}

func TestADeathWithoutGrantsAndUnderErasure(t *testing.T) {
	w := newWorld(t)
	w.tell("death", "deceased", goka.Headers{"ce_redriven": []byte("true")})
	if _, result := w.Result(); result.Version != 1 {
		t.Fatalf("answer %+v", result)
	}
	if w.row().EndedAt != now.UnixMilli() {
		t.Fatalf("row %+v", w.row())
	}
	w.ask(asked(Erase, nil))
	w.tell("death", "deceased", nil)
	if _, result := w.Result(); result.Version != 2 || w.row().EndedAt != 0 || w.row().Restriction != Erasure {
		t.Fatalf("answer %+v, row %+v", result, w.row())
	}
	w.tell("death", "deceased", nil)
	w.Result()
	w.Restart()
	if result := w.ask(give(grant("g1", "name"))); result.Reason != UnderErasure {
		t.Fatalf("grant after erasure: %+v", result)
	}
}

func TestWhatIsNoCommand(t *testing.T) {
	w := newWorld(t)
	right := commandtest.Encode(t, w.records.ConsentCommand, *give(grant("g1", "name")))
	notUTF8 := bytes.Replace(right, []byte("kela.fi"), []byte("kela\xff\xfei"), 1)
	for _, test := range []struct {
		name, key string
		value     []byte
		cause     string
	}{
		{"tombstone", w.subject, nil, "malformed"},
		{"empty", w.subject, []byte{}, "malformed"},
		{"no wire format", w.subject, []byte("{}"), "malformed"},
		{"cut", w.subject, right[:len(right)-3], "malformed"},
		{"something after it", w.subject, append(bytes.Clone(right), 0), "malformed"},
		{"text that is not UTF-8", w.subject, notUTF8, "malformed"},
		{"unknown schema", w.subject, []byte{0, 1, 2, 3, 4, 0}, "unknown_schema"},
		{"another record", w.subject, commandtest.Encode(t, w.records.CommandResult, codecs.CommandResult{Kind: "grant"}), "malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.Send(topology.ConsentCommands, test.key, test.value, goka.Headers{"b": []byte("2"), "a": []byte("1")})
			key, letter := w.DeadLetter()
			if key != test.key || letter.Cause != test.cause || letter.Group != "consent" || letter.Topic != "consent-commands" ||
				string(letter.Key) != test.key || !bytes.Equal(letter.Value, test.value) || fmt.Sprint(letter.Headers) != "[{a [49]} {b [50]}]" {
				t.Errorf("dead letter %+v under key %q", letter, key)
			}
			w.Quiet()
		})
	}
	for _, key := range []string{"010594Y9032", "", "__offset", "k1.short", w.subject + "x"} {
		w.Send(topology.ConsentCommands, key, right, nil)
		under, letter := w.DeadLetter()
		if under == key || len(under) != 32 || string(letter.Key) != key {
			t.Errorf("a key that is no subject became the key %q of a dead letter", under)
		}
	}
	w.Quiet()
	if w.Row(w.subject) != nil || w.Changes() != 0 {
		t.Error("what is no command changed the table")
	}
	if result := w.ask(give(grant("g1", "name"))); result.Version != 1 {
		t.Errorf("a command after all that: %+v", result)
	}
}

func TestARowThatCannotBeReadIsLeftAsItIs(t *testing.T) {
	w := newWorld(t)
	unreadable := []byte{0, 9, 9, 9, 9, 1}
	w.Put(w.subject, unreadable)
	for _, cmd := range []*codecs.ConsentCommand{give(grant("g1", "name")), withdraw(codecs.Grant{ID: "g1"}, 0), asked(Erase, nil)} {
		if result := w.ask(cmd); result.Reason != "row_unreadable" || result.Status != "refused" || result.Version != 0 {
			t.Errorf("%s: %+v", cmd.Kind, result)
		}
	}
	w.tell("death", "deceased", nil)
	if _, result := w.Result(); result.Reason != "row_unreadable" || result.Kind != Death {
		t.Errorf("death: %+v", result)
	}
	if !bytes.Equal(w.Row(w.subject), unreadable) || w.Changes() != 0 {
		t.Error("the row was overwritten")
	}
}

// A record on a partition that its key does not belong to changes nothing: goka would write the row by key, beside the one
// that its own partition holds. A misplaced command is a dead letter; a misplaced death is the router's.
func TestWhatIsMisplacedChangesNothing(t *testing.T) {
	w := newWorld(t)
	const partitions = 4 // the tester reports partition 0 for every record
	w.Bench = w.bench(partitions)
	keys, err := pseudonym.NewKeys(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	right, wrong := 0, 0
	for i := range 40 {
		subject := keys.Subject("fi-hetu", fmt.Sprint("some", i))
		w.Send(topology.ConsentCommands, subject, commandtest.Encode(t, w.records.ConsentCommand, *give(grant("g1", "name"))), nil)
		if kafka.Partition([]byte(subject), partitions) == 0 {
			right++
			if _, result := w.Result(); result.Status != "accepted" {
				t.Fatalf("in its place: %+v", result)
			}
			continue
		}
		wrong++
		key, letter := w.DeadLetter()
		if key != subject || letter.Cause != "misplaced" || letter.Topic != "consent-commands" || w.Row(subject) != nil {
			t.Fatalf("misplaced: %+v, row %v", letter, w.Row(subject))
		}
		w.Send(topology.Death, subject, nil, goka.Headers{"ce_type": []byte("death"), "ce_subjectrole": []byte("deceased")})
		if w.Row(subject) != nil {
			t.Fatal("a misplaced death made a row")
		}
	}
	if right == 0 || wrong == 0 {
		t.Fatalf("%d in their place, %d not", right, wrong)
	}
	w.Quiet()
}

package consent

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/lovoo/goka"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/processors/command/commandtest"
)

type rest = goka.Context // under another name, so that it does not collide with its own method Context

// stopping is goka's context as a callback sees it after its processor was told to stop: every table answers nil, and
// nothing panics any more. goka's tester cannot be brought there from outside.
type stopping struct {
	rest      // is not called
	ctx       context.Context
	key       string
	written   []string
	committed []error // what the deferred commits were called with
}

func (s *stopping) Context() context.Context { return s.ctx }
func (s *stopping) Key() string              { return s.key }
func (s *stopping) Topic() goka.Stream       { return "life.death" }
func (s *stopping) Partition() int32         { return 0 }
func (s *stopping) Offset() int64            { return 3 }
func (s *stopping) Value() any               { return nil }
func (s *stopping) Headers() goka.Headers {
	return goka.Headers{"ce_type": []byte("death"), "ce_subjectrole": []byte("deceased")}
}
func (s *stopping) SetValue(any, ...goka.ContextOption) { s.written = append(s.written, "table") }
func (s *stopping) Emit(topic goka.Stream, _ string, _ any, _ ...goka.ContextOption) {
	s.written = append(s.written, string(topic))
}
func (s *stopping) DeferCommit() func(error) {
	return func(err error) { s.committed = append(s.committed, err) }
}

// While stopping, a row that is not there may be a row that was not read. Nothing is concluded, written or committed.
func TestNothingIsConcludedWhileStopping(t *testing.T) {
	keys, err := pseudonym.NewKeys(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	records := commandtest.Records(t)
	order := commandtest.Encode(t, records.ConsentCommand, codecs.ConsentCommand{Meta: codecs.Meta{ID: "c", Actor: "a"}, Kind: Erase})
	known := verdict.NewSnapshot().With(verdict.Changes{EventTypes: map[string]*codecs.EventType{
		"death": {Type: "death", EndsConsents: true, Roles: []codecs.Role{{Name: "deceased"}}}}})
	for name, snapshot := range map[string]*verdict.Snapshot{"a type that is known": known, "a type that is not": verdict.NewSnapshot()} {
		g := New(command.Env{Records: records, Snapshot: func() *verdict.Snapshot { return snapshot }})
		for input, callback := range map[string]func(goka.Context, any){"command": g.Callback, "death": g.Death} {
			t.Run(input+", "+name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				s := &stopping{ctx: ctx, key: keys.Subject("fi-hetu", "010594Y9032")}
				callback(s, order)
				if len(s.written) != 0 || len(s.committed) != 1 || !errors.Is(s.committed[0], context.Canceled) {
					t.Errorf("written %v, committed with %v", s.written, s.committed)
				}
			})
		}
	}
}

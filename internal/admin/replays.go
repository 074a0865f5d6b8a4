package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Replays are the replays that were asked for.
var Replays = Table[codecs.Replay]{topology.Replay,
	func(r *codecs.Records) *codecs.Record[codecs.Replay] { return r.Replay },
	func(row *codecs.Replay) int64 { return row.Version }}

// ReplayCommand asks for a whole command on one replay: start, approve or cancel. An id, and when it was issued, are filled
// in where they are missing.
func (c *Client) ReplayCommand(ctx context.Context, cmd codecs.ReplayCommand) ([]Request, error) {
	return requests(ctx, c, Replays, c.records.ReplayCommand, []codecs.ReplayCommand{cmd}, func(_ int, cmd codecs.ReplayCommand) (string, string, string, codecs.ReplayCommand) {
		complete(&cmd.Meta)
		return cmd.Meta.ID, cmd.Replay.ID, cmd.Kind + " " + cmd.Replay.ID, cmd
	})
}

// ChangeReplays asks to approve or cancel replays.
func (c *Client) ChangeReplays(ctx context.Context, by By, kind string, ids ...string) ([]Request, error) {
	return requests(ctx, c, Replays, c.records.ReplayCommand, ids, func(i int, id string) (string, string, string, codecs.ReplayCommand) {
		m := by.meta(i, len(ids), 0)
		return m.ID, id, kind + " " + id, codecs.ReplayCommand{Meta: m, Kind: kind, Replay: codecs.Replay{ID: id}}
	})
}

// StartReplay asks for a replay as it is given, with where it looks.
func (c *Client) StartReplay(ctx context.Context, by By, row codecs.Replay) ([]Request, error) {
	return c.ReplayCommand(ctx, codecs.ReplayCommand{Meta: by.meta(0, 1, 0), Kind: "start", Replay: row})
}

// ErrNoReplay says that there is no replay of a name.
var ErrNoReplay = errors.New("no such replay")

// ReplaysNamed gives the replays of these names, in that order; without a name all, the newest first.
func ReplaysNamed(ctx context.Context, c *Client, names ...string) ([]codecs.Replay, error) {
	var rows []codecs.Replay
	for _, name := range names {
		row, err := Replays.One(ctx, c, name)
		if err != nil {
			return nil, err
		}
		if row == nil {
			return nil, fmt.Errorf("%s: %w", name, ErrNoReplay)
		}
		rows = append(rows, *row)
	}
	if len(names) > 0 {
		return rows, nil
	}
	all, err := Replays.All(ctx, c)
	if err != nil {
		return nil, err
	}
	rows = slices.Collect(maps.Values(all))
	slices.SortFunc(rows, func(a, b codecs.Replay) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return rows, nil
}

// Kafka is the client's administrator of the cluster, for what is read beside this package. It stays the client's to close.
func (c *Client) Kafka() *kadm.Client { return c.admin }

// Connection is how the client reaches Kafka.
func (c *Client) Connection() kafka.Connection { return c.cfg.Connection }

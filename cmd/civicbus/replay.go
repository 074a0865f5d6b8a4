package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/replay"

	"github.com/spf13/cobra"
)

func newReplay() *cobra.Command {
	turn := func(kind, short string) *cobra.Command {
		return changeFlags(&cobra.Command{Use: kind + " REPLAY...", Short: short, Args: args(cobra.MinimumNArgs(1)),
			RunE: func(cmd *cobra.Command, args []string) error {
				return change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) {
					return c.ChangeReplays(cmd.Context(), by, kind, args...)
				})
			}})
	}
	return group("replay", "Send deliveries again", newReplayPlan(), newReplayStart(),
		turn("approve", "Begin replays, as someone else than who asked for them"), newReplayStatus(), turn("cancel", "End replays: nothing more of them is sent once this is in effect"))
}

const replayLong = `A replay sends again what a subscription was permitted, as audit-decisions has it on record, and is permitted now, cut to
the smaller of both field sets. Deliveries keep their ids (ce_id) and say ce_replayed.

The range is one of times (--from, --to: when it was first decided), of offsets of event streams (--offsets), or both. What is
decided after the replay was asked for is not in it.`

// rangeFlags add what a replay is about.
func rangeFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("subscription", "", "of this one subscription")
	f.String("subscriber", "", "of all subscriptions of this organisation")
	f.StringSlice("type", nil, "only these event types")
	f.String("from", "", "only what was decided from a duration ago (48h) or a time (RFC 3339) on")
	f.String("to", "", "only what was decided before a duration ago or a time")
	f.StringArray("offsets", nil, "only these records of an event stream, STREAM/PARTITION:FROM-TO without the one at TO, or STREAM/PARTITION:FROM-; may be repeated")
	f.Int32("rate", replay.DefaultRate, "events a second at most; 0: as fast as a quarter of one process's time lets it")
}

// replayRow is the replay that the flags say.
func replayRow(cmd *cobra.Command) (codecs.Replay, error) {
	f := cmd.Flags()
	var row codecs.Replay
	row.Subscription, _ = f.GetString("subscription") // rangeFlags added these
	row.Subscriber, _ = f.GetString("subscriber")
	row.EventTypes, _ = f.GetStringSlice("type")
	row.Rate, _ = f.GetInt32("rate")
	if (row.Subscription == "") == (row.Subscriber == "") {
		return row, usage(fmt.Errorf("%s: give --subscription or --subscriber", cmd.CommandPath()))
	}
	for flag, to := range map[string]*int64{"from": &row.From, "to": &row.To} {
		text, _ := f.GetString(flag)
		if text == "" {
			continue
		}
		at, err := admin.ParseFrom(text, time.Now())
		if err != nil || at.Since.IsZero() {
			return row, usage(fmt.Errorf("--%s %q: want a duration ago (48h) or a time (RFC 3339)", flag, text))
		}
		*to = codecs.Millis(at.Since)
	}
	ranges, _ := f.GetStringArray("offsets")
	for _, text := range ranges {
		r, err := parseRange(text)
		if err != nil {
			return row, usage(err)
		}
		row.Offsets = append(row.Offsets, r)
	}
	return row, nil
}

// parseRange reads STREAM/PARTITION:FROM-TO.
func parseRange(text string) (codecs.OffsetRange, error) {
	wrong := fmt.Errorf("--offsets %q: want STREAM/PARTITION:FROM-TO", text)
	place, offsets, ok := strings.Cut(text, ":")
	topic, partition, ok2 := strings.Cut(place, "/")
	from, to, ok3 := strings.Cut(offsets, "-")
	if !ok || !ok2 || !ok3 || topic == "" {
		return codecs.OffsetRange{}, wrong
	}
	r := codecs.OffsetRange{Topic: topic}
	p, err := strconv.ParseUint(partition, 10, 31)
	r.Partition = int32(p)
	first, err1 := strconv.ParseUint(from, 10, 62)
	r.From = int64(first)
	var err2 error
	if to != "" {
		var end uint64
		end, err2 = strconv.ParseUint(to, 10, 62)
		r.To = int64(end)
		if end <= first {
			err2 = errors.New("it ends before it begins")
		}
	}
	if errors.Join(err, err1, err2) != nil {
		return codecs.OffsetRange{}, wrong
	}
	return r, nil
}

// replays is what plans are made with.
func replays(ctx context.Context, c *admin.Client) (replay.Config, error) {
	settings, err := c.Settings(ctx)
	if err != nil {
		return replay.Config{}, err
	}
	keys, err := c.Pseudonyms(ctx)
	if err != nil {
		return replay.Config{}, err
	}
	records, err := c.Records(ctx)
	if err != nil {
		return replay.Config{}, err
	}
	return replay.Config{Connection: c.Connection(), Registry: c.Registry(), Records: records, Keys: keys, Partitions: settings.Partitions,
		Age: time.Duration(settings.LeaseAgeMillis) * time.Millisecond}, nil
}

// planShown is a plan as it is printed.
type planShown struct {
	Subscriber string               `json:"subscriber"`
	Events     int64                `json:"events"`
	Sent       int64                `json:"sent"`
	Verdicts   int64                `json:"verdicts"`
	Reasons    []codecs.ReasonCount `json:"reasons"`
	Takes      string               `json:"takes,omitempty"`
	Whole      bool                 `json:"whole"`
}

func newReplayPlan() *cobra.Command {
	cmd := &cobra.Command{Use: "plan", Short: "What a replay would send, and why not the rest; it changes nothing", Args: args(cobra.NoArgs), Long: replayLong,
		Example: "  civicbus replay plan --subscription sub-kela-address --from 48h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			row, err := replayRow(cmd)
			if err != nil {
				return err
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			cfg, err := replays(cmd.Context(), c)
			if err != nil {
				return err
			}
			world, _, stop, err := c.World(cmd.Context())
			if err != nil {
				return err
			}
			defer stop()
			p, err := replay.MakePlan(cmd.Context(), cfg, world, row)
			if err != nil {
				return err
			}
			shown := planShown{Subscriber: p.Replay.Subscriber, Events: p.Events, Sent: p.Sent, Verdicts: p.Verdicts, Reasons: p.Counts, Whole: p.Whole}
			if p.Takes > 0 {
				shown.Takes = p.Takes.Round(time.Second / 10).String()
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), shown)
			}
			if err := printReasons(cmd, p.Counts); err != nil {
				return err
			}
			took := ""
			if shown.Takes != "" {
				took = ", in about " + shown.Takes
			}
			note(cmd, "%d events, %d deliveries would be sent again%s; civicbus replay start asks for it", p.Events, p.Sent, took)
			return nil
		}}
	rangeFlags(cmd)
	formatFlag(cmd, "table", "json")
	return cmd
}

func printReasons(cmd *cobra.Command, counts []codecs.ReasonCount) error {
	rows := make([][]any, 0, len(counts))
	for _, c := range counts {
		what := "not sent"
		if replay.Sends(c.Reason) {
			what = "sent"
		}
		rows = append(rows, []any{c.Reason, what, c.Count})
	}
	return printTable(cmd.OutOrStdout(), []string{"reason", "outcome", "verdicts"}, rows)
}

func newReplayStart() *cobra.Command {
	cmd := &cobra.Command{Use: "start [REPLAY]", Short: "Ask for a replay; it begins when someone else approves it", Args: args(cobra.MaximumNArgs(1)),
		Long:    replayLong + "\n\nREPLAY is its id, at most 100 of a-z, 0-9, dot and hyphen; without one it gets one.",
		Example: "  civicbus replay start --subscription sub-kela-address --from 48h --rate 50",
		RunE: func(cmd *cobra.Command, args []string) error {
			row, err := replayRow(cmd)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				row.ID = args[0]
			} else {
				var random [8]byte
				_, _ = rand.Read(random[:]) // never fails, see crypto/rand
				row.ID = "replay-" + hex.EncodeToString(random[:])
			}
			return change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) {
				scan, err := replay.Scan(cmd.Context(), c.Kafka(), &row)
				if err != nil {
					return nil, err
				}
				row.Scan = scan
				return c.StartReplay(cmd.Context(), by, row)
			})
		}}
	rangeFlags(cmd)
	return changeFlags(cmd)
}

// replayShown is a replay as it is printed.
type replayShown struct {
	codecs.Replay
	Scan     []codecs.OffsetRange `json:"scan,omitempty"` // not told: there is one for each partition
	Looked   float64              `json:"lookedPercent"`
	Sent     int64                `json:"sent"`
	Verdicts int64                `json:"verdicts"`
	Reasons  []codecs.ReasonCount `json:"reasons,omitempty"`
	Rate     float64              `json:"perSecond"`
	Left     string               `json:"left,omitempty"`
}

func newReplayStatus() *cobra.Command {
	cmd := &cobra.Command{Use: "status [REPLAY...]", Short: "How far replays have come", Args: args(cobra.ArbitraryArgs),
		Long: "How far replays have come: how much of the record was looked through, what was sent, and how long the rest takes at the pace so\nfar. Without REPLAY all that were asked for.",
		RunE: func(cmd *cobra.Command, names []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			rows, err := admin.ReplaysNamed(cmd.Context(), c, names...)
			if err != nil {
				return err
			}
			all := make([]replayShown, 0, len(rows))
			for i := range rows {
				p, err := replay.ProgressOf(cmd.Context(), c.Kafka(), &rows[i])
				if err != nil {
					return err
				}
				s := replayShown{Replay: rows[i], Looked: 100, Sent: p.Sent, Verdicts: p.Verdicts, Reasons: p.Counts, Rate: p.PerSecond}
				if p.Total > 0 {
					s.Looked = 100 * float64(p.Looked) / float64(p.Total)
				}
				if p.Left > 0 && rows[i].Status == "running" {
					s.Left = p.Left.Round(time.Second).String()
				}
				all = append(all, s)
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), all)
			}
			lines := make([][]any, 0, len(all))
			for _, s := range all {
				status, of := s.Status, s.Subscription
				if s.StatusReason != "" {
					status += " (" + s.StatusReason + ")"
				}
				if of == "" {
					of = s.Subscriber
				}
				lines = append(lines, []any{s.ID, status, of, fmt.Sprintf("%.0f %%", s.Looked), s.Verdicts, s.Sent, fmt.Sprintf("%.1f", s.Rate), s.Left})
			}
			return printTable(cmd.OutOrStdout(), []string{"replay", "status", "of", "looked", "verdicts", "sent", "a second", "left"}, lines)
		}}
	formatFlag(cmd, "table", "json")
	return cmd
}

package admin

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// From is where reading begins: at the first record kept, at an offset of every partition, or at a time.
type From struct {
	Offset int64     // with Since zero; 0 is the first record kept
	Since  time.Time // the first record of each partition at or after it
}

// ErrFrom says that a text names no place to begin.
var ErrFrom = errors.New("want beginning, an offset, a duration ago (2h), or a time (RFC 3339)")

// ParseFrom reads beginning, an offset, a duration before now, or an RFC 3339 time. The empty text is beginning.
func ParseFrom(text string, now time.Time) (From, error) {
	if text == "" || text == "beginning" {
		return From{}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return From{Offset: n}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return From{Since: now.Add(-d)}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return From{Since: t}, nil
	}
	return From{}, fmt.Errorf("read %q: %w", text, ErrFrom)
}

// spansFrom gives what a topic holds from a place on.
func (c *Client) spansFrom(ctx context.Context, topic string, from From) ([]span, error) {
	spans, err := c.whole(ctx, topic)
	if err != nil {
		return nil, err
	}
	var since kadm.ListedOffsets
	if !from.Since.IsZero() {
		if since, err = c.admin.ListOffsetsAfterMilli(ctx, from.Since.UnixMilli(), topic); err != nil {
			return nil, fmt.Errorf("list the offsets of %s at a time: %w", topic, err)
		}
	}
	for i := range spans {
		at := from.Offset
		if since != nil {
			o, ok := since.Lookup(topic, spans[i].partition)
			if !ok || o.Err != nil {
				return nil, fmt.Errorf("list the offsets of %s/%d at a time: %w", topic, spans[i].partition, o.Err)
			}
			at = o.Offset
		}
		spans[i].from = min(max(spans[i].from, at), spans[i].to)
	}
	return spans, nil
}

// Tail says what Client.Tail reads.
type Tail struct {
	From   From
	Limit  int  // deliveries at most; 0: no limit
	Follow bool // goes on with what comes, until the context ends; else it ends where the topic ended at the start
}

// Tail gives a subscriber's deliveries as CloudEvents in JSON, one line each: by time among the partitions for what is there,
// then as it comes. A value that cannot be decoded stands as data_base64.
func (c *Client) Tail(ctx context.Context, subscriber string, t Tail, each func(line []byte) error) error {
	topic := topology.SubscriberTopicName(subscriber)
	spans, err := c.spansFrom(ctx, topic, t.From)
	if err != nil {
		return err
	}
	count := 0
	full := func() bool { return t.Limit > 0 && count >= t.Limit }
	for r, err := range c.merged(ctx, spans) {
		if err != nil {
			return err
		}
		line, err := c.line(ctx, r)
		if err == nil {
			err = each(line)
		}
		if err != nil {
			return err
		}
		if count++; full() {
			return nil
		}
	}
	if !t.Follow {
		return nil
	}
	return c.follow(ctx, spans, func(r *kgo.Record) (bool, error) {
		line, err := c.line(ctx, r)
		if err == nil {
			err = each(line)
		}
		count++
		return full(), err
	})
}

// follow gives what comes after the spans, until enough says so, or the context ends, which is no error.
func (c *Client) follow(ctx context.Context, spans []span, take func(*kgo.Record) (enough bool, err error)) error {
	from := map[int32]kgo.Offset{}
	for _, s := range spans {
		from[s.partition] = kgo.NewOffset().At(s.to)
	}
	consumer, err := c.cfg.Connection.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{spans[0].topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return err
	}
	defer consumer.Close()
	for {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		for _, r := range fetches.Records() {
			if enough, err := take(r); enough || err != nil {
				return err
			}
		}
	}
}

// line writes a record as a CloudEvent in JSON. Its place on the topic stands in the extension kafkaposition.
func (c *Client) line(ctx context.Context, r *kgo.Record) ([]byte, error) {
	out := []byte("{")
	member := func(name string, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted(name)...), ':'), value...)
	}
	for _, h := range r.Headers {
		if name, ok := strings.CutPrefix(h.Key, "ce_"); ok {
			member(name, quoted(string(h.Value)))
		}
	}
	member("kafkaposition", quoted(fmt.Sprintf("%d:%d", r.Partition, r.Offset)))
	data, err := c.valueJSON(ctx, r.Value)
	switch {
	case err == nil:
		member("datacontenttype", quoted("application/json"))
		member("data", data)
	case errors.As(err, new(codecs.Malformed)), errors.Is(err, codecs.ErrUnknownSchema):
		member("datacontenttype", quoted(codecs.ContentTypeAvro))
		member("data_base64", quoted(base64.StdEncoding.EncodeToString(r.Value)))
	default:
		return nil, err
	}
	return append(out, '}'), nil
}

// valueJSON decodes a value in the registry's wire format, whatever its schema. nil is null.
func (c *Client) valueJSON(ctx context.Context, value []byte) ([]byte, error) {
	if value == nil {
		return []byte("null"), nil
	}
	id, body, err := codecs.WireID(value)
	if err != nil {
		return nil, err
	}
	schema, err := c.registry.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	return schema.ToJSON(nil, body)
}

func quoted(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(strings.ToValidUTF8(text, "\uFFFD")) // a string always encodes
	return bytes.TrimRight(b.Bytes(), "\n")
}

// missing says whether an error says that a topic is not there.
func missing(err error) bool {
	return errors.Is(err, ErrNoTopic) || errors.Is(err, kerr.UnknownTopicOrPartition)
}

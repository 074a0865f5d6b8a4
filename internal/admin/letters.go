package admin

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Unreadable is the cause shown of a record on dead-letters that is no dead letter.
const Unreadable = "unreadable"

// Letter is a dead letter, and where it stands on the dead-letters topic. Its Partition and Offset are its origin's.
type Letter struct {
	Place Place
	codecs.DeadLetter
}

// Place is an offset of a partition of dead-letters, written partition:offset.
type Place struct {
	Partition int32
	Offset    int64
}

// String is partition:offset.
func (p Place) String() string { return fmt.Sprintf("%d:%d", p.Partition, p.Offset) }

// ErrPlace says that a text is no partition:offset.
var ErrPlace = errors.New("want partition:offset, as dead-letters list shows it")

// ParsePlace reads partition:offset.
func ParsePlace(text string) (Place, error) {
	partition, offset, _ := strings.Cut(text, ":")
	p, err := strconv.ParseInt(partition, 10, 32)
	n, err2 := strconv.ParseInt(offset, 10, 64)
	if err != nil || err2 != nil || p < 0 || n < 0 {
		return Place{}, fmt.Errorf("read place %q: %w", text, ErrPlace)
	}
	return Place{int32(p), n}, nil
}

// LetterFilter chooses dead letters; what is empty does not narrow.
type LetterFilter struct {
	Causes []string
	Group  string
	Since  time.Time
	Places []Place
}

func (f LetterFilter) matches(l *Letter) bool {
	return (len(f.Causes) == 0 || slices.Contains(f.Causes, l.Cause)) && (f.Group == "" || f.Group == l.Group) &&
		(len(f.Places) == 0 || slices.Contains(f.Places, l.Place)) && (f.Since.IsZero() || l.At >= codecs.Millis(f.Since))
}

// Letters gives the dead letters that are kept, by the time at which they were written; of one partition, in its order. An
// error is the last thing that comes.
func (c *Client) Letters(ctx context.Context, f LetterFilter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if err := c.bind(ctx); err != nil {
			yield(Letter{}, err)
			return
		}
		spans, err := c.letterSpans(ctx, f)
		if err != nil {
			yield(Letter{}, err)
			return
		}
		for r, err := range c.merged(ctx, spans) {
			if err != nil {
				yield(Letter{}, err)
				return
			}
			if r.Value == nil {
				continue // says that a letter before it was redriven
			}
			l, err := c.letter(ctx, r)
			if err != nil {
				yield(Letter{}, err)
				return
			}
			if f.matches(&l) && !yield(l, nil) {
				return
			}
		}
	}
}

// letterSpans reads no more than it must: where places are named, from the first to the last named of each partition.
func (c *Client) letterSpans(ctx context.Context, f LetterFilter) ([]span, error) {
	spans, err := c.spansFrom(ctx, topology.DeadLetters.Name, From{Since: f.Since})
	if err != nil || len(f.Places) == 0 {
		return spans, err
	}
	var named []span
	for _, s := range spans {
		first, last := int64(-1), int64(-1)
		for _, p := range f.Places {
			if p.Partition != s.partition {
				continue
			}
			if first < 0 || p.Offset < first {
				first = p.Offset
			}
			last = max(last, p.Offset)
		}
		if first >= 0 {
			named = append(named, span{s.topic, s.partition, max(s.from, first), min(s.to, last+1)})
		}
	}
	return named, nil
}

func (c *Client) letter(ctx context.Context, r *kgo.Record) (Letter, error) {
	l := Letter{Place: Place{r.Partition, r.Offset}}
	letter, err := c.records.DeadLetter.DecodeLoading(ctx, r.Value)
	switch {
	case err == nil:
		l.DeadLetter = letter
	case errors.As(err, new(codecs.Malformed)), errors.Is(err, codecs.ErrUnknownSchema):
		l.Cause, l.Detail, l.At = Unreadable, "the record is no dead letter", r.Timestamp.UnixMilli()
	default:
		return l, fmt.Errorf("read dead letter %s: %w", l.Place, err)
	}
	return l, nil
}

// LetterJSON describes a dead letter without its key; with data, also its value, decoded where that can be done: it holds
// what events say of people.
func (c *Client) LetterJSON(ctx context.Context, l Letter, data bool) ([]byte, error) {
	doc := struct {
		Place        string            `json:"place"`
		Cause        string            `json:"cause"`
		Detail       string            `json:"detail"`
		Group        string            `json:"group"`
		From         string            `json:"from"`
		Subscription string            `json:"subscription,omitempty"`
		At           time.Time         `json:"at"`
		Bytes        int               `json:"valueBytes"`
		Headers      map[string]string `json:"headers"`
		Data         json.RawMessage   `json:"data,omitempty"`
		DataBase64   string            `json:"dataBase64,omitempty"`
	}{l.Place.String(), l.Cause, l.Detail, l.Group, l.Origin(), l.Subscription, time.UnixMilli(l.At).UTC(), len(l.Value), map[string]string{}, nil, ""}
	for _, h := range l.Headers {
		if shown(h.Key) {
			doc.Headers[h.Key] = strings.ToValidUTF8(string(h.Value), "\uFFFD")
		}
	}
	if data {
		doc.Data, doc.DataBase64 = c.letterData(ctx, l)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		return nil, fmt.Errorf("print dead letter %s: %w", l.Place, err)
	}
	return out.Bytes(), nil
}

// shown says whether a header may be shown: not those that hold a subject's pseudonym or a binary stamp.
func shown(header string) bool {
	return header != codecs.HeaderSubject && header != codecs.HeaderProfile && header != "civicbus_given"
}

func (c *Client) letterData(ctx context.Context, l Letter) (data json.RawMessage, raw string) {
	if decoded, err := c.valueJSON(ctx, l.Value); err == nil {
		return decoded, ""
	}
	if json.Valid(l.Value) {
		return l.Value, ""
	}
	return nil, base64.StdEncoding.EncodeToString(l.Value)
}

// Origin is where the record stood that became the letter.
func (l Letter) Origin() string {
	if l.Topic != "" {
		return fmt.Sprintf("%s/%d/%d", l.Topic, l.DeadLetter.Partition, l.DeadLetter.Offset)
	}
	return l.header("civicbus_origin")
}

func (l Letter) header(name string) string {
	for _, h := range l.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

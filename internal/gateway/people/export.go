package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/danielgtaylor/huma/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Export is everything that the bus keeps about the caller (GDPR Articles 15 and 20), as it is documented; it is written piece
// by piece.
type Export struct {
	GeneratedAt string             `json:"generatedAt" format:"date-time"`
	Profile     *codecs.Attributes `json:"profile,omitempty" doc:"What events told about the caller; absent: nothing."`
	Consents    Consents           `json:"consents"`
	Receipts    []Receipt          `json:"receipts"`
	Journeys    []Journey          `json:"journeys" doc:"What became of the caller's life events."`
	History     []Entry            `json:"history" doc:"The newest first."`
	Complete    bool               `json:"complete" doc:"False: the history could not be read to its end."`
}

// exportTime bounds how long an export may be written.
const exportTime = 5 * time.Minute

func (s *server) exportRoute(a *web.API) {
	web.Serve(a, web.Route{ID: "export-me", Method: http.MethodGet, Path: "/api/me/export", Tag: tag, Summary: "Everything that the bus keeps about me, as one document",
		For: web.People, Scope: web.ScopePersonRead, Timeout: exportTime,
		Document: func(op *huma.Operation) {
			op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: web.SchemaOf[Export](a)}}}
		}},
		func(w http.ResponseWriter, r *http.Request) error {
			if r.URL.RawQuery != "" {
				return web.Fail(http.StatusUnprocessableEntity, "invalid", "there are no parameters")
			}
			return s.export(r.Context(), w)
		})
}

// export writes the document. Only its history is long, and is written as it is read.
func (s *server) export(ctx context.Context, w http.ResponseWriter) error {
	person := web.From(ctx).Person
	row, err := s.rowOf(ctx)
	if err != nil {
		return err
	}
	if s.logs.keys == nil {
		return web.Unavailable("this gateway has no audit key, so it cannot show the history")
	}
	profile, err := s.profile(ctx, person)
	if err != nil {
		return err
	}
	e := Export{GeneratedAt: instant(s.cfg.Now()), Profile: profile, Consents: s.consents(row), Receipts: []Receipt{}}
	if row != nil {
		for i := range row.Grants {
			receipt, err := s.receiptOf(person, row, &row.Grants[i])
			if err != nil {
				return err
			}
			e.Receipts = append(e.Receipts, receipt)
		}
	}
	if e.Journeys, err = s.journeys(ctx); err != nil {
		return err
	}
	head, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write an export: %w", err)
	}
	const tail = `,"history":null,"complete":false}`
	if len(head) < len(tail) || string(head[len(head)-len(tail):]) != tail {
		return errors.New("write an export: its document has another form")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="civicbus-export.json"`)
	if _, err := io.WriteString(w, string(head[:len(head)-len(tail)])+`,"history":[`); err != nil {
		return nil //nolint:nilerr // the caller has gone
	}
	t := s.teller(ctx)
	count := 0
	gone := false
	err = s.logs.walk(ctx, 0, func(entry *codecs.AuditEntry) bool {
		for _, line := range t.tell(ctx, entry) {
			text, _ := json.Marshal(line) // text, numbers and lists of text always marshal
			if count++; count > 1 {
				text = append([]byte{','}, text...)
			}
			if _, err := w.Write(text); err != nil {
				gone = true
				return false
			}
		}
		return true
	})
	if gone {
		return nil
	}
	if err != nil {
		s.cfg.Logger.Error("an export's history could not be read to its end", "error", err)
	}
	_, _ = fmt.Fprintf(w, `],"complete":%t}`, err == nil)
	return nil
}

// profile reads the caller's row of the profile table: its partition from the start, since nobody holds that table. nil: there
// is none.
func (s *server) profile(ctx context.Context, person string) (*codecs.Attributes, error) {
	table := topology.TableTopic(topology.Profile.Name)
	p := kafka.Partition([]byte(person), s.cfg.Partitions)
	client, err := s.cfg.Connection.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{table: {p: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, table)
	if err != nil {
		return nil, web.Unavailable("kafka cannot be reached")
	}
	end, ok := ends.Lookup(table, p)
	if !ok || end.Err != nil {
		return nil, web.Unavailable("kafka cannot be reached")
	}
	starts, err := kadm.NewClient(client).ListStartOffsets(ctx, table)
	if err != nil {
		return nil, web.Unavailable("kafka cannot be reached")
	}
	if start, ok := starts.Lookup(table, p); !ok || start.Err != nil || start.Offset >= end.Offset {
		return nil, nil
	}
	var value []byte
	for at := int64(0); at < end.Offset; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.Err() != nil {
			return nil, web.Unavailable("kafka cannot be reached")
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if at = r.Offset + 1; !r.Attrs.IsControl() && string(r.Key) == person {
				value = r.Value
			}
		})
	}
	if value == nil {
		return nil, nil
	}
	if id, _, err := codecs.WireID(value); err == nil {
		if _, err := s.cfg.Registry.Load(ctx, id); err != nil {
			return nil, web.Unavailable("the schema registry cannot be reached")
		}
	}
	row, err := s.cfg.Records.Profile.Decode(value)
	if err != nil {
		return nil, fmt.Errorf("read a row of %s: %w", table, err)
	}
	return &row.Attributes, nil
}

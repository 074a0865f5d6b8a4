package gateway_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// noNationalID looks through everything that was logged, counted and written into keys and headers while events with
// national ids were published over HTTP.
func noNationalID(b *bus) {
	secrets := []string{"140392-9029", "021190-903H", "180926A904R", "010594Y9032", "010594Y9033"}
	logged := b.logs.String()
	if !strings.Contains(logged, "route=publish-events") {
		b.t.Fatal("nothing was logged")
	}
	var counted strings.Builder
	for _, node := range *b.counted {
		w := httptest.NewRecorder()
		promhttp.HandlerFor(node, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		counted.WriteString(w.Body.String())
	}
	if !strings.Contains(counted.String(), `route="publish-events"`) {
		b.t.Fatal("nothing was counted")
	}
	transported := 0
	keys := b.everything(func(r *kgo.Record) {
		if bytes.Contains(r.Value, []byte(secrets[0])) {
			transported++ // as data, which is what it is there for
		}
	})
	if transported == 0 {
		b.t.Fatal("no event was written")
	}
	for i, id := range secrets {
		for place, text := range map[string]string{"the log": logged, "the metrics": counted.String(), "keys and headers": keys} {
			if strings.Contains(text, id) {
				b.t.Errorf("national id %d stands in %s", i, place)
			}
		}
	}
}

// everything reads every record of every topic as it is now, committed or not, and gives all keys and headers in one text.
func (b *bus) everything(each func(*kgo.Record)) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), within)
	defer cancel()
	client, err := b.config.Connection.Client()
	b.must(err)
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx)
	b.must(err)
	from, left := map[string]map[int32]kgo.Offset{}, map[string]map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err == nil && o.Offset > 0 {
			if from[o.Topic] == nil {
				from[o.Topic], left[o.Topic] = map[int32]kgo.Offset{}, map[int32]int64{}
			}
			from[o.Topic][o.Partition], left[o.Topic][o.Partition] = kgo.NewOffset().AtStart(), o.Offset
		}
	})
	reader, err := b.config.Connection.Client(kgo.ConsumePartitions(from), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	b.must(err)
	defer reader.Close()
	var text strings.Builder
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		b.must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				each(r)
				text.Write(r.Key)
				for _, h := range r.Headers {
					text.WriteString(" " + h.Key + "=" + string(h.Value))
				}
				text.WriteByte('\n')
			}
			if end, ok := left[r.Topic][r.Partition]; ok && r.Offset+1 >= end {
				if delete(left[r.Topic], r.Partition); len(left[r.Topic]) == 0 {
					delete(left, r.Topic)
				}
			}
		})
	}
	return text.String()
}

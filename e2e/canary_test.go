package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// noTrace demands that none of the secrets (national ids) stands in a key or header of any topic, whether committed or
// not, in what civicbus says of itself there (decisions, command results, logs of deliveries, the headers and details of dead
// letters), in the log, in the metrics, or in the traces (DESIGN.md 3.7). Events' data, and dead letters that keep it, do hold them:
// they are what is transported. Of subjects, no name at all stands in a trace; and where nothing is traced, nothing says so.
//
// What others wrote past the bus (by names the records, topic/partition/offset) is theirs.
func (b *bus) noTrace(by map[string]bool, secrets ...string) {
	b.t.Helper()
	const planted = "a planted canary"
	b.must(b.client.ProduceSync(b.t.Context(), &kgo.Record{Topic: "command-results", Key: []byte(planted), Headers: []kgo.RecordHeader{{Key: "x", Value: []byte(planted)}}, Value: b.plantedResult()}).FirstErr())
	b.cfg.Logger.Info(planted)
	found := b.traces(by, append([]string{planted}, secrets...))
	for _, place := range []string{"key in command-results", "header in command-results", "value in command-results", "log"} {
		if !found[planted+" "+place] {
			b.t.Errorf("the scan does not see a canary planted as %s", place)
		}
	}
	for f := range found {
		if !strings.HasPrefix(f, planted) {
			b.t.Error("a national id stands in: " + f)
		}
	}
}

// plantedResult is a value that readers of command-results can decode.
func (b *bus) plantedResult() []byte {
	b.t.Helper()
	v, err := b.records.CommandResult.Encode(&codecs.CommandResult{CommandID: "a planted canary"})
	b.must(err)
	return v
}

// traces lists where each secret was found. A national id is told by its number among the secrets.
func (b *bus) traces(by map[string]bool, secrets []string) map[string]bool {
	b.t.Helper()
	found := map[string]bool{}
	look := func(place string, text []byte) {
		for i, s := range secrets {
			if bytes.Contains(text, []byte(s)) {
				name := s
				if i > 0 {
					name = "secret " + strconv.Itoa(i)
				}
				found[name+" "+place] = true
			}
		}
	}
	topics, err := b.admin.ListTopics(b.t.Context())
	b.must(err)
	for _, r := range b.scan(kgo.ReadUncommitted(), topics.Names()...) {
		if strings.HasPrefix(r.Topic, "inbox.") || by[origin(r)] {
			continue
		}
		look("key in "+r.Topic, r.Key)
		for _, h := range r.Headers {
			look("header in "+r.Topic, []byte(h.Key))
			look("header in "+r.Topic, h.Value)
			if h.Key == codecs.HeaderTrace && b.spans == nil {
				b.t.Errorf("a record on %s is traced", r.Topic)
			}
		}
		if said[r.Topic] || strings.HasSuffix(r.Topic, "-table") {
			look("value in "+r.Topic, r.Value)
		}
	}
	for _, l := range b.letters.all() {
		look("detail of a dead letter", []byte(l.Detail))
		if by[fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Offset)] {
			continue
		}
		for _, h := range l.Headers {
			look("header of a dead letter", []byte(h.Key))
			look("header of a dead letter", h.Value)
		}
	}
	b.spanned(look)
	look("log", []byte(b.log.String()))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.nodes {
		w := httptest.NewRecorder()
		promhttp.HandlerFor(n.Metrics(), promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if !strings.Contains(w.Body.String(), "civicbus_") {
			b.t.Error("no metrics were scanned")
		}
		look("metrics", w.Body.Bytes())
		look("readiness", []byte(fmt.Sprint(n.Ready())))
	}
	return found
}

// said are the topics, beside the tables', whose values are civicbus's own words.
var said = map[string]bool{"audit-decisions": true, "audit-log": true, "audit-heads": true, "command-results": true, "settings": true, "usage-loop": true, "journey-loop": true,
	"catalog-commands": true, "trust-commands": true, "subscription-commands": true, "consent-commands": true, "replay-commands": true}

// spanned looks into every span for secrets, ids of events and deliveries, and what subjects and events are called on Kafka.
func (b *bus) spanned(look func(place string, text []byte)) {
	b.t.Helper()
	if b.spans == nil {
		return
	}
	text := fmt.Sprintf("%+v", b.spans.GetSpans())
	look("traces", []byte(text))
	names := map[string]bool{"k1.": true, "p1.": true, "c1.": true} // how pseudonyms begin
	for _, r := range b.read(topology.Admitted.Name, topology.WebhookDeliveries.Name) {
		for _, h := range r.Headers {
			if h.Key == codecs.HeaderID {
				names[string(h.Value)] = true
			}
		}
	}
	if !strings.Contains(text, "webhook attempt") || len(names) < 6 {
		b.t.Errorf("%d bytes of spans are searched for %d names", len(text), len(names))
	}
	for name := range names {
		if strings.Contains(text, name) {
			b.t.Errorf("a span holds %q", name)
		}
	}
}

// origin is where a record stands, as dead letters write it.
func origin(r *kgo.Record) string {
	return r.Topic + "/" + strconv.Itoa(int(r.Partition)) + "/" + strconv.FormatInt(r.Offset, 10)
}

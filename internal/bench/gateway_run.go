package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"civicbus/topology"

	"github.com/coder/websocket"
	"github.com/twmb/franz-go/pkg/kgo"
)

// publishing publishes c.Events in batches, both ways in turn, and then single events one after the other.
func (w *gatewayWorld) publishing(ctx context.Context, c Config, r *Result) error {
	if err := w.topicOfRaw(ctx); err != nil {
		return err
	}
	token, err := w.token(gatewaySource)
	if err != nil {
		return err
	}
	var ours, theirs, ratios []float64
	var batches [2][]float64
	for run := range c.Runs {
		var cost [2]float64
		for side := range 2 {
			before := processorTime()
			for range c.Events / gatewayBatch {
				took, err := w.batch(ctx, side, token)
				if err != nil {
					return err
				}
				batches[side] = append(batches[side], took)
			}
			cost[side] = float64((processorTime() - before).Microseconds()) / float64(c.Events)
		}
		ours, theirs, ratios = append(ours, cost[0]), append(theirs, cost[1]), append(ratios, cost[0]/cost[1])
		c.Say(fmt.Sprintf("run %d: gateway %.1f us, straight to Kafka %.1f us an event", run+1, cost[0], cost[1]))
	}
	r.Ours, r.Theirs, r.Ratio = median(ours), median(theirs), median(ratios)
	var singles [2][]float64
	for range gatewaySingles {
		for side := range 2 {
			took, err := w.single(ctx, side, token)
			if err != nil {
				return err
			}
			singles[side] = append(singles[side], took)
		}
	}
	for side := range 2 {
		slices.Sort(batches[side])
		slices.Sort(singles[side])
		r.Gateway.BatchMillis[side], r.Gateway.SingleP50[side], r.Gateway.SingleP99[side] = at(batches[side], 0.5), at(singles[side], 0.5), at(singles[side], 0.99)
	}
	g := r.Gateway
	g.BatchRatio, g.SingleP50Ratio, g.SingleP99Ratio = g.BatchMillis[0]/g.BatchMillis[1], g.SingleP50[0]/g.SingleP50[1], g.SingleP99[0]/g.SingleP99[1]
	return nil
}

// batch publishes 100 events: side 0 through the gateway, 1 straight to Kafka. What a source has to prepare is not timed, but
// costs processor time on both sides.
func (w *gatewayWorld) batch(ctx context.Context, side int, token string) (float64, error) {
	first := w.next
	w.next += gatewayBatch
	if side == 0 {
		events := make([]string, gatewayBatch)
		for i := range events {
			_, events[i] = w.event(first + i)
		}
		body := "[" + strings.Join(events, ",") + "]"
		return timed(func() error { return w.accepted(ctx, token, "application/cloudevents-batch+json", body, gatewayBatch) })
	}
	records := make([]*kgo.Record, gatewayBatch)
	for i := range records {
		var err error
		if records[i], err = w.straight(first + i); err != nil {
			return 0, err
		}
	}
	return timed(func() error { return w.client.ProduceSync(ctx, records...).FirstErr() })
}

func (w *gatewayWorld) single(ctx context.Context, side int, token string) (float64, error) {
	i := w.next
	w.next++
	if side == 0 {
		_, event := w.event(i)
		return timed(func() error { return w.accepted(ctx, token, "application/cloudevents+json", event, 1) })
	}
	record, err := w.straight(i)
	if err != nil {
		return 0, err
	}
	return timed(func() error { return w.client.ProduceSync(ctx, record).FirstErr() })
}

// accepted publishes over HTTP until all is accepted. What is not because something is out of reach for a moment is published
// again, as a source does: that makes no event twice.
func (w *gatewayWorld) accepted(ctx context.Context, token, media, body string, events int) error {
	for limit := time.Now().Add(time.Minute); ; {
		err := w.post(ctx, token, media, body, events)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errUnavailable) || time.Now().After(limit) {
			return err
		}
	}
}

var errUnavailable = errors.New("something is out of reach")

// post publishes over HTTP and demands that all is accepted.
func (w *gatewayWorld) post(ctx context.Context, token, media, body string, events int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base+"/api/events", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := w.http.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode == http.StatusServiceUnavailable || strings.Contains(string(text), `"status": "unavailable"`) {
		return errUnavailable
	}
	if n := strings.Count(string(text), `"status": "accepted"`); n != events {
		return fmt.Errorf("publish over HTTP: status %d, %d of %d events accepted", res.StatusCode, n, events)
	}
	return nil
}

// reading connects the readers, lets everything be published in the runs before and as many events more reach them, and
// counts. The stuck ones are given time until they are cut off.
func (w *gatewayWorld) reading(ctx context.Context, c Config, g *GatewayRun) error {
	for _, group := range []string{topology.Profile.Name, topology.Router.Name} { // what was published before is on its topics
		if err := caughtUp(ctx, w.operator, group, askEach); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	t := &tally{got: make([]map[uint64]bool, w.readers), changed: make(chan struct{}, 1), late: make(chan struct{})}
	failed := make(chan error, w.readers)
	connected := make(chan struct{}, w.readers)
	for i := range w.readers {
		t.got[i] = make(map[uint64]bool, c.Events*gatewayMatching/w.readers)
		token, err := w.token(soakSubscriber(i % gatewaySubscribers))
		if err != nil {
			return err
		}
		readers.Add(1)
		go func() {
			defer readers.Done()
			if err := w.read(ctx, i, token, t, connected); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("reader %d: %w", i, err)
			}
		}()
	}
	for range w.readers {
		select {
		case <-connected:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.HeapBefore = heapNow()
	c.Say(fmt.Sprintf("%d readers connected, %.0f MB in use", w.readers, g.HeapBefore))
	token, err := w.token(gatewaySource)
	if err != nil {
		return err
	}
	began := time.Now()
	sent := map[int]int{} // events by group
	for _, heap := range []*float64{&g.HeapHalf, &g.HeapAfter} {
		for range c.Events / gatewayBatch / 2 {
			for i := range gatewayBatch {
				sent[w.group(w.next+i)]++
			}
			if _, err := w.batch(ctx, 0, token); err != nil {
				return err
			}
			g.Published += gatewayBatch
		}
		g.Deliveries = 0
		for i := range w.readers {
			if !w.stuckReader(i) {
				g.Deliveries += sent[i/gatewayMatching]
			}
		}
		if err := w.await(ctx, t, failed, g.Deliveries); err != nil {
			return err
		}
		*heap = heapNow()
	}
	g.PerSecond = float64(g.Deliveries) / time.Since(began).Seconds()
	t.mu.Lock()
	g.Lost, g.Repeated = g.Deliveries-t.total, t.repeated
	t.mu.Unlock()
	c.Say(fmt.Sprintf("%d deliveries, %d lost, %d repeated, %.0f a second; %.0f MB in use at half of them, %.0f at the end", g.Deliveries, g.Lost, g.Repeated, g.PerSecond, g.HeapHalf, g.HeapAfter))
	if w.stuck == 0 {
		return nil
	}
	select {
	case <-time.After(w.wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	close(t.late)
	for limit := time.Now().Add(w.wait); ; {
		t.mu.Lock()
		g.CutOff = t.cut
		t.mu.Unlock()
		if g.CutOff == w.stuck || time.Now().After(limit) || ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// await waits until so many deliveries have come, or nothing comes for a while.
func (w *gatewayWorld) await(ctx context.Context, t *tally, failed <-chan error, want int) error {
	for {
		t.mu.Lock()
		total := t.total
		t.mu.Unlock()
		if total >= want {
			return nil
		}
		select {
		case <-t.changed:
		case err := <-failed:
			return err
		case <-time.After(30 * time.Second):
			return nil // the rest is lost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read reads one subscription's deliveries from now on and acknowledges each. A stuck reader reads nothing until it has
// been cut off: it is given the time for that and then sees how the connection ended.
func (w *gatewayWorld) read(ctx context.Context, i int, token string, t *tally, connected chan<- struct{}) error {
	address := strings.Replace(w.base, "http", "ws", 1) + "/api/subscriptions/" + gatewaySubscription(i) + "/websocket?from=now"
	conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: []string{"cloudevents.json"}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}}) //nolint:bodyclose // the library has closed it
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	connected <- struct{}{}
	if w.stuckReader(i) {
		select {
		case <-t.late:
		case <-ctx.Done():
			return nil
		}
	}
	for {
		_, text, err := conn.Read(ctx)
		var end websocket.CloseError
		switch {
		case w.stuckReader(i) && errors.As(err, &end) && end.Reason == "slow_reader":
			t.mu.Lock()
			t.cut++
			t.mu.Unlock()
			return nil
		case err != nil:
			return err
		case w.stuckReader(i):
			continue // what was on its way before it was cut off
		}
		var event struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(text, &event); err != nil {
			return err
		}
		t.take(i, event.ID)
		ack := `{"specversion":"1.0","id":"` + event.ID + `","source":"urn:reader","type":"fi.civicbus.ack","subject":"` + event.ID + `"}`
		if err := conn.Write(ctx, websocket.MessageText, []byte(ack)); err != nil {
			return err
		}
	}
}

package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/coder/websocket"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topic is an organisation's own program that reads its topic, from its end on.
func (s *story) topic(ctx context.Context, organisation string) (read func(context.Context) error, err error) {
	name := topology.SubscriberTopicName(organisation)
	ends, err := s.p.client.Kafka().ListEndOffsets(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list where the topic of %s ends: %w", organisation, err)
	}
	from := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) { from[end.Partition] = kgo.NewOffset().At(end.Offset) })
	client, err := s.p.connection.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: from}), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		defer client.Close()
		for ctx.Err() == nil {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err0(); err != nil {
				return fmt.Errorf("read the topic of %s: %w", organisation, err)
			}
			for _, r := range fetches.Records() {
				data, _, err := s.p.data(ctx, r)
				if err != nil {
					return fmt.Errorf("read a delivery to %s: %w", organisation, err)
				}
				e := envelope{ID: headerOf(r, codecs.HeaderID), Type: headerOf(r, codecs.HeaderType), Subscription: headerOf(r, codecs.HeaderSubscription), CorrelationID: headerOf(r, codecs.HeaderCorrelation)}
				s.in.add(delivered(organisation, "topic", e, data, ""))
			}
		}
		return nil
	}, nil
}

// message is a CloudEvent in JSON format.
type message struct {
	envelope
	Data any
}

var next = regexp.MustCompile(`<([^>]+)>; rel="next"`)

// pull asks the gateway again and again for what a subscription got, from now on.
func (s *story) pull(ctx context.Context, subscription string) (read func(context.Context) error, err error) {
	who := Who{Organisation: s.whose[subscription]}
	page := func(ctx context.Context, path string) (then string, batch []message, err error) {
		a, err := s.web.ask(ctx, who, http.MethodGet, path, "", nil)
		if err != nil {
			return "", nil, err
		}
		link := next.FindStringSubmatch(a.header.Get("Link"))
		if a.status != http.StatusOK || link == nil {
			return "", nil, fmt.Errorf("pull %s: status %d: %s", subscription, a.status, a.code())
		}
		err = a.into(&batch)
		return link[1], batch, err
	}
	path, _, err := page(ctx, "/api/subscriptions/"+url.PathEscape(subscription)+"/events?from=now")
	if err != nil {
		return nil, err
	}
	path += "&wait=10" // the links after this one keep it
	return func(ctx context.Context) error {
		for {
			then, batch, err := page(ctx, path)
			if err != nil {
				return err
			}
			for _, m := range batch {
				s.in.add(delivered(who.Organisation, "pull", m.envelope, m.Data, ""))
			}
			path = then
		}
	}, nil
}

// socket is a wallet's connection: what a subscription gets from now on, each acknowledged when it has been shown.
func (s *story) socket(ctx context.Context, subscription string) (read func(context.Context) error, err error) {
	who := Who{Organisation: s.whose[subscription]}
	token, err := s.web.token(who)
	if err != nil {
		return nil, err
	}
	address := strings.Replace(s.web.base, "http", "ws", 1) + "/api/subscriptions/" + url.PathEscape(subscription) + "/websocket?from=now"
	conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: []string{"cloudevents.json"}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}}) //nolint:bodyclose // the library closes it
	if err != nil {
		return nil, fmt.Errorf("open a WebSocket for %s: %w", subscription, err)
	}
	return func(ctx context.Context) error {
		defer func() { _ = conn.CloseNow() }()
		for {
			_, text, err := conn.Read(ctx)
			if err != nil {
				return fmt.Errorf("read the WebSocket of %s: %w", subscription, err)
			}
			var m message
			if err := json.Unmarshal(text, &m); err != nil {
				return fmt.Errorf("read the WebSocket of %s: %w", subscription, err)
			}
			s.in.add(delivered(who.Organisation, "websocket", m.envelope, m.Data, ""))
			ack, err := json.Marshal(map[string]string{"specversion": "1.0", "id": "ack-" + m.ID, "source": "https://" + who.Organisation, "type": "fi.civicbus.ack", "subject": m.ID})
			if err != nil {
				return err
			}
			if err := conn.Write(ctx, websocket.MessageText, ack); err != nil {
				return fmt.Errorf("acknowledge on the WebSocket of %s: %w", subscription, err)
			}
		}
	}, nil
}

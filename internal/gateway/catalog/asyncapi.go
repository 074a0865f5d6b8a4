package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"go.yaml.in/yaml/v3"
)

// Versions of AsyncAPI and of its Kafka bindings.
const (
	asyncAPIVersion     = "3.0.0"
	kafkaBindings       = "0.5.0"
	avroFormat          = "application/vnd.apache.avro;version=1.9.0"
	avroMedia           = "application/avro"
	confluentIDEncoding = "4" // bytes of the schema's id, after a zero byte
)

// object is one of AsyncAPI's; JSON and YAML write its members in order.
type object = map[string]any

func (s *server) asyncAPIRoutes(a *web.API) {
	for _, form := range []struct {
		id, path, media string
		write           func(any) ([]byte, error)
	}{
		{"asyncapi-json", "/asyncapi.json", "application/json", func(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }},
		{"asyncapi-yaml", "/asyncapi.yaml", "application/yaml", func(v any) ([]byte, error) {
			var out bytes.Buffer
			enc := yaml.NewEncoder(&out)
			enc.SetIndent(2)
			err := enc.Encode(v)
			return out.Bytes(), err
		}},
	} {
		web.Serve(a, web.Route{ID: form.id, Method: http.MethodGet, Path: form.path, Tag: heading, Summary: "What can be published and received, as AsyncAPI 3",
			Description: "For an organisation: what it may publish, and its own topic with the schemas of its deliveries. Else: every event type.",
			For:         anybody, Document: web.Answers(form.media, nil)},
			func(w http.ResponseWriter, r *http.Request) error {
				doc, err := s.asyncAPI(r.Context(), web.From(r.Context()).Organisation)
				if err != nil {
					return err
				}
				text, err := form.write(doc)
				if err != nil {
					return err
				}
				w.Header().Set("Content-Type", form.media)
				_, err = w.Write(text)
				return err
			})
	}
}

// asyncAPI describes civicbus for one organisation; empty: for nobody in particular.
func (s *server) asyncAPI(ctx context.Context, organisation string) (object, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	d := &document{server: s, snap: snap, organisation: snap.Organisation(organisation), id: organisation,
		channels: object{}, operations: object{}, messages: object{}, topics: map[string]topology.Topic{}}
	shape := topology.Shape{Partitions: s.cfg.Partitions}
	for _, t := range topology.Topics(shape) {
		d.topics[t.Name] = t
	}
	d.topics[topology.Inbox.Name] = topology.InboxTopic("{organisation}", shape)
	d.topics[topology.Subscriber.Name] = topology.SubscriberTopic("{organisation}", shape)
	if err := d.publishing(ctx); err != nil {
		return nil, err
	}
	if err := d.receiving(ctx); err != nil {
		return nil, err
	}
	return object{
		"asyncapi": asyncAPIVersion,
		"info": object{"title": "civicbus", "version": "1.0.0",
			"description": "Life and business events of people and companies, delivered to those who may have them, cut down to what they may have. The operations are civicbus's: it receives what sources publish, and sends what subscribers receive."},
		"defaultContentType": avroMedia,
		"servers":            s.servers(),
		"channels":           d.channels,
		"operations":         d.operations,
		"components":         object{"messages": d.messages},
	}, nil
}

func (s *server) servers() object {
	servers := object{}
	for i, broker := range s.cfg.Brokers {
		name := "kafka"
		if i > 0 {
			name += "-" + string(rune('a'+i%26))
		}
		servers[name] = object{"host": broker, "protocol": "kafka", "description": "Read committed; values are Avro in the registry's wire format.",
			"bindings": object{"kafka": object{"schemaRegistryUrl": s.cfg.RegistryURL, "schemaRegistryVendor": "confluent", "bindingVersion": kafkaBindings}}}
	}
	if u, err := url.Parse(s.cfg.PublicURL); err == nil && u.Host != "" {
		gateway := object{"host": u.Host, "protocol": u.Scheme, "description": "The gateway; /openapi.json describes it."}
		if u.Path != "" {
			gateway["pathname"] = u.Path
		}
		servers["gateway"] = gateway
	}
	return servers
}

// document is one description on its way.
type document struct {
	server       *server
	snap         *verdict.Snapshot
	organisation *codecs.Organisation // nil: nobody in particular
	id           string
	topics       map[string]topology.Topic

	channels, operations, messages object
}

// publishing describes what sources publish.
func (d *document) publishing(ctx context.Context) error {
	refs := object{}
	for _, row := range d.snap.EventTypes() {
		if row.Retired || d.organisation != nil && !slices.Contains(d.organisation.Publishes, row.Type) {
			continue
		}
		schema, err := d.server.latest(ctx, row.RegistrySubject)
		if err != nil {
			return err
		}
		message := d.message(row, schema)
		message["headers"] = headers(inboxHeaders)
		d.messages[row.Type] = message
		refs[row.Type] = object{"$ref": "#/components/messages/" + row.Type}
	}
	if len(refs) == 0 {
		return nil
	}
	http := object{"address": "/api/events", "title": "Publish over HTTP", "description": "CloudEvents' HTTP binding: binary, structured or batch; data in JSON or Avro.",
		"messages": refs, "bindings": object{"http": object{}}}
	if d.server.cfg.PublicURL != "" {
		http["servers"] = []any{object{"$ref": "#/servers/gateway"}}
	}
	d.channels["publish-http"] = http
	d.operation("receive-http", "receive", "publish-http", "A source publishes by POST.")
	if d.organisation != nil && !d.organisation.Inbox {
		return nil
	}
	d.channel("inbox", topology.Inbox.Name, "A source's own inbox, for Kafka clients", "CloudEvents' Kafka binding: binary or structured. Only the source writes there.", refs)
	d.operation("receive-inbox", "receive", "inbox", "A source publishes with a Kafka client.")
	return nil
}

// receiving describes what subscribers receive: of an organisation with the schemas that its deliveries have.
func (d *document) receiving(ctx context.Context) error {
	refs := object{}
	for _, row := range d.snap.EventTypes() {
		schema, err := d.server.latest(ctx, row.RegistrySubject)
		if err != nil {
			return err
		}
		if d.organisation == nil {
			if len(receivers(d.snap, row)) == 0 {
				continue
			}
			schema = nil // each subscriber's is its own
		} else if schema = d.projected(row, schema); schema == nil {
			continue
		}
		message := d.message(row, schema)
		message["headers"] = headers(deliveryHeaders)
		message["name"] = row.Type + ".delivery"
		delete(message, "examples")
		message["correlationId"] = object{"location": "$message.header#/ce_correlationid", "description": "The life event, under the subscriber's key."}
		d.messages["delivery."+row.Type] = message
		refs["delivery."+row.Type] = object{"$ref": "#/components/messages/delivery." + row.Type}
	}
	if len(refs) == 0 {
		return nil
	}
	d.channel("subscriber", topology.Subscriber.Name, "A subscriber's own topic",
		"Every delivery to the subscriber, keyed by its own pseudonym of the subject. The gateway serves the same by pull, as server-sent events and over a WebSocket. A field that was not permitted is null and named in ce_withheld.", refs)
	d.operation("send-deliveries", "send", "subscriber", "A subscriber receives what it may have.")
	return nil
}

// projected is the schema of an organisation's deliveries of a type; nil: it has no subscription to it.
func (d *document) projected(row *codecs.EventType, writer *codecs.Schema) *codecs.Schema {
	if writer == nil {
		return nil
	}
	for _, t := range d.snap.Targets(row.Type, writer) {
		if t.Subscriber != d.id {
			continue
		}
		p, err := writer.Projection(t.Paths)
		if err != nil {
			return nil
		}
		schema, err := codecs.ParseSchema(p.JSON())
		if err != nil {
			return nil
		}
		return schema
	}
	return nil
}

// channel adds a topic, of one organisation or of each.
func (d *document) channel(name, topic, title, description string, messages object) {
	config := d.topics[topic]
	binding := object{"topic": strings.Replace(topic, "{organisation}", d.named(), 1), "partitions": config.Partitions, "bindingVersion": kafkaBindings,
		"topicConfiguration": topicConfiguration(config.Config)}
	if d.organisation == nil {
		delete(binding, "topic")
	}
	c := object{"address": strings.Replace(topic, "{organisation}", d.named(), 1), "title": title, "description": description, "messages": messages, "bindings": object{"kafka": binding}}
	if d.organisation == nil {
		c["parameters"] = object{"organisation": object{"description": "The organisation's id in the trust registry."}}
	}
	var brokers []any
	for server := range d.server.servers() {
		if strings.HasPrefix(server, "kafka") {
			brokers = append(brokers, object{"$ref": "#/servers/" + server})
		}
	}
	if len(brokers) > 0 {
		c["servers"] = brokers
	}
	d.channels[name] = c
}

func (d *document) named() string {
	if d.organisation == nil {
		return "{organisation}"
	}
	return d.id
}

func (d *document) operation(name, action, channel, summary string) {
	d.operations[name] = object{"action": action, "channel": object{"$ref": "#/channels/" + channel}, "summary": summary}
}

// message describes one event type; schema nil: without its payload.
func (d *document) message(row *codecs.EventType, schema *codecs.Schema) object {
	m := object{"name": row.Type, "title": row.Title, "contentType": avroMedia,
		"bindings": object{"kafka": object{"key": object{"type": "string"}, "schemaIdLocation": "payload", "schemaIdPayloadEncoding": confluentIDEncoding, "bindingVersion": kafkaBindings}},
		"tags":     []any{object{"name": row.Category}, object{"name": row.Classification}},
		"x-owner":  row.Owner, "x-classification": row.Classification, "x-stream": row.Stream, "x-registry-subject": row.RegistrySubject}
	if row.Description != "" {
		m["description"] = row.Description
	}
	if schema == nil {
		return m
	}
	var payload any
	if json.Unmarshal([]byte(schema.JSON()), &payload) == nil {
		m["payload"] = object{"schemaFormat": avroFormat, "schema": payload}
	}
	var made any
	if json.Unmarshal(sample(row, schema), &made) == nil {
		m["x-sample"] = made
	}
	scopes := object{}
	for _, f := range fields(row, schema) {
		if len(f.Scopes) > 0 {
			scopes[f.Path] = f.Scopes
		}
	}
	if len(scopes) > 0 {
		m["x-scopes"] = scopes
	}
	return m
}

// topicConfiguration is a topic's configuration as the Kafka bindings write it.
func topicConfiguration(config map[string]string) object {
	out := object{}
	for key, value := range config {
		switch key {
		case "cleanup.policy":
			out[key] = []any{value}
		case "retention.ms", "max.message.bytes":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				out[key] = n
			}
		}
	}
	return out
}

// headers describes the CloudEvents attributes of a message, in binary mode.
func headers(all [][3]string) object {
	properties, required := object{}, []any{}
	for _, h := range all {
		properties[h[0]] = object{"type": "string", "description": h[1]}
		if h[2] != "" {
			required = append(required, h[0])
		}
	}
	return object{"type": "object", "properties": properties, "required": required}
}

// The headers of what is published and of what is delivered: name, meaning, and whether it is always there.
var (
	inboxHeaders = [][3]string{
		{codecs.HeaderSpecVersion, "1.0", "always"}, {codecs.HeaderID, "The source's own id of the event.", "always"},
		{codecs.HeaderSource, "The source, as the trust registry has it.", "always"}, {codecs.HeaderType, "The event type.", "always"},
		{codecs.HeaderTime, "When it happened, RFC 3339.", ""}, {codecs.HeaderSubject, "A subject beside the data, scheme:id or a pseudonym.", ""},
		{codecs.HeaderRecipient, "Of a command: the organisation that it is for.", ""}, {codecs.HeaderAuthorized, "Organisations that may receive it on consent, separated by commas; absent: any.", ""},
		{codecs.HeaderContentType, "application/avro, or application/json.", ""},
	}
	deliveryHeaders = [][3]string{
		{codecs.HeaderSpecVersion, "1.0", "always"}, {codecs.HeaderID, "The delivery's id: the same by every way.", "always"},
		{codecs.HeaderSource, "The source.", "always"}, {codecs.HeaderType, "The event type.", "always"}, {codecs.HeaderTime, "When it happened.", ""},
		{codecs.HeaderSubject, "The subject, by the subscriber's own pseudonym.", "always"}, {codecs.HeaderSubjectRole, "The subject's role in the event.", "always"},
		{codecs.HeaderDataSchema, "Address of the value's schema.", "always"}, {codecs.HeaderContentType, "application/avro", "always"},
		{codecs.HeaderCorrelation, "The life event, by the subscriber's own pseudonym.", "always"}, {codecs.HeaderSubscription, "The subscription.", "always"},
		{codecs.HeaderPurpose, "What it may be used for.", "always"}, {codecs.HeaderLegalBasis, "On which basis.", "always"},
		{codecs.HeaderReference, "The grant or the rule.", ""}, {codecs.HeaderWithheld, "Paths that were not permitted, separated by commas.", ""},
	}
)

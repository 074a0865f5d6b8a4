package e2e

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/e2e/realcluster"
	"civicbus/examples"
	"civicbus/internal/access"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestATopicOfOnesOwn gives the post its user, as an operator does, and reads and writes with clients that are given nothing
// but what is printed then. What the post loses in the trust registry it loses on Kafka.
func TestATopicOfOnesOwn(t *testing.T) {
	b := secured(t)
	b.smallWorld(func(w *examples.World) {
		for i := range w.Organisations {
			w.Organisations[i].Inbox = w.Organisations[i].ID == register
		}
	})
	op := b.operator()
	b.granted(op)
	who := people(1, 5)
	var grants []*order
	for _, p := range who {
		grants = append(grants, b.grantPost(p))
	}
	b.inEffect(grants...)
	l := b.newLedger()
	l.move(granted, who...)
	l.audit()

	mine, topic := b.issue(op, post), topology.SubscriberTopicName(post)
	if _, err := op.IssueAccess(b.t.Context(), quotas, post, false); !errors.Is(err, access.ErrHasUser) {
		b.t.Errorf("issued twice: %v", err)
	}
	if mine.Topic != topic || mine.User != post || strings.Contains(b.log.String(), mine.Password) {
		b.t.Errorf("%+v, or its password is logged", mine)
	}

	b.sub("franz-go", func() {
		reader := b.as(mine, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(mine.GroupPrefix+"franz"))
		records, err := b.take(reader, len(who))
		b.must(err)
		for _, r := range records {
			if v := b.decode(r); v["newAddress"] == nil {
				b.t.Errorf("read %v", v)
			}
		}
		b.must(reader.CommitRecords(b.t.Context(), records...))
		for name, opts := range map[string][]kgo.Opt{
			"another's topic":      {kgo.ConsumeTopics(topology.SubscriberTopicName(agency))},
			"what is admitted":     {kgo.ConsumeTopics(topology.Admitted.Name)},
			"an event stream":      {kgo.ConsumeTopics(topology.Address.Name)},
			"consents":             {kgo.ConsumeTopics(topology.TableTopic(topology.Consent.Name))},
			"decisions":            {kgo.ConsumeTopics(topology.Decisions.Name)},
			"an inbox":             {kgo.ConsumeTopics(topology.InboxTopicName(register))},
			"in another's group":   {kgo.ConsumeTopics(topic), kgo.ConsumerGroup(access.GroupPrefix(agency) + "reader")},
			"in the bus's group":   {kgo.ConsumeTopics(topic), kgo.ConsumerGroup(topology.Router.Name)},
			"in a group of nobody": {kgo.ConsumeTopics(topic), kgo.ConsumerGroup(post)},
		} {
			if got, err := b.take(b.as(mine, opts...), 1); !refused(err) {
				b.t.Errorf("the post reads %s: %d records, %v", name, len(got), err)
			}
		}
		writer := b.as(mine)
		for _, to := range []string{topic, topology.SubscriberTopicName(agency), topology.InboxTopicName(register), topology.Admitted.Name, topology.ConsentCommands.Name} {
			if err := writer.ProduceSync(b.t.Context(), &kgo.Record{Topic: to, Value: []byte("x")}).FirstErr(); !refused(err) {
				b.t.Errorf("the post writes to %s: %v", to, err)
			}
		}
		if r, err := kadm.NewClient(writer).CreateTopic(b.t.Context(), 1, 1, nil, "mine"); !refused(errors.Join(err, r.Err)) {
			b.t.Errorf("the post creates a topic: %v %v", err, r.Err)
		}
		if r, err := kadm.NewClient(writer).DeleteTopics(b.t.Context(), topic); err == nil && !refused(r[topic].Err) {
			b.t.Errorf("the post deletes its topic: %v", r)
		}
	})

	b.sub("confluent-kafka", func() { b.confluentKafka(mine, agency, len(who)) })
	b.sub("java", func() { b.java(mine, agency, len(who)) })

	b.sub("source", func() {
		source := b.issue(op, register)
		value, err := json.Marshal(json.RawMessage(moved("from-inbox", who[0], "Inbox street 1")))
		b.must(err)
		writer := b.as(source, kgo.DefaultProduceTopic(source.Inbox))
		b.must(writer.ProduceSync(b.t.Context(), &kgo.Record{Value: value, Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}}).FirstErr())
		b.want(b.decision("from-inbox", who[0]), postSub, "permit consent")
		for _, to := range []string{topology.InboxTopicName(post), topic, topology.Admitted.Name, topology.Address.Name} {
			if err := writer.ProduceSync(b.t.Context(), &kgo.Record{Topic: to, Value: value}).FirstErr(); !refused(err) {
				b.t.Errorf("the source writes to %s: %v", to, err)
			}
		}
		if _, err := b.take(b.as(source, kgo.ConsumeTopics(source.Inbox)), 1); !refused(err) {
			b.t.Errorf("the source reads its inbox: %v", err)
		}
	})

	b.sub("another password", func() {
		open := b.as(mine, kgo.RequestRetries(0), kgo.RetryTimeout(time.Second))
		b.must(open.Ping(b.t.Context()))
		next, err := op.IssueAccess(b.t.Context(), quotas, post, true)
		b.must(err)
		if b.cluster == nil { // the real cluster asks anew after a few seconds (connections.max.reauth.ms)
			b.eventually("a connection that was open ends", func() bool { return open.Ping(b.t.Context()) != nil })
		}
		b.eventually("the old password opens nothing", func() bool {
			return b.as(mine, kgo.RequestRetries(0), kgo.RetryTimeout(time.Second)).Ping(b.t.Context()) != nil
		})
		_, err = b.take(b.as(next, kgo.ConsumeTopics(topic)), len(who))
		b.must(err)
		mine = next
	})

	b.sub("suspended and resumed", func() {
		b.loses(mine, "suspended", func() { b.inEffect(b.trust("suspend", codecs.Organisation{ID: post})) })
		if _, err := op.IssueAccess(b.t.Context(), quotas, post, true); !errors.Is(err, access.ErrNoAccess) {
			b.t.Errorf("a suspended organisation gets a password: %v", err)
		}
		b.inEffect(b.trust("resume", codecs.Organisation{ID: post}))
		b.eventually("the post reads again, with the password that it had", func() bool {
			got, err := b.take(b.as(mine, kgo.ConsumeTopics(topic)), 1)
			return err == nil && len(got) > 0
		})
	})

	b.sub("its last subscription", func() {
		b.loses(mine, "without a subscription", func() {
			b.inEffect(b.subscription("revoke", "operator:anna", codecs.Subscription{ID: postSub}))
		})
	})

	b.sub("revoked", func() {
		b.inEffect(b.trust("revoke", codecs.Organisation{ID: post}))
		b.eventually("the user is gone", func() bool {
			a, err := op.Access(b.t.Context(), quotas, post)
			b.must(err)
			return !a.Have.Users[post] && len(a.Have.Rights[post]) == 0 && len(a.Have.Quotas[post]) == 0
		})
		if _, err := op.IssueAccess(b.t.Context(), quotas, post, false); !errors.Is(err, access.ErrNoAccess) {
			b.t.Errorf("a revoked organisation gets a user: %v", err)
		}
		topics, err := b.admin.ListTopics(b.t.Context(), topic)
		b.must(err)
		if topics[topic].Err != nil {
			b.t.Errorf("the topic went by itself: %v", topics[topic].Err)
		}
	})
}

// loses has a reader of the topic open while an organisation loses its right, and demands that it is refused within seconds
// of the change being in effect, on the connection that it has.
func (b *bus) loses(c access.Client, why string, change func()) {
	b.t.Helper()
	reader := b.as(c, kgo.ConsumeTopics(c.Topic))
	_, err := b.take(reader, 1)
	b.must(err)
	begun := time.Now()
	change()
	_, err = b.take(reader, 1<<30)
	if !refused(err) {
		b.t.Errorf("%s: %v", why, err)
	}
	b.t.Logf("%s: refused within %s of the command, which took its time to be in effect", why, time.Since(begun).Round(time.Millisecond))
	if _, err := b.take(b.as(c, kgo.ConsumeTopics(c.Topic)), 1); !refused(err) {
		b.t.Errorf("%s, with a new connection: %v", why, err)
	}
}

// securedReader is a subscriber in Python that is given the file that civicbus printed.
//
//go:embed testdata/secured.py
var securedReader string

// confluentKafka reads with librdkafka's Python client what is its own, and is refused what is not.
func (b *bus) confluentKafka(c access.Client, other string, n int) {
	text, err := c.Text("librdkafka")
	b.must(err)
	file := filepath.Join(b.t.TempDir(), "client.properties")
	b.must(os.WriteFile(file, []byte(text), 0o600))
	var got struct {
		Read    []map[string]any
		Refused map[string]string
	}
	out := b.python(securedReader, file, b.cfg.Registry.URL, c.Topic, fmt.Sprint(n), topology.SubscriberTopicName(other), access.GroupPrefix(other)+"reader",
		topology.InboxTopicName(register))
	b.must(json.Unmarshal([]byte(out), &got))
	if len(got.Read) != n {
		b.t.Errorf("%d records, want %d", len(got.Read), n)
	}
	for _, v := range got.Read {
		if v["newAddress"] == nil || v["oldAddress"] != nil {
			b.t.Errorf("read %v", v)
		}
	}
	for what, want := range map[string]string{"topic": "TOPIC_AUTHORIZATION_FAILED", "group": "GROUP_AUTHORIZATION_FAILED", "own topic": "TOPIC_AUTHORIZATION_FAILED",
		"inbox": "TOPIC_AUTHORIZATION_FAILED", "wrong password": "refused", "no password": "refused"} {
		if got.Refused[what] != want {
			b.t.Errorf("%s: %q, want %q", what, got.Refused[what], want)
		}
	}
}

// TestClusterWithoutAuthorizer: where everybody may do everything it is said, and nobody is given a password that means nothing.
func TestClusterWithoutAuthorizer(t *testing.T) {
	b := prepare(t)
	op := b.operator()
	if _, err := op.Access(t.Context(), quotas); !errors.Is(err, access.ErrNoAuthorizer) {
		t.Errorf("plan: %v", err)
	}
	if c, err := op.IssueAccess(t.Context(), quotas, post, false); !errors.Is(err, access.ErrNoAuthorizer) || c.Password != "" {
		t.Errorf("issue: %v", err)
	}
}

// java reads with Kafka's own console consumer, which is given the file that civicbus printed for Java.
func (b *bus) java(c access.Client, other string, n int) {
	if realcluster.FromEnv() == nil && os.Getenv("CIVICBUS_TEST_JAVA") == "" {
		b.t.Skip("needs a JDK and Kafka's jars: runs where CIVICBUS_TEST_BROKERS is set, and with CIVICBUS_TEST_JAVA on the embedded cluster")
	}
	text, err := c.Text("java")
	b.must(err)
	file := filepath.Join(b.t.TempDir(), "client.properties")
	text = strings.ReplaceAll(text, c.GroupPrefix+"reader", c.GroupPrefix+"java") // the other has read already
	b.must(os.WriteFile(file, []byte(text), 0o600))
	java, jars, err := realcluster.Java(b.t.Context())
	b.must(err)
	read := func(topic string, n int) *exec.Cmd {
		return exec.CommandContext(b.t.Context(), java, "-cp", jars, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", strings.Join(c.Brokers, ","),
			"--command-config", file, "--topic", topic, "--max-messages", fmt.Sprint(n), "--timeout-ms", "30000",
			"--formatter-property", "print.headers=true", "--formatter-property", "print.value=false")
	}
	out, err := read(c.Topic, n).CombinedOutput()
	if got := strings.Count(string(out), "ce_type:"+moveType); err != nil || got != n {
		b.t.Errorf("%d records, want %d: %v\n%s", got, n, err, out)
	}
	if out, err := read(topology.SubscriberTopicName(other), 1).CombinedOutput(); !strings.Contains(string(out), "TopicAuthorizationException") {
		b.t.Errorf("another's topic: %v\n%s", err, out)
	}
}

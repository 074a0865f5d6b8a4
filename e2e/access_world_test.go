package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/e2e/realcluster"
	"civicbus/internal/access"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/embedded"
	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	superuser     = "civicbus"
	superPassword = "a-password-for-tests"
)

// quotas are far above what a test moves: the real cluster obeys them.
var quotas = access.Limits{ReadBytes: 50 << 20, WriteBytes: 50 << 20, RequestPercent: 400}

// secured makes a cluster that asks every client who it is, with civicbus as its superuser, and starts one node for access and
// one for everything else. Where a real Kafka can be had it is one, of its own.
func secured(t *testing.T) *bus {
	t.Helper()
	b := newBus(t)
	password := filepath.Join(t.TempDir(), "password")
	b.must(os.WriteFile(password, []byte(superPassword+"\n"), 0o600))
	b.cfg.Connection.SASL = kafka.SASL{Mechanism: access.Mechanism, User: superuser, PasswordFile: password}
	b.cfg.Access = app.Access{Limits: quotas}
	if realcluster.FromEnv() != nil {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		real, err := realcluster.StartSecured(ctx, t.TempDir(), superuser, superPassword)
		b.must(err)
		t.Cleanup(func() {
			if err := real.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
		b.cfg.Connection.Brokers, b.cfg.Registry.URL, b.cfg.Shape.Compact = real.Brokers, real.Registry, true
	} else {
		t.Parallel()
		b.embed(embedded.Config{Logger: b.cfg.Logger, Superuser: &embedded.User{Name: superuser, Password: superPassword}})
		b.cfg.Registry.User, b.cfg.Registry.Password = superuser, superPassword
	}
	b.connect()
	b.run("a", slices.DeleteFunc(app.Parts(), func(p string) bool { return p == app.PartAccess || p == app.PartGateway })...)
	b.run("b", app.PartAccess) // as a process of its own, beside those that do the rest
	return b
}

// operator is the operators' client. It is closed when the test ends.
func (b *bus) operator() *admin.Client {
	b.t.Helper()
	c, err := admin.Dial(b.t.Context(), admin.Config{Connection: b.cfg.Connection, Registry: b.cfg.Registry, BusKey: b.cfg.BusKey})
	b.must(err)
	b.root.Cleanup(c.Close)
	return c
}

// granted waits until an organisation has on Kafka what it should have, by part access alone; a user of its own excepted.
func (b *bus) granted(op *admin.Client, organisations ...string) {
	b.t.Helper()
	b.eventually("access is as it should be", func() bool {
		a, err := op.Access(b.t.Context(), quotas, organisations...)
		b.must(err)
		for _, d := range a.Plan.Differences {
			if d.Change != access.ToIssue {
				return false
			}
		}
		return true
	})
}

// issue makes an organisation's user.
func (b *bus) issue(op *admin.Client, organisation string) access.Client {
	b.t.Helper()
	c, err := op.IssueAccess(b.t.Context(), quotas, organisation, false)
	b.must(err)
	return c
}

// as is an organisation's own Kafka client.
func (b *bus) as(c access.Client, opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.SASL(scram.Auth{User: c.User, Pass: c.Password}.AsSha512Mechanism()), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200 * time.Millisecond)}, opts...)...)
	b.must(err)
	b.root.Cleanup(cl.Close)
	return cl
}

// take polls until it has n records, or an error of Kafka's.
func (b *bus) take(cl *kgo.Client, n int) ([]*kgo.Record, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), within)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			return all, e.Err
		}
		all = append(all, fetches.Records()...)
	}
	return all, nil
}

// refused says whether an error is Kafka's answer to somebody without a right.
func refused(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.GroupAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) ||
		errors.Is(err, kerr.SaslAuthenticationFailed)
}

// subscriberLike is the post under another name, with a subscription of its own.
func subscriberLike(o codecs.Organisation, s codecs.Subscription, id string) (codecs.Organisation, codecs.Subscription) {
	o.ID, o.Name, o.DID, o.Source, o.Inbox, o.Publishes = id, id, "did:web:"+id+".example", "https://"+id+".example", true, nil
	s.ID, s.Subscriber = "sub-"+id, id
	return o, s
}

package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/embedded"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const own = "civicbus"

// cluster starts a broker, a secured one with a superuser's client of it.
func cluster(t *testing.T, secured bool) *kgo.Client {
	t.Helper()
	cfg, opts := embedded.Config{}, []kgo.Opt(nil)
	if secured {
		cfg.Superuser = &embedded.User{Name: own, Password: "p"}
		opts = append(opts, kgo.SASL(scram.Auth{User: own, Pass: "p"}.AsSha512Mechanism()))
	}
	c, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.Brokers()...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// rows are what a keeper follows, as a test sets them.
type rows struct {
	mu            sync.Mutex
	current       bool
	organisations []*codecs.Organisation
	subscriptions []*codecs.Subscription
	looked        int // times that it was asked whether they are current
}

func (r *rows) set(current bool, orgs ...*codecs.Organisation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.organisations = current, orgs
	r.subscriptions = nil
	for _, o := range orgs {
		r.subscriptions = append(r.subscriptions, subscription(o.ID, "kafka", "active"))
	}
}

func (r *rows) Fresh() (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked++
	return time.Now(), r.current
}

func (r *rows) looks() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looked
}

func (r *rows) Organisations() []*codecs.Organisation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.organisations
}

func (r *rows) Subscriptions() []*codecs.Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subscriptions
}

// said is a log. Safe for concurrent use.
type said struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// keep runs a keeper until the test ends.
func keep(t *testing.T, cl *kgo.Client, r *rows, log *said) (wake func(), m *Metrics) {
	t.Helper()
	c := make(chan struct{}, 1)
	m = NewMetrics(nil)
	k, err := NewKeeper(KeeperConfig{Client: cl, Rows: r, Wake: c, Own: own, Limits: Limits{ReadBytes: 1 << 20}, Every: 20 * time.Millisecond, Again: 5 * time.Millisecond,
		Metrics: m, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}, m
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func state(t *testing.T, cl *kgo.Client) *State {
	t.Helper()
	s, err := Read(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTwoKeepersFollowTheRows: both give, take and mend the same at once, and end at what is wanted.
func TestTwoKeepersFollowTheRows(t *testing.T) {
	cl, r, log := cluster(t, true), &rows{}, &said{}
	a, b := organisation("a", "active", true, true), organisation("b", "active", true, false)
	wakeOne, one := keep(t, cl, r, log)
	wakeTwo, two := keep(t, cl, r, log)
	wake := func() { wakeOne(); wakeTwo() }

	// Rows that are not confirmed current move nothing.
	r.set(false, a)
	wake()
	before := r.looks()
	eventually(t, "both have looked several times", func() bool { return r.looks() > before+10 })
	if s := state(t, cl); len(s.Rights) > 0 || len(s.Quotas) > 0 {
		t.Fatalf("given on rows that are not current: %v %v", s.Rights, s.Quotas)
	}

	wanted := func(orgs ...*codecs.Organisation) func() bool {
		r.set(true, orgs...)
		wake()
		return func() bool {
			want := Want(r.Organisations(), r.Subscriptions(), Limits{ReadBytes: 1 << 20})
			return len(Compare(want, state(t, cl), own).todo()) == 0
		}
	}
	eventually(t, "both organisations have their rights", wanted(a, b))
	if s := state(t, cl); len(s.Rights["a"]) != 6 || len(s.Rights["b"]) != 4 || s.Quotas["a"][readRate] != 1<<20 {
		t.Errorf("rights %v, quotas %v", s.Rights, s.Quotas)
	}
	password, err := Issue(t.Context(), cl, Want(r.Organisations(), r.Subscriptions(), Limits{})["a"], state(t, cl), own)
	if err != nil || strings.Contains(log.String(), password) {
		t.Fatalf("issue: %v, or the password is logged", err)
	}

	// Somebody takes a right away by hand, and gives another: both are undone without a row having changed.
	by := []Difference{{Organisation: "a", What: OfRight, Change: Delete, right: state(t, cl).Rights["a"][0]}}
	extra := state(t, cl).Rights["b"][0]
	by = append(by, Difference{Organisation: "a", What: OfRight, Change: Create, right: extra})
	if err := Apply(t.Context(), cl, by); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is as it was", wanted(a, b))

	gone := *a
	gone.Status = "revoked"
	eventually(t, "the revoked one has nothing", wanted(&gone, b))
	if s := state(t, cl); len(s.Rights["a"]) > 0 || s.Users["a"] || len(s.Quotas["a"]) > 0 || len(s.Rights["b"]) != 4 {
		t.Errorf("rights %v, users %v, quotas %v", s.Rights, s.Users, s.Quotas)
	}
	if n := testutil.ToFloat64(one.failures) + testutil.ToFloat64(two.failures); n > 0 {
		t.Errorf("%v looks failed:\n%s", n, log)
	}
	if n := testutil.ToFloat64(one.changes.WithLabelValues(OfRight, Create)) + testutil.ToFloat64(two.changes.WithLabelValues(OfRight, Create)); n < 10 {
		t.Errorf("%v rights were given", n)
	}
}

// TestKeeperWithoutAnAuthorizer says so once, and goes on looking.
func TestKeeperWithoutAnAuthorizer(t *testing.T) {
	cl, r, log := cluster(t, false), &rows{}, &said{}
	if _, err := Read(t.Context(), cl); !errors.Is(err, ErrNoAuthorizer) {
		t.Errorf("read: %v", err)
	}
	r.set(true, organisation("a", "active", true, true))
	_, m := keep(t, cl, r, log)
	eventually(t, "it has looked three times", func() bool { return testutil.ToFloat64(m.failures) >= 3 })
	if n := strings.Count(log.String(), "no authorizer"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log)
	}
}

// TestWhoMayNotManage: civicbus's own user needs rights too, and is told so.
func TestWhoMayNotManage(t *testing.T) {
	cl := cluster(t, true)
	w := Wanted{Organisation: "a", User: true, Rights: rights(organisation("a", "active", true, true), true)}
	password, err := Issue(t.Context(), cl, w, state(t, cl), own)
	if err != nil {
		t.Fatal(err)
	}
	as, err := kgo.NewClient(kgo.SeedBrokers(cl.OptValue(kgo.SeedBrokers).([]string)...), kgo.SASL(scram.Auth{User: "a", Pass: password}.AsSha512Mechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer as.Close()
	if _, err := Read(t.Context(), as); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("read: %v", err)
	}
	d := []Difference{{Organisation: "a", What: OfRight, Change: Create, right: w.Rights[0]}}
	if err := Apply(t.Context(), as, d); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("apply: %v", err)
	}
	if _, err := Rotate(t.Context(), as, w, &State{Users: map[string]bool{"a": true}}, own); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("rotate: %v", err)
	}
	for what, err := range map[string]error{
		"issue twice":   second(Issue(t.Context(), cl, w, state(t, cl), own)),
		"rotate nobody": second(Rotate(t.Context(), cl, Wanted{Organisation: "b", Rights: w.Rights}, state(t, cl), own)),
		"no access":     second(Issue(t.Context(), cl, Wanted{Organisation: "b", User: true}, state(t, cl), own)),
	} {
		want := map[string]error{"issue twice": ErrHasUser, "rotate nobody": ErrNoUser, "no access": ErrNoAccess}[what]
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
}

func second(_ string, err error) error { return err }

// TestManyOrganisations: more differences than one request takes are carried out, and a second time there are none.
func TestManyOrganisations(t *testing.T) {
	cl := cluster(t, true)
	r := &rows{}
	var orgs []*codecs.Organisation
	for i := range 150 {
		orgs = append(orgs, organisation(fmt.Sprintf("org-%d", i), "active", true, true))
	}
	r.set(true, orgs...)
	wanted := Want(orgs, r.subscriptions, Limits{ReadBytes: 1, WriteBytes: 2, RequestPercent: 3})
	plan := Compare(wanted, state(t, cl), own)
	if len(plan.todo()) != 150*(6+3) {
		t.Fatalf("%d differences", len(plan.todo()))
	}
	if err := Apply(t.Context(), cl, plan.Differences); err != nil {
		t.Fatal(err)
	}
	if err := Settle(t.Context(), cl, wanted, own); err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), cl, plan.Differences); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if left := Compare(wanted, state(t, cl), own).todo(); len(left) > 0 {
		t.Errorf("%d differences are left, %s first", len(left), left[0])
	}
}

package embedded

import (
	"context"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

var superuser = &User{Name: "civicbus", Password: "correct horse"}

// as connects a user; an empty name is nobody.
func (c here) as(name, password string) *kadm.Client {
	c.t.Helper()
	opts := []kgo.Opt{kgo.SeedBrokers(c.Brokers()...), kgo.RequestRetries(0), kgo.RetryTimeout(2 * time.Second)}
	if name != "" {
		opts = append(opts, kgo.SASL(scram.Auth{User: name, Pass: password}.AsSha512Mechanism()))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

func (c here) letsIn(name, password string) bool {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	_, err := c.as(name, password).ListTopics(ctx)
	return err == nil
}

func TestSecuredClusterAsksWhoComes(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Config{DataDir: dir, Superuser: superuser})
	for _, who := range []struct {
		name, password string
		in             bool
	}{{superuser.Name, superuser.Password, true}, {superuser.Name, "wrong", false}, {"somebody", superuser.Password, false}, {"", "", false}} {
		if got := c.letsIn(who.name, who.password); got != who.in {
			t.Errorf("%q with %q is let in: %t", who.name, who.password, got)
		}
	}
	admin := c.as(superuser.Name, superuser.Password)
	if _, err := admin.AlterUserSCRAMs(within(t), nil, []kadm.UpsertSCRAM{{User: "kela.fi", Mechanism: kadm.ScramSha512, Password: "p"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopics(within(t), 1, 1, nil, "subscriber.kela.fi", "subscriber.posti.fi"); err != nil {
		t.Fatal(err)
	}
	rights := kadm.NewACLs().Topics("subscriber.kela.fi").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead).Allow("User:kela.fi").AllowHosts("*")
	if r, err := admin.CreateACLs(within(t), rights); err != nil || r[0].Err != nil {
		t.Fatal(r, err)
	}
	sees := func(c here) {
		t.Helper()
		topics, err := c.as("kela.fi", "p").ListTopics(within(t))
		if err != nil || len(topics) != 1 || !topics.Has("subscriber.kela.fi") {
			t.Errorf("kela.fi sees %v, %v", topics.Names(), err)
		}
		if _, err := c.as("kela.fi", "p").DescribeUserSCRAMs(within(t)); err == nil {
			t.Error("kela.fi sees who else there is")
		}
	}
	sees(c)

	// Started again everybody is there, and so is a superuser whose password was set anew.
	_ = c.Close()
	c = start(t, Config{DataDir: dir, Superuser: &User{superuser.Name, "another"}})
	if !c.letsIn(superuser.Name, "another") || c.letsIn(superuser.Name, superuser.Password) {
		t.Error("the superuser's new password does not hold")
	}
	sees(c)
}

// TestClusterBecomesSecured: what an unsecured cluster keeps says that there are no users, which must not shut everybody out.
func TestClusterBecomesSecured(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Config{DataDir: dir})
	if _, err := c.as("", "").CreateTopic(within(t), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	c = start(t, Config{DataDir: dir, Superuser: superuser})
	if topics, err := c.as(superuser.Name, superuser.Password).ListTopics(within(t)); err != nil || !topics.Has("t") {
		t.Errorf("%v %v", topics.Names(), err)
	}
	if c.letsIn("", "") {
		t.Error("nobody is let in")
	}
	_ = c.Close()
	if !start(t, Config{DataDir: dir}).letsIn("", "") {
		t.Error("without a superuser nobody is let in")
	}
}

func TestUnsecuredClusterHasNoAuthorizer(t *testing.T) {
	cl := start(t, Config{}).connect()
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.Operation, req.PermissionType = kmsg.ACLResourceTypeAny, kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := req.RequestWith(within(t), cl)
	if err != nil || !errors.Is(kerr.ErrorForCode(resp.ErrorCode), kerr.SecurityDisabled) {
		t.Errorf("list: %v %v", resp, err)
	}
	rights := kadm.NewACLs().Topics("t").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead).Allow("User:a").AllowHosts("*")
	if r, err := kadm.NewClient(cl).CreateACLs(within(t), rights); err != nil || len(r) != 1 || !errors.Is(r[0].Err, kerr.SecurityDisabled) {
		t.Errorf("create: %v %v", r, err)
	}
	if r, err := kadm.NewClient(cl).DeleteACLs(within(t), rights); err != nil || len(r) != 1 || !errors.Is(r[0].Err, kerr.SecurityDisabled) {
		t.Errorf("delete: %v %v", r, err)
	}
}

func TestSecuredRegistryIsChangedByItsSuperuserAlone(t *testing.T) {
	c := start(t, Config{Superuser: superuser})
	ask := func(user *User, method, path, body string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(within(t), method, c.RegistryURL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if user != nil {
			req.SetBasicAuth(user.Name, user.Password)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	const schema = `{"schema": "\"string\""}`
	if s := ask(superuser, "POST", "/subjects/s/versions", schema); s != http.StatusOK {
		t.Fatalf("the superuser registers: %d", s)
	}
	for _, r := range []struct{ method, path, body string }{{"POST", "/subjects/s/versions", schema}, {"POST", "/subjects/a%2Fversions/versions", schema}, {"POST", "/subjects/s/versions/", schema},
		{"PUT", "/config", `{"compatibility": "NONE"}`}, {"PUT", "/config/s", `{"compatibility": "NONE"}`}, {"DELETE", "/config/s", ""}, {"DELETE", "/subjects/s", ""}, {"DELETE", "/subjects/s/versions/1", ""}} {
		for _, who := range []*User{nil, {superuser.Name, "wrong"}, {"kela.fi", "p"}} {
			if s := ask(who, r.method, r.path, r.body); s != http.StatusUnauthorized {
				t.Errorf("%s %s by %v: %d", r.method, r.path, who, s)
			}
		}
	}
	for _, r := range []struct{ method, path, body string }{{"GET", "/subjects", ""}, {"GET", "/schemas/ids/1", ""}, {"GET", "/subjects/s/versions/latest", ""},
		{"POST", "/subjects/s", schema}, {"POST", "/compatibility/subjects/s/versions", schema}} {
		if s := ask(nil, r.method, r.path, r.body); s != http.StatusOK {
			t.Errorf("%s %s by nobody: %d", r.method, r.path, s)
		}
	}
}

// TestSuperuserNeedsAPassword: an empty one would let everybody be it.
func TestSuperuserNeedsAPassword(t *testing.T) {
	for _, u := range []*User{{}, {Name: "civicbus"}, {Password: "p"}} {
		if c, err := Start(t.Context(), Config{Superuser: u}); err == nil {
			_ = c.Close()
			t.Errorf("%+v was taken", u)
		}
	}
}

// librdkafka looks for a version of the handshake that this broker does not speak. PLAIN is what the kcat of Debian 12 knows
// that this broker does too, so what is shown is that it gets as far as being refused for its password.
func TestKcatFindsOutHowToAuthenticate(t *testing.T) {
	path, err := exec.LookPath("kcat")
	if err != nil {
		t.Skip("kcat is not installed (Debian package kcat)")
	}
	c := start(t, Config{Superuser: superuser})
	cmd := exec.CommandContext(within(t), path, "-b", c.Brokers()[0], "-L", "-m", "5", "-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=SCRAM-SHA-512",
		"-X", "sasl.username="+superuser.Name, "-X", "sasl.password="+superuser.Password)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("kcat: %v: %s", err, out)
	}
}

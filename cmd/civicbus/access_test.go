package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"civicbus/internal/config"
)

func TestAccessWithoutAnAuthorizer(t *testing.T) {
	for _, args := range [][]string{{"plan"}, {"apply"}, {"issue", "kela.fi"}, {"rotate", "kela.fi"}} {
		if s := on(t, "", append([]string{"access"}, args...)...).want(t, 1, "the cluster has no authorizer"); s.out != "" {
			t.Errorf("%v prints %s", args, s.out)
		}
	}
	call(t, "", "access", "issue").want(t, 2)
	call(t, "", "access", "issue", "a", "-o", "toml").want(t, 2, "librdkafka")
}

// TestUpSecure runs a secured cluster of its own and asks it by the settings that it wrote.
func TestUpSecure(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	root := newRoot()
	out, errs := newLines(), newLines()
	root.SetOut(out)
	root.SetErr(errs)
	root.SetArgs([]string{"up", "--secure", "--embedded-data-dir", dir, "--embedded-kafka-port", "0", "--embedded-registry-port", "0", "--http-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"})
	ended := make(chan int, 1)
	go func() { ended <- execute(ctx, root, errs) }()
	defer func() {
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("up ends with %d:\n%s", code, errs)
		}
	}()
	if !out.await(t, "ready;", ended) {
		t.Fatalf("not ready:\n%s%s", out, errs)
	}
	file := filepath.Join(dir, settingsName)
	for _, name := range []string{settingsName, passwordName} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	with := func(args ...string) said { return call(t, "", append(args, "--config", file)...) }
	with("topics", "diff").want(t, 0, "every topic is as it is wanted")
	with("access", "plan").want(t, 0, "every organisation has the access")
	with("access", "plan", "kela.fi").want(t, 1, `there is no organisation "kela.fi"`)
	register := func(name string) { with("schemas", "register", name, example("schemas/"+name+".avsc")).want(t, 0) }
	register("fi.dvv.person.address.changed")
	call(t, "", append(append([]string{"trust", "apply"}, files(t, "trust")...), "--config", file)...).want(t, 0, "in effect")
	with("catalog", "apply", "-f", example("catalog/fi.dvv.person.address.changed.yaml")).want(t, 0, "in effect")
	with("access", "issue", "kela.fi").want(t, 1, "has nothing to read or write on Kafka")
	with("subscription", "apply", "--actor", "operator:anna", "-f", example("subscriptions/address.yaml")).want(t, 0)
	with("subscription", "approve", "--actor", "operator:bertil", "sub-kela-address").want(t, 0, "in effect")
	var plan struct {
		Differences []struct{ Organisation, What, Change string }
	}
	for limit := time.Now().Add(time.Minute); len(plan.Differences) != 1; { // part access carries out all but the user
		if time.Now().After(limit) {
			t.Fatalf("not within a minute: a plan of the user alone; the last was %+v", plan)
		}
		with("access", "plan", "kela.fi", "-o", "json").want(t, 0).json(t, &plan)
	}
	if d := plan.Differences[0]; d.What != "user" || d.Change != "issue" {
		t.Errorf("%+v", d)
	}
	issued := with("access", "issue", "kela.fi", "-o", "json").want(t, 0, `"topic": "subscriber.kela.fi"`)
	var client struct{ Password string }
	issued.json(t, &client)
	if client.Password == "" || strings.Contains(errs.String()+issued.err, client.Password) {
		t.Errorf("the password is %q, or is logged", client.Password)
	}
	with("access", "issue", "kela.fi").want(t, 1, "has a Kafka user already")
	with("access", "rotate", "kela.fi", "--access-brokers", "kafka.example:9094").want(t, 0, "sasl.username=kela.fi", "bootstrap.servers=kafka.example:9094")
	with("access", "apply").want(t, 0)

	with("topics", "delete", "subscriber.kela.fi", "admitted", "subscriber.nobody.example").want(t, 0, "its organisation is not revoked", "no single organisation's", "no such topic", "Nothing was done")
	with("topics", "delete", "subscriber.kela.fi", "--execute").want(t, 1, "nothing was deleted")
	with("trust", "revoke", "kela.fi").want(t, 0, "in effect")
	with("topics", "delete", "subscriber.kela.fi").want(t, 0, "revoked", "Nothing was done")
	with("topics", "list").want(t, 0, "subscriber.kela.fi")
	with("topics", "delete", "subscriber.kela.fi", "--execute").want(t, 0)
	if s := with("topics", "list").want(t, 0); strings.Contains(s.out, "subscriber.kela.fi") {
		t.Errorf("it is still there:\n%s", s.out)
	}
	if _, err := config.Load(config.Sources{File: file}); err != nil {
		t.Errorf("the settings that it wrote: %v", err)
	}
}

package delivery

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
)

// nodeReceiver is a receiver in JavaScript, which takes what the official package of Standard Webhooks verifies with the secret
// whose number its path is. It says its port, and ends with its standard input.
const nodeReceiver = `
const { Webhook } = require('standardwebhooks');
const hooks = process.argv.slice(1).map(secret => new Webhook(secret));
const server = require('http').createServer((request, response) => {
  const chunks = [];
  request.on('data', chunk => chunks.push(chunk));
  request.on('end', () => {
    try {
      hooks[Number(request.url.slice(1))].verify(Buffer.concat(chunks), request.headers);
      response.statusCode = 204;
    } catch (error) {
      response.statusCode = error.name === 'WebhookVerificationError' ? 401 : 500;
    }
    response.end();
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();`

// TestThePackageOfNpmVerifies sends to a receiver in JavaScript: deliveries in each form, while two secrets are good, and some
// that were tampered with.
func TestThePackageOfNpmVerifies(t *testing.T) {
	modules := os.Getenv("CIVICBUS_TEST_NODE_MODULES")
	if modules == "" {
		t.Skip("CIVICBUS_TEST_NODE_MODULES names no directory with standardwebhooks: the official package of npm is not asked")
	}
	c, keys := newTestClient(t)
	args := []string{"-e", nodeReceiver}
	for version := range int64(3) {
		args = append(args, keys.WebhookSecretText("sub-1", version))
	}
	node := exec.CommandContext(t.Context(), "node", args...)
	node.Env, node.Stderr = append(os.Environ(), "NODE_PATH="+modules), os.Stderr
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := node.Wait(); err != nil {
			t.Error(err)
		}
	}()
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	send := func(sub *codecs.Subscription, secret int, at time.Time, thin bool, change func(*http.Request)) int {
		t.Helper()
		u, err := parseSink(fmt.Sprintf("http://127.0.0.1:%s/%d", strings.TrimSpace(port), secret), true)
		if err != nil {
			t.Fatal(err)
		}
		e := sample()
		if thin {
			e.Data = nil
		}
		r, err := c.request(t.Context(), u, sub, e, at)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		a, err := c.send(t.Context(), u, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.status
	}
	as := func(*http.Request) {}
	for _, mode := range []string{"binary", "structured"} {
		sub := &codecs.Subscription{ID: "sub-1", SecretVersion: 2, SecretOverlap: now.Add(time.Hour).UnixMilli(), Delivery: codecs.Delivery{Mode: mode}}
		for secret, want := range []int{http.StatusUnauthorized, http.StatusNoContent, http.StatusNoContent} { // the one before the one before; the one before; this one
			for _, thin := range []bool{false, true} {
				if got := send(sub, secret, now, thin, as); got != want {
					t.Errorf("%s, thin %t, secret %d of 2: %d, want %d", mode, thin, secret, got, want)
				}
			}
		}
		for what, tamper := range map[string]func(*http.Request){
			"the body": func(r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				body = bytes.Replace(body, []byte("Venla"), []byte("Vanla"), 1)
				r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
			},
			"the id":        func(r *http.Request) { r.Header.Set("webhook-id", "another") },
			"the time":      func(r *http.Request) { r.Header.Set("webhook-timestamp", fmt.Sprint(now.Unix()+1)) },
			"the signature": func(r *http.Request) { r.Header.Set("webhook-signature", "v1,AAAA") },
		} {
			if got := send(sub, 2, now, false, tamper); got != http.StatusUnauthorized {
				t.Errorf("%s: %s was changed: %d", mode, what, got)
			}
		}
		if got := send(sub, 2, now.Add(-10*time.Minute), false, as); got != http.StatusUnauthorized {
			t.Errorf("%s: ten minutes old: %d", mode, got)
		}
		sub.SecretOverlap = now.UnixMilli()
		if got := send(sub, 1, now, false, as); got != http.StatusUnauthorized {
			t.Errorf("%s: the secret before is good for too long: %d", mode, got)
		}
	}
}

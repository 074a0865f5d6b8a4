package e2e

import (
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"civicbus/e2e/realcluster"
)

// TestWebhooksPage does what docs/webhooks.md says, block by block, on an embedded cluster.
func TestWebhooksPage(t *testing.T) {
	long(t)
	if realcluster.FromEnv() != nil {
		t.Skip("the page is about the embedded cluster")
	}
	for _, needed := range []string{"sh", "python3", "nohup"} {
		if !installed(needed) {
			t.Skipf("the page's blocks need %s, and there is none", needed)
		}
	}
	t.Parallel()
	r := newTour(t)
	r.build()
	r.file = "docs/webhooks.md"
	for _, name := range []string{"webhook.secret", "receiver.log", "receiver-again.log", "receiver.pid"} {
		r.address[name] = filepath.Join(r.dir, name)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r.address["8765"] = port
	t.Cleanup(func() { _ = exec.Command("sh", "-c", "kill $(cat "+r.address["receiver.pid"]+")").Run() })
	if ran := r.follow(document(t, r.file)); ran < 12 {
		t.Errorf("only %d blocks of the page were run", ran)
	}
}

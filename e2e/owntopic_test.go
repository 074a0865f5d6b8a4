package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"

	"civicbus/e2e/realcluster"
)

// TestOwnTopicPage does what docs/own-topic.md says, block by block, on a secured embedded cluster.
func TestOwnTopicPage(t *testing.T) {
	long(t)
	if realcluster.FromEnv() != nil {
		t.Skip("the page is about the embedded cluster")
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("the page's blocks are for a shell, and there is none")
	}
	t.Parallel()
	r := newTour(t)
	r.build()
	r.file = "docs/own-topic.md"
	r.address["civicbus-data/civicbus.yaml"] = filepath.Join(r.dir, "civicbus-data", "civicbus.yaml")
	r.address["posti.properties"] = filepath.Join(r.dir, "posti.properties")
	if ran := r.follow(document(t, r.file)); ran < 8 {
		t.Errorf("only %d blocks of the page were run", ran)
	}
}

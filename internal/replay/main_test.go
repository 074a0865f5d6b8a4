package replay_test

import (
	"os"
	"testing"

	"civicbus/e2e/realcluster"
	"civicbus/internal/waits"
)

func TestMain(m *testing.M) {
	atOnce := "3"
	if realcluster.FromEnv() != nil { // which has one user at a time
		atOnce = "1"
	}
	os.Exit(waits.Run(m, atOnce))
}

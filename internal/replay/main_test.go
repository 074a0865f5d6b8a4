package replay_test

import (
	"os"
	"testing"

	"civicbus/internal/waits"
)

func TestMain(m *testing.M) { os.Exit(waits.Run(m, "3")) }

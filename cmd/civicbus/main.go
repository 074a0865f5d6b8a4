// Command civicbus is the bus and everything that operators do to it: one binary, one file a subcommand.
//
// Its rules:
//   - What a command answers goes to standard output, in a form that programs can read on request; everything else (logs,
//     progress, questions) to standard error.
//   - It ends with 0 when what was asked for is so, 1 when it is refused or could not be done, 2 when it was called wrongly
//     or when a command was accepted and is not yet in effect.
//   - What destroys or resends shows its plan and asks for --execute.
//   - No argument and no line of output is a national id or a pseudonym: ids are read from a file or standard input. What
//     deliveries and dead letters say of people is shown by tail and by dead-letters show --data alone.
//   - Flags and environment are read here and nowhere else.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, newRoot(), os.Stderr)
	stop()
	os.Exit(code)
}

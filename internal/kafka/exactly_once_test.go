package kafka_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What goka on franz-go with transactions gets wrong unless one takes care was found by running a prototype into it. Each
// finding, and what holds it off here: a test, or why it cannot arise; TestEveryPointIsShown checks that what is named exists. "Chaos" is TestChaos in virtual time (build tag
// synctests); a name in quotes is the defect of TestFlaws that shows that Chaos would notice.
//
//	 1 a transaction's end is given up early      endTimeout is 60 s, and any error of an end drops the producer (lost); Chaos
//	 2 a failed begin is taken for a rebalance    cannot arise: a transaction begins with its first write, all writes come at its end
//	 3 an answer to a commit that is lost         takeOver asks the broker, own tables are read again; "offsets kept after an unknown
//	                                              commit", "unknown commit taken for done", TestAbortedTransactionsAreTriedAgain/EndTxn
//	 4 two instances under one id                 fencedAgain; TestTwoInstancesWithOneName
//	 5 a predecessor's open transaction           Consume asks for the id before it waits for partitions (takeOver); TestDeadTransactionIsNotWaitedFor,
//	                                              TestExactlyOnceOverRestarts kills inside one
//	 6 completion by a counter                    batch keeps a set, done closes once; "commits early"
//	 7 a callback longer than the transaction     callbackLimit bounds hand and finished; TestSlowCallback
//	 8 an output between the flush and the end    batch.gate; "outputs after the flush", TestOutputAfterItsInput
//	 9 goka gives up waiting after 60 s           quietLimit ends the engine before; promises are kept at once, so goka waits for
//	                                              callbacks only (TestSlowCallback, TestChaosStuckCallback)
//	10 outputs of visits outside a transaction    timers run in transactions of their own; TestTimersFireOnce, TestTimersAbortAsAWhole,
//	                                              TestTimerFailureEndsTheProcessor. Other visits emit into nothing (Produce)
//	11 revocations are swallowed                  no GroupTransactSession: the consuming client has no transaction; assigned ends
//	                                              the session before whatever it was told; Chaos
//	12 a stale assignment                         runSession compares the assignment under the lock that revoked takes; Chaos
//	13 a poll after the revocation                isOver before each poll; records of an old assignment cannot come: its queues are
//	                                              gone with it, and enqueue takes what is in order only; Chaos
//	14 records that were polled and not handed on own queues kept until the commit; "records not given back", TestQueue
//	15 records of partitions that are not ours    enqueue knows the session's queues only and commits only what was handed on
//	16 errors of fetches are ignored              session.stop, the log; TestPartitionStopsAtAGap; errors of the group: groupErrors
//	17 errors that look like a rebalance          TestCallbackErrorEndsTheProcessor, TestTimerFailureEndsTheProcessor
//	18 masked errors of outputs                   flush answers for every output, or there is no commit; TestAbortedTransactionsAreTriedAgain/Produce
//	19 partitions lost                            revoked serves both; the generation is the assignment's own (assignment.member), so a
//	                                              late commit is refused; "offsets of a stranger", Chaos (outages beyond the session)
//	20 cooperative groups                         wholeBalancer is eager and the only one; TestBalancerRefusesWhatItCannotRead
//	21 goka sleeps 5 s after a rebalance          Consume returns only to end; TestChaosRebalanceIsShort
//	22 a reset of offsets                         NoResetOffset; TestPartitionStopsAtAGap
//	23 a log whose end is no record               feed.push tells positions; "markers not counted", TestReaderReachesEveryEnd
//	24 one partition that is not recovered        Status.Recovery, a metric and a log line; a revocation cancels the setup
//	                                              (whenOver); TestRecoveryProgress
//	25 a session that makes nothing of its work   Status (State, Stopped, LastCommit), transactions by outcome, lag; TestMetrics; Chaos
//	                                              looks for what is stuck in every calm
//	26 a close that blocks                        closeBounded, producer.drop; an engine has one consuming client and serves one run;
//	                                              Chaos stops nodes whose network is cut
//	27 static members                             instance ids everywhere; Chaos kills and replaces them; TestRestartDisturbsNobody; Leave for
//	                                              scale-in (TestExactlyOnceOverScaling)
//	28 a table ahead of its changelog             the overlay; "no overlay", "overlay kept on abort", TestOverlay
//	29 a held partition and a later abort         offsets are those of what was handed on, an abort moves the queue's head back;
//	                                              "offsets of the whole poll", TestHeldPartitionAndLaterAborts

// TestEveryPointIsShown: each point of the list above is there, and each test and each defect that it names exists.
func TestEveryPointIsShown(t *testing.T) {
	text := func(pattern string) string {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, error %v", pattern, len(files), err)
		}
		var all strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
		return all.String()
	}
	list, _, _ := strings.Cut(text("exactly_once_test.go"), "func Test")
	tests, defects := text("*_test.go"), text("../flaw/names.go")
	for point := 1; point <= 29; point++ {
		if !strings.Contains(list, fmt.Sprintf("\n//\t%2d ", point)) {
			t.Errorf("point %d is not in the list", point)
		}
	}
	for _, name := range regexp.MustCompile(`Test[A-Z][A-Za-z]*`).FindAllString(list, -1) {
		if !strings.Contains(tests, "\nfunc "+name+"(t *testing.T) {") {
			t.Errorf("%s is named and does not exist", name)
		}
	}
	flat := strings.ReplaceAll(regexp.MustCompile(`\n//[\t ]*`).ReplaceAllString(list, " "), "  ", " ")
	named := regexp.MustCompile(`"[a-z][a-z ]*"`).FindAllString(flat[strings.Index(flat, " 1 a "):], -1)
	for _, name := range named {
		if !strings.Contains(defects, name) {
			t.Errorf("%s is named and is no defect that can be planted", name)
		}
	}
	if len(named) < 8 {
		t.Errorf("%d defects are named: %v", len(named), named)
	}
}

package app

import (
	"errors"
	"fmt"
	"testing"

	"civicbus/codecs"

	"github.com/prometheus/client_golang/prometheus"
)

// TestCausesAreBounded: no text that somebody wrote into a dead letter becomes a label, and no number of them either.
func TestCausesAreBounded(t *testing.T) {
	l := newLetters(&Node{cfg: Config{Metrics: prometheus.NewRegistry()}})
	for cause, want := range map[string]string{"no_subject": "no_subject", "": otherCause, "fi-hetu:240285V920P": otherCause, "NO": otherCause, "a b": otherCause} {
		if got := l.label(codecs.DeadLetter{Cause: cause}, nil); got != want {
			t.Errorf("%q becomes %q, want %q", cause, got, want)
		}
	}
	if got := l.label(codecs.DeadLetter{Cause: "no_subject"}, errors.New("bad bytes")); got != unreadableCause {
		t.Errorf("bad bytes become %q", got)
	}
	for i := range 3 * mostCauses {
		l.label(codecs.DeadLetter{Cause: fmt.Sprintf("c_%c%c", 'a'+i%26, 'a'+i/26)}, nil)
	}
	if len(l.known) != mostCauses {
		t.Errorf("%d causes have a label", len(l.known))
	}
	if got := l.label(codecs.DeadLetter{Cause: "no_subject"}, nil); got != "no_subject" {
		t.Errorf("a cause that is known becomes %q", got)
	}
}

package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// toAdmission is where letters of admission re-enter.
const toAdmission = "admission"

// Step is what a redrive does with one dead letter. A letter redriven twice is decided twice; its deliveries carry the same
// ids both times, so a subscriber that tells repeats by ce_id gets it once. The letter stays, with a mark behind it for those who
// count what is open; the decisions of what became of it are on audit-decisions.
type Step struct {
	Letter Letter
	To     string // admission, or the topic that it came from; empty: it cannot be redriven
	Why    string // why it cannot
}

// Plan says for each letter where it re-enters (DESIGN.md 3.5): a letter of admission passes admission again, any other goes
// back to the topic on which its group gave up. given are the subjects that the letter of an event without one lacks; they
// are for one letter.
func Plan(letters []Letter, given []admission.Given) []Step {
	steps := make([]Step, 0, len(letters))
	for _, l := range letters {
		s := Step{Letter: l}
		switch {
		case len(given) > 0 && len(letters) > 1:
			s.Why = "subjects are given for one letter, and several are chosen"
		case l.Cause == Unreadable:
			s.Why = "it is no dead letter"
		case l.Topic == "":
			s.To, s.Why = admitAgain(l, given)
		case l.Cause == "misplaced":
			s.Why = "it was not written by admission; its source must publish it"
		case !slices.ContainsFunc(topology.Topics(topology.Shape{}), func(t topology.Topic) bool { return t.Name == l.Topic }):
			s.Why = "it came from a topic that is not on the map"
		case len(given) > 0:
			s.Why = "only a letter of admission takes a subject"
		default:
			s.To = l.Topic
		}
		steps = append(steps, s)
	}
	return steps
}

func admitAgain(l Letter, given []admission.Given) (to, why string) {
	if _, err := admission.FromDeadLetter(&l.DeadLetter, given...); err != nil {
		return "", "it does not hold the event whole"
	}
	if l.Cause == admission.NoSubject && len(given) == 0 {
		return "", "its subject is not known; give it with --subject-file"
	}
	return toAdmission, ""
}

// Result is what became of one step.
type Result struct {
	Place  string         `json:"place"`
	To     string         `json:"to,omitempty"`
	Status string         `json:"status"` // redriven; accepted, held, refused or unavailable of admission; skipped
	Detail string         `json:"detail,omitempty"`
	Faults []codecs.Fault `json:"faults,omitempty"`
}

// Redriven and Skipped are the statuses of a Result beside admission's.
const (
	Redriven = "redriven"
	Skipped  = "skipped"
)

// Redrive carries a plan out, in its order, and hands each result on. It ends with the first error; every step handed on
// before is done, and the others are not begun, so that the same plan can be carried out again from there.
func (c *Client) Redrive(ctx context.Context, steps []Step, given []admission.Given, each func(Result) error) error {
	marks, err := c.cfg.Connection.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer marks.Close()
	var publisher *Publisher
	defer func() {
		if publisher != nil {
			publisher.Close()
		}
	}()
	for _, s := range steps {
		result := Result{Place: s.Letter.Place.String(), To: s.To, Status: Redriven}
		switch s.To {
		case "":
			result.Status, result.Detail = Skipped, s.Why
		case toAdmission:
			if publisher == nil {
				var err error
				if publisher, err = c.NewPublisher(ctx); err != nil {
					return err
				}
			}
			if err := admit(ctx, publisher, s.Letter, given, &result); err != nil {
				return err
			}
		default:
			whole, err := c.entire(ctx, s.Letter)
			if errors.Is(err, errNotKept) {
				result.Status, result.Detail = Skipped, err.Error()
				break
			}
			if err == nil {
				err = c.kafka.ProduceSync(ctx, again(whole)).FirstErr()
			}
			if err != nil {
				return fmt.Errorf("redrive dead letter %s to %s: %w", s.Letter.Place, s.To, err)
			}
		}
		if slices.Contains([]string{Redriven, string(admission.Accepted), string(admission.Held)}, result.Status) {
			at := s.Letter.Place
			mark := &kgo.Record{Topic: topology.DeadLetters.Name, Partition: at.Partition, Headers: []kgo.RecordHeader{{Key: codecs.HeaderRedrivenLetter, Value: strconv.AppendInt(nil, at.Offset, 10)}}}
			if err := marks.ProduceSync(ctx, mark).FirstErr(); err != nil {
				return fmt.Errorf("mark dead letter %s as redriven: %w", at, err)
			}
		}
		if err := each(result); err != nil {
			return err
		}
	}
	return nil
}

func admit(ctx context.Context, p *Publisher, l Letter, given []admission.Given, result *Result) error {
	in, err := admission.FromDeadLetter(&l.DeadLetter, given...)
	if err != nil {
		return fmt.Errorf("redrive dead letter %s: %w", l.Place, err)
	}
	a := p.Publish(ctx, in.Organisation, []*admission.Input{in})[0]
	if a.Err != nil {
		return fmt.Errorf("redrive dead letter %s: %w", l.Place, a.Err)
	}
	result.Status, result.Faults = string(a.Status), a.Faults
	return nil
}

// errNotKept says that a letter stands for a record that is gone.
var errNotKept = errors.New("the delivery that it stands for is not kept any more")

// entire is the letter with its record. One about a webhook delivery may stand for it alone: then it is read from its topic.
func (c *Client) entire(ctx context.Context, l Letter) (Letter, error) {
	if l.Topic != topology.WebhookDeliveries.Name || len(l.Value) > 0 {
		return l, nil
	}
	at := l.DeadLetter
	records, _, _, err := c.log.Fetch(ctx, at.Topic, at.Partition, at.Offset, fetchBytes)
	if errors.Is(err, kafka.ErrExpired) || errors.Is(err, kafka.ErrBeyond) {
		return l, errNotKept
	}
	if err != nil {
		return l, err
	}
	for _, r := range records {
		if r.Offset == at.Offset {
			l.Key, l.Value, l.Headers = r.Key, r.Value, nil
			for _, h := range r.Headers {
				l.Headers = append(l.Headers, codecs.Header{Key: h.Key, Value: h.Value})
			}
			return l, nil
		}
	}
	return l, errNotKept
}

// again is the record that the letter holds, as late and, for an undeliverable one of the router's, as for the one subscription.
func again(l Letter) *kgo.Record {
	r := &kgo.Record{Topic: l.Topic, Key: l.Key, Value: l.Value}
	for _, h := range l.Headers {
		if h.Key != codecs.HeaderRedriven && h.Key != codecs.HeaderOnly {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: codecs.HeaderRedriven, Value: []byte("true")})
	if strings.HasPrefix(l.Cause, "undeliverable_") && l.Subscription != "" && l.Topic != topology.WebhookDeliveries.Name {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: codecs.HeaderOnly, Value: []byte(l.Subscription)})
	}
	return r
}

// ErrSubjects says that a file of subjects cannot be read. The error holds nothing of it.
var ErrSubjects = errors.New("want a line role=scheme:id for each subject")

// ParseGiven reads the subjects of one event, a line role=scheme:id each, or scheme:id alone for the first role that lacks one.
// Empty lines and lines that begin with # are passed over.
func ParseGiven(file []byte) ([]admission.Given, error) {
	var all []admission.Given
	lines := bufio.NewScanner(bytes.NewReader(file))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		role, subject, found := strings.Cut(line, "=")
		if !found {
			role, subject = "", line
		}
		parsed, ok := refdata.ParseSubject(subject)
		if !ok {
			return nil, fmt.Errorf("read the subjects, line %d: %w", n, ErrSubjects)
		}
		if _, err := pseudonym.Canonicalise(parsed.Scheme, parsed.ID); err != nil {
			return nil, fmt.Errorf("read the subjects, line %d: %w", n, err)
		}
		all = append(all, admission.Given{Role: strings.TrimSpace(role), Subject: parsed.Scheme + ":" + parsed.ID})
	}
	if len(all) == 0 || lines.Err() != nil {
		return nil, fmt.Errorf("read the subjects: %w", ErrSubjects)
	}
	return all, nil
}

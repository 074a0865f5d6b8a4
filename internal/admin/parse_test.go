package admin_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/admission"
	"civicbus/topology"
)

func TestParseFrom(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]*admin.From{
		"": {}, "beginning": {}, "0": {}, "17": {Offset: 17},
		"2h": {Since: now.Add(-2 * time.Hour)}, "1m30s": {Since: now.Add(-90 * time.Second)},
		"2026-02-01T00:00:00Z": {Since: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)},
		"end":                  nil, "-1": nil, "-2h": nil, "0s": nil, "2026-02-01": nil, "17.5": nil, "99999999999999999999": nil,
	} {
		got, err := admin.ParseFrom(text, now)
		if (err == nil) != (want != nil) || want != nil && !reflect.DeepEqual(got, *want) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestParsePlace(t *testing.T) {
	for text, want := range map[string]*admin.Place{
		"0:0": {}, "3:17": {Partition: 3, Offset: 17}, "": nil, "3": nil, "3:": nil, ":3": nil, "-1:3": nil, "3:-1": nil, "a:b": nil, "3:17:1": nil, "2147483648:0": nil,
	} {
		got, err := admin.ParsePlace(text)
		if (err == nil) != (want != nil) || want != nil && (got != *want || got.String() != text) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

const (
	mother = "140392-9029" // of the test range
	wrong  = "140392-902X" // its check character is not
)

func TestParseGiven(t *testing.T) {
	for text, want := range map[string][]admission.Given{
		"mother=fi-hetu:" + mother + "\n":                          {{Role: "mother", Subject: "fi-hetu:" + mother}},
		"# two\n\n mother = fi-hetu:" + mother + "\nchild=x:1\r\n": {{Role: "mother", Subject: "fi-hetu:" + mother}, {Role: "child", Subject: "x:1"}},
		"fi-hetu:" + mother:                                        {{Subject: "fi-hetu:" + mother}},
		"":                                                         nil,
		"# nothing":                                                nil,
		"mother":                                                   nil,
		"mother=" + mother:                                         nil,
		"mother=fi-hetu:" + wrong:                                  nil,
		"fi-hetu:" + mother + "\nxx":                               nil,
	} {
		got, err := admin.ParseGiven([]byte(text))
		if (err == nil) != (want != nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), mother) || strings.Contains(err.Error(), wrong)) {
			t.Errorf("the error holds the id: %v", err)
		}
	}
}

// A letter goes back to where it failed, or it is said why not.
func TestPlan(t *testing.T) {
	given := []admission.Given{{Role: "mother", Subject: "fi-hetu:" + mother}}
	held := codecs.DeadLetter{Cause: "no_subject", Group: "admission", Value: []byte("x"),
		Headers: []codecs.Header{{Key: "content-type", Value: []byte("application/avro")}, {Key: "civicbus_organisation", Value: []byte("hus.fi")}}}
	unknown := held
	unknown.Cause = "unknown_schema"
	empty := held
	empty.Value = nil
	at := func(cause, group, topic string) codecs.DeadLetter {
		return codecs.DeadLetter{Cause: cause, Group: group, Topic: topic}
	}
	for name, tt := range map[string]struct {
		letters []codecs.DeadLetter
		given   []admission.Given
		to, why string // of the first
	}{
		"held, with its subject":          {[]codecs.DeadLetter{held}, given, "admission", ""},
		"held, without":                   {[]codecs.DeadLetter{held}, nil, "", "its subject is not known"},
		"held, one subject for several":   {[]codecs.DeadLetter{held, held}, given, "", "several are chosen"},
		"admission, another cause":        {[]codecs.DeadLetter{unknown}, nil, "admission", ""},
		"admission, value lost":           {[]codecs.DeadLetter{empty}, given, "", "does not hold the event whole"},
		"no letter of admission":          {[]codecs.DeadLetter{at("no_subject", "gateway", "")}, given, "", "does not hold the event whole"},
		"profile":                         {[]codecs.DeadLetter{at("unknown_type", "profile", topology.Admitted.Name)}, nil, topology.Admitted.Name, ""},
		"router":                          {[]codecs.DeadLetter{at("unknown_schema", "router", topology.Birth.Name)}, nil, topology.Birth.Name, ""},
		"undeliverable":                   {[]codecs.DeadLetter{at("undeliverable_topic", "router", topology.Birth.Name)}, nil, topology.Birth.Name, ""},
		"command":                         {[]codecs.DeadLetter{at("malformed", "trust", topology.TrustCommands.Name)}, nil, topology.TrustCommands.Name, ""},
		"forged":                          {[]codecs.DeadLetter{at("misplaced", "router", topology.Birth.Name)}, nil, "", "not written by admission"},
		"topic that is not ours":          {[]codecs.DeadLetter{at("malformed", "router", "payroll")}, nil, "", "not on the map"},
		"past admission and the decision": {[]codecs.DeadLetter{at("malformed", "router", "subscriber.kela.fi")}, nil, "", "not on the map"},
		"subject for a group's letter":    {[]codecs.DeadLetter{at("malformed", "router", topology.Birth.Name)}, given, "", "only a letter of admission"},
		"no dead letter":                  {[]codecs.DeadLetter{at(admin.Unreadable, "", topology.Birth.Name)}, nil, "", "no dead letter"},
	} {
		var letters []admin.Letter
		for _, l := range tt.letters {
			letters = append(letters, admin.Letter{DeadLetter: l})
		}
		s := admin.Plan(letters, tt.given)
		if len(s) != len(letters) || s[0].To != tt.to || (s[0].Why == "") != (tt.why == "") || !strings.Contains(s[0].Why, tt.why) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

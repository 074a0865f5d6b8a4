package access

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What a difference is about, and what Apply does to it.
const (
	OfUser  = "user"
	OfRight = "right"
	OfQuota = "quota"

	Create = "create"
	Change = "change"
	Delete = "delete"
	// ToIssue is a user that is wanted and not there. Apply leaves it: somebody must be told its password.
	ToIssue = "issue"
)

// Difference is one way in which an organisation does not have what it should.
type Difference struct {
	Organisation string `json:"organisation"`
	What         string `json:"what"`   // user, right or quota
	Change       string `json:"change"` // create, change, delete or issue
	Detail       string `json:"detail"` // what is created, changed or deleted, for people

	right Right
	key   string  // of a quota
	value float64 // that it should have
}

// String says it for people.
func (d Difference) String() string {
	return fmt.Sprintf("%s: %s %s %s", d.Organisation, d.Change, d.What, d.Detail)
}

// Warning is something that no change of one organisation's rights can mend.
type Warning string

// Plan is what is different, what is taken away first, and what to look at beside it.
type Plan struct {
	Differences []Difference `json:"differences"`
	Warnings    []Warning    `json:"warnings"`
}

// Compare says what must change for organisations to have what is wanted. own is civicbus's own user: like the cluster's
// super users it is no organisation's, whatever an organisation calls itself.
func Compare(wanted map[string]Wanted, have *State, own string) Plan {
	var p Plan
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		if have.mayDoEverything(id, own) {
			p.Warnings = append(p.Warnings, Warning(fmt.Sprintf("organisation %s has the name of a user who may do everything: it is left without access of its own", id)))
			continue
		}
		p.Differences = append(p.Differences, differences(wanted[id], have)...)
	}
	slices.SortStableFunc(p.Differences, func(a, b Difference) int { return rank(a) - rank(b) })
	p.Warnings = append(p.Warnings, have.warnings()...)
	return p
}

// mayDoEverything says whether a user is civicbus's own or one to whom no right applies.
func (s *State) mayDoEverything(user, own string) bool {
	return user == own || slices.Contains(s.Super, user)
}

// rank puts what is taken away first, and of that the rights.
func rank(d Difference) int {
	switch {
	case d.Change == Delete && d.What == OfRight:
		return 0
	case d.Change == Delete:
		return 1
	case d.Change == ToIssue:
		return 3
	}
	return 2
}

func differences(w Wanted, have *State) []Difference {
	var all []Difference
	add := func(what, change, detail string) *Difference {
		all = append(all, Difference{Organisation: w.Organisation, What: what, Change: change, Detail: detail})
		return &all[len(all)-1]
	}
	switch {
	case !w.User && have.Users[w.Organisation]:
		add(OfUser, Delete, "SCRAM-SHA-512")
	case w.User && len(w.Rights) > 0 && !have.Users[w.Organisation]:
		add(OfUser, ToIssue, "civicbus access issue "+w.Organisation)
	}
	for _, r := range have.Rights[w.Organisation] {
		if !slices.Contains(w.Rights, r) {
			add(OfRight, Delete, r.String()).right = r
		}
	}
	for _, r := range w.Rights {
		if !slices.Contains(have.Rights[w.Organisation], r) {
			add(OfRight, Create, r.String()).right = r
		}
	}
	has := have.Quotas[w.Organisation]
	for _, key := range quotaKeys {
		want, wanted := w.Quotas[key]
		value, there := has[key]
		text := key + " " + strconv.FormatFloat(want, 'f', -1, 64)
		switch {
		case wanted && !there:
			d := add(OfQuota, Create, text)
			d.key, d.value = key, want
		case wanted && value != want:
			d := add(OfQuota, Change, text+", was "+strconv.FormatFloat(value, 'f', -1, 64))
			d.key, d.value = key, want
		case !wanted && there:
			add(OfQuota, Delete, key).key = key
		}
	}
	return all
}

// quotaKeys are the quotas that are civicbus's matter; another one of a user stays as it is.
var quotaKeys = []string{readRate, writeRate, requestRate}

// warnings are what opens topics of single organisations to others, whatever rights they have.
func (s *State) warnings() []Warning {
	var all []Warning
	for _, r := range s.Open {
		if r.opens() {
			all = append(all, Warning(fmt.Sprintf("every user may %s", r)))
		}
	}
	if s.Lenient {
		all = append(all, "allow.everyone.if.no.acl.found is true on the brokers: a topic is open to every user until somebody has a right on it")
	}
	if slices.Contains(s.Super, "ANONYMOUS") {
		all = append(all, "User:ANONYMOUS is one of the brokers' super.users: whoever reaches a listener without authentication may do everything")
	}
	return all
}

// opens says whether a right on it may reach a topic or a group of an organisation.
func (r Right) opens() bool {
	switch r.Resource {
	case kmsg.ACLResourceTypeTopic:
		for _, of := range []string{topology.SubscriberTopicName(""), topology.InboxTopicName("")} {
			if r.Name == everything || strings.HasPrefix(r.Name, of) || r.Pattern == kmsg.ACLResourcePatternTypePrefixed && strings.HasPrefix(of, r.Name) {
				return true
			}
		}
	case kmsg.ACLResourceTypeGroup, kmsg.ACLResourceTypeCluster:
		return true
	default: // transactions and tokens show nothing of an organisation
	}
	return false
}

// everything is the name of all resources of a kind.
const everything = "*"

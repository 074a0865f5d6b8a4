package verdict

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"civicbus/codecs"
)

// didForm is the outer form of a decentralised identifier (W3C DID Core 1.0, section 3.1).
var didForm = regexp.MustCompile(`^did:[a-z0-9]+:[A-Za-z0-9._:%-]{1,400}$`)

// ValidateOrganisation gives everything that is wrong with a trust row: nil if it may be accepted. Event types that the
// catalog does not have yet are no fault: the two are put in any order.
func ValidateOrganisation(org *codecs.Organisation) []codecs.Fault {
	var out faults
	if !idForm.MatchString(org.ID) {
		out.add("id", FaultBadID, "1 to 100 of a-z 0-9 . -, a letter or digit first: it names the topic subscriber.{id}")
	}
	if !slices.Contains(statuses, org.Status) {
		out.add("status", FaultBadStatus, "one of %s", strings.Join(statuses, ", "))
	}
	if !didForm.MatchString(org.DID) {
		out.add("did", FaultBadDID, "a DID, such as did:web:kela.fi")
	}
	if org.Source != "" {
		if u, err := url.Parse(org.Source); err != nil || len(org.Source) > 500 || u.User != nil || strings.ContainsAny(org.Source, " \t\r\n") {
			out.add("source", FaultBadSource, "a URI-reference (CloudEvents source) without user, such as https://dvv.fi")
		}
	} else if len(org.Publishes) > 0 || len(org.Commands) > 0 {
		out.add("source", FaultBadSource, "its ce_source: it publishes")
	}
	out.names("publishes", org.Publishes, typeForm, "an event type")
	out.names("commands", org.Commands, typeForm, "an event type")
	out.names("preApproved", org.PreApproved, tokenForm, "a purpose, such as child-benefit")
	if len(org.Receives) > maxEntitled {
		out.add("receives", FaultTooMany, "at most %d", maxEntitled)
		return out
	}
	for i := range org.Receives {
		e, field := &org.Receives[i], fmt.Sprintf("receives[%d]", i)
		if !typeForm.MatchString(e.EventType) {
			out.add(field+".eventType", FaultBadName, "an event type")
		}
		out.names(field+".purposes", e.Purposes, tokenForm, "a purpose, such as child-benefit")
		if len(e.Purposes) == 0 {
			out.add(field+".purposes", FaultPurposeNotAllowed, "at least one purpose")
		}
		if len(e.Bases) == 0 {
			out.add(field+".bases", FaultUnknownBasis, "at least one of %s", strings.Join(bases, ", "))
		}
		for j, basis := range e.Bases {
			if !slices.Contains(bases, basis) {
				out.add(fmt.Sprintf("%s.bases[%d]", field, j), FaultUnknownBasis, "one of %s", strings.Join(bases, ", "))
			}
		}
	}
	out.names("certifications", certificationNames(org), nil, "")
	for i, c := range org.Certifications {
		if strings.TrimSpace(c.Name) == "" || len(c.Name) > 100 {
			out.add(fmt.Sprintf("certifications[%d].name", i), FaultBadName, "1 to 100 characters, such as ISO27001")
		}
		if !ordered(c.ValidFrom, c.ValidTo) {
			out.add(fmt.Sprintf("certifications[%d].validTo", i), FaultBadInterval, "after validFrom, or 0 for no end")
		}
	}
	return out
}

func certificationNames(org *codecs.Organisation) []string {
	names := make([]string, len(org.Certifications))
	for i := range org.Certifications {
		names[i] = org.Certifications[i].Name
	}
	return names
}

// names checks the number and, where there is one, the form of a list of names.
func (f *faults) names(field string, names []string, form *regexp.Regexp, what string) {
	if len(names) > maxNames {
		f.add(field, FaultTooMany, "at most %d", maxNames)
		return
	}
	for i, name := range names {
		if form != nil && (len(name) > 200 || !form.MatchString(name)) {
			f.add(fmt.Sprintf("%s[%d]", field, i), FaultBadName, "%s", what)
		}
	}
}

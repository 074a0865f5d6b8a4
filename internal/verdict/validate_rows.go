package verdict

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"civicbus/codecs"
)

// More reasons of faults, of catalog and trust rows.
const (
	FaultBadName           = "bad_name"             // of an event type, role, rule, scope or purpose
	FaultUnknownStream     = "unknown_stream"       // not one of the event streams on the map
	FaultUnknownCategory   = "unknown_category"     //
	FaultBadClassification = "bad_classification"   //
	FaultRegistrySubject   = "bad_registry_subject" //
	FaultNoRoles           = "no_roles"             //
	FaultDuplicate         = "duplicate"            // the same name or path twice
	FaultBadPath           = "bad_path"             // not the form that the place asks for
	FaultBadType           = "bad_type"             // of what stands at the path
	FaultTooMany           = "too_many"             //
	FaultBadInterval       = "bad_interval"         // from is not before to
	FaultNoCitation        = "no_citation"          // of a rule: the law it stands on
	FaultRuleOverlap       = "rule_overlap"         // two rules for one recipient, purpose, basis and role at one time
	FaultUnknownAttribute  = "unknown_attribute"    // not in the profile
	FaultBadStatus         = "bad_status"
	FaultBadDID            = "bad_did"
	FaultBadSource         = "bad_source"
)

// Bounds of a row's lists, so that no row grows without end.
const (
	maxRoles    = 16
	maxFields   = 2_000
	maxRules    = 2_000
	maxEntitled = 1_000
	maxNames    = 1_000
)

var (
	typeForm  = regexp.MustCompile(`^[a-z0-9]+([-][a-z0-9]+)*([.][a-z0-9]+([-][a-z0-9]+)*)+$`)
	roleForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`) // a value of the CloudEvents attribute subjectrole
	tokenForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._:-]{0,99}$`)
	// classes go from what anyone may see to what few may (GDPR Art. 9 and the like).
	classes    = []string{"open", "internal", "confidential", "sensitive"}
	categories = []string{"state-change", "domain", "notification", CategoryCommand}
	statuses   = []string{StatusActive, "suspended", StatusRevoked}
)

// ValidateEventType gives everything that is wrong with a catalog entry: nil if it may be accepted. streams are the
// event streams on the map; schemas gives the latest schema under a registry subject, nil if there is none (unknown_schema).
func ValidateEventType(et *codecs.EventType, streams []string, schemas func(registrySubject string) *codecs.Schema) []codecs.Fault {
	var out faults
	if len(et.Type) > 200 || !typeForm.MatchString(et.Type) {
		out.add("type", FaultBadName, "words of a-z 0-9 - joined by dots, such as fi.dvv.person.birth")
	}
	if !slices.Contains(streams, et.Stream) {
		out.add("stream", FaultUnknownStream, "one of %s", strings.Join(streams, ", "))
	}
	if !slices.Contains(categories, et.Category) {
		out.add("category", FaultUnknownCategory, "one of %s", strings.Join(categories, ", "))
	}
	if !slices.Contains(classes, et.Classification) {
		out.add("classification", FaultBadClassification, "one of %s", strings.Join(classes, ", "))
	}
	if et.Owner != "" && !idForm.MatchString(et.Owner) {
		out.add("owner", FaultBadID, "the id of an organisation")
	}
	var s *codecs.Schema
	if et.RegistrySubject == "" || len(et.RegistrySubject) > 249 || strings.ContainsFunc(et.RegistrySubject, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) || r == ' ' }) {
		out.add("registrySubject", FaultRegistrySubject, "1 to 249 printable characters")
	} else if s = schemas(et.RegistrySubject); s == nil {
		out.add("registrySubject", FaultUnknownSchema, "a registry subject with a schema")
	}
	c := typeCheck{et: et, schema: s, roles: map[string]bool{}}
	c.checkRoles(&out)
	c.checkFields(&out)
	c.checkProfile(&out)
	c.checkRules(&out)
	c.checkJourney(&out)
	if s != nil && len(et.Roles) > 0 {
		if p := newPlan(et, s, &et.Roles[0]); len(p.bits) >= maxScopes {
			out.add("fields", FaultTooMany, "fewer than %d scopes, those of the schema and the profile included", maxScopes)
		}
	}
	return out
}

// typeCheck checks the lists of one catalog entry.
type typeCheck struct {
	et     *codecs.EventType
	schema *codecs.Schema // nil: not known, and paths are not checked
	roles  map[string]bool
}

func (c *typeCheck) checkRoles(out *faults) {
	switch {
	case len(c.et.Roles) == 0:
		out.add("roles", FaultNoRoles, "at least one role; the first is the default of a subscription")
	case len(c.et.Roles) > maxRoles:
		out.add("roles", FaultTooMany, "at most %d", maxRoles)
	}
	for i := range c.et.Roles {
		r, field := &c.et.Roles[i], fmt.Sprintf("roles[%d]", i)
		if !roleForm.MatchString(r.Name) {
			out.add(field+".name", FaultBadName, "1 to 40 of a-z 0-9 -, a letter first")
		}
		if c.roles[r.Name] {
			out.add(field+".name", FaultDuplicate, "each role once")
		}
		c.roles[r.Name] = true
		if !tokenForm.MatchString(r.Scheme) {
			out.add(field+".scheme", FaultBadName, "the scheme of the ids there, such as fi-hetu")
		}
		if arrays := strings.Count(r.Path, "[]"); strings.Contains(r.Path, "{}") || r.Many && arrays != 1 || !r.Many && arrays != 0 {
			out.add(field+".path", FaultBadPath, "a path that crosses one array if many, else none, and no map")
			continue
		}
		if c.schema == nil {
			continue
		}
		switch info, err := c.schema.Lookup(r.Path); {
		case err != nil || r.Path == "data":
			out.add(field+".path", FaultUnknownField, "a field of the schema")
		case !slices.Contains([]string{"string", "bytes", "fixed", "int", "long"}, info.Type):
			out.add(field+".path", FaultBadType, "text, fixed or a whole number, not %s", info.Type)
		}
	}
}

// known tells whether a path may stand in a rule or a field entry.
func (c *typeCheck) known(path string, profile bool) bool {
	if isProfile(path) {
		return profile && (path == "profile" || attributeAt(path) != nil)
	}
	if c.schema == nil {
		return covers("data", path)
	}
	_, err := c.schema.Lookup(path)
	return err == nil
}

func (c *typeCheck) checkFields(out *faults) {
	if len(c.et.Fields) > maxFields {
		out.add("fields", FaultTooMany, "at most %d", maxFields)
		return
	}
	seen := map[string]bool{}
	for i := range c.et.Fields {
		f, field := &c.et.Fields[i], fmt.Sprintf("fields[%d]", i)
		if !c.known(f.Path, true) {
			out.add(field+".path", FaultUnknownField, "a path in the schema, or profile. and an attribute")
		}
		if seen[f.Path] {
			out.add(field+".path", FaultDuplicate, "each path once")
		}
		seen[f.Path] = true
		if f.Owner != "" && !c.roles[f.Owner] {
			out.add(field+".owner", FaultUnknownRole, "one of the type's roles, or none")
		}
		if f.Classification != "" && !slices.Contains(classes, f.Classification) {
			out.add(field+".classification", FaultBadClassification, "one of %s, or none", strings.Join(classes, ", "))
		}
		for j, scope := range f.Scopes {
			if !tokenForm.MatchString(scope) {
				out.add(fmt.Sprintf("%s.scopes[%d]", field, j), FaultBadName, "1 to 100 of a-z 0-9 . _ : -, a letter or digit first")
			}
		}
	}
}

func (c *typeCheck) checkProfile(out *faults) {
	if len(c.et.Profile) > maxRoles*len(codecs.ProfileAttributes()) {
		out.add("profile", FaultTooMany, "at most one for each role and attribute")
		return
	}
	seen := map[[2]string]bool{}
	for i, st := range c.et.Profile {
		field := fmt.Sprintf("profile[%d]", i)
		if !c.roles[st.Role] {
			out.add(field+".role", FaultUnknownRole, "one of the type's roles")
		}
		if attributeAt(profilePrefix+st.Attribute) == nil {
			out.add(field+".attribute", FaultUnknownAttribute, "an attribute of the profile, such as municipality")
		}
		if seen[[2]string{st.Role, st.Attribute}] {
			out.add(field, FaultDuplicate, "each attribute of a role once")
		}
		seen[[2]string{st.Role, st.Attribute}] = true
		if !c.known(st.Path, false) {
			out.add(field+".path", FaultUnknownField, "a path in the schema")
		} else if c.schema != nil && !crosses(st.Path) && !slices.Contains([]codecs.Kind{codecs.String, codecs.Int, codecs.Bool}, scalarAt(c.schema, st.Path)) {
			out.add(field+".path", FaultBadType, "text, a whole number or a truth value")
		}
	}
}

func (c *typeCheck) checkRules(out *faults) {
	if len(c.et.Rules) > maxRules {
		out.add("rules", FaultTooMany, "at most %d", maxRules)
		return
	}
	ids := map[string]bool{}
	same := map[[4]string][]int{} // rules of one recipient, purpose, basis and role
	for i := range c.et.Rules {
		r, field := &c.et.Rules[i], fmt.Sprintf("rules[%d]", i)
		if !tokenForm.MatchString(r.ID) {
			out.add(field+".id", FaultBadName, "1 to 100 of a-z 0-9 . _ : -, a letter or digit first")
		}
		if ids[r.ID] {
			out.add(field+".id", FaultDuplicate, "each id once")
		}
		ids[r.ID] = true
		if !idForm.MatchString(r.Recipient) {
			out.add(field+".recipient", FaultBadID, "the id of an organisation")
		}
		if !tokenForm.MatchString(r.Purpose) {
			out.add(field+".purpose", FaultBadName, "a purpose, such as child-benefit")
		}
		if r.Basis == BasisConsent || !slices.Contains(bases, r.Basis) {
			out.add(field+".basis", FaultUnknownBasis, "one of %s", strings.Join(bases[1:], ", "))
		}
		if r.Role != "" && !c.roles[r.Role] {
			out.add(field+".role", FaultUnknownRole, "one of the type's roles, or none for every role")
		}
		for j, path := range r.Fields {
			if !c.known(path, true) {
				out.add(fmt.Sprintf("%s.fields[%d]", field, j), FaultUnknownField, "a path in the schema, or profile. and an attribute")
			}
		}
		if !ordered(r.ValidFrom, r.ValidTo) {
			out.add(field+".validTo", FaultBadInterval, "after validFrom, or 0 for no end")
		}
		if strings.TrimSpace(r.Citation) == "" {
			out.add(field+".citation", FaultNoCitation, "the law it stands on")
		}
		key := [4]string{r.Recipient, r.Purpose, r.Basis, r.Role}
		for _, other := range same[key] {
			if overlap(r, &c.et.Rules[other]) {
				out.add(field, FaultRuleOverlap, "one rule at a time for a recipient, purpose, basis and role")
				break
			}
		}
		same[key] = append(same[key], i)
	}
}

// ordered tells whether [from, to) holds anything; to 0 is no end.
func ordered(from, to int64) bool { return from >= 0 && (to == 0 || from < to) }

func overlap(a, b *codecs.Rule) bool {
	return (b.ValidTo == 0 || a.ValidFrom < b.ValidTo) && (a.ValidTo == 0 || b.ValidFrom < a.ValidTo)
}

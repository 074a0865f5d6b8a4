package admission

import (
	"errors"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

// subject is one that the event is about.
type subject struct {
	role  int    // its place among the type's roles
	index int    // its element in the role's array; -1: none
	text  string // bus pseudonym
}

// subjects finds whom the event is about: by the catalog's role paths in the data, and as given beside it. Each subject
// comes once, under the first role that has it. missing names the roles that must have a subject and have none.
func (j *judgement) subjects() (distinct []subject, missing []codecs.Fault) {
	var found []subject
	for r := range j.eventType.Roles {
		found = j.inData(found, r)
	}
	for _, g := range j.given() {
		found = j.place(found, g)
	}
	if len(j.faults) > 0 {
		return nil, nil
	}
	seen := make(map[string]bool, len(found))
	for r := range j.eventType.Roles {
		role := &j.eventType.Roles[r]
		any := false
		for _, s := range found {
			if s.role != r {
				continue
			}
			any = true
			if !seen[s.text] {
				seen[s.text] = true
				distinct = append(distinct, s)
			}
		}
		if !any && !role.Optional {
			missing = append(missing, codecs.Fault{Field: role.Path, Reason: NoSubject, Text: "no subject for role " + role.Name})
		}
	}
	if len(distinct) == 0 && len(missing) == 0 {
		missing = append(missing, codecs.Fault{Field: "subject", Reason: NoSubject, Text: "no role has a subject"})
	}
	if len(distinct) > MaxSubjects {
		j.fault("data", TooManySubjects, "an event is about at most 256 subjects")
	} else if len(distinct)*len(j.in.Value) > MaxFanoutBytes {
		j.fault("data", TooLarge, "the data times the number of subjects is larger than 8 MiB")
	}
	return distinct, missing
}

// inData reads the ids of one role. A path that this version of the schema does not have has no ids.
func (j *judgement) inData(found []subject, r int) []subject {
	role := &j.eventType.Roles[r]
	values, err := j.in.Schema.Texts(j.body, role.Path)
	if errors.Is(err, codecs.ErrNoPath) {
		return found
	}
	if err != nil {
		j.fault(role.Path, RolePathMismatch, "the data cannot be read at the path of role "+role.Name)
		return found
	}
	for i, v := range values {
		var id string
		switch v.Kind {
		case codecs.Absent, codecs.Null:
			continue
		case codecs.String, codecs.Bytes:
			id = string(v.Bytes)
		case codecs.Int:
			id = strconv.FormatInt(v.Int, 10)
		default:
			j.fault(role.Path, RolePathMismatch, "the path of role "+role.Name+" does not lead to text")
			return found
		}
		if id == "" {
			continue
		}
		s := subject{role: r, index: -1}
		if role.Many {
			s.index = i
		}
		if s.text = j.named(role.Path, role.Scheme, id); s.text != "" {
			found = append(found, s)
		}
	}
	return found
}

// named gives the pseudonym of an id, or a fault and nothing.
func (j *judgement) named(field, scheme, id string) string {
	canonical, err := pseudonym.Canonicalise(scheme, id)
	if err != nil {
		var invalid *pseudonym.InvalidID
		why := "it"
		if errors.As(err, &invalid) {
			why = "its " + strings.ReplaceAll(invalid.Reason, "_", " ")
		}
		j.fault(field, InvalidSubject, "not a valid id of scheme "+scheme+": "+why+" is wrong")
		return ""
	}
	return j.door.Keys.Subject(scheme, canonical)
}

// given lists the subjects that stand beside the data: the attribute first, then a redrive's.
func (j *judgement) given() []Given {
	var all []Given
	if text := j.in.Attributes["subject"]; text != "" {
		all = append(all, Given{Role: j.in.Attributes["subjectrole"], Subject: text})
	}
	return append(all, j.in.Given...)
}

// place adds a given subject under its role. Without a role it may repeat any subject of the data; else it takes the
// first role of its scheme that lacks one, those that must have one first. What contradicts the data is refused: a
// source that names two different subjects for one role has made a mistake that nobody else can judge.
func (j *judgement) place(found []subject, g Given) []subject {
	text, scheme := j.open(g)
	if text == "" {
		return found
	}
	named := -1
	if g.Role != "" {
		for r := range j.eventType.Roles {
			if j.eventType.Roles[r].Name == g.Role {
				named = r
			}
		}
		if named < 0 {
			j.fault("subjectrole", UnknownRole, "the type has no such role")
			return found
		}
	}
	taken := map[int]bool{}
	for _, s := range found {
		if s.text == text && (named < 0 || s.role == named) {
			return found
		}
		taken[s.role] = true
	}
	best := -1
	for r := range j.eventType.Roles {
		role := &j.eventType.Roles[r]
		if taken[r] || named >= 0 && r != named || scheme != "" && role.Scheme != scheme {
			continue
		}
		if best < 0 || j.eventType.Roles[best].Optional && !role.Optional {
			best = r
		}
	}
	if best < 0 {
		j.fault("subject", SubjectMismatch, "the given subject is not the one in the data, and no role of its scheme lacks one")
		return found
	}
	return append(found, subject{role: best, index: -1, text: text})
}

// open gives the bus pseudonym that a given subject stands for, and its scheme where it tells; or a fault and nothing.
func (j *judgement) open(g Given) (text, scheme string) {
	switch {
	case strings.HasPrefix(g.Subject, pseudonym.PairwisePrefix):
		text, err := j.door.Keys.For(j.organisation.ID).Open(g.Subject)
		if err != nil {
			j.fault("subject", UnknownSubject, "not a pseudonym that civicbus gave to this organisation")
		}
		return text, ""
	case pseudonym.IsSubject(g.Subject) && (j.in.Internal || g.held):
		return g.Subject, ""
	}
	if scheme, id, ok := strings.Cut(g.Subject, ":"); ok && j.hasScheme(scheme) {
		return j.named("subject", scheme, id), scheme
	}
	// A bare national id is what a well-known public example of such a bus carries. Only schemes with a check character
	// are tried: under the others any text would do.
	for _, scheme := range []string{pseudonym.Hetu, pseudonym.YTunnus} {
		if canonical, err := pseudonym.Canonicalise(scheme, g.Subject); err == nil && j.hasScheme(scheme) {
			return j.door.Keys.Subject(scheme, canonical), scheme
		}
	}
	j.fault("subject", SubjectForm, "subject must be scheme:id with the scheme of a role, or the organisation's own pseudonym")
	return "", ""
}

func (j *judgement) hasScheme(scheme string) bool {
	for r := range j.eventType.Roles {
		if j.eventType.Roles[r].Scheme == scheme {
			return true
		}
	}
	return false
}

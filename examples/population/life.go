package population

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

// birth: a woman between 18 and 45 has one child, seldom two; the father is the man of the same age group whom the draw finds, if any.
func (p *Population) birth() any {
	today := day(p.now)
	if today != p.today {
		p.today, p.newborns = today, 0
	}
	if p.newborns+2 > 300 { // the day's codes are used up
		return nil
	}
	m := p.someone(func(o *person) bool { age := o.age(today); return !o.male() && age >= 18 && age < 45 })
	if m < 0 {
		return nil
	}
	home := p.households[p.people[m].household]
	unit := "Synnytysosasto " + strconv.Itoa(1+p.random.IntN(4))
	data := birthData{
		RegisteredAt:    p.now.UTC().Format("2006-01-02T15:04:05.000Z"),
		Hospital:        hospitalData{Name: places[home.place].name + " hospital", Unit: &unit},
		BirthPlace:      placeData{Municipality: places[home.place].name, Country: "FI"},
		ParentResidency: "Finland", NumberOfChildren: 1, Mother: p.parent(m),
	}
	if p.random.IntN(20) == 0 {
		data.ParentResidency = "Sweden"
	}
	if p.random.IntN(5) > 0 {
		if f := p.someone(func(o *person) bool { age := o.age(today); return o.male() && age >= 18 && age < 60 }); f >= 0 {
			father := p.parent(f)
			data.Father = &father
		}
	}
	if p.random.IntN(60) == 0 {
		data.NumberOfChildren = 2
	}
	for range data.NumberOfChildren {
		data.Children = append(data.Children, p.newborn(m, today))
	}
	return data
}

func (p *Population) parent(i int) parentData {
	o := &p.people[i]
	data := parentData{
		ID: o.id(), Name: nameData{GivenNames: []string{o.givenName()}, FamilyName: familyNames[o.family]},
		Municipality: places[p.households[o.household].place].name, Language: languages[o.language],
	}
	if p.random.IntN(2) == 0 {
		account := fmt.Sprintf("FI%02d%014d", 10+p.random.IntN(80), p.random.Int64N(1e14))
		data.BankAccount = &account
	}
	return data
}

// newborn adds a person to the mother's household.
func (p *Population) newborn(mother, today int) childData {
	number, separator := code(today, p.newborns, 950)
	p.newborns++
	m := &p.people[mother]
	child := person{born: int32(today), number: number, separator: separator, given: p.pick(givenEach), family: m.family, language: m.language, household: m.household, employer: -1}
	p.people = append(p.people, child)
	weight := 2200 + p.random.IntN(2600)
	sex := "female"
	if child.male() {
		sex = "male"
	}
	return childData{
		ID: child.id(), Sex: sex, BirthDate: isoDate(p.now), BirthTime: p.now.UTC().Format("15:04:05"), WeightGrams: &weight,
		Apgar: []int{7 + p.random.IntN(3), 8 + p.random.IntN(3), 9 + p.random.IntN(2)},
	}
}

// move: anyone may move, alone.
func (p *Population) move() any {
	i := p.someone(func(*person) bool { return true })
	if i < 0 {
		return nil
	}
	o := &p.people[i]
	old := p.address(p.households[o.household])
	o.household = int32(len(p.households))
	p.households = append(p.households, p.home())
	data := addressChangedData{
		Person: identified{o.id(), o.name()}, OldAddress: &old, NewAddress: p.address(p.households[o.household]),
		MovedOn: isoDate(p.now), Permanent: p.random.IntN(8) > 0,
	}
	if p.random.IntN(2) == 0 {
		one := 1
		data.HouseholdSize = &one
	}
	return data
}

func (p *Population) address(h household) addressData {
	place := &places[h.place]
	data := addressData{Street: streets[h.street] + " " + strconv.Itoa(int(h.number)), PostalCode: place.postalCode, Municipality: place.name, Country: "FI"}
	if p.random.IntN(3) > 0 {
		data.Location = &locationData{Latitude: place.latitude, Longitude: place.longitude}
	}
	return data
}

// marry: two unmarried adults; the second takes the first one's name now and then.
func (p *Population) marry() any {
	today := day(p.now)
	free := func(o *person) bool { return !o.married && o.age(today) >= 18 }
	a := p.someone(free)
	b := p.someone(free)
	if a < 0 || b < 0 || a == b {
		return nil
	}
	data := marriageData{
		Ceremony:      ceremonyData{Date: isoDate(p.now), Kind: "civil", Municipality: places[p.households[p.people[a].household].place].name},
		MaritalStatus: "married",
	}
	if p.random.IntN(3) == 0 {
		data.Ceremony.Kind = "religious"
	}
	family := p.people[a].family
	takes := p.random.IntN(2) == 0
	for _, i := range []int{a, b} {
		o := &p.people[i]
		spouse := spouseData{ID: o.id(), GivenNames: o.givenName(), FamilyNameBefore: familyNames[o.family]}
		if takes {
			o.family = family
		}
		o.married = true
		spouse.FamilyName = familyNames[o.family]
		data.Spouses = append(data.Spouses, spouse)
	}
	if p.random.IntN(4) == 0 {
		agreement := "AE-" + strconv.Itoa(p.sequence)
		data.MaritalAgreement = &agreement
	}
	return data
}

// die: the old, mostly. At least half of all people ever live, so that a draw soon finds a living one.
func (p *Population) die() any {
	today := day(p.now)
	i := p.someone(func(o *person) bool { return p.random.IntN(100) < o.age(today) })
	if i < 0 || 2*(p.deaths+1) > len(p.people) {
		return nil
	}
	o := &p.people[i]
	o.dead = true
	p.deaths++
	place := places[p.households[o.household].place].name
	data := deathData{Person: identified{o.id(), o.name()}, Status: "deceased", DateOfDeath: isoDate(p.now.Add(-48 * time.Hour)), Municipality: &place}
	if p.random.IntN(50) == 0 {
		data.Status, data.Municipality = "declaredDead", nil
	}
	return data
}

// start: an adult of working age starts at a company that is open.
func (p *Population) start() any {
	today := day(p.now)
	i := p.someone(func(o *person) bool { age := o.age(today); return age >= 16 && age < 68 })
	c := p.business()
	if i < 0 || c < 0 {
		return nil
	}
	o := &p.people[i]
	o.employer = int32(c)
	one := job{reference: "PR-" + strconv.Itoa(p.sequence), person: int32(i), company: int32(c)}
	if len(p.jobs) == 1024 {
		p.jobs = p.jobs[1:]
	}
	p.jobs = append(p.jobs, one)
	data := startedData{
		Reference: one.reference, Employee: identified{o.id(), o.name()},
		Employer:         employerData{BusinessID: p.companies[c].id, Name: p.companies[c].name},
		EmploymentStatus: "employed", StartsOn: isoDate(p.now.AddDate(0, 0, 7)),
		Terms: termsData{
			Kind: [...]string{"permanent", "fixedTerm", "onCall"}[p.random.IntN(3)], Occupation: strconv.Itoa(11110 + p.random.IntN(85000)),
			WeeklyHours: float64(20+p.random.IntN(36)) / 2, MonthlySalary: fmt.Sprintf("%d.%02d", 1600+p.random.IntN(5400), p.random.IntN(100)),
			Benefits: map[string]int{},
		},
	}
	if data.Terms.Kind == "fixedTerm" {
		ends := isoDate(p.now.AddDate(0, 3+p.random.IntN(18), 0))
		data.EndsOn = &ends
	}
	if p.random.IntN(3) == 0 {
		data.Terms.Benefits["phone"] = 2000
	}
	return data
}

// annul: one of the last 1,024 jobs that were started and not annulled.
func (p *Population) annul() any {
	if len(p.jobs) == 0 {
		return nil
	}
	k := p.random.IntN(len(p.jobs))
	one := p.jobs[k]
	p.jobs[k] = p.jobs[len(p.jobs)-1]
	p.jobs = p.jobs[:len(p.jobs)-1]
	o := &p.people[one.person]
	if o.dead {
		return nil
	}
	o.employer = -1
	return annulledData{
		Reference: one.reference, Employee: onlyID{o.id()}, Employer: onlyBusiness{p.companies[one.company].id}, EmploymentStatus: "none", AnnulledOn: isoDate(p.now),
	}
}

// form: one to three adults found a company.
func (p *Population) form() any {
	today := day(p.now)
	made := p.found()
	data := registeredData{Company: companyData{
		BusinessID: made.id, Name: made.name, Form: companyForms[p.pick(len(companyForms))], Industry: made.industry,
		Municipality: places[made.place].name, RegisteredOn: isoDate(p.now), Status: "active",
	}}
	if data.Company.Form == "OY" {
		capital := strconv.Itoa(2500*p.random.IntN(5)) + ".00"
		data.Company.ShareCapital = &capital
	}
	chosen := map[int]bool{}
	for range 1 + p.random.IntN(3) {
		i := p.someone(func(o *person) bool { return o.age(today) >= 18 })
		if i < 0 || chosen[i] {
			continue
		}
		chosen[i] = true
		shares := 100 * (1 + p.random.IntN(10))
		data.Founders = append(data.Founders, founderData{ID: p.people[i].id(), Name: p.people[i].name(), Roles: []string{"shareholder", "boardMember"}, Shares: &shares})
	}
	if len(data.Founders) == 0 {
		return nil
	}
	p.companies = append(p.companies, made)
	return data
}

// dissolve: an open company; at least half of all stay.
func (p *Population) dissolve() any {
	c := p.business()
	if c < 0 || 2*(p.dissolved+1) > len(p.companies) {
		return nil
	}
	gone := &p.companies[c]
	gone.closed = true
	p.dissolved++
	data := dissolvedData{
		YTunnus: gone.id, Toiminimi: gone.name, Lakkaamispaiva: isoDate(p.now), Tila: "dissolved",
		Peruste: [...]string{"SELVITYSTILA", "KONKURSSI", "SULAUTUMINEN", "POISTO"}[p.random.IntN(4)], Velat: map[string]string{},
		Merkinta: entryData{Numero: p.sequence, Tunniste: binary.BigEndian.AppendUint64(nil, uint64(p.sequence))},
	}
	if p.random.IntN(2) == 0 {
		data.Velat["verot"] = strconv.Itoa(p.random.IntN(90_000)) + ".50"
		data.Merkinta.Edellinen = &entryData{Numero: p.sequence - 1, Tunniste: binary.BigEndian.AppendUint64(nil, uint64(p.sequence-1))}
		if i := p.someone(func(o *person) bool { return o.age(day(p.now)) >= 18 }); i >= 0 {
			data.Selvitysmies = &liquidatorData{Hetu: p.people[i].id(), Nimi: p.people[i].name()}
		}
	}
	return data
}

// business draws a company that is open; -1 after 200 that are not.
func (p *Population) business() int {
	for range 200 {
		if c := p.random.IntN(len(p.companies)); !p.companies[c].closed {
			return c
		}
	}
	return -1
}

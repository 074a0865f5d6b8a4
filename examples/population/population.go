// Package population makes a synthetic population and its life events: as large as wanted, the same for the same seed.
//
// Its rules:
//   - Personal identity codes are valid and of the range 900-999, which is given to no one; every separator of the time occurs.
//     People have 900-949, those born on the way 950-999, so that the two never meet.
//   - Events are of the example world's types and follow from one another: the dead do not move, who is annulled had started.
//   - Nothing here is a model of Finland. The rates are chosen to exercise a bus.
package population

import (
	"fmt"
	"math/rand/v2"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
)

// MaxPeople bounds a population: beyond it the identity codes of the birth dates in use run out.
const MaxPeople = 5_000_000

// Config says what population to make. The zero value is 1,000 people of seed 0.
type Config struct {
	Seed      uint64
	People    int       // default 1,000, at most MaxPeople
	Companies int       // default one for 20 people, at least one
	GrantRate float64   // share of the (person, subscription on consent) pairs with a grant, 0 to 1; default 0.5, negative: none
	Start     time.Time // time of the first event; default 2026-01-01 UTC
}

// Population is people, households and companies, and the events that befall them. It is not safe for concurrent use.
type Population struct {
	random     *rand.Rand
	config     Config
	people     []person
	households []household
	companies  []company
	consented  []codecs.Subscription // those on consent, whose scopes the grants carry

	adults, children int // made so far

	now               time.Time
	sequence          int // of events
	today             int // day of the newborn counter
	newborns          int // born today
	lastYID           int // stem of the last business id given
	deaths, dissolved int
	jobs              []job
}

// person is kept small: a million of them are 40 MB.
type person struct {
	born      int32 // days since 1900-01-01
	number    int16 // individual number, 900-999; odd: male
	separator byte
	given     uint8
	family    uint8
	language  uint8
	dead      bool
	married   bool
	household int32
	employer  int32 // company; -1: none
}

// Days since 1900-01-01, and how many birth dates each age group has. 300 codes a date bound MaxPeople.
const (
	firstAdult, adultDays = 10_957, 27_000 // 1930 to 2003
	firstChild, childDays = 38_717, 6_000  // 2006 to 2022
)

type household struct {
	place  uint8
	street uint8
	number uint16
}

type company struct {
	id       string
	name     string
	industry string
	place    uint8
	closed   bool
}

// job is a started employment that can still be annulled.
type job struct {
	reference string
	person    int32
	company   int32
}

// New makes the population. The error is about the configuration, or about example data that cannot be read.
func New(config Config) (*Population, error) {
	if config.People == 0 {
		config.People = 1000
	}
	if config.Companies == 0 {
		config.Companies = config.People/20 + 1
	}
	if config.GrantRate == 0 {
		config.GrantRate = 0.5
	}
	if config.Start.IsZero() {
		config.Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if config.People < 2 || config.People > MaxPeople || config.Companies < 1 || config.GrantRate > 1 {
		return nil, fmt.Errorf("make a population: people must be 2 to %d, companies at least 1, the grant rate at most 1", MaxPeople)
	}
	world, err := examples.Load()
	if err != nil {
		return nil, fmt.Errorf("make a population: %w", err)
	}
	p := &Population{random: rand.New(rand.NewPCG(config.Seed, 0x63697669_63627573)), config: config, now: config.Start.UTC(), lastYID: 1_000_000}
	for _, s := range world.Subscriptions {
		if s.Basis == "consent" {
			p.consented = append(p.consented, s)
		}
	}
	for range config.Companies {
		p.companies = append(p.companies, p.found())
	}
	p.settle()
	return p, nil
}

// settle fills households with people: one or two adults, and sometimes children.
func (p *Population) settle() {
	p.people = make([]person, 0, p.config.People)
	for len(p.people) < p.config.People {
		home := int32(len(p.households))
		p.households = append(p.households, p.home())
		adults := 1 + p.random.IntN(2)
		children := 0
		if adults == 2 && p.random.IntN(2) == 0 {
			children = 1 + p.random.IntN(3)
		}
		family := p.pick(len(familyNames))
		married := adults == 2 && p.random.IntN(3) > 0
		for i := range adults + children {
			if len(p.people) == p.config.People {
				return
			}
			one := p.citizen(i < adults)
			one.household, one.family = home, family
			if i < adults {
				one.married = married
				if p.random.IntN(3) > 0 {
					one.employer = int32(p.random.IntN(len(p.companies)))
				}
			}
			p.people = append(p.people, one)
		}
	}
}

// citizen makes the next person of its age group: an adult born from 1930 on, or a child born from 2006 on.
func (p *Population) citizen(adult bool) person {
	one := person{employer: -1, language: p.pick(len(languages)), given: p.pick(givenEach)}
	first, days, nth := firstAdult, adultDays, &p.adults
	if !adult {
		first, days, nth = firstChild, childDays, &p.children
	}
	// 7,919 is a prime that divides neither number of days: each run of that many people has every date once.
	one.born = int32(first + (*nth*7919)%days)
	one.number, one.separator = code(int(one.born), *nth/days, 900)
	*nth++
	return one
}

// code gives the number and separator that have the nth place (0 to 299) among those of one date: a permutation that differs from date to
// date, so that no two people share a code and small populations have every separator too.
func code(born, nth, lowest int) (number int16, separator byte) {
	return int16(lowest + (nth+born*7)%50), separators(born)[(nth/50+born/50)%6]
}

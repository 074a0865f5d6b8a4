package pseudonym

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The Finnish population register's published test ids of 2023, with each new separator; and made up ones of 1894 and 2016.
var testHetus = []string{
	"010594Y9032", "020594X903P", "030594W903B", "040594V9030", "050594U903M",
	"010516B903X", "020516C903K", "030516D9037", "010501E9032", "020503F9037",
}

func TestCanonicalise(t *testing.T) {
	for _, id := range testHetus {
		for _, given := range []string{id, strings.ToLower(id)} {
			if got, err := Canonicalise(Hetu, given); err != nil || got != id {
				t.Errorf("%s: %q, %v", given, got, err)
			}
		}
	}
	for _, c := range []struct{ scheme, id, want, reason string }{
		{Hetu, "010594-9032", "010594-9032", ""}, // the same date and number under another separator is another person
		{Hetu, "010594+9032", "010594+9032", ""},
		{Hetu, "290200A900F", "", "check_character"},
		{Hetu, "010594Y9031", "", "check_character"},
		{Hetu, "010594G9032", "", "separator"},
		{Hetu, "010594y903", "", "length"},
		{Hetu, " 010594Y903", "", "characters"},
		{Hetu, "310694Y9032", "", "date"},
		{Hetu, "290201A9032", "", "date"}, // 2001 was no leap year
		{Hetu, "001394Y9032", "", "date"},
		{Hetu, "010594Y0012", "", "number"},
		{Hetu, "010594Y90ſ", "", "characters"}, // a long s is two bytes; ToUpper would make it S
		{Hetu, "", "", "length"},
		{YTunnus, "1234567-1", "1234567-1", ""},
		{YTunnus, "234567-1", "", "check_character"},
		{YTunnus, "12345671", "", "separator"},
		{YTunnus, "1234567-2", "", "check_character"},
		{YTunnus, "123456A-1", "", "characters"},
		{YTunnus, "1-1", "", "length"},
		{"plate", "ABC-123", "ABC-123", ""},
		{"plate", "", "", "length"},
		{"plate", strings.Repeat("x", 129), "", "length"},
		{"plate", "a\nb", "", "characters"},
		{"plate", " a", "", "characters"},
		{"plate", "\xff", "", "characters"},
		{"Plate", "a", "", "scheme"},
		{"", "a", "", "scheme"},
		{"a:b", "a", "", "scheme"},
	} {
		got, err := Canonicalise(c.scheme, c.id)
		var invalid *InvalidID
		reason := ""
		if errors.As(err, &invalid) {
			reason = invalid.Reason
		}
		if got != c.want || reason != c.reason || (err == nil) != (c.reason == "") {
			t.Errorf("%s %q: %q, %v; want %q, %q", c.scheme, c.id, got, err, c.want, c.reason)
		}
		if err != nil && len(c.id) > 2 && strings.Contains(err.Error(), c.id) {
			t.Errorf("the error holds the id: %v", err)
		}
	}
}

func TestYTunnusLeadingZero(t *testing.T) {
	long, err := Canonicalise(YTunnus, businessID(123456))
	if err != nil {
		t.Fatal(err)
	}
	if short, err := Canonicalise(YTunnus, long[1:]); err != nil || short != long {
		t.Errorf("%q, %v; want %q", short, err, long)
	}
}

// businessID finds the check digit by trial, as an oracle that shares nothing with the rule but its weights' table:
// exactly one digit, or none, may pass.
func businessID(n int) string {
	found := ""
	for c := range 10 {
		id := fmt.Sprintf("%07d-%d", n, c)
		if _, err := Canonicalise(YTunnus, id); err == nil {
			if found != "" {
				return "two check digits"
			}
			found = id
		}
	}
	return found
}

// TestHetuCheckFindsEveryTypo: the modulus is prime and above 10, so one wrong digit is always found.
func TestHetuCheckFindsEveryTypo(t *testing.T) {
	for _, id := range testHetus {
		for _, i := range []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 10} {
			for c := range byte(128) {
				changed := id[:i] + string(rune(c)) + id[i+1:]
				if strings.EqualFold(changed, id) {
					continue
				}
				if got, err := Canonicalise(Hetu, changed); err == nil {
					t.Errorf("%s passed as %s", changed, got)
				}
			}
		}
	}
}

func TestHoldsHetu(t *testing.T) {
	for text, want := range map[string]bool{
		"010594Y9032":             true,
		"010594y9032":             true,
		"birth-010594Y9032":       true,
		"urn:hetu:010594Y9032/1":  true,
		"person010594Y9032":       true,
		"mother 020516C903K, ok":  true,
		"äiti010594Y9032ä":        true,
		"a010594Y9032":            false, // taken for hexadecimal
		"010594Y90321":            false,
		"010594Y9033":             false,
		"":                        false,
		"k1.AAAAAAAAAAAAAAAAAAAA": false,
	} {
		if HoldsHetu(text) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom(testHetus).Draw(t, "id")
		before := rapid.StringMatching(`[g-z:/ .-]{0,20}`).Draw(t, "before")
		after := rapid.StringMatching(`([:/ .-].{0,20})?`).Draw(t, "after")
		if !HoldsHetu(before + id + after) {
			t.Fatal("not found")
		}
	})
}

// TestUUIDsAreNoPersons: every version 4 UUID and bare hexadecimal id passes, or sources would see events refused at random.
func TestUUIDsAreNoPersons(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digitsOnly := rapid.StringMatching(`[0-9]{8}-[0-9]{4}-4[0-9]{3}-8[0-9]{3}-[0-9A-F]{12}`).Draw(t, "uuid")
		if HoldsHetu(digitsOnly) || HoldsHetu(strings.ReplaceAll(digitsOnly, "-", "")) {
			t.Fatalf("%s taken for a person", digitsOnly)
		}
	})
}

package pseudonym

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Schemes whose ids are checked. Every other scheme passes bounded text as it is.
const (
	Hetu    = "fi-hetu"    // Finnish personal identity code
	YTunnus = "fi-ytunnus" // Finnish business id
)

// Bounds of what is not checked further.
const (
	MaxSchemeBytes = 32
	MaxIDBytes     = 128
)

// InvalidID says why an id is none of its scheme. It never holds any part of the id.
type InvalidID struct {
	Scheme string // as given if it is a scheme at all, else empty
	Reason string // closed list: scheme, length, characters, date, separator, number, check_character
}

func (e *InvalidID) Error() string {
	return fmt.Sprintf("id is not valid under scheme %q: %s", e.Scheme, strings.ReplaceAll(e.Reason, "_", " "))
}

// Canonicalise gives the one spelling of an id under which its subject is known, or *InvalidID.
//
// fi-hetu: upper case, separator included, since ids given out from 2023 on differ in the separator alone (DVV); its
// date, number and check character must hold. Numbers 900-999 are for tests and pass: whether a bus takes test people is
// its sources' choice. fi-ytunnus: seven digits (a leading zero is added to six), hyphen, check digit. Spaces are no part
// of either. Other schemes, [a-z0-9-]{1,32}: 1 to 128 bytes of UTF-8 without control characters or outer spaces, byte for byte.
func Canonicalise(scheme, id string) (string, error) {
	if !IsScheme(scheme) {
		return "", &InvalidID{Reason: "scheme"}
	}
	var canonical, reason string
	switch scheme {
	case Hetu:
		canonical, reason = hetu(id)
	case YTunnus:
		canonical, reason = ytunnus(id)
	default:
		canonical, reason = opaque(id)
	}
	if reason != "" {
		return "", &InvalidID{Scheme: scheme, Reason: reason}
	}
	return canonical, nil
}

// IsScheme reports whether text can name a scheme.
func IsScheme(text string) bool {
	if len(text) == 0 || len(text) > MaxSchemeBytes {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < 'a' || c > 'z') && !digit(c) && c != '-' {
			return false
		}
	}
	return true
}

func opaque(id string) (canonical, reason string) {
	if len(id) == 0 || len(id) > MaxIDBytes {
		return "", "length"
	}
	if !utf8.ValidString(id) || strings.TrimSpace(id) != id || strings.ContainsFunc(id, unicode.IsControl) {
		return "", "characters"
	}
	return id, ""
}

// hetuSize is DDMMYY, separator, NNN, check character.
const hetuSize = 11

// hetuCheck is indexed by DDMMYYNNN modulo 31.
const hetuCheck = "0123456789ABCDEFHJKLMNPRSTUVWXY"

func hetu(id string) (canonical, reason string) {
	if len(id) != hetuSize {
		return "", "length"
	}
	if !digits(id[:6]) || !digits(id[7:10]) {
		return "", "characters"
	}
	canonical = upper(id)
	var century int
	switch canonical[6] {
	case '+':
		century = 1800
	case '-', 'Y', 'X', 'W', 'V', 'U':
		century = 1900
	case 'A', 'B', 'C', 'D', 'E', 'F':
		century = 2000
	default:
		return "", "separator"
	}
	day, month, year := number(id[:2]), time.Month(number(id[2:4])), century+number(id[4:6])
	if born := time.Date(year, month, day, 0, 0, 0, 0, time.UTC); born.Day() != day || born.Month() != month {
		return "", "date"
	}
	serial := number(id[7:10])
	if serial < 2 {
		return "", "number" // 000 and 001 are given to nobody
	}
	if canonical[10] != hetuCheck[(number(id[:6])*1000+serial)%31] {
		return "", "check_character"
	}
	return canonical, ""
}

// ytunnusWeights are the Finnish Tax Administration's; the sum modulo 11 is 0 for check digit 0, never 1, else 11 minus it.
var ytunnusWeights = [7]int{7, 9, 10, 5, 8, 4, 2}

func ytunnus(id string) (canonical, reason string) {
	if len(id) == 8 {
		id = "0" + id // old ids have six digits
	}
	if len(id) != 9 {
		return "", "length"
	}
	if id[7] != '-' {
		return "", "separator"
	}
	if !digits(id[:7]) || !digit(id[8]) {
		return "", "characters"
	}
	sum := 0
	for i, weight := range ytunnusWeights {
		sum += weight * int(id[i]-'0')
	}
	if want := (11 - sum%11) % 11; want == 10 || int(id[8]-'0') != want {
		return "", "check_character"
	}
	return id, ""
}

// HoldsHetu reports whether a valid personal identity code stands somewhere in text, in either case. One that directly
// follows a hexadecimal digit or is directly followed by a letter or digit is taken for a part of something longer: else
// one random UUID in some ten thousand would be taken for a person.
func HoldsHetu(text string) bool {
	for i := 0; i+hetuSize <= len(text); i++ {
		if !digit(text[i]) || i > 0 && hexadecimal(text[i-1]) {
			continue
		}
		if end := i + hetuSize; end < len(text) && alphanumeric(text[end]) {
			continue
		}
		if _, reason := hetu(text[i : i+hetuSize]); reason == "" {
			return true
		}
	}
	return false
}

func digit(c byte) bool        { return c >= '0' && c <= '9' }
func hexadecimal(c byte) bool  { return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
func alphanumeric(c byte) bool { return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' }

func digits(text string) bool {
	for i := range len(text) {
		if !digit(text[i]) {
			return false
		}
	}
	return true
}

// number reads at most nine digits.
func number(text string) (n int) {
	for i := range len(text) {
		n = n*10 + int(text[i]-'0')
	}
	return n
}

// upper changes ASCII letters alone: strings.ToUpper would turn a long s into S and let it pass.
func upper(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, text)
}

package population

import (
	"fmt"
	"time"
)

// epoch is day 0 of every date of birth here.
var epoch = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)

// day is a date's number since epoch.
func day(t time.Time) int { return int(t.Sub(epoch) / (24 * time.Hour)) }

func date(day int) time.Time { return epoch.AddDate(0, 0, day) }

// separators are those of the century of a birth date, the old one first (decree 690/2022).
func separators(born int) string {
	if date(born).Year() >= 2000 {
		return "ABCDEF"
	}
	return "-YXWVU"
}

// checkCharacters are those of a personal identity code, by the remainder of DDMMYYNNN over 31.
const checkCharacters = "0123456789ABCDEFHJKLMNPRSTUVWXY"

// identityCode is the Finnish personal identity code.
func identityCode(born int, separator byte, number int) string {
	t := date(born)
	day, month, year := t.Day(), int(t.Month()), t.Year()%100
	check := (day*10_000_000 + month*100_000 + year*1_000 + number) % 31
	return fmt.Sprintf("%02d%02d%02d%c%03d%c", day, month, year, separator, number, checkCharacters[check])
}

// businessID is the Finnish business ID with the stem; ok is false for the one stem in eleven that has no check digit.
func businessID(stem int) (id string, ok bool) {
	sum, rest := 0, stem
	for _, weight := range [...]int{2, 4, 8, 5, 10, 9, 7} { // from the last digit
		sum += rest % 10 * weight
		rest /= 10
	}
	switch remainder := sum % 11; remainder {
	case 0:
		return fmt.Sprintf("%07d-0", stem), true
	case 1:
		return "", false
	default:
		return fmt.Sprintf("%07d-%d", stem, 11-remainder), true
	}
}

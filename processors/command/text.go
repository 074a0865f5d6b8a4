package command

import (
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxNameBytes bounds an organisation's or a subscription's id, as verdict.ValidateOrganisation and ValidateSubscription do.
const MaxNameBytes = 100

// Name says whether text may be the key of an organisation or of a subscription; see Dotted.
func Name(text string) bool { return Dotted(text, MaxNameBytes) }

// Dotted says whether text is 1 to max of [a-z0-9.-], beginning and ending with a letter or digit, no two dots together. It
// never collides with goka's own keys (__offset), nor with others on Kafka's metric names.
func Dotted(text string, max int) bool {
	if text == "" || len(text) > max || strings.Contains(text, "..") {
		return false
	}
	for i := range len(text) {
		c := text[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		edge := i == 0 || i == len(text)-1
		if !alphanumeric && (edge || c != '.' && c != '-') {
			return false
		}
	}
	return true
}

// Plain says whether text is UTF-8 of at most max bytes without control characters, line separators or invisible format
// characters. Empty text is plain.
func Plain(text string, max int) bool {
	if len(text) > max || !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return false
		}
	}
	return true
}

// Token says whether text is plain, not empty, and without spaces: what a scope, a purpose or an id of a grant is.
func Token(text string, max int) bool {
	return text != "" && Plain(text, max) && !strings.ContainsFunc(text, unicode.IsSpace)
}

// Distinct says whether no text stands in the list twice.
func Distinct(list []string) bool {
	seen := make(map[string]bool, len(list))
	for _, text := range list {
		if seen[text] {
			return false
		}
		seen[text] = true
	}
	return true
}

// clip cuts text to MaxFaultText bytes, and drops what is not UTF-8: an answer must always be writable.
func clip(text string) string {
	if len(text) > MaxFaultText {
		text = text[:MaxFaultText]
	}
	return strings.ToValidUTF8(text, "")
}

// wellFormed says whether every text in a decoded command is UTF-8. Avro demands it, but the decoder does not look; and what
// is kept would stop readers that do.
func wellFormed(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Struct:
		for i := range v.NumField() {
			if !wellFormed(v.Field(i)) {
				return false
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if !wellFormed(v.Index(i)) {
				return false
			}
		}
	}
	return true
}

package command

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxNameBytes bounds an organisation's or a subscription's id: it names a topic ("subscriber." and the id), and Kafka
// takes 249 bytes for a topic's name.
const MaxNameBytes = 128

// Name says whether text may be the id of an organisation or of a subscription: 1 to 128 of [a-z0-9.-], beginning and
// ending with a letter or digit, no two dots together. It never collides with goka's own keys, nor on Kafka's metric names.
func Name(text string) bool {
	if text == "" || len(text) > MaxNameBytes || strings.Contains(text, "..") {
		return false
	}
	for i := 0; i < len(text); i++ {
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

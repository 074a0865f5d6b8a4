package codecs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A key that comes twice in a map is refused by Validate, ToJSON and FromJSON as goavro refuses it, in one block or in several,
// and nothing else is: the same key in another map is another.
func TestAKeyStandsOnceInAMap(t *testing.T) {
	s, err := ParseSchema(`{"type":"record","name":"R","fields":[{"name":"m","type":{"type":"map","values":{"type":"map","values":"int"}}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	oracle, err := s.Goavro()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		twice := false
		list := func(depth int, item func() ([]byte, string)) (body []byte, text string) {
			var texts []string
			seen := map[string]bool{}
			left := 0
			for count := rapid.IntRange(0, 40/depth/depth).Draw(rt, "count"); count > 0; count-- {
				if left == 0 {
					left = rapid.IntRange(1, count).Draw(rt, "block")
					body = appendVarint(body, int64(left))
				}
				left--
				key := fmt.Sprint(len(seen))
				if len(seen) > 0 && rapid.IntRange(0, 60).Draw(rt, "again") == 0 {
					key = fmt.Sprint(rapid.IntRange(0, len(seen)-1).Draw(rt, "key"))
				}
				twice = twice || seen[key]
				seen[key] = true
				value, inner := item()
				body = append(append(appendVarint(body, int64(len(key))), key...), value...)
				texts = append(texts, fmt.Sprintf("%q:%s", key, inner))
			}
			return append(body, 0), "{" + strings.Join(texts, ",") + "}"
		}
		body, text := list(1, func() ([]byte, string) { return list(2, func() ([]byte, string) { return []byte{2}, "1" }) })
		text = `{"m":` + text + `}`

		valid := s.Validate(body)
		if (valid != nil) != twice || twice && !errors.Is(valid, errKeyTwice) {
			rt.Fatalf("a key twice: %v; Validate: %v", twice, valid)
		}
		if _, _, err := oracle.NativeFromBinary(body); (err != nil) != twice {
			rt.Fatalf("a key twice: %v; goavro: %v", twice, err)
		}
		got, err := s.ToJSON(nil, body)
		if (err != nil) != twice || !twice && string(got) != text {
			rt.Fatalf("a key twice: %v; ToJSON: %s, %v, want %s", twice, got, err, text)
		}
		again, faults := s.FromJSON([]byte(text))
		if (len(faults) > 0) != twice || twice && faults[0].Reason != reasonDuplicate {
			rt.Fatalf("a key twice: %v; FromJSON: %+v", twice, faults)
		}
		if err := s.Validate(again); !twice && err != nil {
			rt.Fatal(err)
		}
	})
}

package codecs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// unambiguous tells whether every union's JSON says which branch it is: then a body comes back as it was.
func unambiguous(n *node, seen map[*node]bool) bool {
	if n == nil || seen[n] {
		return true
	}
	seen[n] = true
	byJSON := map[string]int{}
	for _, b := range n.branches {
		kind := "text"
		switch b.kind {
		case kindNull, kindBoolean:
			kind = b.kind.String()
		case kindInt, kindLong, kindFloat, kindDouble:
			kind = "number"
		case kindArray:
			kind = "list"
		case kindRecord, kindMap:
			kind = "object"
		}
		if byJSON[kind]++; byJSON[kind] > 1 {
			return false
		}
		if !unambiguous(b, seen) {
			return false
		}
	}
	for _, f := range n.fields {
		if !unambiguous(f.typ, seen) {
			return false
		}
	}
	return unambiguous(n.items, seen)
}

func TestJSONRoundTrip(t *testing.T) {
	known := foreign(t)
	clear := 0
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt, known)
		body := randomBody(rt, s, true, 3)
		text, err := s.ToJSON(nil, body)
		if err != nil || !json.Valid(text) {
			rt.Fatalf("%v: %s", err, text)
		}
		again, faults := s.FromJSON(text)
		if len(faults) > 0 {
			rt.Fatalf("%v: %s of %s", faults, text, s.JSON())
		}
		if unambiguous(s.root, map[*node]bool{}) {
			clear++
			if string(again) != string(body) {
				rt.Fatalf("got  %x\nwant %x\n%s of %s", again, body, text, s.JSON())
			}
		}
		if twice, err := s.ToJSON(nil, again); err != nil || string(twice) != string(text) {
			rt.Fatalf("%v\ngot  %s\nwant %s\nof %s", err, twice, text, s.JSON())
		}
		native(rt, t, s, again)
	})
	if clear == 0 {
		t.Error("no schema was clear")
	}
}

const people = `{"type":"record","name":"P","namespace":"x","fields":[
 {"name":"id","type":"string"},
 {"name":"age","type":"int"},
 {"name":"big","type":"long","default":7},
 {"name":"nick","type":["null","string"]},
 {"name":"born","type":["null",{"type":"int","logicalType":"date"}],"default":null},
 {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"default":0},
 {"name":"time","type":{"type":"int","logicalType":"time-millis"},"default":0},
 {"name":"sum","type":{"type":"bytes","logicalType":"decimal","precision":5,"scale":2},"default":"\u0001"},
 {"name":"key","type":{"type":"fixed","name":"K","size":16,"logicalType":"uuid"},"default":"0123456789abcdef"},
 {"name":"raw","type":"bytes","default":"\u00ff"},
 {"name":"state","type":{"type":"enum","name":"S","symbols":["on","off"]},"default":"off"},
 {"name":"homes","type":{"type":"array","items":{"type":"record","name":"H","fields":[{"name":"city","type":"string","default":"Oulu"},{"name":"no","type":"int"}]}},"default":[]},
 {"name":"more","type":["null",{"type":"map","values":"boolean"},"H","double"],"default":null},
 {"name":"one","type":"H","default":{"no":3}},
 {"name":"ratio","type":["null","float"],"default":null}
]}`

func TestFromJSONTakesWhatPeopleWrite(t *testing.T) {
	s, err := ParseSchema(people)
	if err != nil {
		t.Fatal(err)
	}
	rest := `"state":"off","homes":[],"more":null,"one":{"city":"Oulu","no":3},"ratio":null}`
	for _, c := range []struct{ in, want string }{
		{`{"id":"a","age":1}`,
			`{"id":"a","age":1,"big":7,"nick":null,"born":null,"at":"1970-01-01T00:00:00Z","time":"00:00:00","sum":"0.01","key":"30313233-3435-3637-3839-616263646566","raw":"/w==",` + rest},
		{`{"age":1e2,"id":"ä","big":-9223372036854775808,"nick":"n","born":"2024-02-29","at":"2024-01-01T02:00:00.123456+02:00","time":"23:59:59.5","sum":-1.5,"key":"00112233-4455-6677-8899-aabbccddeeff","raw":"AAE="}`,
			`{"id":"ä","age":100,"big":-9223372036854775808,"nick":"n","born":"2024-02-29","at":"2024-01-01T00:00:00.123Z","time":"23:59:59.5","sum":"-1.50","key":"00112233-4455-6677-8899-aabbccddeeff","raw":"AAE=",` + rest},
		{`{"id":"a","age":1,"born":-1,"at":1700000000000,"sum":"123e-2","more":{"x":true},"ratio":3.14159265358979}`,
			`{"id":"a","age":1,"big":7,"nick":null,"born":"1969-12-31","at":"2023-11-14T22:13:20Z","time":"00:00:00","sum":"1.23","key":"30313233-3435-3637-3839-616263646566","raw":"/w==","state":"off","homes":[],"more":{"x":true},"one":{"city":"Oulu","no":3},"ratio":3.1415927}`},
		{`{"id":"a","age":1,"more":{"no":5},"homes":[{"no":1},{"city":"Turku","no":2}]}`,
			`{"id":"a","age":1,"big":7,"nick":null,"born":null,"at":"1970-01-01T00:00:00Z","time":"00:00:00","sum":"0.01","key":"30313233-3435-3637-3839-616263646566","raw":"/w==","state":"off","homes":[{"city":"Oulu","no":1},{"city":"Turku","no":2}],"more":{"city":"Oulu","no":5},"one":{"city":"Oulu","no":3},"ratio":null}`},
	} {
		body, faults := s.FromJSON([]byte(c.in))
		if len(faults) > 0 {
			t.Errorf("%s: %v", c.in, faults)
			continue
		}
		if got, err := s.ToJSON(nil, body); err != nil || string(got) != c.want {
			t.Errorf("%s:\ngot  %s %v\nwant %s", c.in, got, err, c.want)
		}
	}
}

func TestFromJSONNamesEveryFault(t *testing.T) {
	s, err := ParseSchema(people)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   string
		want []string // field and reason
	}{
		{``, []string{"data not_json"}},
		{`{"id":"a","age":1} x`, []string{"data not_json"}},
		{`{"id":"a`, []string{"data not_json"}},
		{"{\"id\":\"\xff\"}", []string{"data not_json"}},
		{`[]`, []string{"data wrong_type"}},
		{`{}`, []string{"data.id missing_field", "data.age missing_field"}},
		{`{"id":1,"age":"x","nik":2}`, []string{"data unknown_field", "data.id wrong_type", "data.age wrong_type"}},
		{`{"id":"a","age":1,"age":2}`, []string{"data.age duplicate_field"}},
		{`{"id":"a","age":2147483648}`, []string{"data.age out_of_range"}},
		{`{"id":"a","age":1.5}`, []string{"data.age wrong_type"}},
		{`{"id":"a","age":1,"big":9223372036854775808}`, []string{"data.big out_of_range"}},
		{`{"id":"a","age":1,"big":1e999999999}`, []string{"data.big out_of_range"}},
		{`{"id":"a","age":1,"nick":5}`, []string{"data.nick wrong_type"}},
		{`{"id":"a","age":1,"born":"2023-02-29","at":"yesterday","time":"25:00:00"}`, []string{"data.born bad_format", "data.at bad_format", "data.time bad_format"}},
		{`{"id":"a","age":1,"sum":1000}`, []string{"data.sum out_of_range"}},
		{`{"id":"a","age":1,"sum":"0.001"}`, []string{"data.sum out_of_range"}},
		{`{"id":"a","age":1,"sum":"1e99999999"}`, []string{"data.sum out_of_range"}},
		{`{"id":"a","age":1,"sum":"--1"}`, []string{"data.sum bad_format"}},
		{`{"id":"a","age":1,"key":"0011","raw":"*"}`, []string{"data.key bad_format", "data.raw bad_format"}},
		{`{"id":"a","age":1,"state":"maybe"}`, []string{"data.state unknown_symbol"}},
		{`{"id":"a","age":1,"homes":[{"no":1},{"no":"2"},{}]}`, []string{"data.homes[1].no wrong_type", "data.homes[2].no missing_field"}},
		{`{"id":"a","age":1,"more":{"x":1}}`, []string{"data.more{} wrong_type"}},
		{`{"id":"a","age":1,"ratio":1e300}`, []string{"data.ratio out_of_range"}},
		{`{"id":"a","age":1,"homes":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`, []string{"data too_large"}},
	} {
		body, faults := s.FromJSON([]byte(c.in))
		var got []string
		for _, f := range faults {
			got = append(got, f.Field+" "+f.Reason)
			if f.Text == "" {
				t.Errorf("%.80s: %s does not say what would be right", c.in, f.Field)
			}
		}
		if body != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%.80s:\ngot  %v\nwant %v", c.in, got, c.want)
		}
	}
	many := `{"id":"a","age":1,"homes":[` + strings.TrimSuffix(strings.Repeat(`{},`, 500), ",") + `]}`
	if _, faults := s.FromJSON([]byte(many)); len(faults) != MaxFaults {
		t.Errorf("%d faults", len(faults))
	}
	secret := "010190-999X"
	_, faults := s.FromJSON([]byte(`{"id":{"` + secret + `":1},"age":"` + secret + `","` + secret + `":2,"born":"` + secret + `","state":"` + secret + `","more":{"` + secret + `":"` + secret + `"}}`))
	if text := fmt.Sprint(faults); len(faults) < 5 || strings.Contains(text, secret) {
		t.Errorf("the faults show the data: %s", text)
	}
}

// Records in unions in records: each level has two ways to be read. Without a bound it would take 2^100 steps.
func TestFromJSONEnds(t *testing.T) {
	s, err := ParseSchema(`{"type":"record","name":"A","fields":[{"name":"next","type":["null","A",{"type":"record","name":"B","fields":[{"name":"next","type":["null","A","B"]}]},"boolean"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat(`{"next":`, 100) + `"x"` + strings.Repeat(`}`, 100)
	if body, faults := s.FromJSON([]byte(text)); body != nil || len(faults) != 1 || faults[0].Reason != reasonAmbiguous {
		t.Errorf("%x %v", body, faults)
	}
}

func TestToJSONRefusesBadBytes(t *testing.T) {
	known := foreign(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt, known)
		body := rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes")
		text, err := s.ToJSON([]byte("x"), body)
		var m Malformed
		if bad := s.Validate(body); (bad == nil) != (err == nil) || err != nil && (!errors.As(err, &m) || string(text) != "x") {
			rt.Fatalf("Validate says %v, ToJSON %v", bad, err)
		}
	})
}

package codecs

import (
	"errors"
	"testing"
)

func TestToJSONMasked(t *testing.T) {
	s, err := ParseSchema(`{"type":"record","name":"R","fields":[
	 {"name":"a","type":["null",{"type":"record","name":"A","fields":[{"name":"x","type":"int"},{"name":"y","type":["null","string"]}]}]},
	 {"name":"list","type":{"type":"array","items":"A"}},
	 {"name":"names","type":{"type":"array","items":"string"}},
	 {"name":"map","type":{"type":"map","values":"A"}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	body, faults := s.FromJSON([]byte(`{"a":{"x":1,"y":"s"},"list":[{"x":2,"y":null},{"x":3,"y":"t"}],"names":["n"],"map":{"k":{"x":4,"y":"u"}}}`))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{nil, `{"a":{"x":1,"y":"s"},"list":[{"x":2,"y":null},{"x":3,"y":"t"}],"names":["n"],"map":{"k":{"x":4,"y":"u"}}}`},
		{[]string{"data.a.y"}, `{"a":{"x":1,"y":null},"list":[{"x":2,"y":null},{"x":3,"y":"t"}],"names":["n"],"map":{"k":{"x":4,"y":"u"}}}`},
		{[]string{"data.a", "data.a.y", "data.list[].x"}, `{"a":null,"list":[{"x":null,"y":null},{"x":null,"y":"t"}],"names":["n"],"map":{"k":{"x":4,"y":"u"}}}`},
		{[]string{"data.names[]", "data.map{}.y", "data.list"}, `{"a":{"x":1,"y":"s"},"list":null,"names":null,"map":{"k":{"x":4,"y":null}}}`},
	} {
		m, err := s.Mask(c.paths)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.ToJSONMasked(nil, body, m)
		if err != nil || string(got) != c.want {
			t.Errorf("%v: %s, %v\nwant %s", c.paths, got, err, c.want)
		}
	}
	for _, bad := range []string{"data", "data.none", "a"} {
		if _, err := s.Mask([]string{bad}); !errors.Is(err, ErrNoPath) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	m, _ := s.Mask([]string{"data.a"})
	if _, err := s.ToJSONMasked(nil, body[:3], m); !errors.As(err, new(Malformed)) {
		t.Errorf("bad bytes in what is masked: %v", err)
	}
}

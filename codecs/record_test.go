package codecs

import (
	"errors"
	"reflect"
	"testing"

	"civicbus/schemas"
)

// fill sets every field below v to a value of its own, so that a field that a codec loses shows.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString("text-" + string(rune('a'+*n%26)) + "-ä")
	case reflect.Int64, reflect.Int32:
		v.SetInt(int64(*n)*1001 - 7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte{0, byte(*n), 255})
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic("a kind that the test cannot fill: " + v.Type().String())
	}
}

// roundTrip proves that every field of T survives its schema, and that the schema has no field that T lacks.
func roundTrip[T any](t *testing.T, r *Record[T]) {
	t.Helper()
	var full, none T
	n := 0
	fill(reflect.ValueOf(&full).Elem(), &n)
	for _, in := range []T{full, none} {
		value, err := r.Encode(&in)
		if err != nil {
			t.Fatalf("%s: %v", r.Name(), err)
		}
		out, err := r.Decode(value)
		if err != nil {
			t.Fatalf("%s: %v", r.Name(), err)
		}
		if reflect.DeepEqual(in, full) && !reflect.DeepEqual(in, out) {
			t.Errorf("%s: got %+v, want %+v", r.Name(), out, in)
		}
		if again, _ := r.Encode(&out); string(again) != string(value) {
			t.Errorf("%s: encoding again differs", r.Name())
		}
		for cut := range value {
			var m Malformed
			if _, err := r.Decode(value[:cut]); !errors.As(err, &m) {
				t.Fatalf("%s: %d of %d bytes: %v", r.Name(), cut, len(value), err)
			}
		}
		if _, err := r.Decode(append(value, 0)); err == nil {
			t.Errorf("%s: a trailing byte was accepted", r.Name())
		}
	}
	s, err := ParseSchema(schemas.Latest(r.Name()))
	if err != nil {
		t.Fatal(err)
	}
	wantSameFields(t, r.Name(), s.root, reflect.TypeFor[T]())
}

// wantSameFields compares a record's fields with a struct's tags, all the way down.
func wantSameFields(t *testing.T, at string, n *node, typ reflect.Type) {
	t.Helper()
	for typ.Kind() == reflect.Slice && n.kind == kindArray {
		n, typ = n.items, typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return
	}
	if len(n.fields) != typ.NumField() {
		t.Errorf("%s: %d fields in the schema, %d in the struct", at, len(n.fields), typ.NumField())
	}
	for i := range typ.NumField() {
		tag := typ.Field(i).Tag.Get("avro")
		f := n.field(tag)
		if f == nil {
			t.Errorf("%s: no field %q in the schema", at, tag)
			continue
		}
		wantSameFields(t, at+"."+tag, f.typ, typ.Field(i).Type)
	}
}

func TestRecordsKeepEveryField(t *testing.T) {
	r := NewRecords()
	if err := r.BindLocal(); err != nil {
		t.Fatal(err)
	}
	if fields := reflect.TypeFor[Records]().NumField(); fields != len(r.all()) || fields != len(schemas.Names()) {
		t.Errorf("%d fields, %d bound, %d schemas", fields, len(r.all()), len(schemas.Names()))
	}
	roundTrip(t, r.EventType)
	roundTrip(t, r.Organisation)
	roundTrip(t, r.Subscription)
	roundTrip(t, r.Consents)
	roundTrip(t, r.Profile)
	roundTrip(t, r.Attributes)
	roundTrip(t, r.CatalogCommand)
	roundTrip(t, r.TrustCommand)
	roundTrip(t, r.SubscriptionCommand)
	roundTrip(t, r.ConsentCommand)
	roundTrip(t, r.CommandResult)
	roundTrip(t, r.Decision)
	roundTrip(t, r.DeadLetter)
}

func TestNullBytesStayApartFromEmptyOnes(t *testing.T) {
	r := NewRecords()
	if err := r.BindLocal(); err != nil {
		t.Fatal(err)
	}
	in := DeadLetter{Key: nil, Value: []byte{}, Headers: []Header{{Key: "a"}, {Key: "b", Value: []byte{}}}}
	value, err := r.DeadLetter.Encode(&in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.DeadLetter.Decode(value)
	if err != nil {
		t.Fatal(err)
	}
	if out.Key != nil || out.Value == nil || out.Headers[0].Value != nil || out.Headers[1].Value == nil {
		t.Errorf("got %#v", out)
	}
}

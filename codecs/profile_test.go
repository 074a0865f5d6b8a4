package codecs

import (
	"reflect"
	"strings"
	"testing"
)

// The list of attributes is the record's fields, each under its Avro name, and no other name is one.
func TestProfileAttributesAreTheFieldsOfAttributes(t *testing.T) {
	typ := reflect.TypeFor[Attributes]()
	all := ProfileAttributes()
	if typ.NumField() != len(all) {
		t.Fatalf("%d attributes, %d fields", len(all), typ.NumField())
	}
	for i, a := range all {
		var row Attributes
		*a.Of(&row) = "x"
		if name := typ.Field(i).Tag.Get("avro"); name != a.Name || reflect.ValueOf(row).Field(i).String() != "x" {
			t.Errorf("attribute %s at field %s", a.Name, name)
		}
		if a.Name != strings.ToLower(a.Name) || ProfileAttribute(a.Name) != a || !strings.HasSuffix(a.doc, ".") {
			t.Errorf("attribute %q is not snake_case, not found by its name or not documented", a.Name)
		}
	}
	for _, name := range []string{"", "postalCode", "Municipality", "profile.municipality", "x"} {
		if ProfileAttribute(name) != nil {
			t.Errorf("%q is an attribute", name)
		}
	}
}

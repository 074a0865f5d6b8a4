package codecs

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"civicbus/internal/mutant"
)

// FuzzRecords: of every record type of civicbus, what decodes encodes to bytes that decode to the same. Commands, stamps,
// rows, audit entries and heads come this way. An input begins with the number of the type.
func FuzzRecords(f *testing.F) {
	records := NewRecords()
	if err := records.BindLocal(); err != nil {
		f.Fatal(err)
	}
	t := recordTypes{tb: f}
	decodes(&t, records.CatalogCommand)
	decodes(&t, records.TrustCommand)
	decodes(&t, records.SubscriptionCommand)
	decodes(&t, records.ConsentCommand)
	decodes(&t, records.CommandResult)
	decodes(&t, records.Attributes)
	decodes(&t, records.Consents)
	decodes(&t, records.Decision)
	decodes(&t, records.DeadLetter)
	decodes(&t, records.EventType)
	decodes(&t, records.Organisation)
	decodes(&t, records.Subscription)
	decodes(&t, records.Profile)
	decodes(&t, records.Settings)
	decodes(&t, records.AuditEntry)
	decodes(&t, records.AuditRow)
	decodes(&t, records.AuditHead)
	decodes(&t, records.UsageRow)
	decodes(&t, records.UsageItem)
	decodes(&t, records.DeliveryRow)
	decodes(&t, records.DeliveryReport)
	decodes(&t, records.Journey)
	decodes(&t, records.JourneyInput)
	decodes(&t, records.JourneyUpdated)
	decodes(&t, records.JourneyConfirm)
	decodes(&t, records.JourneyConfirmed)
	decodes(&t, records.Replay)
	decodes(&t, records.ReplayCommand)
	if len(t.tries) != len(records.all()) {
		f.Fatalf("%d of %d record types are tried", len(t.tries), len(records.all()))
	}
	mutant.Fuzz(f, 1<<10, func(tb testing.TB, in []byte) bool {
		return len(in) > 0 && t.tries[int(in[0])%len(t.tries)](tb, in[1:])
	}, t.seeds...)
}

type recordTypes struct {
	tb     testing.TB
	tries  []func(testing.TB, []byte) bool
	seeds  [][]byte
	filled int
}

func decodes[T any](t *recordTypes, r *Record[T]) {
	var full, empty T
	fill(reflect.ValueOf(&full).Elem(), &t.filled)
	for _, v := range []*T{&full, &empty} {
		value, err := r.Encode(v)
		if err != nil {
			t.tb.Fatal(err)
		}
		number := byte(len(t.tries))
		t.seeds = append(t.seeds, append([]byte{number}, value...), append(append([]byte{number}, value[:6]...), 0xfe, 0xff, 0xff, 0xff, 0x0f))
	}
	t.tries = append(t.tries, func(tb testing.TB, value []byte) bool {
		v, err := r.Decode(value)
		if err != nil {
			var m Malformed
			if !errors.As(err, &m) && !errors.Is(err, ErrNotLoaded) {
				tb.Fatal(err)
			}
			return false
		}
		again, err := r.Encode(&v)
		if err != nil {
			tb.Fatalf("%s was decoded and cannot be encoded: %v", r.Name(), err)
		}
		back, err := r.Decode(again)
		if err != nil || !reflect.DeepEqual(v, back) {
			tb.Fatalf("%s came back as another: %v", r.Name(), err)
		}
		return true
	})
}

// headerNames are those that ParseEnvelope reads; a line of an input is the value of one.
var headerNames = []string{HeaderSpecVersion, HeaderID, HeaderSource, HeaderType, HeaderSubject, HeaderSubjectRole, HeaderTime, HeaderAuthorized,
	HeaderSubjectIndex, HeaderProfileVersion, HeaderRedriven, HeaderProfile, HeaderRecipient, HeaderDataSchema, HeaderOnly, HeaderOrganisation}

// FuzzHeaders: what is accepted has what every event has, and its list and numbers say what the headers say.
func FuzzHeaders(f *testing.F) {
	mutant.Fuzz(f, 1<<8, func(tb testing.TB, in []byte) bool {
		var values [16][]byte
		for i := range values {
			var found bool
			values[i], in, found = bytes.Cut(in, []byte{0x1e})
			if !found {
				break
			}
		}
		e, err := ParseEnvelope(len(headerNames), func(i int) (string, []byte) { return headerNames[i], values[i] })
		var m Malformed
		if err != nil {
			if !errors.As(err, &m) {
				tb.Fatal(err)
			}
			return false
		}
		if e.ID == "" || e.Source == "" || e.Type == "" || e.Subject == "" || e.Role == "" || e.Index < -1 || e.ProfileVersion < 0 {
			tb.Fatalf("accepted %+v", e)
		}
		if list := values[slices.Index(headerNames, HeaderAuthorized)]; e.HasList != (list != nil) || strings.Join(e.Authorized, ",") != string(list) {
			tb.Fatalf("list %q became %q", list, e.Authorized)
		}
		return true
	},
		[]byte("1.0\x1eid-1\x1ehttps://dvv.fi\x1efi.dvv.person.birth\x1ek1.AAAAAAAAAAAAAAAAAAAAAA\x1echild\x1e2026-01-02T03:04:05Z\x1ekela.fi,vero.fi\x1e0\x1e7\x1e1\x1e\x00\x00\x00\x00\x01\x02"),
		[]byte("1.0\x1ea\x1eb\x1ec\x1ed\x1ee"))
}

package pseudonym

import (
	"strings"
	"testing"

	"civicbus/internal/mutant"
)

// FuzzOpen: what opens seals to the same text again.
func FuzzOpen(f *testing.F) {
	p := testKeys(f).For("kela.fi")
	sealed, err := p.Seal(goldenSubject)
	if err != nil {
		f.Fatal(err)
	}
	mutant.Fuzz(f, 1<<4, func(tb testing.TB, in []byte) bool {
		text, opened := string(in), false
		if subject, err := p.Open(text); err == nil {
			opened = true
			if again, err := p.Seal(subject); err != nil || again != text {
				tb.Fatalf("%q opened, and sealed again to %q, %v", text, again, err)
			}
		}
		if id, err := p.OpenID(text); err == nil {
			opened = true
			if p.SealID(id) != text {
				tb.Fatalf("%q opened as an id", text)
			}
		}
		return opened
	}, []byte(goldenPairwise), []byte(goldenCorrelation), []byte(sealed), []byte("p1."+strings.Repeat("A", 32)))
}

// FuzzCanonicalise: a canonical id stays what it is, and is found as a person's. An input is the scheme and the id.
func FuzzCanonicalise(f *testing.F) {
	mutant.Fuzz(f, 1<<4, func(tb testing.TB, in []byte) bool {
		scheme, id, _ := strings.Cut(string(in), "\x1e")
		canonical, err := Canonicalise(scheme, id)
		if err != nil {
			return false
		}
		if again, err := Canonicalise(scheme, canonical); err != nil || again != canonical {
			tb.Fatalf("%q is not a fixed point: %q, %v", canonical, again, err)
		}
		if scheme == Hetu && !HoldsHetu(canonical) {
			tb.Fatal("a valid code is not found")
		}
		return true
	}, []byte(Hetu+"\x1e010594y9032"), []byte(YTunnus+"\x1e123456-7"), []byte("x\x1ey"))
}
